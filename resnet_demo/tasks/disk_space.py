"""Disk space: checked before a run starts, with a reserve that lets a full disk be reported.

No torch here.
"""

from pathlib import Path

from resnet_demo.config import TrainConfig
from resnet_demo.errors import DiskFullError
from resnet_demo.files import free_bytes, reporting_disk_full
from resnet_demo.models.counts import model_counts

RESERVE = ".reserve"
RESERVE_BYTES = 128 * 1024  # many times what status.json and the last lines of a log need
FLOAT_BYTES = 4
OPTIMIZER_SLOTS = {"sgd": 1, "muon": 1, "adamw": 2}  # numbers that it stores for each weight
CHECKPOINTS = 3  # last.pt, the one before, and the one that is being written
WEIGHTS = 2  # model.safetensors, and the one that replaces it
OTHER_BYTES = 5_000_000  # log, buffers, small files


def needed_bytes(config: TrainConfig, num_classes: int) -> int:
    """Return the most bytes that a run has on the disk at once."""
    parameters = model_counts(config.model, num_classes, config.image_size, config.stem).parameters
    averages = 1 if config.ema_decay else 0  # a checkpoint holds the moving average too
    copies = 1 + averages + OPTIMIZER_SLOTS[config.optimizer]
    # At the moment when both a checkpoint and the kept weights are being replaced.
    numbers = parameters * (CHECKPOINTS * copies + WEIGHTS)
    return FLOAT_BYTES * numbers + OTHER_BYTES


def check_disk_space(config: TrainConfig, num_classes: int, folder: Path) -> None:
    """Raise DiskFullError unless a run of that config can start or continue in the folder."""
    needed, free = needed_bytes(config, num_classes), free_bytes(folder)
    if folder.is_dir():
        # A resumed run replaces its checkpoints one by one.
        free += sum(file.stat().st_size for file in folder.glob("*last*.pt"))
    if free < needed:
        raise DiskFullError.needing(needed, free, f"the checkpoints of {config.model}")


def create_reserve(folder: Path) -> None:
    """Write the reserve, whose space `release_reserve` frees. Raises DiskFullError."""
    with reporting_disk_full(folder, RESERVE_BYTES, "the log"):
        # Really written: a sparse file would occupy no space that could be freed.
        (folder / RESERVE).write_bytes(bytes(RESERVE_BYTES))


def release_reserve(folder: Path) -> None:
    """Free the reserve, for the last lines of the log and the status."""
    (folder / RESERVE).unlink(missing_ok=True)


def remove_partial_files(folder: Path) -> None:
    """Remove half-written files that only a worker writes; for a worker that starts.

    A checkpoint's temporary file has a fixed name: the next save replaces it.
    """
    for pattern in (".last*.tmp", ".model*.tmp"):
        for file in folder.glob(pattern):
            file.unlink(missing_ok=True)
