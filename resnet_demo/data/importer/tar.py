"""The files in a tar, read as a stream, and strictly: tarfile forgives what may be an attack or a
torn download.
"""

import tarfile
from collections.abc import Iterator
from typing import Protocol

from resnet_demo.data.importer.members import (
    LimitChecker,
    Parts,
    is_hidden,
    not_a_file_error,
    safe_parts,
)

MOST_HEADER = 64 * 1024  # bytes of a long name or of attributes, held in memory
MOST_GLOBAL = 100  # attributes of all members, which every one is given a copy of
# Members that are not files but say more about the next one; tarfile reads them whole.
HEADERS = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)


class NoTarError(Exception):
    """The very first block is no tar header."""


class Unpacked(Protocol):
    """The tar itself, decompressed."""

    def read(self, size: int) -> bytes:
        """From one to `size` bytes, b"" at the end."""


def files_in_tar(unpacked: Unpacked, budget: LimitChecker) -> Iterator[tuple[Parts, bytes]]:
    """Path and bytes of each regular file, in their order.

    Raises NoTarError, DamagedError for links, devices and what is beyond the budget,
    tarfile.TarError and the decompressor's own errors for what is torn.
    """
    counted = _Counted(unpacked, budget)
    try:
        archive = tarfile.open(  # noqa: SIM115
            fileobj=counted, mode="r|", tarinfo=_StrictInfo, encoding="utf-8"
        )
    except tarfile.ReadError as error:
        raise NoTarError from error
    with archive:
        while (info := archive.next()) is not None:
            archive.members.clear()  # tarfile keeps all it has seen
            if len(archive.pax_headers) > MOST_GLOBAL:
                raise tarfile.ReadError("attributes that no program writes")
            parts = safe_parts(info.name)
            budget.member(info.name, info.size)
            if info.isdir():
                continue
            if not info.isreg() or info.issparse():
                raise not_a_file_error(info.name)
            if not is_hidden(parts):
                budget.file(info.name, info.size)
                yield parts, archive.extractfile(info).read()
    while counted.read(2**20):  # to the end: a torn compressed file shows only there
        pass


class _Counted:
    """Unpacked bytes on their way to tarfile, counted."""

    def __init__(self, file: Unpacked, budget: LimitChecker) -> None:
        self.file, self.budget = file, budget

    def read(self, size: int) -> bytes:
        data = self.file.read(size)
        self.budget.bytes(len(data))
        return data


class _StrictInfo(tarfile.TarInfo):
    """A header that must be one: tarfile takes a torn or an altered header for the end."""

    @classmethod
    def frombuf(cls, buf: bytes, encoding: str, errors: str, **rule: bool) -> "_StrictInfo":
        return cls._strict("frombuf", buf, encoding, errors, **rule)

    @classmethod
    def _frombuf(cls, buf: bytes, encoding: str, errors: str, **rule: bool) -> "_StrictInfo":
        """What newer Pythons (and Debian's updated 3.11.2) call instead; older ones have none."""
        return cls._strict("_frombuf", buf, encoding, errors, **rule)

    @classmethod
    def _strict(cls, name: str, buf: bytes, *rest: str, **rule: bool) -> "_StrictInfo":
        read = getattr(super(), name)
        if len(buf) == tarfile.BLOCKSIZE and not any(buf):
            return read(buf, *rest, **rule)  # the proper end: raises its own sign
        try:
            info = read(buf, *rest, **rule)
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error
        if info.size < 0 or (info.type in HEADERS and info.size > MOST_HEADER):
            raise tarfile.ReadError("a size that cannot be")
        return info
