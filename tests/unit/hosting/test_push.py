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
    """A request handler of the stand-in; `server.requests` records the requests."""

    protocol_version = "HTTP/1.1"

    def answer(self):
        body = self.body()
        self.server.requests.append((f"{self.command} {self.path.partition('?')[0]}", body))
        self.server.tokens.add(self.headers.get("authorization"))
        reply, status = self.reply(body), self.server.status
        content = json.dumps(reply if status == 200 else {"error": "the hub is full"}).encode()
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

    def reply(self, body):
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
        """Log nothing."""


@pytest.fixture
def hub(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.url = f"http://127.0.0.1:{server.server_port}"
    server.requests, server.tokens, server.status = [], set(), 200
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setattr("huggingface_hub.utils._headers.get_token", lambda: TOKEN)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)  # before retries
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def space(tmp_path):
    """Return a small, valid Space."""
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
    """Return the uploaded files, path -> bytes, and the removed paths."""
    [body] = [body for what, body in hub.requests if what.endswith("/commit/main")]
    lines = [json.loads(line) for line in body.splitlines()]
    by_key = {
        key: [line["value"] for line in lines if line["key"] == key]
        for key in ("header", "file", "deletedFile")
    }
    files = {file["path"]: base64.b64decode(file["content"]) for file in by_key["file"]}
    return SimpleNamespace(files=files, deleted=[one["path"] for one in by_key["deletedFile"]])


def test_files_arrive_unchanged_and_older_ones_are_removed(hub, space):
    assert push(space, "me/demo", hub.url) == f"{hub.url}/spaces/me/demo"
    made = json.loads(hub.requests[0][1])
    assert (made["name"], made["organization"], made["type"], made["sdk"]) == (
        "demo",
        "me",
        "space",
        "gradio",
    )
    commit = commit_of(hub)
    here = {path.relative_to(space).as_posix(): path for path in space.rglob("*.*")}
    assert commit.files == {name: path.read_bytes() for name, path in here.items()}
    assert commit.deleted == ["old.txt"]
    assert hub.tokens == {f"Bearer {TOKEN}"}
    assert not any(TOKEN.encode() in body for _, body in hub.requests)


def test_an_invalid_space_is_not_uploaded(hub, space):
    (space / "notes.txt").write_text(TOKEN)
    with pytest.raises(ConfigError, match=r"not a valid Space: notes.txt: it holds what look"):
        push(space, "me/demo", hub.url)
    assert hub.requests == []


@pytest.mark.parametrize(("status", "words"), [(403, "403, the hub is full"), (500, "500, the h")])
def test_a_refusal_is_one_sentence(hub, space, status, words):
    hub.status = status
    with pytest.raises(DemoError, match=f"^Hugging Face refused: {words}"):
        push(space, "me/demo", hub.url)


def test_a_wrong_repository_name_is_refused(hub, space):
    with pytest.raises(ConfigError, match="repository must be OWNER/NAME at Hugging Face, got 'a"):
        push(space, "a b/../c", hub.url)


def test_without_a_login_the_error_explains_how_to_sign_in(hub, space, monkeypatch):
    monkeypatch.setattr("huggingface_hub.utils._headers.get_token", lambda: None)
    with pytest.raises(ConfigError, match="not signed in at Hugging Face: set HF_TOKEN"):
        push(space, "me/demo", hub.url)


def test_an_unreachable_hub_is_one_sentence(hub, space):
    with pytest.raises(DemoError, match=r"^Hugging Face cannot be reached: "):
        push(space, "me/demo", "http://127.0.0.1:9")


def test_the_command_line_lists_variables_and_secrets_of_the_build(tmp_path, capsys):
    from resnet_demo.cli import main

    assert main(["space", "build", str(tmp_path / "demo"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert {"RESNET_DEMO_OWNERS", "RESNET_DEMO_MAX_EPOCHS"} <= printed["variables"].keys()
    assert printed["secrets"].keys() == {"OAUTH_CLIENT_SECRET"}
    assert main(["space", "push", str(tmp_path / "demo")]) == 2
    assert main(["space", "check", str(tmp_path / "demo"), "me/demo"]) == 2
    assert "REPO must be OWNER/NAME for push" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "demo")
