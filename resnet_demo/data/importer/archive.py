"""Reading the files of a folder, a zip or a tar into memory, one after another. No torch here.

Nothing is ever extracted to disk: a member's name is only inspected, and its bytes are handed on.
An archive that could do harm (a path outside it, a link, a decompression bomb) is refused.
"""

import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from resnet_demo.data.importer.decompress import decompress, read_ahead
from resnet_demo.data.importer.members import (
    ArchiveLimits,
    LimitChecker,
    Member,
)
from resnet_demo.data.importer.own_folder import files_in_folder
from resnet_demo.data.importer.parquet_pictures import MAGIC, pictures_in_parquet
from resnet_demo.data.importer.tar import NoTarError, files_in_tar
from resnet_demo.data.importer.zip import files_in_zip
from resnet_demo.errors import ConfigError, DamagedError, NotFoundError, shortened

# The standard library raises these on foreign bytes.
ARCHIVE_ERRORS = (
    tarfile.TarError,
    zipfile.BadZipFile,
    lzma.LZMAError,
    zlib.error,
    EOFError,
    ValueError,
    RuntimeError,
    OverflowError,
)


def read_members(source: Path, limits: ArchiveLimits | None = None) -> Iterator[Member]:
    """Yield every regular file of a folder, .zip or .tar (.gz, .xz, .bz2), without hidden ones.

    The pictures in parquet files are members too, where the source has no other pictures.

    What cannot be opened in a folder, and a tar's hard links, have a `problem` and no bytes.
    A tar is unpacked in a thread, which ends with the iterator, also when that is closed early.
    Raises NotFoundError, ConfigError for a file that is no archive, DamagedError for one that is
    cut short, damaged, beyond the limits, or an archive with links, devices or paths outside it.
    """
    if not source.exists():
        raise NotFoundError(f"there is no file or folder {shortened(str(source), 300)}")
    name, checker = shortened(source.name), LimitChecker(limits or ArchiveLimits())
    try:
        if source.is_dir():
            yield from files_in_folder(source, checker)
        else:
            with open(source, "rb") as file:
                yield from _read_archive(file, checker)
    except NoTarError:
        # tar has no mark at its start: what is nothing else fails as a tar.
        raise ConfigError(f"{name} is not a folder, a zip or a tar of images") from None
    except ARCHIVE_ERRORS as error:
        raise DamagedError(f"{name} is cut short or damaged") from error
    except OSError as error:
        reason = error.strerror or "it is cut short or damaged"
        raise DamagedError(f"{name} cannot be read: {reason}") from error


def _read_archive(file: BinaryIO, checker: LimitChecker) -> Iterator[Member]:
    # By its first bytes: endings are often missing or wrong.
    start = file.read(4)
    file.seek(0)
    # A single parquet file is a source too: the Hub offers datasets as such.
    if start == MAGIC:
        yield from pictures_in_parquet([(Path(file.name), (Path(file.name).name,))], checker)
        return
    if start[:2] == b"PK":
        yield from files_in_zip(file, checker)
        return
    total = os.fstat(file.fileno()).st_size
    with read_ahead(decompress(file)) as tar:
        for parts, data, problem in files_in_tar(tar, checker):
            # The kernel's position: the file object's own belongs to the thread.
            done = os.lseek(file.fileno(), 0, os.SEEK_CUR)
            yield Member(parts, data, done, total, problem)
