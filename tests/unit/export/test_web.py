"""The folder of an exported web page; the page itself is tried in tests/browser."""

import json
import re
from dataclasses import replace

import pytest
import yaml

from resnet_demo.errors import ConfigError, DemoError
from resnet_demo.export import web
from resnet_demo.export.parity import Parity
from resnet_demo.export.source import load_source
from resnet_demo.export.web import copy_runtime, write_page, write_web

PARITY = Parity(60, "pictures", 1.0, 0.000002, 0.0)
HOSTILE = "<script>x</script>: \"'$title"


@pytest.fixture(scope="module")
def folder(finished, tmp_path_factory):
    """Return an exported folder of a run with a hostile title."""
    folder = tmp_path_factory.mktemp("web")
    source = replace(load_source(finished), title=HOSTILE)
    names = write_web(source, folder, None) + write_page(source, folder, PARITY, None)
    assert sorted(names) == sorted(path.name for path in folder.iterdir())
    return folder


def test_texts_of_a_person_are_no_html_and_no_yaml(folder):
    page = (folder / "index.html").read_text()
    assert "<script>x" not in page
    assert page.count("&lt;script&gt;x&lt;/script&gt;") == 2
    assert re.search(r"trained on colours: validation accuracy \d+ of \d+\. Made", page)
    _, settings, text = (folder / "README.md").read_text().split("---\n", 2)
    assert (yaml.safe_load(settings)["title"], yaml.safe_load(settings)["sdk"]) == (
        HOSTILE,
        "static",
    )
    assert "<script>" not in text


def test_the_page_runs_no_other_scripts_and_knows_its_files(folder):
    page, script = ((folder / name).read_text() for name in ("index.html", "page.js"))
    policy = re.search(r'Content-Security-Policy" content="(.*?)"', page).group(1)
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy
    assert re.findall(r"<script[^>]*>", page) == ['<script src="page.js">']
    runtime = json.loads(re.search(r"RUNTIME = (.*);", script).group(1))
    for (name, digest), file in zip(web.RUNTIME.values(), runtime.values(), strict=True):
        assert file["integrity"] == digest
        assert file["url"] == f"{web.CDN}/npm/onnxruntime-web@{web.VERSION}/dist/{name}"
    assert json.loads((folder / "description.json").read_text())["labels"]
    files = json.loads(
        re.search(r"FILES = (.*?); //", (folder / "offline.js").read_text()).group(1)
    )
    shown = {name for name, digest in files if not digest}
    left_out = {"README.md", "offline.js"}
    assert shown == {"./", *(path.name for path in folder.iterdir())} - left_out


def test_another_runtime_is_refused_and_a_missing_npm_named(tmp_path, monkeypatch):
    for name, _ in web.RUNTIME.values():
        (tmp_path / name).write_bytes(b"of another version")
    with pytest.raises(ConfigError, match=r"files of onnxruntime-web 1\.30\.0"):
        copy_runtime(tmp_path / "ort", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DemoError, match="npm, which fetches onnxruntime-web, is not installed"):
        copy_runtime(tmp_path / "again", True)
    (tmp_path / "npm").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "npm").chmod(0o755)
    with pytest.raises(DemoError, match=r"npm could not fetch .*: name a folder"):
        copy_runtime(tmp_path / "third", True)
