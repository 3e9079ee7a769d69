"""`last.pt`: everything that resume needs. A kill at any moment leaves a loadable checkpoint.

Order of a save; each step is durable before the next:
1. write the new state completely, under a temporary name;
2. link the previous `last.pt` as `last.before.pt`;
3. write the new digest to `last.pt.sha256`, with the old digest below it;
4. rename the temporary file to `last.pt`.
So `last.pt` always matches one of the two digests beside it, unless something else damaged it.
"""

import hashlib
import io
import os
import pickle
from pathlib import Path
from typing import Any

import torch

from resnet_demo.config import TrainConfig
from resnet_demo.errors import DamagedError, shortened
from resnet_demo.files import (
    link_or_copy,
    open_file,
    reporting_disk_full,
    sha256_of,
    sync_folder,
    write_atomically,
)
from resnet_demo.json_files import MAX_NUMBER, is_number

LAST, BEFORE = "last.pt", "last.before.pt"
# What torch.load raises for bytes that are no checkpoint; nothing in them is executed.
UNREADABLE = (
    RuntimeError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    AssertionError,
    pickle.UnpicklingError,
    EOFError,
    OverflowError,
    ImportError,
    MemoryError,
    OSError,
)
PLAIN = str | int | float | None
MAX_THREADS = 4096
MAX_DIGESTS = 4096  # bytes of the file of digests
FIELDS: dict[str, Any] = {  # of a checkpoint, with their types; see `Training.state_dict`
    "config": dict,
    "threads": int,
    "step": int,
    "validated": int,
    "seconds": int | float,
    "epoch_began": int | float,
    "best": dict,
    "tally": dict,
    "model": dict,
    "optimizer": dict,
}


def save_last(folder: Path, state: dict[str, Any]) -> None:
    """Write `last.pt` and keep the previous one. A failure leaves the previous one in place.

    Raises DiskFullError, OSError.
    """
    # in memory first: the digest is then of exactly the bytes that are written
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getbuffer()
    temporary = folder / f".{LAST}.new"
    try:
        with reporting_disk_full(folder, len(content), "a checkpoint"):
            write_and_swap(folder, content, temporary)
    finally:
        temporary.unlink(missing_ok=True)


def write_and_swap(folder: Path, content: memoryview, temporary: Path) -> None:
    """Perform the steps of a save in the order that the module's docstring gives."""
    last = folder / LAST
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    # two digests: a kill before the rename leaves the old last.pt, which must still match
    digests = [hashlib.sha256(content).hexdigest(), *known_digests(last)][:2]
    if last.exists():
        keep_previous(folder)
    write_digests(last, digests)
    os.replace(temporary, last)
    sync_folder(folder)


def keep_previous(folder: Path) -> None:
    """Make today's `last.pt` the new `last.before.pt`, unless it is damaged."""
    last, before, link = folder / LAST, folder / BEFORE, folder / f".{BEFORE}.link"
    try:
        digest = sha256_of(last)
    except OSError:  # a pipe in its place
        return
    if digest not in known_digests(last):
        return
    write_digests(before, [digest, *known_digests(before)][:2])
    # a link takes no space and no time (a copy, where a disk has no links, takes both), and last.pt
    # is never missing
    link.unlink(missing_ok=True)  # a kill may have left it
    link_or_copy(last, link)
    os.replace(link, before)
    sync_folder(folder)


def write_digests(path: Path, digests: list[str]) -> None:
    """Write the digest file of a checkpoint, in the format of sha256sum."""
    text = "".join(f"{digest}  {path.name}\n" for digest in digests)
    write_atomically(digest_file(path), text.encode())


def known_digests(path: Path) -> list[str]:
    """Return the digests that the file beside a checkpoint lists, newest first."""
    try:
        with open_file(digest_file(path)) as file:
            lines = file.read(MAX_DIGESTS).decode("ascii", "replace").splitlines()
    except OSError:
        return []
    return [line.split()[0] for line in lines if line.strip()]


def digest_file(path: Path) -> Path:
    """Return the path of the digest file beside a checkpoint."""
    return path.with_name(path.name + ".sha256")


def load_matching(folder: Path, config: TrainConfig) -> tuple[dict[str, Any], str] | None:
    """Load the checkpoint as `load_last` does, if it was saved under the same config.

    Raises DamagedError if config.json was edited, or the checkpoint is another run's.
    """
    loaded, values = load_last(folder), config.to_dict()
    if loaded is None:
        return None
    check_fields(loaded[0], folder)
    saved = loaded[0]["config"]
    for name in values.keys() & saved.keys():  # a later version may have other fields
        if values[name] != saved[name]:
            raise DamagedError(
                f"config.json of {folder.name} does not belong to its checkpoint: {name} is "
                f"{values[name]!r}, and {saved[name]!r} in the checkpoint"
            )
    return loaded


def check_fields(state: Any, folder: Path) -> None:
    """Raise DamagedError unless a checkpoint has the fields of one, with values of their types.

    A digest shows that a file is what was written, not that this program wrote it.
    """
    if not isinstance(state, dict):
        raise foreign_checkpoint(folder, f"it holds {type(state).__name__} instead of fields")
    for name, kind in FIELDS.items():
        value = state.get(name)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise foreign_checkpoint(folder, f"its field {name} is {type(value).__name__}")
        if isinstance(value, int | float) and not 0 <= value < MAX_NUMBER:  # false for NaN
            raise foreign_checkpoint(folder, f"its field {name} is {shortened(value)}")
    for name in ("config", "best"):
        if not all(isinstance(value, PLAIN) for value in state[name].values()):
            raise foreign_checkpoint(folder, f"its field {name} has values of other types")
    if not 1 <= state["threads"] <= MAX_THREADS:
        raise foreign_checkpoint(folder, f"its number of threads is {shortened(state['threads'])}")
    tally = state["tally"]
    for name in ("loss", "correct", "last"):
        if not isinstance(value := tally.get(name), torch.Tensor) or value.numel() != 1:
            raise foreign_checkpoint(folder, f"its sum {name} is no single number")
    for name in ("seen", "seconds"):
        if not is_number(tally.get(name)):
            raise foreign_checkpoint(folder, f"its sum {name} is {shortened(tally.get(name))}")


def foreign_checkpoint(folder: Path, reason: str) -> DamagedError:
    """Return the error of a checkpoint that is whole but was not written by this program."""
    return DamagedError(f"{LAST} of {folder.name} is damaged: {reason}; start a new run")


def load_last(folder: Path) -> tuple[dict[str, Any], str] | None:
    """Return the newest undamaged state, and a warning or ""; None if nothing was saved yet.

    Raises DamagedError if there are checkpoints and all are damaged.
    """
    last, before = folder / LAST, folder / BEFORE
    if not last.exists() and not before.exists():
        return None
    state = read_verified(last)
    if state is not None:
        return state, ""
    state = read_verified(before)
    if state is not None:
        return state, f"{LAST} of {folder.name} is damaged: resuming from the checkpoint before it"
    raise DamagedError(f"{LAST} of {folder.name} is damaged, and so is the checkpoint before it")


def read_verified(path: Path) -> dict[str, Any] | None:
    """Return the state in a file, or None if it is missing or damaged."""
    try:
        with open_file(path) as file:
            content = file.read()
    except OSError:
        return None
    # the digest is checked before anything is parsed
    if hashlib.sha256(content).hexdigest() not in known_digests(path):
        return None
    try:
        # weights_only: a checkpoint from elsewhere must not be able to run code.
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except UNREADABLE:
        return None
