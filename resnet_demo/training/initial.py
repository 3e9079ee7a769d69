"""The start of training: the network, its initial weights or checkpoint, and class weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from resnet_demo.config import INITIAL, TrainConfig
from resnet_demo.data.store import Datasets
from resnet_demo.fingerprint import Fingerprint
from resnet_demo.models.layers import Network
from resnet_demo.models.pretrained import fill, load_pretrained
from resnet_demo.models.saved import load_model
from resnet_demo.models.zoo import build_model
from resnet_demo.paths import Paths
from resnet_demo.runs.dataset import check_dataset, record_dataset
from resnet_demo.runs.store import CONFIG, Run
from resnet_demo.runs.weights import (
    InitialWeights,
    check_network,
    find_weights,
    recorded_weights,
    source_run,
)
from resnet_demo.training.batches import Batches
from resnet_demo.training.checkpoint import load_matching


def load_checkpoint(
    folder: Path | None, config: TrainConfig, datasets: Datasets, paths: Paths
) -> tuple[tuple[dict[str, Any], str] | None, Fingerprint | None, InitialWeights | None]:
    """Return what `load_matching` does, the dataset's fingerprint, and the initial weights.

    The directory of a new run gets both kinds of digests and the digest of the initial weights; a
    run that resumes is refused on another dataset, and needs its initial weights no more. Raises as
    `load_matching`, `check_dataset` and `find_weights`.
    """
    if folder is None:
        return None, None, find_weights(config, paths)
    loaded, run = load_matching(folder, config), Run(folder)
    if not (folder / CONFIG).exists():  # only the weights are wanted
        return loaded, None, find_weights(config, paths)
    # CIFAR-10's archive has no fingerprint before it is converted.
    datasets.prepare(config.dataset)
    check_dataset(run, datasets)
    if loaded:
        return loaded, run.fingerprint(), recorded_weights(run)
    initial = find_weights(config, paths)
    fingerprint = record_dataset(run, config, datasets, source_run(config, paths))
    if initial is not None:
        # A resume reads it: the source may have gone by then, or have other weights.
        run.record({INITIAL: initial.to_dict()})
    return loaded, fingerprint, initial


def load_initial_weights(
    model: Network, config: TrainConfig, classes: Sequence[str], paths: Paths
) -> None:
    """Set the network's weights to those that the config names, which are not random.

    The head keeps its random weights unless it is for the same classes. Raises as `find_weights`.
    """
    run = source_run(config, paths)
    if run is None:
        head = {name: tensor.clone() for name, tensor in model.head.state_dict().items()}
        load_pretrained(config.model, model, paths.weights)
        model.head.load_state_dict(head)  # a thousand classes of one's own are not ImageNet's
        return
    saved = load_model(run.path)
    check_network(config, run.id, saved.network)
    values = saved.model.state_dict()
    # In another order, the same classes need another head too.
    if saved.classes != tuple(classes):
        values = {name: value for name, value in values.items() if not name.startswith("head.")}
    fill(model, values)


def class_weights(config: TrainConfig, batches: Batches) -> Tensor | None:
    """Return the weight of each class in the loss, (num_classes,); None where all count alike.

    Balanced: inversely proportional to a class's training images, with a mean of 1 over the images.
    """
    if config.class_weights == "none":
        return None
    counts = batches.train_labels.bincount(minlength=len(batches.classes))
    # Classes without an image do not count: with them the mean would not be 1.
    weights = len(batches.train_labels) / (counts.clamp(min=1) * (counts > 0).sum())
    return weights.where(counts > 0, 0.0)


def initial_model(config: TrainConfig, num_classes: int) -> nn.Module:
    """Return the network before its first step, on the CPU; it depends on the config alone."""
    # fork_rng leaves the caller's random state as it was. The weights are drawn on the CPU, so that
    # a seed gives the same network on every device.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        arguments = model_arguments(config, num_classes)
        return build_model(arguments.pop("name"), **arguments)


def model_arguments(config: TrainConfig, num_classes: int) -> dict[str, Any]:
    """Return the arguments of build_model, as model.json keeps them."""
    return {
        "name": config.model,
        "num_classes": num_classes,
        "stem": config.stem,
        "batch_norm": config.batch_norm,
    }
