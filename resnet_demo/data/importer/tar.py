"""Reading the files in a tar as a stream, more strictly than tarfile does.

tarfile accepts headers that may be an attack or a torn download.
"""

import tarfile
from collections.abc import Iterator
from typing import Protocol

from resnet_demo.data.importer.members import (
    EMPTY_FOLDER,
    LimitChecker,
    Parts,
    has_picture_suffix,
    hidden_picture_problem,
    is_hidden,
    not_a_file_error,
    safe_parts,
)
from resnet_demo.data.importer.parquet_pictures import is_parquet_name, pictures_in_member
from resnet_demo.errors import DamagedError, shortened

MAX_HEADER_BYTES = 64 * 1024  # of a long name or of attributes, which are held in memory
MAX_GLOBAL_HEADERS = 100  # attributes of all members; tarfile copies them to each member
# Members that describe the next member. tarfile reads them into memory at once.
HEADER_TYPES = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)


class NoTarError(Exception):
    """The first block is not a tar header."""


class Stream(Protocol):
    """A decompressed tar."""

    def read(self, size: int) -> bytes:
        """Return one to `size` bytes, b"" at the end."""


def files_in_tar(stream: Stream, checker: LimitChecker) -> Iterator[tuple[Parts, bytes, str]]:
    """Yield path and bytes of each regular file, in their order, and "".

    A hard link to another file of the tar, and a large file that is no picture, have no bytes; the
    third value is the reason. In place of parquet files come their pictures, unless others were
    before them.
    Raises NoTarError, DamagedError for other links, devices and members beyond the limits,
    tarfile.TarError and the decompressor's own errors for a torn archive.
    """
    counted, has_pictures = _CountedStream(stream, checker), False
    try:
        # "r|", a stream: what is being unpacked cannot be read twice.
        archive = tarfile.open(  # noqa: SIM115
            fileobj=counted, mode="r|", tarinfo=_StrictTarInfo, encoding="utf-8"
        )
    except tarfile.ReadError as error:
        raise NoTarError from error
    with archive:
        folders: set[Parts] = set()
        filled: set[Parts] = set()  # with files in them, or below
        while (info := archive.next()) is not None:
            archive.members.clear()  # tarfile keeps every member it has seen
            if len(archive.pax_headers) > MAX_GLOBAL_HEADERS:
                raise tarfile.ReadError("more global attributes than any program writes")
            parts = safe_parts(info.name)
            # Counted before it is looked at: hidden members and folders take time too.
            checker.add_member(info.name, info.size)
            if info.isdir():
                if not is_hidden(parts):
                    folders.add(parts)
                continue
            if info.islnk() and _is_inside(info.linkname):
                if not is_hidden(parts):
                    yield parts, b"", f"a hard link to {shortened(info.linkname)}"
                continue
            # Sparse files too: a few bytes may describe a file of many gigabytes.
            if not info.isreg() or info.issparse():
                raise not_a_file_error(info.name)
            if is_hidden(parts):
                if problem := hidden_picture_problem(parts):
                    yield parts, b"", problem
                continue
            filled.update(parts[:depth] for depth in range(1, len(parts)))
            has_pictures = has_pictures or has_picture_suffix(parts[-1])
            if is_parquet_name(parts[-1]) and not has_pictures:
                member = archive.extractfile(info)
                for picture in pictures_in_member(member, info.size, parts, checker):
                    yield picture.parts, picture.data, picture.problem
                continue
            problem = checker.size_problem(info.name, info.size)
            yield parts, b"" if problem else archive.extractfile(info).read(), problem
        for parts in sorted(folders - filled):
            yield parts, b"", EMPTY_FOLDER
    while counted.read(2**20):  # to the end: only there does a torn compressed file show
        pass


def _is_inside(target: str) -> bool:
    """Return True for the target of a hard link that is in the archive.

    tar writes one for the second name of a file. Any other target is refused: see `safe_parts`.
    """
    try:
        return bool(safe_parts(target))
    except DamagedError:
        return False


class _CountedStream:
    """The unpacked bytes on their way to tarfile, counted against the limits."""

    def __init__(self, stream: Stream, checker: LimitChecker) -> None:
        self.stream, self.checker = stream, checker

    def read(self, size: int) -> bytes:
        data = self.stream.read(size)
        self.checker.add_bytes(len(data))
        return data


class _StrictTarInfo(tarfile.TarInfo):
    """A header that must be valid: tarfile takes a torn or altered one for the end of the tar."""

    @classmethod
    def frombuf(cls, buf: bytes, encoding: str, errors: str, **rule: bool) -> "_StrictTarInfo":
        return cls._strict("frombuf", buf, encoding, errors, **rule)

    @classmethod
    def _frombuf(cls, buf: bytes, encoding: str, errors: str, **rule: bool) -> "_StrictTarInfo":
        """Parse a header; newer Pythons (and Debian's updated 3.11.2) call this method instead."""
        return cls._strict("_frombuf", buf, encoding, errors, **rule)

    @classmethod
    def _strict(cls, method: str, buf: bytes, *rest: str, **rule: bool) -> "_StrictTarInfo":
        parse = getattr(super(), method)
        if len(buf) == tarfile.BLOCKSIZE and not any(buf):
            return parse(buf, *rest, **rule)  # the proper end: raises tarfile's own signal for it
        try:
            info = parse(buf, *rest, **rule)
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error
        # With a negative size tarfile would never reach the end.
        if info.size < 0 or (info.type in HEADER_TYPES and info.size > MAX_HEADER_BYTES):
            raise tarfile.ReadError("a header with an impossible size")
        return info
