"""The datasets on this machine, by name. No torch: a page lists them before torch is loaded."""

import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from resnet_demo.architectures import STEM_CHOICE_MODELS
from resnet_demo.config import TrainConfig, defaults, make_config
from resnet_demo.data import shapes
from resnet_demo.data.cifar10 import original_batches
from resnet_demo.data.digests import fingerprint_of, picture_digests, split_digests
from resnet_demo.data.folder import (
    ProgressCallback,
    check_labels,
    is_complete,
    open_split,
    read_info,
)
from resnet_demo.data.info import NAME_PATTERN, DatasetInfo, check_name
from resnet_demo.data.splits import config_split, split_sizes, steps_per_epoch
from resnet_demo.errors import ConfigError, DamagedError, NotFoundError, one_of, shortened
from resnet_demo.fingerprint import Fingerprint
from resnet_demo.recipes import EXACT_RECIPES, RECIPES

# Where a recipe is adapted to few images:
MIN_STEPS_PER_EPOCH = 4
MIN_STEPS, MAX_EPOCHS = 180, 100  # of a run from random weights; as `quick` on CIFAR-10
EMA_STEPS = 1000  # fewer are too few for a moving average of the weights
ENOUGH_VALIDATION = 100  # images; among epochs that hardly differ, fewer choose by chance
MAX_FOLDS = 5
FEW_PER_CLASS = 5  # fewer get a warning
MAX_IMBALANCE = 2  # images of the largest class over those of the smallest
ENOUGH_PER_CLASS = 1000  # training images to learn from scratch
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
        if original_batches.find_original(self.root):
            names.add("cifar10")
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
        info = self.prepare(name)
        check_test_split(info, split)
        if split not in info.splits:
            raise ConfigError.rule("split", one_of(info.splits), split)
        if name == "shapes10":
            images, labels = shapes.make_shapes10()[split]
            return images.copy(), labels.copy()  # the cached arrays stay unchanged
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
        labels = self.load(name, "train")[1] if config.stratify else None
        train, val = config_split(info.train, config, info.val, labels)
        return "train", train if split == "train" else val

    def load_split(
        self, config: TrainConfig, split: str, name: str | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the stored images and labels that hold a run's split, and its positions in them.

        name: another dataset than the config's. Raises as `load`.
        """
        name = name or config.dataset
        stored, positions = self.split_positions(config, split, name)
        return *self.load(name, stored), positions

    def load_digests(self, config: TrainConfig, split: str, name: str) -> np.ndarray:
        """Return the digest of each picture of a run's split, (N, 16) uint8. Raises as `load`."""
        stored, positions = self.split_positions(config, split, name)
        return self.digests(name, stored)[positions]

    def digests(self, name: str, split: str) -> np.ndarray:
        """Return the digest of each picture that `load` returns, (N, 16) uint8. Raises as it."""
        images, _ = self.load(name, split)
        if name == "shapes10":
            return picture_digests(images)
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
            _, labels = self.load(name, split)
            splits[split] = self.digests(name, split), labels
        return fingerprint_of(info.classes, splits)

    def content_key(self, name: str) -> str:
        """Return the start of the fingerprint's digest for names of files; empty if not known."""
        try:
            fingerprint = self.fingerprint(name)
        except (NotFoundError, DamagedError):
            return ""
        return fingerprint.digest[:12] if fingerprint else ""

    def class_counts(self, name: str) -> dict[str, dict[str, int]]:
        """Return the number of images per class: split -> class -> count. Raises as `load`."""
        info = self.get(name)
        classes, counts = info.classes, {}
        for split in info.splits:
            _, labels = self.load(name, split)
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


def proposed_recipe(info: DatasetInfo) -> tuple[str, str]:
    """Return the recipe that suits a dataset best, and the reason in one line."""
    per_class = info.train / len(info.classes)
    if info.synthetic or info.name == "cifar10" or per_class >= ENOUGH_PER_CLASS:
        return "quick", f"{info.train:,} training images are enough to learn from scratch"
    return "transfer", (
        f"about {max(1, round(per_class)):,} pictures a class: features learned on ImageNet need "
        "the fewest"
    )


def fit_recipe(values: Mapping[str, Any], datasets: Datasets) -> tuple[TrainConfig, str]:
    """Return `make_config` of these values, adapted to a small dataset, and what was adapted.

    Only values of the recipe are adapted, never those in `values`, and none of EXACT_RECIPES:
    `check_data` refuses what does not fit. The second value is a sentence, empty where the recipe
    fits. Raises as `make_config` and `Datasets.get`.
    """
    stem = needed_stem(values)
    config = make_config({**values, **stem} if stem else values)
    if config.recipe in EXACT_RECIPES:
        return config, ""
    info = datasets.get(config.dataset)
    fitted, notes = config, []
    if stem:
        notes.append("stem imagenet instead of small (ImageNet's weights have it)")

    def adapt(reason: str = "", **changes: Any) -> None:
        """Change values of the recipe that are not as they should be; say so."""
        nonlocal fitted
        changes = {
            name: value
            for name, value in changes.items()
            if name not in values and value != getattr(config, name)
        }
        if changes:
            fitted = replace(fitted, **changes)
            texts = [
                f"{name} {value_text(value)} instead of {value_text(getattr(config, name))}"
                for name, value in changes.items()
            ]
            notes.append(", ".join(texts) + (f" ({reason})" if reason else ""))

    if config.weights == "imagenet":
        adapt("the weights were learned at this size", image_size=224, grow_from=1.0)
    if config.train_layers == "head":
        # Each epoch is an iteration of L-BFGS, which converges: no other recipe is made for that.
        reason = "only the head is trained"
        adapt(reason, epochs=30, weight_decay=0.0, label_smoothing=0.0, keep="last")
    if config.crop > info.size // 4:
        adapt(f"the images have {info.size} pixels", crop=info.size // 4)
    fit_validation(fitted, info, values, adapt)
    counts = [count for count in datasets.train_counts(config.dataset) if count]
    if max(counts) > MAX_IMBALANCE * min(counts):
        adapt(f"classes of {min(counts):,} to {max(counts):,} images", class_weights="balanced")
    images, held_out = datasets.split_sizes(fitted)
    if held_out < ENOUGH_VALIDATION or not (fitted.val_share or info.val):
        adapt("validation images are too few to choose an epoch", keep="last")
    # The generated practice images are for a quick look, so their epochs stay few.
    if config.train_layers != "head" and not info.synthetic:
        fit_steps(fitted, images, values, adapt)
    if images < FEW_PER_CLASS * len(info.classes):
        notes.append(f"under {FEW_PER_CLASS} images a class say little about other pictures")
    if not notes:
        return config, ""
    images_text = f"{images:,} training image{'s' * (images != 1)}"
    return fitted, f"adapted to {images_text}: {'; '.join(notes)}"


def needed_stem(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the stem of a resnet with ImageNet's weights, unless the values or a recipe have one.

    values: of `make_config`, not yet checked.
    """
    recipe = values.get("recipe", "quick") if isinstance(values, Mapping) else None
    if not isinstance(recipe, str) or recipe not in RECIPES:
        return {}
    full = defaults() | RECIPES[recipe] | dict(values)
    is_needed = full["weights"] == "imagenet" and full["model"] in STEM_CHOICE_MODELS
    has_stem = "stem" in values or full["stem"] == "imagenet"
    return {"stem": "imagenet"} if is_needed and not has_stem else {}


def fit_validation(
    config: TrainConfig, info: DatasetInfo, values: Mapping[str, Any], adapt: Callable[..., None]
) -> None:
    """Adapt how a run on few images is validated."""
    if info.val:
        return
    # With one image a class, an image held out would leave its class without any.
    if info.train < 2 * len(info.classes):
        adapt(val_share=0.0)
    elif (
        config.train_layers == "head"
        and not {"val_share", "folds"} & values.keys()
        and config.val_share * info.train < ENOUGH_VALIDATION
    ):
        folds = min(MAX_FOLDS, info.train // len(info.classes))
        adapt("every image is held out once", folds=folds, val_share=0.0)


def fit_steps(
    config: TrainConfig, images: int, values: Mapping[str, Any], adapt: Callable[..., None]
) -> None:
    """Adapt batch size and epochs such that there are enough updates."""
    # A number of images that a person chose is for a quick trial, which stays quick.
    least = 1 if "train_images" in values else MIN_STEPS_PER_EPOCH
    batch_size, epochs = config.batch_size, config.epochs
    if batch_size * least > images and "batch_size" not in values:
        batch_size = max(2, 2 ** int(math.log2(max(1, images / MIN_STEPS_PER_EPOCH))))
    steps = max(1, steps_per_epoch(images, batch_size))
    if config.weights == "random" and "train_images" not in values and "epochs" not in values:
        epochs = max(epochs, min(MAX_EPOCHS, math.ceil(MIN_STEPS / steps)))
    adapt(batch_size=batch_size, epochs=epochs)
    # An average over more steps than there are would be that of random weights.
    if config.ema_decay and epochs * steps < EMA_STEPS:
        adapt(ema_decay=0.0)


def value_text(value: Any) -> str:
    """Return a setting's value as a person would type it."""
    return value if isinstance(value, str) else f"{value:g}"


def check_data(config: TrainConfig, datasets: Datasets) -> DatasetInfo:
    """Return the config's dataset. Raises ConfigError if it is absent or too small."""
    info = datasets.get(config.dataset)
    train, _ = datasets.split_sizes(config)
    # A head is fitted to all images at once.
    if config.batch_size > train and config.train_layers != "head":
        limited_by = (
            "train_images" if train == config.train_images else f"{config.dataset}'s training split"
        )
        rule = f"at most the {train} images of {limited_by}"
        raise ConfigError.rule("batch_size", rule, config.batch_size)
    # Cutout and crop are applied to the images as stored, before they are resized.
    side = f"{info.size}, the side of {config.dataset}'s images in pixels"
    if config.cutout > info.size:
        raise ConfigError.rule("cutout", f"at most {side}", config.cutout)
    if config.crop >= info.size:  # an edge can only be mirrored by less than the image's side
        raise ConfigError.rule("crop", f"less than {side}", config.crop)
    return info
