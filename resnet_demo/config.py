"""The configuration of a run. Form, flags, validation, config.json and docs derive from its fields.

Each field has its default, range, unit and help in one place. No torch here: `--help` needs this.
"""

import json
from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from typing import Any

from resnet_demo.architectures import MODELS, STEMS, check_pretrained, smallest_image
from resnet_demo.errors import ConfigError, one_of, shortened

KEEP = ("best", "last")
TRAIN_LAYERS = ("all", "head", "head-then-all")


def setting(default: Any, help: str, **rule: Any) -> Any:
    """Return a dataclass field with the metadata that forms, flags and checks need.

    rule: `low` and `high` of a number (both allowed), `choices` of a text, `unit`, and `rare` for
    a field that the form shows folded.
    """
    return field(default=default, metadata={"help": help, **rule})


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The configuration of a run. Raises ConfigError for a value outside its rule."""

    recipe: str = setting("quick", "preset; values you set override it")
    dataset: str = setting("cifar10", "dataset to train on")
    model: str = setting("resnet9", "network; plain = no shortcuts", choices=MODELS)
    weights: str = setting(
        "random",
        "where training starts: random; imagenet, for efficientnet-lite0 and for resnet18, 34 and "
        "50 with stem imagenet; or a run, by its id or directory, whose network is the same",
    )
    train_layers: str = setting(
        "all",
        "all; head = the last layer only, fitted in seconds to the outputs of the other layers, "
        "which run once over the images; head-then-all = fine-tuning after that. With head, an "
        "epoch is one iteration of L-BFGS over all images, and the settings of batch, optimizer "
        "and schedule have no effect",
        choices=TRAIN_LAYERS,
    )
    epochs: int = setting(
        1, "number of times the network sees every training image", low=1, high=1000
    )
    batch_size: int = setting(
        250,
        "images per step, over all devices; larger = smoother, needs more memory",
        low=1,
        high=4096,
        unit="images",
    )
    peak_lr: float = setting(0.2, "highest learning rate of the schedule", low=1e-6, high=10.0)
    schedule: str = setting(
        "linear",
        "how the learning rate changes after the warm-up: constant; linear or cosine, down to 0; "
        "one-cycle, up and down once; range-test, only up, from 1/100,000 of the peak, to find a "
        "good rate",
        choices=("constant", "linear", "cosine", "one-cycle", "range-test"),
    )
    warmup_epochs: float = setting(
        0.0,
        "epochs in which the learning rate rises to its peak; 0 = off (one-cycle: 30 % of the run)",
        low=0.0,
        high=100.0,
        unit="epochs",
    )
    optimizer: str = setting(
        "muon",
        "sgd with momentum; adamw, with a peak near 0.001; or muon for convolutions and SGD for "
        "the rest, with a peak near 0.2 and momentum 0.6",
        choices=("sgd", "adamw", "muon"),
    )
    momentum: float = setting(
        0.6, "share of the last update that is kept; AdamW: beta 1", low=0.0, high=0.999, rare=True
    )
    nesterov: bool = setting(True, "Nesterov momentum; SGD only", rare=True)
    weight_decay: float = setting(
        5e-4, "pull of every weight toward zero", low=0.0, high=1.0, rare=True
    )
    decay_all: bool = setting(
        False, "weight decay on BatchNorm and biases too, as in the article", rare=True
    )
    ema_decay: float = setting(
        0.0,
        "validate and keep an exponential moving average of the weights, over about the last "
        "1 / (1 - this) steps; 0.99 suits 1,000 steps or more; 0 = off",
        low=0.0,
        high=0.9999,
        rare=True,
    )
    # "last" suits a learning rate that falls to 0 with few validation images: among epochs that
    # hardly differ, the best by validation is a matter of chance.
    keep: str = setting(
        "best",
        "epoch whose weights are kept: the best by validation, or the last, which suits a "
        "learning rate that falls to 0 and few validation images",
        choices=KEEP,
        rare=True,
    )
    label_smoothing: float = setting(
        0.1,
        "share of the target spread over all classes, against overconfidence",
        low=0.0,
        high=0.9,
        rare=True,
    )
    class_weights: str = setting(
        "none",
        "weights of the classes in the loss; balanced = the fewer images a class has, the more "
        "each counts",
        choices=("none", "balanced"),
        rare=True,
    )
    backbone_lr: float = setting(
        1.0,
        "learning rate of all layers but the head, as a share of the head's; below 1 for "
        "fine-tuning",
        low=0.0,
        high=1.0,
        rare=True,
    )
    freeze_batch_norm: bool = setting(
        False,
        "BatchNorm keeps the running statistics of the initial weights; for fine-tuning with "
        "small batches",
        rare=True,
    )
    patience: int = setting(
        0,
        "stop after so many epochs in a row without a better validation; 0 = off",
        low=0,
        high=1000,
        unit="epochs",
        rare=True,
    )
    flip: bool = setting(True, "mirror training images, alternating by epoch")
    crop: int = setting(
        2,
        "shift training images by up to this much, edges mirrored; 0 = off",
        low=0,
        high=32,
        unit="pixels",
    )
    cutout: int = setting(
        0,
        "side of a blank square in each training image; 0 = off",
        low=0,
        high=128,
        unit="pixels",
        rare=True,
    )
    views: int = setting(
        1,
        "augmented views of each image that a head is trained on; 1 = the image itself",
        low=1,
        high=64,
        rare=True,
    )
    image_size: int = setting(
        32,
        "side of the network's input; double size, four times slower",
        low=8,
        high=256,
        unit="pixels",
    )
    grow_from: float = setting(
        0.625,
        "progressive resizing: training images start at this share of image_size and grow in four "
        "sizes over 60 % of the run, which makes early steps cheap; validation always uses the "
        "full size; 1 = off",
        low=0.25,
        high=1.0,
        rare=True,
    )
    stem: str = setting(
        "small",
        "first layers of resnet18, 34 and 50: small = 3x3 without pooling, imagenet = 7x7 with "
        "pooling; other networks have a fixed stem",
        choices=STEMS,
        rare=True,
    )
    batch_norm: bool = setting(
        True, "BatchNorm after each convolution; turn it off to see its effect", rare=True
    )
    sync_batch_norm: bool = setting(
        True,
        "on several GPUs, normalize over the whole batch; off = over each GPU's share, faster",
        rare=True,
    )
    precision: str = setting(
        "auto",
        "number format; auto = bf16 where the hardware has it",
        choices=("auto", "float32", "bf16"),
        rare=True,
    )
    compile: bool = setting(
        False,
        "compile the network: a minute or more before the first step, then faster steps on most "
        "GPUs; slower for some networks on a CPU; needs grow_from 1",
        rare=True,
    )
    val_share: float = setting(
        0.1,
        "share of the training images held out for validation; 0 = none, and validation uses the "
        "training images, for very few of them",
        low=0.0,
        high=0.5,
        rare=True,
    )
    stratify: bool = setting(
        False,
        "hold out the same share of every class for validation; off = of all images, at random",
        rare=True,
    )
    folds: int = setting(
        0,
        "parts of a cross-validation that replaces the validation split where images are few: "
        "each part is predicted by a head trained on the others; train_layers head only; 0 = off",
        low=0,
        high=20,
        rare=True,
    )
    train_images: int = setting(
        0,
        "train on this many images only, for a quick trial; 0 = all",
        low=0,
        high=10_000_000,
        unit="images",
        rare=True,
    )
    probe_every: int = setting(
        0,
        "record gradient and output of every layer each this many steps; 0 = never",
        low=0,
        high=10_000,
        unit="steps",
        rare=True,
    )
    seed: int = setting(
        42,
        "seed of split, initial weights, order and augmentation",
        low=0,
        high=2**31 - 1,
        rare=True,
    )
    # The article's faults are settings of their own, so that the effect of each can be measured
    # (`learn.lessons.BUGS`).
    validate_in_training_mode: bool = setting(
        False,
        "fault of the article: validate on batch statistics, which also changes the running ones",
        rare=True,
    )
    per_image_std: bool = setting(
        False,
        "fault of the article: normalize by the mean of per-image deviations",
        rare=True,
    )
    report_last_batch: bool = setting(
        False,
        "fault of the article: report the last batch's loss as the epoch's training loss",
        rare=True,
    )
    collect_garbage: bool = setting(
        False,
        "fault of the article: gc.collect() and empty_cache() after every step, which only costs "
        "time",
        rare=True,
    )

    def __post_init__(self) -> None:
        # A flag, a form and JSON may give 1 for 1.0: each value is stored in its field's type, so
        # that equal settings are equal configs. The dataclass is frozen, hence object.__setattr__.
        for config_field in fields(self):
            value = checked_value(config_field, getattr(self, config_field.name))
            object.__setattr__(self, config_field.name, value)
        if self.recipe not in RECIPES:
            raise ConfigError.rule("recipe", one_of(RECIPES), self.recipe)
        if self.warmup_epochs > self.epochs:
            rule = f"at most epochs ({self.epochs})"
            raise ConfigError.rule("warmup_epochs", rule, self.warmup_epochs)
        if self.compile and self.grow_from < 1:
            rule = "1 when compile is on (each image size would be compiled)"
            raise ConfigError.rule("grow_from", rule, self.grow_from)
        if self.probe_every and self.compile:
            raise ConfigError.rule("probe_every", "0 when compile is on", self.probe_every)
        self.check_transfer()
        if self.cutout > self.image_size:
            raise ConfigError.rule("cutout", f"at most image_size ({self.image_size})", self.cutout)
        low = smallest_image(self.model, self.stem)
        if self.image_size < low:
            rule = f"at least {low} for {self.model} (its layers halve the image too often)"
            raise ConfigError.rule("image_size", rule, self.image_size)

    def check_transfer(self) -> None:
        """Raise ConfigError for initial weights or trained layers that other settings rule out."""
        if self.weights == "imagenet":
            check_pretrained(self.model, self.stem, self.batch_norm)
        if self.views > 1 and self.train_layers == "all":
            raise ConfigError.rule("views", "1 when train_layers is all", self.views)
        if self.folds and self.train_layers != "head":
            raise ConfigError.rule("folds", "0 unless train_layers is head", self.folds)
        if self.folds == 1:
            raise ConfigError.rule("folds", "0 (off) or at least 2", self.folds)
        if self.folds and self.val_share:
            rule = "0 when folds is on (every image is held out once)"
            raise ConfigError.rule("val_share", rule, self.val_share)

    def to_dict(self) -> dict[str, Any]:
        """Return field name -> value, ready for JSON."""
        return asdict(self)


def checked_value(config_field: Field, value: Any) -> Any:
    """Return the value in the field's type. Raises ConfigError for one outside its rule."""
    rule, name = config_field.metadata, config_field.name
    if config_field.type is bool:
        if not isinstance(value, bool):
            raise ConfigError.rule(name, "true or false", value)
        return value
    if config_field.type is str:
        if "choices" in rule and value not in rule["choices"]:
            raise ConfigError.rule(name, one_of(rule["choices"]), value)
        if not isinstance(value, str) or not value:
            raise ConfigError.rule(name, "a name", value)
        return value
    allowed = (int,) if config_field.type is int else (int, float)
    # A bool is an int in Python, but `true` is no number of epochs.
    is_number = isinstance(value, allowed) and not isinstance(value, bool)
    if not is_number or not rule["low"] <= value <= rule["high"]:  # NaN is outside too
        kind = "a whole number" if config_field.type is int else "a number"
        unit = f" {rule['unit']}" if "unit" in rule else ""
        limits = f"{kind} from {rule['low']:g} to {rule['high']:.10g}{unit}"
        raise ConfigError.rule(name, limits, value)
    return config_field.type(value)


ARTICLE: dict[str, Any] = {
    "model": "resnet34-article",
    "epochs": 10,
    "batch_size": 64,
    "image_size": 224,
    "stem": "imagenet",
    "grow_from": 1.0,
    "optimizer": "sgd",
    "peak_lr": 0.01,
    "schedule": "constant",
    "momentum": 0.9,
    "nesterov": False,
    "weight_decay": 0.001,
    "decay_all": True,
    "label_smoothing": 0.0,
    "flip": False,
    "crop": 0,
    "precision": "auto",
    "validate_in_training_mode": True,
    "per_image_std": True,
    "val_share": 0.1,
    "seed": 42,
}

RECIPES: dict[str, dict[str, Any]] = {
    "quick": {},  # the defaults
    "good": {
        "epochs": 18,
        "batch_size": 500,  # 1,000 and 2,000 are less accurate (docs/experiments.md)
        "peak_lr": 0.1,  # 0.05, 0.15 and 0.2 are less accurate (docs/experiments.md)
        "ema_decay": 0.99,  # +0.09 points over 25 runs (docs/performance.md)
        "keep": "last",  # few validation images would choose an early epoch by chance
        "val_share": 0.02,
    },
    "standard": {
        "model": "resnet18",
        "epochs": 30,
        "batch_size": 128,
        "optimizer": "sgd",
        "peak_lr": 0.1,
        "schedule": "one-cycle",
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "label_smoothing": 0.0,
        "crop": 4,
        "flip": True,
        "grow_from": 1.0,
    },
    "paper": {
        "model": "resnet20",
        "epochs": 20,
        "batch_size": 128,
        "optimizer": "sgd",
        "peak_lr": 0.1,
        "schedule": "cosine",
        "momentum": 0.9,
        "nesterov": False,
        "weight_decay": 1e-4,
        "label_smoothing": 0.0,
        "crop": 4,
        "flip": True,
        "grow_from": 1.0,
    },
    "article": ARTICLE,
    "article-fixed": {
        **ARTICLE,
        "decay_all": False,
        "validate_in_training_mode": False,
        "per_image_std": False,
    },
}

EXACT_RECIPES = ("article",)  # reproduce numbers, so their values never adapt to a dataset

RECIPE_HELP = {
    "quick": "a small network, one epoch: minutes on a CPU",
    "good": "the same network, 18 epochs, 2 % held out: ten minutes to two hours on a CPU",
    "standard": "ResNet-18 with flip and crop: 93 % and more, for a GPU",
    "paper": "He et al. 2015, section 4.2, with 20 epochs instead of 164 and a cosine schedule",
    "article": "the tutorial exactly, with its faults: hours on a CPU",
    "article-fixed": "the tutorial without the faults that change its result",
}

# Fields that config.json of older versions does not have, with what those versions did.
OLD_DEFAULTS = {"grow_from": 1.0}


def make_config(values: Mapping[str, Any]) -> TrainConfig:
    """Return the config of a recipe, overridden by these values. Raises ConfigError."""
    if not isinstance(values, Mapping):
        raise ConfigError("config must be an object of settings, got " + shortened(values))
    names = {config_field.name for config_field in fields(TrainConfig)}
    for name in values:
        if name not in names:
            known = ", ".join(sorted(names))
            raise ConfigError(f"there is no setting {shortened(name)}; the settings are {known}")
    recipe = values.get("recipe", "quick")
    if not isinstance(recipe, str) or recipe not in RECIPES:
        raise ConfigError.rule("recipe", one_of(RECIPES), recipe)
    return TrainConfig(**(RECIPES[recipe] | dict(values)))


def chosen_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a whole form that are not those of its recipe: a person chose them."""
    recipe = make_config({"recipe": values.get("recipe", "quick")}).to_dict()

    def is_chosen(name: str, value: Any) -> bool:
        # 1 equals True, but is a mistake that TrainConfig has to see.
        is_other_kind = isinstance(value, bool) != isinstance(recipe.get(name), bool)
        return name in ("recipe", "dataset") or is_other_kind or value != recipe.get(name)

    return {name: value for name, value in values.items() if is_chosen(name, value)}


def defaults() -> dict[str, Any]:
    """Return field name -> default."""
    return {f.name: f.default for f in fields(TrainConfig) if f.default is not MISSING}


def parse_field(name: str, text: str) -> Any:
    """Return a flag's text in the field's type, or as it is if it cannot be parsed.

    TrainConfig then refuses the text with the same message as everywhere else.
    """
    kind = next(f.type for f in fields(TrainConfig) if f.name == name)
    if kind is bool:
        return {"true": True, "false": False, "1": True, "0": False}.get(text.lower(), text)
    try:
        return kind(text)
    except ValueError:
        return text


VERSION, FINGERPRINT = "version", "fingerprint"
BESIDE = (VERSION, FINGERPRINT)  # what config.json holds beside the fields of TrainConfig


def to_json(config: TrainConfig, version: str) -> str:
    """Return the text of config.json: every field, and the package's version."""
    return json.dumps({**config.to_dict(), VERSION: version}, indent=2) + "\n"


def from_dict(values: Any) -> TrainConfig:
    """Return the config in a config.json, perhaps of an older version.

    Raises ConfigError for a value outside its rule, ValueError for an unknown name.
    """
    if not isinstance(values, dict):
        raise ValueError("not an object")
    # Not through `make_config`: config.json has every field, and its recipe may have changed since.
    known = {name: value for name, value in values.items() if name not in BESIDE}
    try:
        return TrainConfig(**(OLD_DEFAULTS | known))
    except TypeError as error:
        raise ValueError("an unknown name") from error
