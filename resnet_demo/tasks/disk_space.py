"""Room on the disk: looked for before a run starts, and some kept back to tell that it ran out.

No torch here.
"""

from pathlib import Path

from resnet_demo.config import TrainConfig
from resnet_demo.errors import DiskFullError
from resnet_demo.files import free_bytes, full_told
from resnet_demo.models.counts import count

RESERVE = ".reserve"
RESERVE_BYTES = 128 * 1024  # what status.json and the last lines of a log need, many times over
FLOAT = 4  # bytes
SLOTS = {"sgd": 1, "muon": 1, "adamw": 2}  # numbers that an optimizer keeps for each weight
COPIES = 3  # last.pt, the one before, and the one that is being written
REST = 5_000_000  # bytes: log, counters, small files


def needed_bytes(config: TrainConfig, num_classes: int) -> int:
    """What a run may put on the disk at once."""
    parameters = count(config.model, num_classes, config.image_size, config.stem).parameters
    checkpoint = FLOAT * parameters * (1 + SLOTS[config.optimizer])
    weights = 2 * FLOAT * parameters  # the best ones, and those that replace them
    return COPIES * checkpoint + weights + REST


def check_room(config: TrainConfig, num_classes: int, folder: Path) -> None:
    """Before a run of that config starts or goes on in the folder. Raises DiskFullError."""
    needed, free = needed_bytes(config, num_classes), free_bytes(folder)
    if folder.is_dir():
        free += sum(file.stat().st_size for file in folder.glob("*last*.pt"))  # replaced one by one
    if free < needed:
        raise DiskFullError.needing(needed, free, f"the checkpoints of {config.model}")


def keep_back(folder: Path) -> None:
    """Take the reserve, for `give_back`. Raises DiskFullError."""
    with full_told(folder, RESERVE_BYTES, "the log"):
        (folder / RESERVE).write_bytes(bytes(RESERVE_BYTES))


def sweep(folder: Path) -> None:
    """Remove what a kill left half-written, of the files that a worker alone writes. For a worker.

    A checkpoint's own temporary file has one name, and the next save takes it.
    """
    for what in (".last*.tmp", ".model*.tmp"):
        for file in folder.glob(what):
            file.unlink(missing_ok=True)


def give_back(folder: Path) -> None:
    """Let go of the reserve: there is room now for a few lines."""
    (folder / RESERVE).unlink(missing_ok=True)
