"""Recipes fitted to a dataset: adapted where its images are few, and checked against its sizes."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from resnet_demo.architectures import STEM_CHOICE_MODELS
from resnet_demo.config import TrainConfig, defaults, make_config
from resnet_demo.data.info import DatasetInfo
from resnet_demo.data.splits import steps_per_epoch
from resnet_demo.data.store import Datasets
from resnet_demo.errors import ConfigError, counted
from resnet_demo.recipes import EXACT_RECIPES, RECIPES

# Where a recipe is adapted to few images:
MIN_STEPS_PER_EPOCH = 4
MIN_STEPS, MAX_EPOCHS = 180, 100  # of a run from random weights; as `quick` on CIFAR-10
EMA_STEPS = 1000  # fewer are too few for a moving average of the weights
ENOUGH_VALIDATION = 100  # images; among epochs that hardly differ, fewer choose by chance
MAX_FOLDS = 5  # each fold is a fit of its own: more take longer and say little more
FEW_PER_CLASS = 5  # fewer get a warning
MAX_IMBALANCE = 2  # images of the largest class over those of the smallest
ENOUGH_PER_CLASS = 1000  # training images to learn from scratch
FINE_TUNING_PER_CLASS = 200  # training images from which fine-tuning may pay, if they are small:
FINE_TUNING_SIZE = 96  # at most so many pixels a side


def proposed_recipe(datasets: Datasets, name: str) -> tuple[str, str]:
    """Return the recipe that suits a dataset best, and the reason. Raises as `Datasets.get`."""
    info = datasets.get(name)
    per_class = info.train / len(info.classes)
    if info.synthetic or info.name == "cifar10" or per_class >= ENOUGH_PER_CLASS:
        return "quick", f"{info.train:,} training images are enough to learn from scratch"
    counts = datasets.train_counts(name)
    fewest, most = min(counts), max(counts)
    pictures = (f"{fewest:,} to " if fewest < most else "") + counted(most, "picture")
    return "transfer", f"{pictures} a class: features learned on ImageNet need the fewest"


def fine_tuning_pays(info: DatasetInfo) -> bool:
    """Return whether fine-tuning is likely to be better than training the head alone.

    Measured where it was and where it was not (docs/experiments.md): hundreds of small pictures a
    class, which look less like ImageNet's than photographs do.
    """
    per_class = info.train / len(info.classes)
    return per_class >= FINE_TUNING_PER_CLASS and info.size <= FINE_TUNING_SIZE


@dataclass
class Adaptation:
    """A config whose recipe is being adapted to a dataset.

    config: as the recipe has it. values: those that a person chose, which stay. fitted: the config
    so far. notes: what was adapted and why.
    """

    config: TrainConfig
    values: Mapping[str, Any]
    fitted: TrainConfig
    notes: list[str] = field(default_factory=list)

    def adapt(self, reason: str = "", **changes: Any) -> None:
        """Change values of the recipe that are not as they should be, and note the change."""
        changes = {
            name: value
            for name, value in changes.items()
            # A chosen value stays, and a change to what the recipe has anyway is no change.
            if name not in self.values and value != getattr(self.config, name)
        }
        if changes:
            self.fitted = replace(self.fitted, **changes)
            texts = [
                f"{name} {value_text(value)} instead of {value_text(getattr(self.config, name))}"
                for name, value in changes.items()
            ]
            self.notes.append(", ".join(texts) + (f" ({reason})" if reason else ""))


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
    adaptation = Adaptation(config, values, config)
    if stem:
        adaptation.notes.append("stem imagenet instead of small (ImageNet's weights have it)")
    if config.weights == "imagenet":
        adaptation.adapt("the weights were learned at this size", image_size=224, grow_from=1.0)
    if config.train_layers == "head":
        # Each epoch is an iteration of L-BFGS, which converges: no other recipe is made for that.
        reason = "only the head is trained"
        adaptation.adapt(reason, epochs=30, weight_decay=0.0, label_smoothing=0.0, keep="last")
    elif config.train_layers == "all" and config.keep == "last-or-head":
        adaptation.adapt("no head is fitted before", keep="last")
    if config.crop > info.size // 4:
        adaptation.adapt(f"the images have {info.size} pixels", crop=info.size // 4)
    fit_validation(adaptation, info)
    # Without empty classes, which a dataset may have: no weight could balance them.
    counts = [count for count in datasets.train_counts(config.dataset) if count]
    if max(counts) > MAX_IMBALANCE * min(counts):
        reason = f"classes of {min(counts):,} to {max(counts):,} images"
        adaptation.adapt(reason, class_weights="balanced")
    images, held_out = datasets.split_sizes(adaptation.fitted)
    is_few = held_out < ENOUGH_VALIDATION or not datasets.holds_out(adaptation.fitted)
    if is_few and adaptation.fitted.keep == "best":
        adaptation.adapt("validation images are too few to choose an epoch", keep="last")
    # The generated practice images are for a quick look, so their epochs stay few.
    if config.train_layers != "head" and not info.synthetic:
        fit_steps(adaptation, images)
    if images < FEW_PER_CLASS * len(info.classes):
        adaptation.notes.append(
            f"under {FEW_PER_CLASS} images a class say little about other pictures"
        )
    if not adaptation.notes:
        return config, ""
    images_text = f"{images:,} training image{'s' * (images != 1)}"
    return adaptation.fitted, f"adapted to {images_text}: {'; '.join(adaptation.notes)}"


def needed_stem(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the stem that ImageNet's weights need, to be added to the values; empty if none is.

    values: of `make_config`, not yet checked.
    """
    recipe = values.get("recipe", "quick") if isinstance(values, Mapping) else None
    if not isinstance(recipe, str) or recipe not in RECIPES:
        return {}
    # Not `make_config`, which would refuse the very combination that is to be mended.
    full = defaults() | RECIPES[recipe] | dict(values)
    is_needed = full["weights"] == "imagenet" and full["model"] in STEM_CHOICE_MODELS
    has_stem = "stem" in values or full["stem"] == "imagenet"
    return {"stem": "imagenet"} if is_needed and not has_stem else {}


def fit_validation(adaptation: Adaptation, info: DatasetInfo) -> None:
    """Adapt how a run on few images is validated."""
    if info.val:
        return
    config = adaptation.fitted
    # With one image a class, an image held out would leave its class without any.
    if info.train < 2 * len(info.classes):
        adaptation.adapt(val_share=0.0)
    elif (
        config.train_layers == "head"
        and not {"val_share", "folds"} & adaptation.values.keys()
        and config.val_share * info.train < ENOUGH_VALIDATION
    ):
        folds = min(MAX_FOLDS, info.train // len(info.classes))
        adaptation.adapt("every image is held out once", folds=folds, val_share=0.0)


def fit_steps(adaptation: Adaptation, images: int) -> None:
    """Adapt batch size and epochs such that there are enough updates of that many images."""
    config, values = adaptation.fitted, adaptation.values
    # A number of images that a person chose is for a quick trial, which stays quick.
    least = 1 if "train_images" in values else MIN_STEPS_PER_EPOCH
    batch_size, epochs = config.batch_size, config.epochs
    if batch_size * least > images and "batch_size" not in values:
        # A power of two, as is usual; at least 2, because BatchNorm cannot normalize one image.
        batch_size = max(2, 2 ** int(math.log2(max(1, images / MIN_STEPS_PER_EPOCH))))
    steps = max(1, steps_per_epoch(images, batch_size))
    if config.weights == "random" and "train_images" not in values and "epochs" not in values:
        epochs = max(epochs, min(MAX_EPOCHS, math.ceil(MIN_STEPS / steps)))
    adaptation.adapt(batch_size=batch_size, epochs=epochs)
    # An average over more steps than there are would be that of random weights.
    if config.ema_decay and epochs * steps < EMA_STEPS:
        adaptation.adapt(ema_decay=0.0)


def value_text(value: Any) -> str:
    """Return a setting's value as a person would type it."""
    return value if isinstance(value, str) else f"{value:g}"


def check_data(config: TrainConfig, datasets: Datasets) -> DatasetInfo:
    """Return the config's dataset.

    Raises NotFoundError if it is absent, ConfigError if it has too few images for the batch size,
    or images too small for cutout or crop.
    """
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
