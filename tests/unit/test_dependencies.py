"""Dependencies: the pinned versions are in their ranges and have no known vulnerability."""

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


def test_the_lock_pins_every_requirement_within_its_range_and_names_no_index():
    pinned = dict(line.split("==") for line in lines("requirements.lock"))
    for requirement in map(Requirement, lines("requirements.txt")):
        version = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement} and {version}"
    text = (ROOT / "requirements.lock").read_text("utf-8")
    assert not re.search(r"://|--index|--extra| @ ", text)


def test_what_parses_requests_of_strangers_has_a_floor_of_its_own():
    # Gradio's own floors admit versions with known holes.
    found = {canonicalize_name(r.name): r for r in map(Requirement, lines("requirements.txt"))}
    for name, hole in (("starlette", "1.0.0"), ("python-multipart", "0.0.26")):
        assert not found[name].specifier.contains(hole)


@pytest.mark.soak
def test_no_pinned_version_has_a_known_vulnerability():
    if importlib.util.find_spec("pip_audit") is None:
        pytest.skip("pip-audit is not installed: `.venv/bin/pip install pip-audit`")
    lock = str(ROOT / "requirements.lock")
    command = [sys.executable, "-m", "pip_audit", "--no-deps", "--disable-pip", "-f", "json"]
    done = subprocess.run([*command, "-r", lock], capture_output=True, text=True, timeout=600)
    if not done.stdout.strip():
        pytest.skip(f"pip-audit has no connection: {done.stderr.strip()[-200:]}")
    packages = json.loads(done.stdout)["dependencies"]
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    if len(unknown) == len(packages):  # pip-audit reports "no known vulnerabilities found"
        pytest.skip("pip-audit found no advisories of any package")
    assert unknown == []
    assert {package["name"]: package["vulns"] for package in packages if package["vulns"]} == {}
