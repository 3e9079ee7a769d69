"""Which networks there are, for those who ask before torch is there."""

from resnet_demo.config import MODELS, one_of
from resnet_demo.errors import ConfigError

STEMS = ("small", "imagenet")
WITH_STEM = ("resnet18", "resnet34", "resnet50")  # the others have their own


def check_names(name: object, stem: object) -> None:
    """Raises ConfigError for a network or a stem that is not there."""
    if name not in MODELS:
        raise ConfigError.rule("model", one_of(MODELS), name)
    if stem not in STEMS:
        raise ConfigError.rule("stem", one_of(STEMS), stem)
