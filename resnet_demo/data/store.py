"""The datasets on this machine, by name. No torch: a page lists them before torch is loaded."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from resnet_demo.config import TrainConfig
from resnet_demo.data import shapes
from resnet_demo.data.cifar10 import original_batches
from resnet_demo.data.digests import fingerprint_of, split_digests
from resnet_demo.data.folder import (
    ProgressCallback,
    check_labels,
    is_complete,
    open_split,
    read_info,
)
from resnet_demo.data.info import NAME_PATTERN, DatasetInfo, check_name
from resnet_demo.data.splits import config_split, split_sizes
from resnet_demo.errors import ConfigError, DamagedError, NotFoundError, one_of, shortened
from resnet_demo.fingerprint import Fingerprint

GET_CIFAR10 = "`python -m resnet_demo data get cifar10` downloads it"


class Datasets:
    """The datasets under a data root, the original CIFAR-10 if it lies there, and `shapes10`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, name: str) -> Path:
        """Return the folder of a dataset, existing or not. Raises ConfigError for a bad name."""
        return self.root / check_name(name)

    def names(self) -> Sequence[str]:
        """Return the names: cifar10, shapes10, then the others sorted; damaged ones too."""
        folders = self.root.iterdir() if self.root.is_dir() else ()
        names = {
            path.name for path in folders if NAME_PATTERN.fullmatch(path.name) and is_complete(path)
        }
        # Listed before it is converted: it is converted when it is first used.
        if original_batches.find_original(self.root):
            names.add("cifar10")
        # The dataset of the tutorial first: a form takes the first one where nothing was chosen.
        first = ["cifar10"] if "cifar10" in names else []
        return [*first, "shapes10", *sorted(names - {"cifar10", "shapes10"})]

    def list(self) -> list[DatasetInfo]:
        """Return the descriptions in the order of `names`, without damaged datasets."""
        infos = []
        for name in self.names():
            try:
                infos.append(self.get(name))
            except DamagedError:
                continue  # `get` names the damage
        return infos

    def get(self, name: str) -> DatasetInfo:
        """Return a dataset's description.

        Raises NotFoundError, or DamagedError where the files are not what was written.
        """
        names = self.names()
        if name not in names:
            rule = one_of(names)
            hint = f"; {GET_CIFAR10}" if name == "cifar10" else ""
            raise NotFoundError(f"dataset must be {rule}, got {shortened(name)}{hint}", "dataset")
        if name == "shapes10":
            return shapes.INFO
        folder = self.path(name)
        return read_info(folder) if is_complete(folder) else original_batches.INFO

    def prepare(self, name: str, progress: ProgressCallback | None = None) -> DatasetInfo:
        """Convert the original CIFAR-10 archive, once; other datasets need no preparation.

        Raises as `get`, and DemoError where the result cannot be written.
        """
        info = self.get(name)
        if name != "cifar10" or is_complete(self.path(name)):
            return info
        source = original_batches.find_original(self.root)
        try:
            return original_batches.convert_batches(self.root, source, progress)
        except ConfigError:
            if not is_complete(self.path(name)):
                raise
            return self.get(name)  # another process was faster

    def load(self, name: str, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Return images (N, size, size, 3) uint8 and labels (N,) int64 of a stored split.

        Images are mapped from disk; writing to them changes the caller's copy only. shapes10 is
        drawn on first use, which takes about a second. Raises as `prepare`.
        """
        images, labels = self._open(name, split)
        if name == "shapes10":
            return images.copy(), labels.copy()  # the cached arrays stay unchanged
        return images, labels

    def _open(self, name: str, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Return what `load` does, for reading only: shapes10's arrays are not copied."""
        info = self.prepare(name)
        check_test_split(info, split)
        if split not in info.splits:
            raise ConfigError.rule("split", one_of(info.splits), split)
        if name == "shapes10":
            return shapes.make_shapes10()[split]
        images, labels = open_split(self.path(name), info, split)
        return images, check_labels(info, labels)

    def split_positions(self, config: TrainConfig, split: str, name: str) -> tuple[str, np.ndarray]:
        """Return the stored split that holds a run's split, and the positions (N,) in it.

        The run's `val` is the stored validation split where there is one, else a part of `train`.
        Raises as `load`.
        """
        info = self.prepare(name)
        check_test_split(info, split)
        if split == "test" or (split == "val" and info.val):
            return split, np.arange(getattr(info, split))
        # Only a stratified split looks at the labels: else the counts are enough.
        labels = self._open(name, "train")[1] if config.stratify else None
        train, val = config_split(info.train, config, info.val, labels)
        return "train", train if split == "train" else val

    def load_split(
        self, config: TrainConfig, split: str, name: str | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the stored images and labels that hold a run's split, and its positions in them.

        For reading only. name: another dataset than the config's. Raises as `load`.
        """
        name = name or config.dataset
        stored, positions = self.split_positions(config, split, name)
        return *self._open(name, stored), positions

    def holds_out(self, config: TrainConfig) -> bool:
        """Return whether a run's validation images are others than those it is trained on."""
        return config.val_share > 0 or self.get(config.dataset).val > 0

    def load_digests(self, config: TrainConfig, split: str, name: str) -> np.ndarray:
        """Return the digest of each picture of a run's split, (N, 16) uint8. Raises as `load`."""
        stored, positions = self.split_positions(config, split, name)
        return self.digests(name, stored)[positions]

    def digests(self, name: str, split: str) -> np.ndarray:
        """Return the digest of each picture that `load` returns, (N, 16) uint8. Raises as it."""
        images, _ = self._open(name, split)
        if name == "shapes10":
            return shapes.shapes10_digests(split)
        return split_digests(self.path(name), split, images)

    def fingerprint(self, name: str) -> Fingerprint | None:
        """Return the fingerprint of a dataset's content; None for an archive to be converted.

        Raises as `get`.
        """
        info = self.get(name)
        if name == "shapes10":
            return shapes.FINGERPRINT
        if not is_complete(self.path(name)):
            return None
        splits = {}
        for split in info.splits:
            _, labels = self._open(name, split)
            splits[split] = self.digests(name, split), labels
        return fingerprint_of(info.classes, splits)

    def content_key(self, name: str) -> str:
        """Return the start of the fingerprint's digest for names of files; empty if not known."""
        try:
            fingerprint = self.fingerprint(name)
        except (NotFoundError, DamagedError):
            return ""
        # Twelve digits: short enough for a name.
        return fingerprint.digest[:12] if fingerprint else ""

    def class_counts(self, name: str) -> dict[str, dict[str, int]]:
        """Return the number of images per class: split -> class -> count. Raises as `load`."""
        info = self.get(name)
        classes, counts = info.classes, {}
        for split in info.splits:
            _, labels = self._open(name, split)
            # A split may have no image of the last classes.
            per_class = np.bincount(labels, minlength=len(classes)).tolist()
            counts[split] = dict(zip(classes, per_class, strict=True))
        return counts

    def train_counts(self, name: str) -> Sequence[int]:
        """Return the number of stored training images of each class. Raises as `get`."""
        info = self.get(name)
        if is_complete(self.path(name)):
            _, labels = open_split(self.path(name), info, "train")
            return np.bincount(check_labels(info, labels), minlength=len(info.classes)).tolist()
        # shapes10, and CIFAR-10's archive: the same number of each class
        return [info.train // len(info.classes)] * len(info.classes)

    def split_sizes(self, config: TrainConfig) -> tuple[int, int]:
        """Return the numbers of images that a run trains on and validates on. Raises as `get`."""
        info, counts = self.get(config.dataset), None
        # The sizes of a stratified split depend on how many images each class has.
        if config.stratify and not info.val:
            counts = self.train_counts(config.dataset)
        return split_sizes(config, info.train, info.val, counts)

    def delete(self, name: str) -> None:
        """Delete a dataset from disk.

        Raises NotFoundError, ConfigError for a dataset that is built in or whose original archive
        was put there by hand, OSError.
        """
        if name not in self.names():
            raise NotFoundError.rule("dataset", one_of(self.names()), name)
        if name == "shapes10":
            raise ConfigError("shapes10 is built in and cannot be deleted", "name")
        if name == "cifar10" and (original := original_batches.find_original(self.root)):
            raise ConfigError(
                f"cifar10 would be converted again from {original.name}: remove that first", "name"
            )
        # Renamed first, so that it vanishes at once. The name is that of an unfinished import: if
        # this process is killed, the next import of the name removes the rest.
        removed = self.root / f".{name}.partial-{os.getpid()}"
        self.path(name).rename(removed)
        shutil.rmtree(removed)


def check_test_split(info: DatasetInfo, split: str) -> None:
    """Raise ConfigError for the split `test` of a dataset without test images."""
    if split == "test" and not info.test:
        raise ConfigError(
            f"the dataset {info.name} has no test images, as it was made of too few pictures to "
            "hold some out: choose the split val, or import it again with five pictures a class "
            "or more",
            "split",
        )
