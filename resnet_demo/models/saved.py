"""Saved networks: `model.safetensors`, and `model.json` that describes it.

A pair that does not match is refused. A crash while saving loses neither the old network nor the
new one. This is apart from `description` because it needs torch.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from resnet_demo.errors import DamagedError
from resnet_demo.files import sync_folder, write_atomically
from resnet_demo.models.description import (
    DESCRIPTION,
    PENDING,
    WEIGHTS,
    Description,
    encode_description,
    matching_description,
    read_description,
    read_required,
    require_saved,
)
from resnet_demo.models.pretrained import imagenet_weights, own_names, read_weights
from resnet_demo.models.zoo import build_model

KNOWN = "known.safetensors"  # beside model.json, see `write_known`


@dataclass(frozen=True, kw_only=True)
class SavedModel:
    """A loaded network with what classification needs. model: on the CPU, float32, eval mode.

    known: embeddings (N, C) float16 of training images, to compare a picture's with; None for most
    runs, see `read_known`.
    """

    model: nn.Module
    network: dict[str, Any]
    classes: tuple[str, ...]
    preprocessing: dict[str, Any]
    metrics: dict[str, Any]
    sha256: str
    fingerprint: dict[str, Any] | None = None
    known: Tensor | None = None


def save_model(
    folder: Path,
    model: nn.Module,
    *,
    network: Mapping[str, Any],
    classes: Sequence[str],
    preprocessing: Mapping[str, Any],
    metrics: Mapping[str, Any],
    fingerprint: Mapping[str, Any] | None = None,
) -> None:
    """Replace a folder's saved network; a folder has one writer.

    network: name, num_classes, stem, batch_norm, the arguments of build_model. fingerprint: of the
    dataset that it was trained on, as `Fingerprint.to_dict` returns it.
    Raises OSError, and ValueError for what load_model would refuse.
    """
    weights = safetensors.torch.save(plain_tensors(model), metadata={"format": "pt"})
    description = encode_description(
        Description(
            network=dict(network),
            classes=list(classes),
            preprocessing=dict(preprocessing),
            metrics=dict(metrics),
            sha256=hashlib.sha256(weights).hexdigest(),
            fingerprint=None if fingerprint is None else dict(fingerprint),
        )
    )
    complete_save(folder)
    # The description first, under another name: whenever a crash comes, one of the two descriptions
    # fits the weights on the disk.
    write_atomically(folder / PENDING, description)
    write_atomically(folder / WEIGHTS, weights)
    complete_save(folder)


def plain_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the state as safetensors needs it: contiguous, on the CPU."""
    state = model.state_dict()
    return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}


def complete_save(folder: Path) -> None:
    """Rename model.json.new to model.json if it describes the current weights.

    A save ends with this, and starts with it in case the last one crashed before.
    """
    if matching_description(folder).name == PENDING:
        os.replace(folder / PENDING, folder / DESCRIPTION)
        sync_folder(folder)


def load_model(folder: Path) -> SavedModel:
    """Return the network saved in a folder. Raises NotFoundError without one, DamagedError."""
    require_saved(folder)
    if not (folder / WEIGHTS).exists():
        description = read_description(folder / DESCRIPTION)
        if description.pretrained:
            return saved_model(description, build_pretrained(description, folder.name), None)
    try:
        description, weights = read_pair(folder)
    except DamagedError:
        # A training run may have replaced one of the two files in between.
        description, weights = read_pair(folder)
    model = build_saved_model(description, weights, folder / WEIGHTS)
    return saved_model(description, model, read_known(folder, description.metrics))


def write_known(folder: Path, metric: Mapping[str, Any], embeddings: Tensor) -> dict[str, Any]:
    """Write embeddings of training images, (N, C) float16; return the metrics that name the file.

    metric: about the distance to them, as `ood.neighbour_metric` returns it.
    """
    content = safetensors.torch.save({"embeddings": embeddings.contiguous()})
    write_atomically(folder / KNOWN, content)
    return {"neighbour": {**metric, "sha256": hashlib.sha256(content).hexdigest()}}


def add_known(folder: Path, saved: SavedModel, metric: Mapping[str, Any], known: Tensor) -> None:
    """Add embeddings of training images to a saved network, see `write_known`."""
    save_model(
        folder,
        saved.model,
        network=saved.network,
        classes=saved.classes,
        preprocessing=saved.preprocessing,
        metrics={**saved.metrics, **write_known(folder, metric, known)},
        fingerprint=saved.fingerprint,
    )


def read_known(folder: Path, metrics: Mapping[str, Any]) -> Tensor | None:
    """Read what `write_known` wrote, if the metrics in model.json name it and it is there.

    Raises DamagedError for another file than the one that they name.
    """
    digest = metrics.get("neighbour", {}).get("sha256")
    # A folder that was copied without this file still classifies, with the energy as its warning.
    if digest is None or not (folder / KNOWN).exists():
        return None
    content = read_required(folder / KNOWN)
    if hashlib.sha256(content).hexdigest() != digest:
        raise DamagedError(
            f"{KNOWN} of {folder.name} is damaged and is not used: it is not the file that "
            f"{DESCRIPTION} describes (its sha256 differs); without it, the warning about other "
            "pictures is by energy"
        )
    return safetensors.torch.load(content)["embeddings"]


def saved_model(description: Description, model: nn.Module, known: Tensor | None) -> SavedModel:
    """Return a loaded network with its description."""
    return SavedModel(
        model=model.eval(),
        network=description.network,
        classes=tuple(description.classes),
        preprocessing=description.preprocessing,
        metrics=description.metrics,
        sha256=description.sha256,
        fingerprint=description.fingerprint,
        known=known,
    )


def build_pretrained(description: Description, folder_name: str) -> nn.Module:
    """Return the network with the weights that were published for it.

    Raises NotFoundError if they are not on this machine, DamagedError.
    """
    name = description.network["name"]
    if imagenet_weights(name).sha256 != description.sha256:
        raise DamagedError(f"{DESCRIPTION} of {folder_name} is damaged: it has another sha256")
    with torch.device("meta"):  # as in build_saved_model
        model = build_model(**description.network)
    model.load_state_dict(own_names(name, model, read_weights(name)), assign=True)
    return model


def read_pair(folder: Path) -> tuple[Description, bytes]:
    """Return a description and the weights with its digest. Raises DamagedError."""
    weights = read_required(folder / WEIGHTS)
    digest = hashlib.sha256(weights).hexdigest()
    description = read_description(matching_description(folder, digest))
    if description.sha256 != digest:
        raise DamagedError(
            f"{WEIGHTS} of {folder.name} is damaged and is not used: it is not the file that "
            f"{DESCRIPTION} describes (its sha256 differs)"
        )
    return description, weights


def build_saved_model(description: Description, weights: bytes, path: Path) -> nn.Module:
    """Return the network with those weights. Raises DamagedError if they do not fit it."""
    with torch.device("meta"):  # initial weights would cost time and change the random state
        model = build_model(**description.network)
    try:
        # assign: nothing can be copied into tensors on the meta device.
        model.load_state_dict(safetensors.torch.load(weights), assign=True)
    except (RuntimeError, SafetensorError) as error:
        name = description.network["name"]
        raise DamagedError(
            f"{path.name} of {path.parent.name} is damaged and is not used: it does not hold the "
            f"weights of {name}"
        ) from error
    # Packed runs store float16.
    return model.float()
