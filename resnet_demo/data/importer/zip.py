"""Reading the files in a zip, whose table of contents is bounded before it is parsed."""

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from resnet_demo.data.importer.members import (
    EMPTY_FOLDER,
    ArchiveLimits,
    LimitChecker,
    Member,
    Parts,
    has_picture_suffix,
    hidden_picture_problem,
    is_hidden,
    not_a_file_error,
    safe_parts,
    too_many_files_error,
)
from resnet_demo.data.importer.parquet_pictures import is_parquet_name, pictures_in_member
from resnet_demo.errors import DamagedError, shortened

ENTRY = b"PK\1\2"  # the signature of an entry in the table of contents
MAX_TABLE_BYTES = 128 * 2**20
ENCRYPTED, UTF8 = 1, 0x800  # flags
UNICODE_PATH = 0x7075  # the number of an extra field


def files_in_zip(file: BinaryIO, checker: LimitChecker) -> Iterator[Member]:
    """Yield each regular file in the order of the table of contents.

    In place of parquet files come their pictures, unless there are others.
    Raises DamagedError for links, devices and members beyond the limits, and zipfile's own errors.
    """
    table = _BoundedTable(file, checker.limits)
    with zipfile.ZipFile(table) as archive:
        table.read = file.read  # the table is parsed; from here on each member is bounded
        infos = archive.infolist()
        # Known in advance, unlike in a tar, whose table of contents is the whole file.
        has_pictures = any(has_picture_suffix(info.filename) for info in infos)
        folders: set[Parts] = set()
        filled: set[Parts] = set()  # with files in them, or below
        for done, info in enumerate(infos, 1):
            name = _decode_name(info)
            parts = safe_parts(name)
            checker.add_member(name, info.file_size)
            _check_member(info, name, checker.limits)
            if is_hidden(parts):
                if problem := hidden_picture_problem(parts):
                    yield Member(parts, b"", done, len(infos), problem)
                continue
            if info.is_dir():
                folders.add(parts)
                continue
            filled.update(parts[:depth] for depth in range(1, len(parts)))
            if is_parquet_name(parts[-1]) and not has_pictures:
                with archive.open(info) as member:
                    table = (info.file_size, parts, checker, done, len(infos))
                    yield from pictures_in_member(member, *table)
                continue
            if problem := checker.size_problem(name, info.file_size):
                yield Member(parts, b"", done, len(infos), problem)
                continue
            checker.add_bytes(info.file_size)
            # zipfile never returns more than the declared size, so a wrong one is no danger.
            with archive.open(info) as member:
                yield Member(parts, member.read(info.file_size), done, len(infos))
        for parts in sorted(folders - filled):
            yield Member(parts, b"", len(infos), len(infos), EMPTY_FOLDER)


class _BoundedTable:
    """A zip file while zipfile parses its table of contents; bounds what is read.

    zipfile makes an object of every entry before anyone can count them: 600 MB for a million.
    The entries are counted in the bytes themselves, whatever the file declares. So it holds for
    zip64, for a wrong number of entries, and for a table hidden behind another.
    """

    def __init__(self, file: BinaryIO, limits: ArchiveLimits) -> None:
        self.file, self.limits = file, limits

    def read(self, size: int = -1) -> bytes:
        if size > MAX_TABLE_BYTES:
            raise DamagedError(f"its table of contents has more than {MAX_TABLE_BYTES:,} bytes")
        data = self.file.read(size)
        if data.count(ENTRY) > self.limits.members:
            raise too_many_files_error(self.limits)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def _decode_name(info: zipfile.ZipInfo) -> str:
    """Return a member's name: of its Unicode field, or read as UTF-8 where that is valid.

    Many programs, macOS's Finder too, write UTF-8 without setting its flag, and names in cp437 are
    seldom valid UTF-8.
    """
    if info.flag_bits & UTF8:
        return info.filename
    try:
        name = _unicode_name(info.extra, info.orig_filename.encode("cp437"))
        return name or info.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.filename


def _unicode_name(extra: bytes, raw: bytes) -> str:
    """Return the name in the Unicode path field of a member's extra data; "" without one.

    The field counts only with the checksum of the name that it replaces (APPNOTE.TXT 4.6.9).
    """
    while len(extra) >= 4:
        kind, size = struct.unpack("<HH", extra[:4])
        field, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind == UNICODE_PATH and field[:5] == b"\1" + struct.pack("<L", zlib.crc32(raw)):
            return field[5:].decode("utf-8", "replace").replace("\0", "")
    return ""


def _check_member(info: zipfile.ZipInfo, path: str, limits: ArchiveLimits) -> None:
    # Unix's mode, in the upper half.
    name, kind = shortened(path), stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise not_a_file_error(path)
    if info.flag_bits & ENCRYPTED:
        raise DamagedError(f"{name} is encrypted")
    # The standard library unpacks bzip2 and lzma inside a zip without a bound on memory.
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DamagedError(f"{name} is compressed by a method other than deflate")
    # A bomb: a real picture is compressed already, so deflate hardly makes it smaller.
    if info.file_size > limits.ratio * max(info.compress_size, 1):
        raise DamagedError(f"{name} unpacks to more than {limits.ratio:,} times its size")
