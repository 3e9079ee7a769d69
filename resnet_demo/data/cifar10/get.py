"""Getting CIFAR-10: one source after another, until one has become the dataset `cifar10`.

What comes lies in a hidden folder and is unpacked in another; the dataset appears whole or not at
all. Bytes are kept for the next time when somebody stops it, or the sources fail.
"""

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

from resnet_demo.data.cifar10 import original_batches, parquet
from resnet_demo.data.cifar10.download import DownloadTimeouts, download
from resnet_demo.data.cifar10.sources import COPY_VARIABLE, Source, SourceError
from resnet_demo.data.folder import INFO, new_dataset, write_info
from resnet_demo.data.importer.import_images import import_images
from resnet_demo.data.info import DatasetInfo
from resnet_demo.errors import DamagedError, DemoError, StoppedError

NAME = original_batches.INFO.name
DOWNLOADS = ".downloads"
DATASET_BYTES = 200_000_000  # both splits as arrays, and some air
REPORT_EVERY_S = 0.35
TIMEOUTS = DownloadTimeouts()
DISK_FULL_ERRNOS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
)  # the last: a limit on the size of files
SUGGESTIONS = (
    f"What you can do: import a copy that you have (on the Data tab, or by `python -m resnet_demo "
    f"data import {NAME} PATH`), name a copy by {COPY_VARIABLE} (an address or a path) and try "
    "again, or use shapes10, which is built in"
)


@dataclass(frozen=True, kw_only=True)
class DownloadProgress:
    """How far it is. done and total in what `unit` says, over all files of the source."""

    source: str  # in words
    message: str  # what is happening, one short sentence
    done: int = 0
    total: int = 0  # 0: not known
    unit: str = "bytes"  # or "batches", "pictures", "" where only the share counts
    rate: float = 0.0  # units a second over the last few; 0: not known


def get_cifar10(
    root: Path,
    sources: Sequence[Source],
    *,
    patience: DownloadTimeouts = TIMEOUTS,
    report: Callable[[DownloadProgress], object] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> DatasetInfo:
    """Make the dataset `cifar10` under root from the first source that has it.

    report: called at most some three times a second, and at each beginning and end. should_stop:
    asked ten times a second while bytes come, and at each step of unpacking.
    Raises ConfigError where cifar10 is there already, StoppedError, and DemoError for a full disk,
    for another process at the same work, or where no source had it: then the message says how
    each of them failed and what else can be done.
    """
    if dropped := original_batches.find_original(root):
        sources = [Source("the archive in the data folder", path=dropped), *sources]
    with _alone(root) as downloads:
        with new_dataset(root, NAME) as folder:
            work = _Getting(folder, downloads, patience, _Teller(report), should_stop)
            info = work.from_first(sources)
        shutil.rmtree(downloads, ignore_errors=True)
    return info


@contextmanager
def _alone(root: Path) -> Iterator[Path]:
    """The folder of unfinished downloads, for one process at a time; gone afterwards if empty."""
    folder = root / DOWNLOADS
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = _locked(folder / "lock")
    except OSError as error:
        raise DemoError(f"nothing can be written to {root}: {error.strerror}") from error
    try:
        yield folder
    finally:
        (folder / "lock").unlink(missing_ok=True)  # before it is let go: see _locked
        os.close(lock)
        if folder.exists() and not os.listdir(folder):
            folder.rmdir()


def _locked(path: Path) -> int:
    """A kernel lock, as an open descriptor. Raises DemoError where somebody has it."""
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise DemoError("another process is getting CIFAR-10 right now") from None
        if path.exists() and path.stat().st_ino == os.fstat(lock).st_ino:
            return lock
        os.close(lock)  # the one who had it was just removing it


class _Teller:
    """Passes reports on, the ones in between not too often."""

    def __init__(self, tell: Callable[[DownloadProgress], object]) -> None:
        self.tell, self.told_at = tell, 0.0

    def __call__(self, transfer: DownloadProgress) -> None:
        at_an_end = transfer.done in (0, transfer.total)
        if at_an_end or monotonic() - self.told_at >= REPORT_EVERY_S:
            self.told_at = monotonic()
            self.tell(transfer)


@dataclass
class _Getting:
    """One attempt at all sources. folder: what becomes the dataset in the end."""

    folder: Path
    downloads: Path
    patience: DownloadTimeouts
    tell: Callable[[DownloadProgress], object]
    should_stop: Callable[[], bool]

    def from_first(self, sources: Sequence[Source]) -> DatasetInfo:
        """The dataset from the first source that has it, built in the folder."""
        failures = []
        for source in sources:
            self._check_stop()
            try:
                return self._from(source)
            except SourceError as error:
                failures.append(f"{source.name} ({error})")
                self.tell(
                    DownloadProgress(source=source.name, message=f"{source.name} failed: {error}")
                )
            except OSError as error:
                if error.errno not in DISK_FULL_ERRNOS:
                    raise
                raise DemoError(f"the disk is full: {self._lacking(source)}") from error
        raise DemoError(self._nothing_worked(failures))

    def _from(self, source: Source) -> DatasetInfo:
        if source.kind == "parquet" and not parquet.has_pyarrow():
            raise SourceError(f"reading its files needs pyarrow: {parquet.INSTALL}")
        if self._free() < self._needed(source):
            raise DemoError(f"the disk is full: {self._lacking(source)}")
        parts = [self.downloads / remote.part for remote in source.files]
        self._download(source, parts)
        try:
            return self._unpack(source, parts)
        except SourceError:
            for part in parts:
                part.unlink()  # the right bytes, but no use
            raise

    def _download(self, source: Source, parts: Sequence[Path]) -> None:
        sizes, before = [remote.size or 0 for remote in source.files], 0
        for remote, part in zip(source.files, parts, strict=True):
            shown = DownloadProgress(source=source.name, message=f"downloading from {source.name}")

            def told(done: int, total: int, rate: float, shown=shown, before=before) -> None:
                total = sum(sizes) or total
                self.tell(replace(shown, done=before + done, total=total, rate=rate))

            download(remote, part, self.patience, told, self.should_stop)
            before += part.stat().st_size

    def _unpack(self, source: Source, parts: Sequence[Path]) -> DatasetInfo:
        """The dataset from files that are here, checked to be CIFAR-10, moved into the folder."""
        with TemporaryDirectory(dir=self.folder) as staging:
            try:
                info = self._convert(source, parts, Path(staging))
            except StoppedError:
                raise
            except DemoError as error:
                if isinstance(error.__cause__, OSError) and not isinstance(error, DamagedError):
                    raise error.__cause__ from None  # the disk's fault: no other source helps
                raise SourceError(self._named(str(error), source)) from error
            if (info.classes, info.size) != (original_batches.CLASSES, original_batches.INFO.size):
                raise SourceError("it holds other classes than CIFAR-10")
            for file in Path(staging, NAME).iterdir():
                if file.name != INFO:
                    file.rename(self.folder / file.name)
        words = self._named(info.source, source)
        if source.files:
            words += f", from {source.name}"
        return write_info(self.folder, replace(info, source=words))

    def _convert(self, source: Source, parts: Sequence[Path], staging: Path) -> DatasetInfo:
        if source.kind == "parquet":
            return parquet.convert_parquet(staging, *parts, self._progress(source, "pictures"))
        path = source.path or parts[0]
        unit = "batches" if original_batches.is_original(path) else ""
        return import_images(staging, NAME, path, progress=self._progress(source, unit))

    def _progress(self, source: Source, unit: str) -> Callable[[int, int | None, str], None]:
        shown = DownloadProgress(
            source=source.name, message=f"unpacking what {source.name} had", unit=unit
        )

        def told(done: int, total: int | None, message: str) -> None:
            self._check_stop()
            self.tell(replace(shown, done=done, total=total or 0))

        self.tell(shown)
        return told

    def _check_stop(self) -> None:
        if self.should_stop():
            raise StoppedError("stopped; what has come is kept for the next time")

    def _named(self, text: str, source: Source) -> str:
        for remote in source.files:
            text = text.replace(remote.part, remote.name)
        return text

    def _free(self) -> int:
        return shutil.disk_usage(self.downloads).free

    def _needed(self, source: Source) -> int:
        """Bytes still to be written."""
        parts = [(remote.size or 0, self.downloads / remote.part) for remote in source.files]
        left = [size - part.stat().st_size if part.exists() else size for size, part in parts]
        return sum(max(0, size) for size in left) + DATASET_BYTES

    def _lacking(self, source: Source) -> str:
        needed, free = self._needed(source) / 1e6, self._free() / 1e6
        return f"CIFAR-10 needs {needed:,.0f} MB more in {self.folder.parent}, {free:,.0f} are free"

    def _nothing_worked(self, failures: Sequence[str]) -> str:
        tried = f"CIFAR-10 could not be had. Tried: {'; '.join(failures)}. {SUGGESTIONS}."
        kept = any(self.downloads.glob("*.part"))
        return tried + (" What has come is kept: trying again goes on from there." if kept else "")
