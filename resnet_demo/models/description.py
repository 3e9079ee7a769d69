"""model.json: what a saved network is, beside its weights. No torch here: lists of runs read it.

The weights are replaced between `model.json.new` and its renaming to `model.json`, so that at every
moment one of the two describes the weights that are there: `belonging` tells which.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from resnet_demo.architectures import check_architecture
from resnet_demo.errors import ConfigError, DamagedError, NotFoundError
from resnet_demo.files import sha256_of
from resnet_demo.json_files import build, convert, field_types, parse_json

WEIGHTS, DESCRIPTION, PENDING = "model.safetensors", "model.json", "model.json.new"
NETWORK = {"name", "num_classes", "stem", "batch_norm"}  # the arguments of build_model


@dataclass(frozen=True, kw_only=True)
class Description:
    """What model.json holds; sha256 is the weights' own, in hex. Raises ValueError."""

    network: dict[str, Any]
    classes: list[str]
    preprocessing: dict[str, Any]
    metrics: dict[str, Any]
    sha256: str

    def __post_init__(self) -> None:
        for name, kind in field_types(type(self)).items():
            convert(getattr(self, name), kind)
        if self.network.keys() != NETWORK or not isinstance(self.network["batch_norm"], bool):
            raise ValueError(f"network does not hold just {', '.join(sorted(NETWORK))}")
        if self.network["num_classes"] != len(self.classes):
            raise ValueError(f"{len(self.classes)} classes do not fit the network")
        check_architecture(self.network["name"], self.network["stem"])


def model_description(folder: Path) -> dict[str, Any]:
    """What model.json says: network, classes, preprocessing, metrics, sha256.

    Raises NotFoundError where no network was saved, DamagedError.
    """
    require_saved(folder)
    return asdict(read_description(matching_description(folder)))


def predictions_sha256(metrics: Mapping[str, Any], split: str, dataset: str) -> str | None:
    """That of the file of answers on the split, which lies beside the weights; None for no file."""
    kept = metrics.get("predictions", {})
    is_it = (kept.get("split"), kept.get("dataset")) == (split, dataset)
    return kept["sha256"] if is_it else None


def require_saved(folder: Path) -> None:
    """Raises NotFoundError for a folder in which no network was saved."""
    if not any((folder / name).exists() for name in (WEIGHTS, DESCRIPTION)):
        raise NotFoundError(f"{folder.name} has no weights yet: its first epoch is not done", "run")


def matching_description(folder: Path, digest: str | None = None) -> Path:
    """The file that describes the weights: model.json, or model.json.new after a crash.

    digest: the weights' sha256 where it is known; else they are read, only if there is a doubt.
    """
    pending = folder / PENDING
    try:
        if pending.exists() and read_description(pending).sha256 == (
            digest or sha256_of(folder / WEIGHTS)
        ):
            return pending
    except (OSError, DamagedError):
        pass  # torn, or renamed in this moment: model.json decides
    return folder / DESCRIPTION


def read_description(path: Path) -> Description:
    """Raises DamagedError for a file that is not, to the letter, what was written."""
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
    """The text of model.json, with a checksum over the rest of it. Raises ValueError for NaN."""
    values = asdict(description)
    values["checksum"] = checksum(values)
    return (json.dumps(values, indent=2) + "\n").encode()


def checksum(values: dict[str, Any]) -> str:
    """sha256 of the values in one fixed spelling, so that only a changed value counts."""
    text = json.dumps(values, sort_keys=True, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def read_required(path: Path) -> bytes:
    """Raises DamagedError for a file that is missing or cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise DamagedError(
            f"{path.name} of {path.parent.name} is missing, and nothing is known without it"
        ) from error
    except OSError as error:
        raise DamagedError(
            f"{path.name} of {path.parent.name} cannot be read: {error.strerror}"
        ) from error
