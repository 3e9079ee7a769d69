"""The sources of CIFAR-10 and the variable that names a copy."""

import re
from pathlib import Path

import pytest

from resnet_demo.data.cifar10.sources import Source, cifar10_sources
from resnet_demo.data.download import RemoteFile
from resnet_demo.errors import ConfigError
from resnet_demo.paths import Paths

HASH = "0123456789abcdef" * 4
ORIGINAL = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"


def copy_of(text: str) -> Source:
    return cifar10_sources(text)[0]


def test_the_sources_are_hugging_face_then_zenodo_then_the_home_server():
    face, zenodo, home = cifar10_sources(None)
    assert [source.name for source in (face, zenodo, home)] == [
        "Hugging Face",
        "Zenodo",
        "the CIFAR-10 home server",
    ]
    assert (face.kind, zenodo.kind, home.kind) == ("parquet", "archive", "archive")
    assert [file.size for file in face.files] == [119_705_255, 23_940_850]
    assert [file.name.split("-")[0] for file in face.files] == ["train", "test"]
    for source in (zenodo, home):
        assert [(file.size, file.sha256) for file in source.files] == [(170_498_071, ORIGINAL)]


def test_every_file_is_pinned_by_its_checksum_and_comes_over_https():
    files = [file for source in cifar10_sources(None) for file in source.files]
    assert all(re.fullmatch("[0-9a-f]{64}", file.sha256) for file in files)
    assert all(file.url.startswith("https://") for file in files)
    assert all("/resolve/0b2714987fa478483af9968de7c934580d0bb9a2/" in f.url for f in files[:2])


def test_the_same_bytes_of_two_sources_share_one_part_file():
    _, zenodo, home = cifar10_sources(None)
    assert zenodo.files[0].part_name == home.files[0].part_name == f"{ORIGINAL}.part"


def test_a_copy_comes_first_and_must_be_the_original_archive():
    sources = cifar10_sources("http://user:secret@my.example:8080/some.tgz?token=1")
    assert len(sources) == 4
    assert sources[0].name == "your copy on my.example"  # no password, no token
    [remote] = sources[0].files
    assert remote.url == "http://user:secret@my.example:8080/some.tgz?token=1"
    assert (remote.size, remote.sha256) == (170_498_071, ORIGINAL)


def test_a_copy_with_a_checksum_may_be_any_archive():
    [remote] = copy_of(f"https://my.example/a/cifar.tar.xz?x=1#sha256={HASH.upper()}").files
    assert remote == RemoteFile("https://my.example/a/cifar.tar.xz?x=1", "cifar.tar.xz", None, HASH)


@pytest.mark.parametrize("text", ["/a/cifar.tar.xz", "/a/b#c.zip", "/a/http:"])
def test_a_path_is_a_copy_on_this_machine(text):
    source = copy_of(text)
    assert (source.path, source.files) == (Path(text), ())
    assert source.name == f"your copy {Path(text).name}"


def test_a_path_may_begin_at_home_or_here():
    assert copy_of("~/x").path == Path.home() / "x"
    assert copy_of("x").path == Path.cwd() / "x"


@pytest.mark.parametrize(
    "text",
    [
        "ftp://my.example/x",
        "file:///x",
        "https://",
        "https:///x",
        "http://a b/",
        "http://a:x/",
        "http://[::1/x",
        "http://a/\tb",
        "HTTPS+x://a/",
    ],
)
def test_an_address_other_than_http_is_a_mistake(text):
    rule = "RESNET_DEMO_CIFAR10 must be an address that begins with https:// or http://, or a path"
    with pytest.raises(ConfigError, match=f"^{rule}, got ") as caught:
        cifar10_sources(text)
    assert caught.value.field == "RESNET_DEMO_CIFAR10"


@pytest.mark.parametrize("end", ["md5=0", "sha256=", f"sha256={HASH[1:]}", f"sha256={HASH}0", "x"])
def test_an_invalid_checksum_is_a_mistake(end):
    rule = (
        "RESNET_DEMO_CIFAR10 must be an address with nothing after #, or sha256= and 64 hex digits"
    )
    with pytest.raises(ConfigError, match=f"^{rule}, got "):
        cifar10_sources(f"https://my.example/x#{end}")


def test_a_mistake_in_an_address_never_shows_its_password():
    with pytest.raises(ConfigError) as caught:
        cifar10_sources("ftp://user:secret@my.example/x")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("text", "copy"), [("/a/x.zip", "/a/x.zip"), ("", None), (None, None)])
def test_the_environment_names_the_copy(monkeypatch, text, copy):
    monkeypatch.delenv("RESNET_DEMO_CIFAR10", raising=False)
    if text is not None:
        monkeypatch.setenv("RESNET_DEMO_CIFAR10", text)
    assert Paths.from_environment().cifar10_copy == copy
