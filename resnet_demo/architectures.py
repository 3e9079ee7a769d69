"""Names and limits of the networks, without torch: forms, flags and checks need them at once.

This is in the foundation and not in `models`: TrainConfig checks `model`, `stem` and `image_size`
against it, and `data.image_sizes` needs the smallest image; both are below `models`.
"""

from resnet_demo.errors import ConfigError, one_of

CIFAR_DEPTHS = (8, 14, 20, 32, 44, 56, 110)  # 6n + 2; those from 20 are in He et al. 2015, 4.2
RESNET9_MODELS = ("resnet9", "resnet9-wide", "resnet11")  # models/resnet9.py
STEM_CHOICE_MODELS = ("resnet18", "resnet34", "resnet50")  # the other networks have a fixed stem
STEMS = ("small", "imagenet")
MODELS = (
    *RESNET9_MODELS,
    *(f"resnet{depth}" for depth in CIFAR_DEPTHS),
    *(f"plain{depth}" for depth in CIFAR_DEPTHS),
    *STEM_CHOICE_MODELS,
    "resnet34-article",
    "vgg16",
    "efficientnet-lite0",
)
PRETRAINED = ("efficientnet-lite0", *STEM_CHOICE_MODELS)  # with weights learned on ImageNet


def check_architecture(model: object, stem: object) -> None:
    """Raise ConfigError for an unknown network or stem."""
    if model not in MODELS:
        raise ConfigError.rule("model", one_of(MODELS), model)
    if stem not in STEMS:
        raise ConfigError.rule("stem", one_of(STEMS), stem)


def check_pretrained(model: str, stem: str, batch_norm: bool) -> None:
    """Raise ConfigError if there are no weights learned on ImageNet for this network."""
    if model not in PRETRAINED:
        raise ConfigError.rule("model", f"{one_of(PRETRAINED)} with weights imagenet", model)
    if model in STEM_CHOICE_MODELS and stem != "imagenet":
        raise ConfigError.rule("stem", f"imagenet for {model} with weights imagenet", stem)
    if not batch_norm:
        raise ConfigError.rule("batch_norm", "true with weights imagenet", batch_norm)


def smallest_image(model: str, stem: str) -> int:
    """Return the smallest image side, in pixels, that leaves the last stage at least one pixel."""
    if model in ("resnet34-article", "vgg16", "efficientnet-lite0"):  # they halve five times
        return 32
    if model in STEM_CHOICE_MODELS and stem == "imagenet":
        return 32
    # resnet9's stem removes a pixel, and three stages halve.
    return 9 if model in RESNET9_MODELS else 8
