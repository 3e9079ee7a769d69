"""The fingerprint of a dataset's content: a run keeps that of the pictures it began with."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from resnet_demo.json_files import build

SPLIT_NAMES = {"train": "training", "val": "validation", "test": "test"}
NAMED_CLASSES = 5  # in a message


@dataclass(frozen=True)
class Fingerprint:
    """Identity of a dataset's content. Datasets with the same one train the same network.

    classes: in label order. images: split -> number. digest: of all pictures and labels in their
    order, in hex.
    """

    classes: tuple[str, ...]
    images: dict[str, int]
    digest: str

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return asdict(self) | {"classes": list(self.classes)}

    @classmethod
    def from_dict(cls, values: Any) -> "Fingerprint":
        """Return the fingerprint from `to_dict`'s values. Raises ValueError for any others."""
        return build(cls, values, complete=True)

    def difference(self, now: "Fingerprint") -> str:
        """Return what has changed between this fingerprint and another one, as half a sentence."""
        # From the coarsest difference to the finest: only the first one is named.
        if self.classes != now.classes:
            before, after = class_names(self.classes), class_names(now.classes)
            return f"its classes were {before} and are {after}"
        if self.images != now.images:
            return f"it had {image_counts(self.images)} images and has {image_counts(now.images)}"
        return "its pictures or their labels are others"


def class_names(classes: Sequence[str]) -> str:
    """Return the names of the classes for a message; of many only the first ones."""
    more = f" and {len(classes) - NAMED_CLASSES} more" if len(classes) > NAMED_CLASSES else ""
    return ", ".join(classes[:NAMED_CLASSES]) + more


def image_counts(images: Mapping[str, int]) -> str:
    """Return the number of images of each split."""
    return ", ".join(
        f"{count:,} {SPLIT_NAMES.get(split, split)}" for split, count in images.items()
    )
