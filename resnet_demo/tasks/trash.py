"""The trash folder beside the runs: deleted runs stay in it for 30 days."""

import os
import shutil
import time
from pathlib import Path

from resnet_demo.errors import ConfigError
from resnet_demo.runs.text import bytes_text

TRASH = ".trash"
MARK = ".deleted"
KEEP_DAYS = 30
DAY_S = 24 * 3600.0


def put_in_trash(folder: Path) -> Path:
    """Move a run's folder to the trash beside it; return its new path.

    Runs that were in the trash for long enough are removed.
    """
    trash = folder.parent / TRASH
    trash.mkdir(exist_ok=True)
    # A new run may get the id of a deleted one, and be deleted too.
    target = unused_path(trash / folder.name)
    os.rename(folder, target)
    # Its time is now that of its deletion: a disk that refuses to set one does so for a new file.
    try:
        os.utime(target)
    except OSError:
        (target / MARK).touch()
        (target / MARK).unlink()
    empty_trash(folder.parent, KEEP_DAYS)
    return target


def take_from_trash(root: Path, name: str, run_id: str) -> None:
    """Move a folder of the trash back among the runs, as that run. Raises ConfigError."""
    folder = root / TRASH / name
    # Compared with the list, so that a name such as `..` leads nowhere.
    if folder not in trashed(root):
        raise ConfigError(f"{name} is no longer in the trash", "run")
    os.rename(folder, root / run_id)  # fails where a folder with files has that name


def empty_trash(root: Path, days: float = 0.0) -> int:
    """Remove the runs that were deleted more than that many days ago; return how many."""
    limit = time.time() - days * DAY_S
    old = [folder for folder in trashed(root) if folder.lstat().st_mtime <= limit]
    for folder in old:
        shutil.rmtree(folder, ignore_errors=True)  # what cannot be removed stays for the next time
    return sum(not folder.exists() for folder in old)


def trashed(root: Path) -> list[Path]:
    """Return the folders in the trash. Links are not followed."""
    trash = root / TRASH
    if trash.is_symlink() or not trash.is_dir():
        return []
    return [folder for folder in trash.iterdir() if folder.is_dir() and not folder.is_symlink()]


def trash_size(root: Path) -> tuple[int, int]:
    """Return the number of runs in the trash, and their size in bytes."""
    folders = trashed(root)
    sizes = (
        os.lstat(os.path.join(path, name)).st_size
        for folder in folders
        for path, _, names in os.walk(folder)
        for name in names
    )
    return len(folders), sum(sizes)


def trash_text(root: Path) -> str:
    """Return a sentence about the trash: how much is in it, and how long."""
    runs, size = trash_size(root)
    amount = "is empty" if not runs else f"holds {runs} run{'s' * (runs > 1)}, {bytes_text(size)}"
    return f"The trash {amount}. A deleted run stays there for {KEEP_DAYS} days."


def unused_path(path: Path) -> Path:
    """Return the path, with a number appended if it is taken."""
    candidate, number = path, 2
    while candidate.exists():
        candidate, number = path.with_name(f"{path.name}-{number}"), number + 1
    return candidate
