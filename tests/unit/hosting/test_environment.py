"""Environment variables and folders that make no sense end in one sentence."""

import os
import subprocess
import sys

import pytest

from resnet_demo.errors import ConfigError
from resnet_demo.hosting.environment import check_environment
from resnet_demo.paths import REPOSITORY, Paths

SENSIBLE = {
    "GRADIO_SERVER_NAME": "127.0.0.1",
    "GRADIO_SERVER_PORT": " 8080 ",
    "RESNET_DEMO_HOSTS": "demo.lan, other.example:8443 ,[::1]",
    "RESNET_DEMO_PUBLIC": "1",
    "RESNET_DEMO_MAX_RUNS": "3",
}


@pytest.mark.parametrize("variables", [{}, SENSIBLE, {"GRADIO_SERVER_NAME": "0.0.0.0"}])
def test_sensible_values_pass(variables):
    check_environment(variables)


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("GRADIO_SERVER_PORT", "http", "a whole number from 1 to 65535, got 'http'"),
        ("GRADIO_SERVER_PORT", "0", "a whole number from 1 to 65535, got '0'"),
        ("GRADIO_SERVER_PORT", "65536", "a whole number from 1 to 65535"),
        ("GRADIO_SERVER_PORT", "-1", "a whole number from 1 to 65535"),
        ("GRADIO_SERVER_PORT", "", "a whole number from 1 to 65535, got ''"),
        ("GRADIO_SERVER_PORT", "9" * 5000, "a whole number from 1 to 65535"),
        ("GRADIO_NUM_PORTS", "few", "a whole number"),
        ("GRADIO_ANALYTICS_MAX_EVENTS", "1e3", "a whole number"),
        ("GRADIO_SERVER_NAME", "198.51.100.9", "an address of this machine"),
        ("GRADIO_SERVER_NAME", "http://127.0.0.1", "an address of this machine"),
        ("RESNET_DEMO_PUBLIC", "true", "0 or 1, got 'true'"),
        ("RESNET_DEMO_STANDBY", "no", "0 or 1, got 'no'"),
        ("RESNET_DEMO_HOSTS", "a.example,https://b.example", "names of hosts"),
        ("RESNET_DEMO_MAX_EPOCHS", "0", "a whole number of at least 1, got '0'"),
        ("GRADIO_TEMP_DIR", "/dev/null", "a folder that can be written to, got '/dev/null'"),
        ("GRADIO_TEMP_DIR", "/dev/null/deep", "a folder that can be written to"),
    ],
)
def test_a_value_that_makes_no_sense_is_named_with_its_rule(name, value, rule):
    with pytest.raises(ConfigError, match=f"{name} must be {rule}"):
        check_environment({name: value})


@pytest.mark.parametrize("name", ["RESNET_DEMO_RUNS", "RESNET_DEMO_DATA"])
@pytest.mark.parametrize("value", ["/dev/null", "/dev/null/runs", "x" * 300, "~nobody-here/x"])
def test_a_folder_that_cannot_be_one_is_refused(name, value, monkeypatch):
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=f"{name} must be a folder that can be read"):
        Paths.from_environment()


def test_a_folder_in_the_home_may_be_named_by_a_tilde(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RESNET_DEMO_RUNS", "~/runs")
    assert Paths.from_environment().runs == tmp_path / "runs"


@pytest.mark.parametrize(
    ("code", "variables", "sentence"),
    [
        ("", {"GRADIO_SERVER_PORT": "seven"}, "GRADIO_SERVER_PORT must be a whole number"),
        ("", {"RESNET_DEMO_RUNS": "/dev/null"}, "RESNET_DEMO_RUNS must be a folder"),
        ("sys.modules['fcntl'] = None;", {}, "runs on Linux, and on macOS"),
    ],
)
def test_the_app_ends_with_one_sentence(code, variables, sentence):
    start = f"import sys; {code} sys.path.insert(0, '.'); import app; app.main()"
    command = [sys.executable, "-c", start]
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_app_refuses_options_and_names_the_variables_instead():
    def start(*arguments):
        command = [sys.executable, "app.py", *arguments]
        return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)

    refused, explained = start("--port", "7861"), start("--help")
    assert (refused.returncode, explained.returncode) == (2, 0)
    assert "unrecognized arguments: --port 7861" in refused.stderr
    assert "GRADIO_SERVER_PORT" in refused.stderr
    assert "GRADIO_SERVER_PORT" in explained.stdout
