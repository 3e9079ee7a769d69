"""What is known about a dataset without opening its images. No torch here."""

import math
import re
from dataclasses import asdict, dataclass, fields
from typing import Any

from resnet_demo.data.moments import Triple
from resnet_demo.errors import ConfigError, DamagedError

NAME = re.compile("[a-z0-9][a-z0-9-]{0,63}")


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """A dataset's own description.

    mean and std: of the training pixels, per channel, on the 0..1 scale; per_image_std: the mean
    of each training image's own deviation. skipped: the first unreadable files of an import.
    """

    name: str
    classes: tuple[str, ...]  # in label order
    size: int  # pixels, side of the stored square images
    train: int  # images
    test: int  # images
    mean: Triple
    std: Triple
    per_image_std: Triple
    synthetic: bool
    source: str  # where it came from, in words
    skipped_count: int = 0
    skipped: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Field name -> value, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Any) -> "DatasetInfo":
        """The opposite of `to_dict`. Raises DamagedError for what it never wrote."""
        try:
            given = {field.name: values[field.name] for field in fields(cls)}
            tuples = {name: tuple(value) for name, value in given.items() if type(value) is list}
            info = cls(**{**given, **tuples})
            sound = _is_sound(info)
        except (KeyError, TypeError, OverflowError) as error:
            raise DamagedError("the description of the dataset is incomplete") from error
        if not sound:
            raise DamagedError("the description of the dataset makes no sense")
        return info


def _is_sound(info: DatasetInfo) -> bool:
    words = (info.name, info.source, *info.classes, *info.skipped)
    counts = (info.size, info.train, info.test)
    triples = (info.mean, info.std, info.per_image_std)
    return (
        type(info.classes) is type(info.skipped) is tuple
        and all(type(word) is str for word in words)
        and all(type(count) is int and count > 0 for count in counts)
        and all(len(triple) == 3 and all(map(math.isfinite, triple)) for triple in triples)
        and min(info.mean) >= 0 < min(*info.std, *info.per_image_std)
        and len(set(info.classes)) == len(info.classes) >= 2
        and type(info.synthetic) is bool
        and type(info.skipped_count) is int
    )


def check_name(name: object, field: str = "dataset") -> str:
    """The name, if it may become a folder's. Raises ConfigError."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        rule = "at most 64 small letters, digits and dashes, no dash first"
        raise ConfigError.rule(field, rule, name)
    return name
