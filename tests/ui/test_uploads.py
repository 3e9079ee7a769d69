"""Uploads that may be read."""

import pytest

from resnet_demo.errors import ConfigError
from resnet_demo.ui.uploads import uploaded_file

NOT_UPLOADED = "a file must come through an upload, got a path of this machine"
NOTHING = "a file must be uploaded first, got nothing"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return Gradio's upload folder with a file in it; a secret is beside it."""
    folder = tmp_path / "uploads"
    (folder / "abc").mkdir(parents=True)
    (folder / "abc" / "red.png").write_bytes(b"picture")
    (tmp_path / "secret.png").write_bytes(b"secret")
    (tmp_path / "uploads-beside").mkdir()
    (tmp_path / "uploads-beside" / "red.png").write_bytes(b"secret")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(folder))
    return folder


def test_an_uploaded_file_is_found(folder):
    file = folder / "abc" / "red.png"
    assert uploaded_file(str(file)) == file
    assert uploaded_file(f"{folder}/abc/../abc/red.png") == file


def test_a_link_to_an_uploaded_file_is_resolved(folder):
    (folder / "link.png").symlink_to(folder / "abc" / "red.png")
    assert uploaded_file(str(folder / "link.png")) == folder / "abc" / "red.png"


@pytest.mark.parametrize(
    "path",
    [
        *("{up}/../secret.png", "{up}/abc/../../secret.png", "{up}-beside/red.png"),
        *("{up}/link.png", "{up}/way/secret.png", "/etc/passwd", "secret.png", "abc/red.png"),
        *("file://{up}/abc/red.png", "~/secret.png", "/dev/stdin"),
        *("{up}", "{up}/abc", "{up}/abc/none.png", "{up}/ring.png", "/proc/self/environ", "."),
        *("http://127.0.0.1/red.png", "\ud800", "x" * 5000),
    ],
)
def test_any_other_path_is_refused(path, folder):
    (folder / "link.png").symlink_to(folder.parent / "secret.png")
    (folder / "way").symlink_to(folder.parent)
    (folder / "ring.png").symlink_to(folder / "ring.png")
    with pytest.raises(ConfigError) as caught:
        uploaded_file(path.replace("{up}", str(folder)))
    assert str(caught.value) == NOT_UPLOADED


@pytest.mark.parametrize("path", [None, "", "a\0b", "\0", 5, [], {"path": "x"}, b"x"], ids=repr)
def test_a_missing_or_invalid_path_is_refused(path, folder):
    with pytest.raises(ConfigError) as caught:
        uploaded_file(path)
    assert str(caught.value) == NOTHING
