"""Evaluation results on disk: one JSON object with a checksum. No torch here: pages read them."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from resnet_demo.errors import DamagedError
from resnet_demo.files import open_file, write_atomically
from resnet_demo.json_files import read_json
from resnet_demo.models.description import checksum

RESULT, ANSWERS = "result.json", "answers.safetensors"
# What `runs.dataset.describe_images` returns.
IMAGE_KEYS = ("fingerprint", "dataset_changed", "trained_on_pictures")
IDENTITY_KEYS = ("run", "dataset", "split", "weights", *IMAGE_KEYS)
EVALUATION_KEYS = (
    *IDENTITY_KEYS,
    "mode",
    "stored",
    "n",
    "top1",
    "interval",
    "top5",
    "loss",
    "macro_f1",
    "confusion",
    "per_class",
    "calibration",
    "histogram",
    "beside",
)
OPTIONAL_KEYS = ("folds",)  # of a cross-validation
ROBUSTNESS_KEYS = (*IDENTITY_KEYS, "n", "seed", "top1", "strengths", "kinds")


def write_result(folder: Path, values: Mapping[str, Any]) -> None:
    """Write result.json atomically. Raises OSError, and ValueError for NaN."""
    # The checksum covers values, not bytes, so that another layout of the JSON is no damage.
    content = json.dumps({**values, "checksum": checksum(dict(values))})
    write_atomically(folder / RESULT, content.encode())


def read_result(folder: Path, keys: Iterable[str] = EVALUATION_KEYS) -> dict[str, Any]:
    """Read what write_result wrote. keys: EVALUATION_KEYS or ROBUSTNESS_KEYS.

    Raises:
        DamagedError: the file is missing, altered, or from another version of the program.
    """
    values = _read_with_checksum(folder)
    if not {*keys} <= values.keys():
        raise DamagedError(f"{RESULT} of {folder.name} is of another version: evaluate again")
    # Older versions wrote more keys.
    return {key: value for key, value in values.items() if key in (*keys, *OPTIONAL_KEYS)}


def read_answers(folder: Path) -> bytes:
    """Return the content of answers.safetensors. Raises DamagedError if missing or altered."""
    try:
        with open_file(folder / ANSWERS) as file:
            content = file.read()
    except OSError:
        content = None
    if content is None or hashlib.sha256(content).hexdigest() != _read_with_checksum(folder).get(
        "answers"
    ):
        raise DamagedError(f"{ANSWERS} of {folder.name} is missing or damaged: evaluate again")
    return content


def _read_with_checksum(folder: Path) -> dict[str, Any]:
    """Return all of result.json. Raises DamagedError, for a wrong checksum too."""
    try:
        values = read_json(folder / RESULT)
        if values.pop("checksum") != checksum(values):
            raise ValueError("checksum")
        return values
    except (DamagedError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError(
            f"{RESULT} of {folder.name} is missing or damaged: evaluate again"
        ) from error
