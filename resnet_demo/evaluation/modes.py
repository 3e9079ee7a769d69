"""Evaluation modes, and the checks of an evaluation request. No torch here: a page lists the modes.

plain: each image once. flip: mean logits of the image and its mirror image. flip-and-shift: six
views; flip-and-five-shifts: ten views; see `tta`. article: the tutorial's fault, a network in
training mode that normalizes over each batch of 64 images. They are shuffled, always in the same
order: the tutorial shuffles too, and the score depends on the order (batches of a single class give
mostly wrong predictions).
"""

from resnet_demo.data.store import Datasets
from resnet_demo.errors import ConfigError, NotFoundError, one_of
from resnet_demo.runs.store import Run

# By their cost, which is 1, 2, 6 and 10 passes; the faulty one last.
MODES = ("plain", "flip", "flip-and-shift", "flip-and-five-shifts", "article")


def check_mode(mode: str) -> str:
    """Return the mode. Raises ConfigError for an unknown one."""
    if mode not in MODES:
        raise ConfigError.rule("mode", one_of(MODES), mode)
    return mode


def check_images(mode: str, name: str, datasets: Datasets) -> None:
    """Raise NotFoundError for a mode that needs images which are not on this machine."""
    # Predictions stored with a run are plain ones: they replace the images in no other mode.
    if mode != "plain" and name not in datasets.names():
        rule = f"plain while the images of {name} are not on this machine"
        raise NotFoundError(f"mode must be {rule}, got {mode!r}; {how_to_get_images(name)}", "mode")


def require_images(name: str, datasets: Datasets, field: str = "dataset") -> None:
    """Raise NotFoundError for a dataset that is not on this machine. field: of the request."""
    if name not in datasets.names():
        raise NotFoundError(
            f"the images of {name} are not on this machine; {how_to_get_images(name)}", field
        )


def how_to_get_images(name: str) -> str:
    """Return how to get a dataset, as the end of a sentence."""
    verb = "get cifar10" if name == "cifar10" else f"import {name} PATH"
    return f"get them on the Data tab, or with: python -m resnet_demo data {verb}"


def is_cross_validation(run: Run, datasets: Datasets, split: str, name: str) -> bool:
    """Return whether that split holds the images that the run was trained on, in parts.

    A cross-validation holds out each training image once, so there are no validation images: every
    image of `val` was trained on. False where the dataset has a validation split of its own.
    """
    config = run.config()
    if split != "val" or not config.folds or name != config.dataset:
        return False
    # A dataset that is not here cannot be asked: a score that may be of known images is refused.
    return name not in datasets.names() or not datasets.get(name).val


def no_validation_images(run: Run, why: str) -> ConfigError:
    """Return the error for a score on the validation images of a cross-validated run."""
    return ConfigError(
        f"run {run.id} has no validation images, as it was cross-validated: {why}; choose the "
        "split test, or train",
        "split",
    )
