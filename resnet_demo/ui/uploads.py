"""Uploaded files: checked before use, and removed when the last page that shows them closes.

Gradio stores a file once, however many pages sent it, and removes it after an hour. It never
removes broken-off uploads, nor those of an app that was killed: this module does.
"""

import os
import re
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

import gradio as gr
from gradio.utils import get_upload_folder

from resnet_demo.errors import ConfigError
from resnet_demo.file_locks import is_locked, try_lock
from resnet_demo.lru import LRU
from resnet_demo.ui.gradio_fixes import cached_files, session_hash

MAX_PICTURE_BYTES = 20 * 2**20
HOUR_S = 3600.0
# As Gradio names them: an upload under way, and the folder of a complete one.
PARTIAL, COMPLETE = re.compile(r"tmp[a-z0-9_]{8}"), re.compile(r"[0-9a-f]{64}")
MAX_PAGES = 10_000  # a page whose browser never reported its end is forgotten in time
# The same for a missing file as for a secret one: the error must not reveal which files exist.
NOT_UPLOADED = ConfigError(
    "a file must come through an upload, got a path of this machine", "image"
)


class PageUploads:
    """The uploads that each open page has shown, by Gradio's session hash. Thread-safe."""

    def __init__(self) -> None:
        self.files: LRU[str, set[Path]] = LRU(MAX_PAGES)
        self.lock = threading.Lock()  # Gradio calls handlers in several threads

    def add(self, *files: Path) -> None:
        """Record that the page of the current event shows these files."""
        page = session_hash()
        if page is None:
            return
        with self.lock:
            self.files[page] = self.files.get(page, set()).union(files)

    def close_page(self) -> None:
        """Remove the uploads of the page that was just closed, unless another page shows them."""
        with self.lock:
            closed = self.files.pop(session_hash() or "", set())
            for file in closed.difference(*self.files.values()):
                file.unlink(missing_ok=True)
                with suppress(OSError):  # the folder holds other files
                    file.parent.rmdir()


def uploaded_file(path: str | None) -> Path:
    """Return the resolved path of an upload. Raises ConfigError for any other path."""
    # A raw request can name any file of this machine: Gradio 6.31 does not check it.
    folder = Path(get_upload_folder()).resolve()
    if not isinstance(path, str) or not path or "\0" in path:
        raise ConfigError("a file must be uploaded first, got nothing", "image")
    try:
        # Links are followed before the check: one in the folder could lead out of it.
        file = Path(path).resolve(strict=True)
    except (OSError, RuntimeError, ValueError) as error:  # missing, a link loop, not Unicode
        raise NOT_UPLOADED from error
    if not file.is_relative_to(folder) or not file.is_file():
        raise NOT_UPLOADED
    return file


def uploaded_picture(path: str | None) -> Path:
    """Return the path of an uploaded picture of at most MAX_PICTURE_BYTES. Raises ConfigError."""
    file = uploaded_file(path)
    if (size := file.stat().st_size) > MAX_PICTURE_BYTES:
        rule = f"a file of at most {MAX_PICTURE_BYTES:,} bytes"
        raise ConfigError(f"the picture must be {rule}, got {size:,}", "image")
    return file


def keep_uploads_clean(folder: Path, blocks: gr.Blocks) -> None:
    """Remove what earlier apps left in the upload folder, now and every hour."""
    folder.mkdir(parents=True, exist_ok=True)
    # Held until the process ends, however it ends. An app that is alone keeps nothing of others.
    lock = try_lock(folder / f".app-{os.getpid()}.lock")
    others = (file for file in folder.glob(".app-*.lock") if f"-{os.getpid()}." not in file.name)
    is_alone = lock is not None and not any(map(is_locked, others))
    remove_old_uploads(folder, 0.0 if is_alone else HOUR_S, cached_files(blocks))

    def sweep() -> None:
        while True:
            time.sleep(HOUR_S)
            remove_old_uploads(folder, HOUR_S, cached_files(blocks))

    threading.Thread(target=sweep, daemon=True).start()


def remove_old_uploads(folder: Path, age_s: float, keep: Collection[str]) -> None:
    """Remove uploads that are older than this many seconds; other files stay."""
    for file, changed_at in upload_files(folder):
        if str(file) not in keep and time.time() - changed_at >= age_s:
            with suppress(OSError):  # another app removed it, or its folder holds more
                file.unlink()
                if file.parent != folder:
                    file.parent.rmdir()


def upload_files(folder: Path) -> Iterator[tuple[Path, float]]:
    """Yield the uploads in a folder, each with the time of its last change."""
    for entry in [*folder.iterdir()]:
        with suppress(OSError):  # removed meanwhile
            if PARTIAL.fullmatch(entry.name) and not entry.is_symlink() and entry.is_file():
                yield entry, entry.stat().st_mtime
            elif COMPLETE.fullmatch(entry.name) and not entry.is_symlink() and entry.is_dir():
                # A copy keeps the time of its source, so only the inode's own time says its age.
                yield from ((file, file.lstat().st_ctime) for file in [*entry.iterdir()])
