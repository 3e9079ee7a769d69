"""What a run is told. Form, flags, validation and config.json derive from it.

Default, range, unit and help stand beside each field, once. No torch here: --help answers at once.
"""

import json
from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from typing import Any

from resnet_demo.architectures import MODELS, STEMS, smallest_image
from resnet_demo.errors import ConfigError, one_of, shortened

KEEP = ("best", "last")  # by validation, or whatever validation says


def knob(default: Any, help: str, **rule: Any) -> Any:
    """A field with what a form, a flag and a check need to know about it.

    rule: `low` and `high` for numbers (both allowed), `choices` for words, `unit`, and `rare` for
    a knob that a form folds away.
    """
    return field(default=default, metadata={"help": help, **rule})


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """All that a run is told. Raises ConfigError for a value outside its rule."""

    recipe: str = knob("quick", "where the values came from; yours replace its own")
    dataset: str = knob("cifar10", "the images to learn from")
    model: str = knob("resnet9", "the network; plainN is resnetN without shortcuts", choices=MODELS)
    epochs: int = knob(1, "passes over the training split", low=1, high=1000)
    batch_size: int = knob(
        250,
        "images in a step, over all devices; large is steadier",
        low=1,
        high=4096,
        unit="images",
    )
    peak_lr: float = knob(0.2, "learning rate at the top of the schedule", low=1e-6, high=10.0)
    schedule: str = knob(
        "linear",
        "how the learning rate moves after the warm-up: stays, falls in a line, falls as a cosine, "
        "one cycle up and down, or only up from a 100,000th of the peak, to find out which is best",
        choices=("constant", "linear", "cosine", "one-cycle", "range-test"),
    )
    warmup_epochs: float = knob(
        0.0,
        "epochs in which the learning rate rises to its peak; one-cycle at 0 takes 30 % of the run",
        low=0.0, high=100.0, unit="epochs",
    )  # fmt: skip
    optimizer: str = knob(
        "muon",
        "SGD with momentum, AdamW (which wants a peak near 0.001), or Muon for convolutions with "
        "SGD for the rest (near 0.2, momentum 0.6)",
        choices=("sgd", "adamw", "muon"),
    )
    momentum: float = knob(
        0.6, "share of the last update that is kept (AdamW: beta 1)", low=0.0, high=0.999, rare=True
    )
    nesterov: bool = knob(
        True, "look ahead along the momentum before taking the gradient; SGD only", rare=True
    )
    weight_decay: float = knob(
        5e-4, "pull of every weight towards zero", low=0.0, high=1.0, rare=True
    )
    decay_all: bool = knob(
        False, "weight decay on BatchNorm and biases too, as the article has it", rare=True
    )
    ema_decay: float = knob(
        0.0,
        "validate and keep a running mean of the weights over the last 1 / (1 - this) steps, which "
        "is steadier than the weights of one; 0.99 suits a thousand steps and more, 0 is off",
        low=0.0, high=0.9999, rare=True,
    )  # fmt: skip
    keep: str = knob(
        "best",
        "which epoch's weights are kept: of the best validation accuracy, or of the last epoch, "
        "which is the better choice where the learning rate falls to 0 and validation images are "
        "few: among epochs that hardly differ they choose by chance",
        choices=KEEP, rare=True,
    )  # fmt: skip
    label_smoothing: float = knob(
        0.1, "share of the target spread over all classes, against over-confidence",
        low=0.0, high=0.9, rare=True,
    )  # fmt: skip
    flip: bool = knob(True, "mirror half of the training images, the other half in the next epoch")
    crop: int = knob(
        2, "move each training image by up to this much, edges mirrored; 0 is off",
        low=0, high=32, unit="pixels",
    )  # fmt: skip
    cutout: int = knob(
        0, "side of a square blanked out of each training image; 0 is off",
        low=0, high=128, unit="pixels", rare=True,
    )  # fmt: skip
    image_size: int = knob(
        32, "side of the images the network is shown; larger is slower by its square",
        low=8, high=256, unit="pixels",
    )  # fmt: skip
    grow_from: float = knob(
        0.625,
        "share of image_size that the training images have at first; they grow to it, in four "
        "sizes, over 60 % of the run, so that early steps are cheap; validation always sees the "
        "full size; 1 is off",
        low=0.25, high=1.0, rare=True,
    )  # fmt: skip
    stem: str = knob(
        "small",
        "first layers of resnet18, 34 and 50: small is 3x3 without pooling, imagenet is 7x7 with "
        "it; other networks have their own",
        choices=STEMS, rare=True,
    )  # fmt: skip
    batch_norm: bool = knob(
        True, "normalize over the batch after each convolution; off shows what it does", rare=True
    )
    sync_batch_norm: bool = knob(
        True,
        "several GPUs normalize over the whole batch, as one would; off, each over its own share, "
        "which is faster",
        rare=True,
    )
    precision: str = knob(
        "auto", "number format of the arithmetic; auto takes bf16 where the hardware has it",
        choices=("auto", "float32", "bf16"), rare=True,
    )  # fmt: skip
    compile: bool = knob(
        False,
        "compile the network first: a minute or more before the first step, then faster ones on "
        "most GPUs; on a CPU some networks get slower; wants grow_from 1",
        rare=True,
    )
    val_share: float = knob(
        0.1, "share of the training images kept aside for validation", low=0.01, high=0.5, rare=True
    )
    train_images: int = knob(
        0, "of the training split only so many, for a quick trial; 0 is all of it",
        low=0, high=10_000_000, unit="images", rare=True,
    )  # fmt: skip
    probe_every: int = knob(
        0, "look into each layer every so many steps: gradient and output; 0 is never",
        low=0, high=10_000, unit="steps", rare=True,
    )  # fmt: skip
    seed: int = knob(
        42, "decides split, first weights, order and augmentation", low=0, high=2**31 - 1, rare=True
    )
    validate_in_training_mode: bool = knob(
        False,
        "the article's fault: validation on batch statistics, moving the running ones",
        rare=True,
    )
    per_image_std: bool = knob(
        False, "the article's fault: normalize by the mean of per-image deviations", rare=True
    )
    report_last_batch: bool = knob(
        False, "the article's fault: an epoch's training loss is that of its last batch", rare=True
    )
    collect_garbage: bool = knob(
        False,
        "the article's fault: gc.collect() and empty_cache() after every step; it costs time only",
        rare=True,
    )

    def __post_init__(self) -> None:
        for knob_field in fields(self):
            object.__setattr__(
                self, knob_field.name, checked(knob_field, getattr(self, knob_field.name))
            )
        if self.recipe not in RECIPES:
            raise ConfigError.rule("recipe", one_of(RECIPES), self.recipe)
        if self.warmup_epochs > self.epochs:
            raise ConfigError.rule(
                "warmup_epochs", f"at most epochs ({self.epochs})", self.warmup_epochs
            )
        if self.compile and self.grow_from < 1:
            raise ConfigError.rule(
                "grow_from", "1 where compile is on (each size would be compiled)", self.grow_from
            )
        if self.probe_every and self.compile:
            raise ConfigError.rule("probe_every", "0 where compile is on", self.probe_every)
        if self.cutout > self.image_size:
            raise ConfigError.rule("cutout", f"at most image_size ({self.image_size})", self.cutout)
        low = smallest_image(self.model, self.stem)
        if self.image_size < low:
            rule = (
                f"at least {low} for {self.model} (its stem and stages halve the image too often)"
            )
            raise ConfigError.rule("image_size", rule, self.image_size)

    def to_dict(self) -> dict[str, Any]:
        """Field name -> value, ready for JSON."""
        return asdict(self)


def checked(knob_field: Field, value: Any) -> Any:
    """The value, a whole number made float where the field is one. Raises ConfigError."""
    rule, name = knob_field.metadata, knob_field.name
    if knob_field.type is bool:
        if not isinstance(value, bool):
            raise ConfigError.rule(name, "true or false", value)
    elif knob_field.type is str:
        if "choices" in rule and value not in rule["choices"]:
            raise ConfigError.rule(name, one_of(rule["choices"]), value)
        if not isinstance(value, str) or not value:
            raise ConfigError.rule(name, "a name", value)
    else:
        allowed = (int,) if knob_field.type is int else (int, float)
        number = isinstance(value, allowed) and not isinstance(value, bool)
        if not number or not rule["low"] <= value <= rule["high"]:  # a blank and NaN too
            kind = "a whole number" if knob_field.type is int else "a number"
            unit = f" {rule['unit']}" if "unit" in rule else ""
            rule_text = f"{kind} from {rule['low']:g} to {rule['high']:.10g}{unit}"
            raise ConfigError.rule(name, rule_text, value)
        value = knob_field.type(value)
    return value


ARTICLE = {
    "model": "resnet34-article", "epochs": 10, "batch_size": 64, "image_size": 224,
    "stem": "imagenet", "grow_from": 1.0,
    "optimizer": "sgd", "peak_lr": 0.01, "schedule": "constant", "momentum": 0.9, "nesterov": False,
    "weight_decay": 0.001, "decay_all": True, "label_smoothing": 0.0, "flip": False, "crop": 0,
    "precision": "auto",
    "validate_in_training_mode": True, "per_image_std": True, "val_share": 0.1, "seed": 42,
}  # fmt: skip

BEFORE = {"grow_from": 1.0}  # what runs did that are older than the knob

RECIPES: dict[str, dict[str, Any]] = {
    "quick": {},  # the defaults: a minute or minutes on a CPU
    "good": {
        "epochs": 18, "batch_size": 500, "peak_lr": 0.1, "ema_decay": 0.99, "keep": "last",
        "val_share": 0.02,
    },
    "standard": {
        "model": "resnet18", "epochs": 30, "batch_size": 128, "optimizer": "sgd", "peak_lr": 0.1,
        "schedule": "one-cycle", "momentum": 0.9, "weight_decay": 5e-4, "label_smoothing": 0.0,
        "crop": 4, "flip": True, "grow_from": 1.0,
    },
    "paper": {
        "model": "resnet20", "epochs": 20, "batch_size": 128, "optimizer": "sgd", "peak_lr": 0.1,
        "schedule": "cosine", "momentum": 0.9, "nesterov": False, "weight_decay": 1e-4,
        "label_smoothing": 0.0, "crop": 4, "flip": True, "grow_from": 1.0,
    },
    "article": ARTICLE,
    "article-fixed": {
        **ARTICLE, "decay_all": False, "validate_in_training_mode": False, "per_image_std": False,
    },
}  # fmt: skip

RECIPE_HELP = {
    "quick": "a small network, one epoch: minutes on a CPU",
    "good": "the same network, 18 epochs, 2 % kept aside: ten minutes to two hours on a CPU",
    "standard": "ResNet-18 with flip and crop, aimed at 93 % and more on a GPU",
    "paper": "He et al. 2015, section 4.2, in 20 epochs instead of 164, the rate along a cosine",
    "article": "the tutorial exactly, its faults included: hours on a CPU",
    "article-fixed": "the tutorial without the faults that touch its result",
}


def make_config(asked: Mapping[str, Any]) -> TrainConfig:
    """A recipe's values with what was asked in their place. Raises ConfigError."""
    if not isinstance(asked, Mapping):
        raise ConfigError("a config must be an object of knobs and values, got " + shortened(asked))
    names = {knob_field.name for knob_field in fields(TrainConfig)}
    for name in asked:
        if name not in names:
            raise ConfigError(
                f"no knob is named {shortened(name)}: the knobs are {', '.join(sorted(names))}"
            )
    recipe = asked.get("recipe", "quick")
    if not isinstance(recipe, str) or recipe not in RECIPES:
        raise ConfigError.rule("recipe", one_of(RECIPES), recipe)
    return TrainConfig(**{**RECIPES[recipe], **asked})


def defaults() -> dict[str, Any]:
    """Field name -> default."""
    return {f.name: f.default for f in fields(TrainConfig) if f.default is not MISSING}


def parse(name: str, text: str) -> Any:
    """A flag's text as the field's type; what cannot be read stays text, for the check to name."""
    kind = next(f.type for f in fields(TrainConfig) if f.name == name)
    if kind is bool:
        return {"true": True, "false": False, "1": True, "0": False}.get(text.lower(), text)
    try:
        return kind(text)
    except ValueError:
        return text


def to_json(config: TrainConfig, version: str) -> str:
    """The text of config.json: every knob, and the package's version."""
    return json.dumps({**config.to_dict(), "version": version}, indent=2) + "\n"


def from_dict(values: Any) -> TrainConfig:
    """Return the config that `to_json` wrote, perhaps an older version of it.

    Raises ConfigError for a value outside its rule, ValueError for an unknown name.
    """
    if not isinstance(values, dict):
        raise ValueError("not an object")
    known = {name: value for name, value in values.items() if name != "version"}
    try:
        return TrainConfig(**{**BEFORE, **known})
    except TypeError as error:
        raise ValueError("an unknown name") from error
