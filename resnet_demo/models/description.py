"""model.json, which describes a saved network. No torch here: lists of runs read it.

A save writes `model.json.new`, replaces the weights, then renames the file to `model.json`. So one
of the two always describes the current weights; `matching_description` finds it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from resnet_demo.architectures import check_architecture
from resnet_demo.errors import ConfigError, DamagedError, NotFoundError
from resnet_demo.files import open_file, sha256_of
from resnet_demo.json_files import build, convert, field_types, parse_json

WEIGHTS, DESCRIPTION, PENDING = "model.safetensors", "model.json", "model.json.new"
NETWORK = {"name", "num_classes", "stem", "batch_norm"}  # arguments of build_model


@dataclass(frozen=True, kw_only=True)
class Description:
    """The content of model.json. Raises ValueError.

    sha256: of the weights, in hex. fingerprint: of the dataset that they were trained on, if known.
    pretrained: the weights are those of `models.pretrained`, and the folder has none.
    """

    network: dict[str, Any]
    classes: list[str]
    preprocessing: dict[str, Any]
    metrics: dict[str, Any]
    sha256: str
    fingerprint: dict[str, Any] | None = None
    pretrained: bool = False

    def __post_init__(self) -> None:
        # Checked here and not only when reading: a save then refuses what a load would refuse.
        for name, kind in field_types(type(self)).items():
            convert(getattr(self, name), kind)
        if self.network.keys() != NETWORK or not isinstance(self.network["batch_norm"], bool):
            raise ValueError(f"network does not hold just {', '.join(sorted(NETWORK))}")
        if self.network["num_classes"] != len(self.classes):
            raise ValueError(f"{len(self.classes)} classes do not fit the network")
        check_architecture(self.network["name"], self.network["stem"])


def model_description(folder: Path) -> dict[str, Any]:
    """Return the content of a folder's model.json.

    Its keys are the fields of Description.
    Raises NotFoundError without a saved network, DamagedError.
    """
    require_saved(folder)
    return asdict(read_description(matching_description(folder)))


def fit_of(described: Mapping[str, Any]) -> str:
    """Return how a network's training images were made square; older versions cropped them."""
    return described["preprocessing"].get("fit", "crop")


def predictions_sha256(metrics: Mapping[str, Any], split: str, dataset: str) -> str | None:
    """Return the digest of the stored predictions for that split; None if there are none."""
    stored = metrics.get("predictions", {})
    # A run may be packed with its predictions on either split, and evaluated on other datasets.
    is_same = (stored.get("split"), stored.get("dataset")) == (split, dataset)
    return stored["sha256"] if is_same else None


def require_saved(folder: Path) -> None:
    """Raise NotFoundError if no network was saved in the folder."""
    # One of the two is a damaged save, or a folder whose weights are in a package: not "no
    # weights".
    if not any((folder / name).exists() for name in (WEIGHTS, DESCRIPTION)):
        message = f"{folder.name} has no weights yet: its first epoch is not finished"
        raise NotFoundError(message, "run")


def matching_description(folder: Path, digest: str | None = None) -> Path:
    """Return the file that describes the weights: model.json, or model.json.new after a crash.

    digest: sha256 of the weights if known; else they are read, but only if model.json.new exists.
    """
    pending = folder / PENDING
    try:
        if pending.exists() and read_description(pending).sha256 == (
            digest or sha256_of(folder / WEIGHTS)
        ):
            return pending
    except (OSError, DamagedError):
        pass  # torn, or just renamed: model.json is the one
    return folder / DESCRIPTION


def read_description(path: Path) -> Description:
    """Return the description in a file. Raises DamagedError if it differs from what was written."""
    try:
        values = parse_json(read_required(path))
        if values.pop("checksum") != checksum(values):
            raise ValueError("checksum")
        return build(Description, values, exact=True)
    except (ValueError, TypeError, KeyError, AttributeError, ConfigError) as error:
        raise DamagedError(
            f"{path.name} of {path.parent.name} is damaged and is not used: it was altered or torn"
        ) from error


def encode_description(description: Description) -> bytes:
    """Return the content of model.json with a checksum. Raises ValueError for NaN."""
    values = asdict(description)
    # Left out, so that the checksum of usual files does not depend on this field.
    if not description.pretrained:
        del values["pretrained"]
    values["checksum"] = checksum(values)  # last: it covers all fields before it
    return (json.dumps(values, indent=2) + "\n").encode()


def checksum(values: dict[str, Any]) -> str:
    """Return the sha256 of values in a canonical form: layout does not matter."""
    text = json.dumps(values, sort_keys=True, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def read_required(path: Path) -> bytes:
    """Return the content of a file. Raises DamagedError if it is missing or unreadable."""
    try:
        with open_file(path) as file:
            return file.read()
    except FileNotFoundError as error:
        raise DamagedError(f"{path.name} of {path.parent.name} is missing") from error
    except OSError as error:
        raise DamagedError(
            f"{path.name} of {path.parent.name} cannot be read: {error.strerror}"
        ) from error
