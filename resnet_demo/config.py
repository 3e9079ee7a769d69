"""The configuration of a run. Form, flags, validation, config.json and docs derive from its fields.

Each field has its default, range, unit and help in one place. No torch here: `--help` needs this.
"""

import json
from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from typing import Any

from resnet_demo.architectures import MODELS, STEMS, check_pretrained, smallest_image
from resnet_demo.errors import ConfigError, one_of, shortened
from resnet_demo.recipes import RECIPES

KEEP = {
    "best": "by validation",
    "last": "for few validation images",
    "last-or-head": "the fitted head unless fine-tuning is clearly better",
}
# Groups of settings, in the order in which a form shows them. `main` is always in sight.
GROUPS = {
    "main": "Main",
    "transfer": "Transfer",
    "optimizer": "Optimizer",
    "augmentation": "Images and augmentation",
    "regularization": "Regularization",
    "network": "Network",
    "data": "Data and validation",
    "hardware": "Hardware",
    "faults": "The tutorial's faults",
}


def setting(default: Any, group: str, help: str, label: str = "", **rule: Any) -> Any:
    """Return a dataclass field with the metadata that forms, flags and checks need.

    group: one of GROUPS. help: one short line. label: in a form, where the name is no good one.
    rule: `low` and `high` of a number (both allowed), `choices` of a text, with or without a
    meaning for each, and `unit`.
    """
    return field(default=default, metadata={"group": group, "help": help, "label": label, **rule})


def help_text(config_field: Field) -> str:
    """Return the help of a field with the meaning of each choice."""
    rule = config_field.metadata
    choices = rule.get("choices", ())
    if not isinstance(choices, Mapping):
        return rule["help"]
    return f"{rule['help']}: " + "; ".join(f"{name} = {text}" for name, text in choices.items())


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The configuration of a run. Raises ConfigError for a value outside its rule."""

    recipe: str = setting("quick", "main", "preset; values you set override it")
    dataset: str = setting("cifar10", "main", "images to train on")
    model: str = setting("resnet9", "main", "network; plain = no shortcuts", choices=MODELS)
    epochs: int = setting(
        1, "main", "times the network sees every training image", low=1, high=1000
    )
    peak_lr: float = setting(
        0.2,
        "main",
        "highest learning rate of the schedule",
        label="Peak learning rate",
        low=1e-6,
        high=10.0,
    )
    weights: str = setting(
        "random", "transfer", "random, imagenet, or a run to start from", label="Initial weights"
    )
    train_layers: str = setting(
        "all",
        "transfer",
        "layers that learn",
        label="Trained layers",
        choices={
            "all": "every layer",
            "head": "the last, in seconds",
            "head-then-all": "fine-tuning",
        },
    )
    views: int = setting(
        1, "transfer", "augmented views of each image for the head; 1 = itself", low=1, high=64
    )
    backbone_lr: float = setting(
        1.0,
        "transfer",
        "share of the learning rate for all layers but the head",
        label="Backbone learning rate",
        low=0.0,
        high=1.0,
    )
    freeze_batch_norm: bool = setting(
        False,
        "transfer",
        "keep the initial running statistics; for small batches",
        label="Freeze BatchNorm",
    )
    optimizer: str = setting(
        "muon",
        "optimizer",
        "how the weights are updated",
        choices={
            "sgd": "with momentum",
            "adamw": "peak near 0.001",
            "muon": "peak near 0.2, momentum 0.6",
        },
    )
    batch_size: int = setting(
        250,
        "optimizer",
        "per step, over all devices; larger = smoother, more memory",
        low=1,
        high=4096,
        unit="images",
    )
    schedule: str = setting(
        "linear",
        "optimizer",
        "how the learning rate changes",
        choices={
            "constant": "stays at the peak",
            "linear": "falls to 0",
            "cosine": "falls to 0 along a cosine",
            "one-cycle": "up and down once",
            "range-test": "up, to find a good rate",
        },
    )
    warmup_epochs: float = setting(
        0.0,
        "optimizer",
        "rise to the peak; 0 = off (one-cycle: 30 % of the run)",
        label="Warm-up",
        low=0.0,
        high=100.0,
        unit="epochs",
    )
    momentum: float = setting(
        0.6, "optimizer", "share of the last update kept; AdamW: beta 1", low=0.0, high=0.999
    )
    nesterov: bool = setting(True, "optimizer", "Nesterov momentum; SGD only")
    image_size: int = setting(
        32,
        "augmentation",
        "side of the input; double size, four times slower",
        low=8,
        high=256,
        unit="pixels",
    )
    grow_from: float = setting(
        0.625,
        "augmentation",
        "images start at this share of the size and grow; 1 = off",
        low=0.25,
        high=1.0,
    )
    flip: bool = setting(True, "augmentation", "mirror images, alternating by epoch")
    crop: int = setting(
        2,
        "augmentation",
        "shift by up to this much, edges mirrored; 0 = off",
        low=0,
        high=32,
        unit="pixels",
    )
    cutout: int = setting(
        0, "augmentation", "side of a blank square; 0 = off", low=0, high=128, unit="pixels"
    )
    crop_area: float = setting(
        1.0,
        "augmentation",
        "smallest share of the area that a random crop keeps; 1 = off",
        low=0.05,
        high=1.0,
    )
    rotation: float = setting(
        0.0,
        "augmentation",
        "largest random rotation, either way; 0 = off",
        low=0.0,
        high=180.0,
        unit="degrees",
    )
    colour_jitter: float = setting(
        0.0,
        "augmentation",
        "change brightness, contrast, saturation by this; 0 = off",
        low=0.0,
        high=1.0,
    )
    weight_decay: float = setting(
        5e-4,
        "regularization",
        "pull of every weight toward zero; head only: 0 = automatic",
        low=0.0,
        high=1.0,
    )
    label_smoothing: float = setting(
        0.1, "regularization", "share of the target spread over all classes", low=0.0, high=0.9
    )
    ema_decay: float = setting(
        0.0,
        "regularization",
        "average the weights of 1 / (1 - this) steps; 0 = off",
        label="EMA decay",
        low=0.0,
        high=0.9999,
    )
    class_weights: str = setting(
        "none", "regularization", "balanced: rare classes count more", choices=("none", "balanced")
    )
    patience: int = setting(
        0,
        "regularization",
        "stop after so long without improvement; 0 = off",
        low=0,
        high=1000,
        unit="epochs",
    )
    stem: str = setting(
        "small",
        "network",
        "first layers of resnet18, 34 and 50; others are fixed",
        choices=dict(zip(STEMS, ("3x3, no pooling", "7x7 and pooling"), strict=True)),
    )
    batch_norm: bool = setting(
        True,
        "network",
        "after each convolution; turn it off to see its effect",
        label="BatchNorm",
    )
    probe_every: int = setting(
        0,
        "network",
        "record gradient and output of every layer; 0 = never",
        low=0,
        high=10_000,
        unit="steps",
    )
    val_share: float = setting(
        0.1,
        "data",
        "held out for validation; 0 = validate on training images",
        label="Validation share",
        low=0.0,
        high=0.5,
    )
    stratify: bool = setting(
        True, "data", "hold out the same share of every class", label="Stratified validation"
    )
    folds: int = setting(
        0, "data", "cross-validation, with trained layers head; 0 = off", low=0, high=20
    )
    # "last" suits a learning rate that falls to 0 with few validation images: among epochs that
    # hardly differ, the best by validation is a matter of chance.
    keep: str = setting(
        "best",
        "data",
        "epoch whose weights are kept",
        choices=KEEP,
    )
    train_images: int = setting(
        0,
        "data",
        "use only so many, for a quick trial; 0 = all",
        low=0,
        high=10_000_000,
        unit="images",
    )
    seed: int = setting(
        42, "data", "for split, initial weights, order, augmentation", low=0, high=2**31 - 1
    )
    precision: str = setting(
        "auto",
        "hardware",
        "number format; auto = bf16 where supported",
        choices=("auto", "float32", "bf16"),
    )
    compile: bool = setting(False, "hardware", "slow start, then faster steps on most GPUs")
    sync_batch_norm: bool = setting(
        True,
        "hardware",
        "several GPUs: normalize over the whole batch",
        label="Synchronized BatchNorm",
    )
    # The article's faults are settings of their own, so that the effect of each can be measured
    # (`learn.lessons.BUGS`).
    validate_in_training_mode: bool = setting(
        False, "faults", "validate on batch statistics, which changes the running ones"
    )
    per_image_std: bool = setting(
        False,
        "faults",
        "normalize by the mean of per-image deviations",
        label="Per-image deviation",
    )
    decay_all: bool = setting(
        False, "faults", "weight decay on BatchNorm and biases too", label="Decay everything"
    )
    report_last_batch: bool = setting(
        False, "faults", "report the last batch's loss as the epoch's training loss"
    )
    collect_garbage: bool = setting(
        False, "faults", "gc.collect() and empty_cache() after every step"
    )

    def __post_init__(self) -> None:
        # A flag, a form and JSON may give 1 for 1.0: each value is stored in its field's type, so
        # that equal settings are equal configs. The dataclass is frozen, hence object.__setattr__.
        for config_field in fields(self):
            value = checked_value(config_field, getattr(self, config_field.name))
            object.__setattr__(self, config_field.name, value)
        if self.recipe not in RECIPES:
            raise ConfigError.rule("recipe", one_of(RECIPES), self.recipe)
        # The rate would never reach its peak.
        if self.warmup_epochs > self.epochs:
            rule = f"at most epochs ({self.epochs})"
            raise ConfigError.rule("warmup_epochs", rule, self.warmup_epochs)
        if self.compile and self.grow_from < 1:
            rule = "1 when compile is on (each image size would be compiled)"
            raise ConfigError.rule("grow_from", rule, self.grow_from)
        # Probes are hooks set for single steps, which a compiled network may not run.
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
        # A head is fitted to embeddings: there is no step of the network to compile or to probe.
        for name in ("compile", "probe_every") if self.train_layers == "head" else ():
            if getattr(self, name):
                rule = f"{'false' if name == 'compile' else 0} when train_layers is head"
                raise ConfigError.rule(name, rule, getattr(self, name))
        # Views are for embeddings computed once; where all layers train, every epoch augments the
        # images.
        if self.views > 1 and self.train_layers == "all":
            raise ConfigError.rule("views", "1 when train_layers is all", self.views)
        if self.folds and self.train_layers != "head":
            raise ConfigError.rule("folds", "0 unless train_layers is head", self.folds)
        # One part would leave nothing to train on.
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
        if "choices" in rule and value not in list(rule["choices"]):  # may be unhashable
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


# Fields that config.json of older versions does not have, with what those versions did.
OLD_DEFAULTS = {"grow_from": 1.0, "stratify": False}


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


CHOSEN = "chosen"  # beside the values of a form: names of fields, separated by commas


def chosen_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a whole form that a person chose: a dataset must not change them.

    They are those that are not the recipe's, and those of the fields that CHOSEN names.
    """
    recipe = make_config({"recipe": values.get("recipe", "quick")}).to_dict()
    chosen = {"recipe", "dataset", *str(values.get(CHOSEN, "")).split(",")}

    def is_chosen(name: str, value: Any) -> bool:
        # 1 equals True, but is a mistake that TrainConfig has to see.
        is_other_kind = isinstance(value, bool) != isinstance(recipe.get(name), bool)
        return name in chosen or is_other_kind or value != recipe.get(name)

    return {
        name: value for name, value in values.items() if name != CHOSEN and is_chosen(name, value)
    }


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


VERSION, FINGERPRINT, INITIAL = "version", "fingerprint", "initial_weights"
BESIDE = (VERSION, FINGERPRINT, INITIAL)  # what config.json holds beside the fields of TrainConfig


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
