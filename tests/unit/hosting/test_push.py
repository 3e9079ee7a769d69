"""`space push` against a stand-in for the hub on this machine."""

import hashlib
import json
import shutil
import warnings

import pytest

from resnet_demo.errors import ConfigError, DemoError
from resnet_demo.hosting.space import push
from tests.hub import TOKEN


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


def test_files_arrive_unchanged_and_older_ones_are_removed(hub, space):
    assert push(space, "me/demo", hub.url) == f"{hub.url}/spaces/me/demo"
    made = json.loads(hub.requests[0][1])
    assert (made["name"], made["organization"], made["type"], made["sdk"]) == (
        "demo",
        "me",
        "space",
        "gradio",
    )
    commit = hub.commit()
    here = {path.relative_to(space).as_posix(): path for path in space.rglob("*.*")}
    assert commit.files == {name: path.read_bytes() for name, path in here.items()}
    assert commit.deleted == ["old.txt"]
    assert hub.tokens == {f"Bearer {TOKEN}"}
    assert not any(TOKEN.encode() in body for _, body in hub.requests)


def test_an_exported_web_page_becomes_a_static_space(hub, tmp_path):
    page = tmp_path / "page"
    page.mkdir()
    (page / "README.md").write_text("---\ntitle: Cats\nemoji: 🔎\nsdk: static\n---\n")
    with pytest.raises(ConfigError, match=r"not a valid Space: index.html: it is missing"):
        push(page, "me/demo", hub.url)
    (page / "index.html").write_text("<title>Cats</title>")
    (page / "model.onnx").write_bytes(bytes(10_000_001))
    hub.large = {"model.onnx"}
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # huggingface_hub 2.4.0
        patch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        push(page, "me/demo", hub.url)
    assert json.loads(hub.requests[0][1])["sdk"] == "static"
    assert hub.commit().files.keys() == {"README.md", "index.html"}


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub 2.4.0
def test_large_weights_are_stored_as_the_hub_asks(hub, space, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)  # no stand-in
    hub.large = {"weights.safetensors"}
    push(space, "me/demo", hub.url)
    weights = (space / "weights.safetensors").read_bytes()
    commit, digest = hub.commit(), hashlib.sha256(weights).hexdigest()
    assert commit.large == {"weights.safetensors": digest}
    assert "weights.safetensors" not in commit.files
    assert [body for what, body in hub.requests if what == f"PUT /stored/{digest}"] == [weights]
    hub.large = {"weights.safetensors", "refused"}
    with pytest.raises(DemoError, match=r"^Hugging Face did not accept a file: Error while upload"):
        push(space, "me/demo", hub.url)


def test_a_token_may_be_given_and_a_text_that_cannot_be_one_is_refused(hub, space):
    push(space, "me/demo", hub.url, token="hf_given12345", private=True)
    assert hub.tokens == {"Bearer hf_given12345"}
    assert json.loads(hub.requests[0][1])["visibility"] == "private"
    with pytest.raises(ConfigError) as refused:
        push(space, "me/demo", hub.url, token="sécret and more")
    assert "sécret" not in str(refused.value)


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
