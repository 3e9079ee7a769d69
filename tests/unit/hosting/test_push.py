"""`space push` against a stand-in for the hub on this machine."""

import base64
import json
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from resnet_demo.errors import ConfigError, DemoError
from resnet_demo.hosting.space import push

TOKEN = "hf_" + "aB3" * 11
OLD = {"type": "file", "path": "old.txt", "size": 1, "oid": "0" * 40}


class Hub(BaseHTTPRequestHandler):
    """One request of an upload; `server.asked` keeps it."""

    protocol_version = "HTTP/1.1"

    def answer(self):
        body = self.body()
        self.server.asked.append((f"{self.command} {self.path.partition('?')[0]}", body))
        self.server.tokens.add(self.headers.get("authorization"))
        said, status = self.said(body), self.server.status
        content = json.dumps(said if status == 200 else {"error": "the hub is full"}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = answer

    def body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def said(self, body):
        if self.path.endswith("/repos/create"):
            return {"url": f"{self.server.url}/spaces/me/demo", "name": "me/demo"}
        if "/tree/" in self.path:
            return [OLD]
        if "/preupload/" in self.path:
            files = [file["path"] for file in json.loads(body)["files"]]
            how = {"uploadMode": "regular", "shouldIgnore": False}
            return {"files": [{"path": path, **how} for path in files]}
        if "/commit/" in self.path:
            commit = f"{self.server.url}/spaces/me/demo/commit/{'1' * 40}"
            return {"success": True, "commitOid": "1" * 40, "commitUrl": commit}
        return {}

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def hub(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.url = f"http://127.0.0.1:{server.server_port}"
    server.asked, server.tokens, server.status = [], set(), 200
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setattr("huggingface_hub.utils._headers.get_token", lambda: TOKEN)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)  # before retries
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def space(tmp_path):
    """A small folder that is a Space."""
    folder = tmp_path / "demo"
    (folder / "resnet_demo").mkdir(parents=True)
    (folder / "resnet_demo" / "__init__.py").write_text("")
    (folder / "app.py").write_text("print('hello')\n")
    (folder / "requirements.txt").write_text("gradio>=6.31,<7\n")
    (folder / "weights.safetensors").write_bytes(bytes(range(256)))
    front = ("title: Demo", "sdk: gradio", "sdk_version: 6.31.0", "app_file: app.py")
    (folder / "README.md").write_text("\n".join(("---", *front, "---", "")))
    return folder


def commit_of(hub):
    """What was uploaded, path -> bytes, and what was removed."""
    [body] = [body for what, body in hub.asked if what.endswith("/commit/main")]
    lines = [json.loads(line) for line in body.splitlines()]
    by_key = {key: [line["value"] for line in lines if line["key"] == key] for key in
              ("header", "file", "deletedFile")}  # fmt: skip
    files = {file["path"]: base64.b64decode(file["content"]) for file in by_key["file"]}
    return SimpleNamespace(files=files, deleted=[one["path"] for one in by_key["deletedFile"]])


def test_each_file_arrives_as_it_is_and_what_was_there_before_goes(hub, space):
    assert push(space, "me/demo", hub.url) == f"{hub.url}/spaces/me/demo"
    made = json.loads(hub.asked[0][1])
    assert (made["name"], made["organization"], made["type"], made["sdk"]) == (
        "demo", "me", "space", "gradio",
    )  # fmt: skip
    commit = commit_of(hub)
    here = {path.relative_to(space).as_posix(): path for path in space.rglob("*.*")}
    assert commit.files == {name: path.read_bytes() for name, path in here.items()}
    assert commit.deleted == ["old.txt"]
    assert hub.tokens == {f"Bearer {TOKEN}"}
    assert not any(TOKEN.encode() in body for _, body in hub.asked)


def test_a_folder_that_is_no_space_does_not_travel(hub, space):
    (space / "notes.txt").write_text(TOKEN)
    with pytest.raises(ConfigError, match=r"the folder is no Space: notes.txt: it holds what look"):
        push(space, "me/demo", hub.url)
    assert hub.asked == []


@pytest.mark.parametrize(("status", "words"), [(403, "403, the hub is full"), (500, "500, the h")])
def test_a_refusal_is_one_sentence(hub, space, status, words):
    hub.status = status
    with pytest.raises(DemoError, match=f"^Hugging Face refused: {words}"):
        push(space, "me/demo", hub.url)


def test_a_wrong_name_is_named(hub, space):
    with pytest.raises(ConfigError, match="repository must be OWNER/NAME at Hugging Face, got 'a"):
        push(space, "a b/../c", hub.url)


def test_who_is_not_signed_in_is_told_how(hub, space, monkeypatch):
    monkeypatch.setattr("huggingface_hub.utils._headers.get_token", lambda: None)
    with pytest.raises(ConfigError, match="nobody is signed in at Hugging Face: set HF_TOKEN"):
        push(space, "me/demo", hub.url)


def test_a_hub_that_is_not_there_is_one_sentence(hub, space):
    with pytest.raises(DemoError, match=r"^Hugging Face cannot be reached: "):
        push(space, "me/demo", "http://127.0.0.1:9")


def test_what_the_command_line_builds_is_told_with_its_secrets(tmp_path, capsys):
    from resnet_demo.cli import main

    assert main(["space", "build", str(tmp_path / "demo"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {"RESNET_DEMO_OWNERS", "RESNET_DEMO_MAX_EPOCHS"} <= told["variables"].keys()
    assert told["secrets"].keys() == {"OAUTH_CLIENT_SECRET"}
    assert main(["space", "push", str(tmp_path / "demo")]) == 2
    assert main(["space", "check", str(tmp_path / "demo"), "me/demo"]) == 2
    assert "REPO must be OWNER/NAME for push" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "demo")
