"""The ways to ask a network about an image, once or more often. No torch here: a page lists them.

plain: each image once. flip: the mean of the logits of the image and its mirror image.
flip-and-shift: of six views; flip-and-five-shifts: of ten, see `analysis.views`. article: the
tutorial's fault, the network in training mode, which normalizes over each batch of 64 images. They
are shuffled, always alike: the tutorial shuffles too, and another order is another score (all of
one class: mostly wrong answers).
"""

from resnet_demo.data.store import Datasets
from resnet_demo.errors import ConfigError, NotFoundError, one_of

MODES = ("plain", "flip", "flip-and-shift", "flip-and-five-shifts", "article")


def check_mode(mode: str) -> str:
    """The mode, if there is one of that name. Raises ConfigError."""
    if mode not in MODES:
        raise ConfigError.rule("mode", one_of(MODES), mode)
    return mode


def check_images(mode: str, name: str, datasets: Datasets) -> None:
    """Raises NotFoundError for a mode that needs images which are not on this machine.

    Answers that are kept with a run are the plain ones: they can stand in for no other.
    """
    if mode != "plain" and name not in datasets.names():
        rule = f"plain while the images of {name} are not on this machine"
        raise NotFoundError(f"mode must be {rule}, got {mode!r}; {how_to_get_images(name)}", "mode")


def require_images(name: str, datasets: Datasets, field: str = "dataset") -> None:
    """Raises NotFoundError for a dataset that is not on this machine. field: what wants it."""
    if name not in datasets.names():
        raise NotFoundError(
            f"the images of {name} are not on this machine; {how_to_get_images(name)}", field
        )


def how_to_get_images(name: str) -> str:
    """Where a dataset that is not here comes from, as the end of a sentence."""
    verb = "get cifar10` fetches" if name == "cifar10" else f"import {name} PATH` brings"
    return f"the Data tab or `python -m resnet_demo data {verb} them"
