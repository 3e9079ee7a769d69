"""What the app is built on: the exact versions fit the ranges, and none has a known hole."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


def lines(name):
    texts = (ROOT / name).read_text("utf-8").splitlines()
    return [line for text in texts if (line := text.partition("#")[0].strip())]


def test_the_lock_pins_all_that_is_asked_for_within_its_range_and_names_no_index():
    pinned = dict(line.split("==") for line in lines("requirements.lock"))
    for one in map(Requirement, lines("requirements.txt")):
        version = pinned[canonicalize_name(one.name)]
        assert one.specifier.contains(version), f"{one} and {version}"
    text = (ROOT / "requirements.lock").read_text("utf-8")
    assert not re.search(r"://|--index|--extra| @ ", text)


@pytest.mark.soak
def test_no_version_in_the_lock_has_a_known_hole():
    if importlib.util.find_spec("pip_audit") is None:
        pytest.skip("pip-audit is not installed: `.venv/bin/pip install pip-audit`")
    lock = str(ROOT / "requirements.lock")
    command = [sys.executable, "-m", "pip_audit", "--no-deps", "--disable-pip", "-f", "json"]
    done = subprocess.run([*command, "-r", lock], capture_output=True, text=True, timeout=600)
    if not done.stdout.strip():
        pytest.skip(f"pip-audit cannot ask from here: {done.stderr.strip()[-200:]}")
    told = json.loads(done.stdout)["dependencies"]
    unknown = [one["name"] for one in told if "skip_reason" in one]
    if len(unknown) == len(told):  # which it calls "no known vulnerabilities found"
        pytest.skip("pip-audit finds no advisories of anything from here")
    assert unknown == []
    assert {one["name"]: one["vulns"] for one in told if one["vulns"]} == {}
