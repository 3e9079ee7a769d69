"""The files in a zip, whose table of contents is bounded before it is taken apart.

zipfile makes an object of every entry before anybody can count them: of a million, 600 MB.
"""

import stat
import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO

from resnet_demo.data.importer.members import (
    ArchiveLimits,
    LimitChecker,
    Member,
    is_hidden,
    not_a_file_error,
    safe_parts,
    too_many_files_error,
)
from resnet_demo.errors import DamagedError, shortened

ENTRY = b"PK\1\2"  # how each entry of the table starts
MOST_TABLE = 128 * 2**20  # bytes
ENCRYPTED, UTF8 = 1, 0x800  # flags


def files_in_zip(file: BinaryIO, budget: LimitChecker) -> Iterator[Member]:
    """Each regular file in the order of the table of contents.

    Raises DamagedError for links, devices and what is beyond the budget, and what zipfile raises.
    """
    table = _Table(file, budget.limits)
    with zipfile.ZipFile(table) as archive:
        table.read = file.read  # the table is read; from here on members are bounded one by one
        infos = archive.infolist()
        for done, info in enumerate(infos, 1):
            name = _name(info)
            parts = safe_parts(name)
            budget.member(name, info.file_size)
            _check(info, name, budget.limits)
            if is_hidden(parts) or info.is_dir():
                continue
            budget.file(name, info.file_size)
            budget.bytes(info.file_size)
            with archive.open(info) as member:  # never gives more than the size it declares
                yield Member(parts, member.read(info.file_size), done, len(infos))


class _Table:
    """A zip while zipfile opens it: counted is what it reads, whatever the file says of itself.

    So it holds for zip64, for a wrong number of entries, for a record hidden behind another.
    """

    def __init__(self, file: BinaryIO, limits: ArchiveLimits) -> None:
        self.file, self.limits = file, limits

    def read(self, size: int = -1) -> bytes:
        if size > MOST_TABLE:
            raise DamagedError(f"its table of contents has more than {MOST_TABLE:,} bytes")
        data = self.file.read(size)
        if data.count(ENTRY) > self.limits.members:
            raise too_many_files_error(self.limits)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def _name(info: zipfile.ZipInfo) -> str:
    """Many programs, the Finder's too, write UTF-8 without saying so; cp437 is seldom valid."""
    if info.flag_bits & UTF8:
        return info.filename
    try:
        return info.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.filename


def _check(info: zipfile.ZipInfo, path: str, limits: ArchiveLimits) -> None:
    name, kind = shortened(path), stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise not_a_file_error(path)
    if info.flag_bits & ENCRYPTED:
        raise DamagedError(f"{name} is encrypted")
    # bzip2 and xz inside a zip unpack without a bound in the standard library
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DamagedError(f"{name} is packed by a method other than deflate")
    if info.file_size > limits.ratio * max(info.compress_size, 1):
        raise DamagedError(f"{name} unpacks to more than {limits.ratio:,} times its size")
