"""`last.pt`: all that resume needs, so written that a kill at any moment leaves a loadable one.

Order of a save, each step durable before the next:
1. the new state, whole, under a temporary name;
2. the checkpoint before it, by link, as `last.before.pt`;
3. `last.pt.sha256`: the new digest and, below it, the old one;
4. rename to `last.pt`.
So `last.pt` always matches one of the two digests beside it, unless something else damaged it.
"""

import hashlib
import io
import os
import pickle
from pathlib import Path
from typing import Any

import torch

from resnet_demo.errors import DamagedError
from resnet_demo.files import full_told, sha256_of, sync_folder, write_atomically

LAST, BEFORE = "last.pt", "last.before.pt"


def save_last(folder: Path, state: dict[str, Any]) -> None:
    """Write `last.pt`, keeping the one before. What was there stays where that fails.

    Raises DiskFullError, OSError.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getbuffer()
    new = folder / f".{LAST}.new"
    try:
        with full_told(folder, len(content), "a checkpoint"):
            write_and_swap(folder, content, new)
    finally:
        new.unlink(missing_ok=True)


def write_and_swap(folder: Path, content: memoryview, new: Path) -> None:
    """All steps of a save; `new` is the temporary name."""
    last = folder / LAST
    with open(new, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    digests = [hashlib.sha256(content).hexdigest(), *known_digests(last)][:2]
    if last.exists():
        keep_previous(folder)
    write_atomically(digest_file(last), "".join(f"{d}  {LAST}\n" for d in digests).encode())
    os.replace(new, last)
    sync_folder(folder)


def keep_previous(folder: Path) -> None:
    """`last.before.pt` becomes today's `last.pt`, unless that one is damaged."""
    last, before, link = folder / LAST, folder / BEFORE, folder / f".{BEFORE}.link"
    digest = sha256_of(last)
    if digest not in known_digests(last):
        return
    digests = [digest, *known_digests(before)][:2]
    write_atomically(digest_file(before), "".join(f"{d}  {BEFORE}\n" for d in digests).encode())
    link.unlink(missing_ok=True)
    os.link(last, link)
    os.replace(link, before)
    sync_folder(folder)


def digest_file(path: Path) -> Path:
    """The file beside a checkpoint that holds its digest."""
    return path.with_name(path.name + ".sha256")


def known_digests(path: Path) -> list[str]:
    """Digests that the file beside `path` vouches for, newest first."""
    try:
        lines = digest_file(path).read_text("ascii", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    return [line.split()[0] for line in lines if line.strip()]


def load_last(folder: Path) -> tuple[dict[str, Any], str] | None:
    """The newest undamaged state, and a warning or "". None where nothing was saved yet.

    Raises DamagedError when there are checkpoints and none is whole.
    """
    last, before = folder / LAST, folder / BEFORE
    if not last.exists() and not before.exists():
        return None
    state = read_verified(last)
    if state is not None:
        return state, ""
    state = read_verified(before)
    if state is not None:
        return state, f"{LAST} of {folder.name} is damaged: going on from the checkpoint before it"
    raise DamagedError(f"{LAST} of {folder.name} is damaged, and so is the checkpoint before it")


def read_verified(path: Path) -> dict[str, Any] | None:
    """The state of one file, checked against its digest before it is parsed; None if damaged."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    if hashlib.sha256(content).hexdigest() not in known_digests(path):
        return None
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError):
        return None
