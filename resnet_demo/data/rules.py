"""What a config and a dataset must agree on, checked before anything starts. No torch here."""

from resnet_demo.config import TrainConfig, one_of
from resnet_demo.data.store import DatasetInfo, Datasets
from resnet_demo.errors import ConfigError

SPLITS = ("test", "val", "train")


def check_split(split: str) -> str:
    """The split, if there is one of that name. Raises ConfigError."""
    if split not in SPLITS:
        raise ConfigError.rule("split", one_of(SPLITS), split)
    return split


def split_sizes(config: TrainConfig, images: int) -> tuple[int, int]:
    """How many of so many training images are trained on, and how many are for validation."""
    val = max(1, int(images * config.val_share))
    left = images - val
    return min(left, config.train_images or left), val


def check_data(config: TrainConfig, datasets: Datasets) -> DatasetInfo:
    """The config's dataset. Raises ConfigError if it is not here, or too small."""
    info = datasets.get(config.dataset)
    left, _ = split_sizes(config, info.train)
    if config.batch_size > left:
        what = (
            "train_images" if left == config.train_images else f"{config.dataset}'s training split"
        )
        rule = f"at most the {left} images of {what}"
        raise ConfigError.rule("batch_size", rule, config.batch_size)
    if config.cutout > info.size:  # both are done to the images as they are stored
        rule = f"at most {info.size}, the side of {config.dataset}'s images in pixels"
        raise ConfigError.rule("cutout", rule, config.cutout)
    if config.crop >= info.size:  # edges can be mirrored just so far
        rule = f"less than {info.size}, the side of {config.dataset}'s images in pixels"
        raise ConfigError.rule("crop", rule, config.crop)
    return info
