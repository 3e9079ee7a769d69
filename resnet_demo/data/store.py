"""The datasets that are here, by name. No torch: a page lists them before torch is wanted."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from resnet_demo.config import TrainConfig
from resnet_demo.data import shapes
from resnet_demo.data.cifar10 import original_batches
from resnet_demo.data.folder import (
    SPLITS,
    ProgressCallback,
    check_labels,
    is_complete,
    open_split,
    read_info,
)
from resnet_demo.data.info import NAME_PATTERN, DatasetInfo, check_name
from resnet_demo.data.splits import split_sizes
from resnet_demo.errors import ConfigError, DamagedError, NotFoundError, shortened

__all__ = ["DatasetInfo", "Datasets"]

GET_CIFAR = "`python -m resnet_demo data get cifar10` fetches it"


class Datasets:
    """What lies under the data root, the original CIFAR-10 dropped there, and `shapes10`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, name: str) -> Path:
        """Where a dataset lies or would lie. Raises ConfigError for what is no name."""
        return self.root / check_name(name)

    def names(self) -> Sequence[str]:
        """cifar10 first, then shapes10, then the others, damaged ones too; read off the folder."""
        folders = self.root.iterdir() if self.root.is_dir() else ()
        names = {
            path.name for path in folders if NAME_PATTERN.fullmatch(path.name) and is_complete(path)
        }
        if original_batches.find_original(self.root):
            names.add("cifar10")
        first = ["cifar10"] if "cifar10" in names else []
        return [*first, "shapes10", *sorted(names - {"cifar10", "shapes10"})]

    def list(self) -> list[DatasetInfo]:
        """cifar10 first, then shapes10, then the others by name; damaged ones are left out."""
        infos = []
        for name in self.names():
            try:
                infos.append(self.get(name))
            except DamagedError:
                continue  # `get` says what is wrong with it
        return infos

    def get(self, name: str) -> DatasetInfo:
        """Raises NotFoundError, or DamagedError where the files are not what was written."""
        names = self.names()
        if name not in names:
            rule = "one of " + ", ".join(names)
            hint = f"; {GET_CIFAR}" if name == "cifar10" else ""
            raise NotFoundError(f"dataset must be {rule}, got {shortened(name)}{hint}", "dataset")
        if name == "shapes10":
            return shapes.INFO
        return read_info(self.path(name)) if is_complete(self.path(name)) else original_batches.INFO

    def prepare(self, name: str, progress: ProgressCallback | None = None) -> DatasetInfo:
        """Convert the original CIFAR-10 archive, once; other datasets are ready as they are.

        Raises as `get`, and DemoError where the result cannot be written.
        """
        info = self.get(name)
        if name != "cifar10" or is_complete(self.path(name)):
            return info
        try:
            return original_batches.convert_batches(
                self.root, original_batches.find_original(self.root), progress
            )
        except ConfigError:
            if not is_complete(self.path(name)):
                raise
            return self.get(name)  # another process was faster

    def load(self, name: str, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Images (N, size, size, 3) uint8 and labels (N,) int64 of `train` or `test`.

        Images are mapped from disk; writing to them changes the caller's view only. shapes10 is
        made, which takes seconds the first time. Raises as `prepare`.
        """
        if split not in SPLITS:
            raise ConfigError.rule("split", "one of " + ", ".join(SPLITS), split)
        info = self.prepare(name)
        if name == "shapes10":
            images, labels = shapes.make_shapes10()[split]
            return images.copy(), labels.copy()  # the ones that are kept stay as they are
        images, labels = open_split(self.path(name), info, split)
        return images, check_labels(info, labels)

    def class_counts(self, name: str) -> dict[str, dict[str, int]]:
        """Images of each class: split -> class -> count. Raises as `load`."""
        classes = self.get(name).classes
        counted = {
            split: np.bincount(self.load(name, split)[1], minlength=len(classes))
            for split in SPLITS
        }
        return {
            split: dict(zip(classes, map(int, of_class), strict=True))
            for split, of_class in counted.items()
        }

    def delete(self, name: str) -> None:
        """Delete a dataset from disk: it vanishes at once, its files soon after.

        Raises NotFoundError, ConfigError for what is built in or was put there by hand, OSError.
        """
        if name not in self.names():
            raise NotFoundError.rule("dataset", "one of " + ", ".join(self.names()), name)
        if name == "shapes10":
            raise ConfigError("shapes10 is built in and cannot be deleted", "name")
        if name == "cifar10" and (own := original_batches.find_original(self.root)):
            raise ConfigError(f"cifar10 would be made again from {own.name}: remove that", "name")
        away = self.root / f".{name}.partial-{os.getpid()}"  # as what a killed import left
        self.path(name).rename(away)
        shutil.rmtree(away)


def check_data(config: TrainConfig, datasets: Datasets) -> DatasetInfo:
    """The config's dataset. Raises ConfigError if it is not here, or too small."""
    info = datasets.get(config.dataset)
    left, _ = split_sizes(config, info.train)
    if config.batch_size > left:
        what = (
            "train_images" if left == config.train_images else f"{config.dataset}'s training split"
        )
        rule = f"at most the {left} images of {what}"
        raise ConfigError.rule("batch_size", rule, config.batch_size)
    if config.cutout > info.size:  # both are done to the images as they are stored
        rule = f"at most {info.size}, the side of {config.dataset}'s images in pixels"
        raise ConfigError.rule("cutout", rule, config.cutout)
    if config.crop >= info.size:  # edges can be mirrored just so far
        rule = f"less than {info.size}, the side of {config.dataset}'s images in pixels"
        raise ConfigError.rule("crop", rule, config.crop)
    return info
