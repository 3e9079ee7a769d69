"""A run's record of its dataset, to notice that another dataset has its name now.

`config.json` has the dataset's fingerprint, and `trained_on.npy` a digest of each picture of the
training split. Runs of older versions have neither, and nothing is reported that they cannot know.
"""

from collections.abc import Callable
from typing import Any

from resnet_demo.config import FINGERPRINT, TrainConfig
from resnet_demo.data.digests import count_known, merge_digests, read_digests, write_digests
from resnet_demo.data.store import Datasets
from resnet_demo.errors import ConfigError, DamagedError, NotFoundError
from resnet_demo.files import reporting_disk_full
from resnet_demo.fingerprint import Fingerprint, class_names
from resnet_demo.models.description import model_description
from resnet_demo.runs.store import Run

TRAINED_ON = "trained_on.npy"


def record_dataset(
    run: Run, config: TrainConfig, datasets: Datasets, source: Run | None = None
) -> Fingerprint | None:
    """Write into the directory of a new run what it is trained on, and return the fingerprint.

    source: the run whose weights it starts from; what that one was trained on counts too.
    Raises DiskFullError, and as `Datasets.load`.
    """
    digests = datasets.load_digests(config, "train", config.dataset)
    # The weights have learned from those images too: a score on them would be too good.
    earlier = None if source is None else read_trained_on(source)
    if earlier is not None:
        digests = merge_digests(digests, earlier)
    with reporting_disk_full(run.path, digests.nbytes, "the digests of the training images"):
        write_digests(run.path / TRAINED_ON, digests)
        fingerprint = datasets.fingerprint(config.dataset)
        run.record({FINGERPRINT: fingerprint.to_dict()})
    return fingerprint


def check_dataset(run: Run, datasets: Datasets, action: str = "resumed") -> None:
    """Raise ConfigError if the run's dataset is no longer the one that its training began with.

    action: what shall be done with the run, for the error.
    """
    recorded, name = run.fingerprint(), run.config().dataset
    now = datasets.fingerprint(name)
    # None: an archive that was not converted yet, so that nothing can have been trained on another.
    if now is None or recorded == now:
        return
    if recorded is not None:
        difference = recorded.difference(now)
    # Runs of older versions have no fingerprint; their weights know the classes at least.
    elif (classes := saved_classes(run)) and classes != now.classes:
        difference = f"its classes were {class_names(classes)} and are {class_names(now.classes)}"
    else:
        return
    raise ConfigError(
        f"run {run.id} cannot be {action}: the dataset {name} has changed since training "
        f"({difference}); import the original images under that name again, or start a new run",
        "dataset",
    )


def saved_classes(run: Run) -> tuple[str, ...] | None:
    """Return the classes of the run's kept weights; None if there are no weights to read."""
    try:
        return tuple(model_description(run.path)["classes"])
    except (NotFoundError, DamagedError):
        return None


def dataset_changed(run: Run, datasets: Datasets) -> bool | None:
    """Return whether the run's dataset has changed since training; None if that is not known."""
    recorded, name = run.fingerprint(), run.config().dataset
    if recorded is None or name not in datasets.names():
        return None
    now = datasets.fingerprint(name)
    return None if now is None else now != recorded


def describe_images(
    run: Run, datasets: Datasets, split: str, name: str, sample: Callable[[int], Any] | None = None
) -> dict[str, Any]:
    """Return what a score has to say about the images that were scored, ready for JSON.

    sample: returns the positions of those images in a split of so many; None for all images.
    fingerprint: the digest of the dataset's content. dataset_changed: since training; None if that
    is not known, or for another dataset than the run's. trained_on_pictures: how many of the images
    are in the run's training split; None if that is not known.
    Raises as `Datasets.load`, and DamagedError.
    """
    trained_on = read_trained_on(run)
    count = None
    if trained_on is not None:
        digests = datasets.load_digests(run.config(), split, name)
        count = count_known(digests[sample(len(digests))] if sample else digests, trained_on)
    fingerprint, is_own = datasets.fingerprint(name), name == run.config().dataset
    return {
        "fingerprint": fingerprint and fingerprint.digest,
        "dataset_changed": dataset_changed(run, datasets) if is_own else None,
        "trained_on_pictures": count,
    }


def read_trained_on(run: Run) -> Any:
    """Return the digests of the images that the run was trained on, (N, 16) uint8, or None.

    Raises DamagedError.
    """
    try:
        return read_digests(run.path / TRAINED_ON)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DamagedError(
            f"{TRAINED_ON} of {run.id} is damaged: remove it to evaluate without knowing which "
            "images the run was trained on"
        ) from error
