"""How well a run notices pictures of something else, kind by kind."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from resnet_demo.data.pictures import crop_to_square
from resnet_demo.data.store import Datasets
from resnet_demo.errors import DamagedError
from resnet_demo.evaluation.evaluate_run import predict_split
from resnet_demo.inference.classifier import Classifier
from resnet_demo.inference.ood import OOD_IMAGES, auroc, energy, ood_metric
from resnet_demo.inference.predict import evaluation_batch_size, predict
from resnet_demo.models.device import pick_device
from resnet_demo.runs.store import Run


def measure_ood(run: Run, datasets: Datasets, images: int = 2000, seed: int = 0) -> dict[str, Any]:
    """How the energy tells so many images of each kind from as many of the run's own test images.

    kinds: name -> auroc, the chance that an image of that kind has a higher energy than a test
    image; and flagged, the share of them over the threshold. The threshold is the run's own;
    where it has none, it is set on its validation split now, and `measured_now` is true.
    Raises NotFoundError, ConfigError, DamagedError.
    """
    classifier, name = Classifier.load(run), run.config().dataset
    classifier.check_classes(datasets.get(name))
    own = energies(classifier, some_of(datasets, name, images, seed))
    told = classifier.saved.metrics.get("outside")
    threshold = told or ood_metric(predict_split(classifier, datasets, "val", name)[0])
    if threshold is None:
        raise DamagedError("the network's answers are not numbers: its training went astray")

    def flagged(some: Tensor) -> float:
        return (some > threshold["threshold"]).double().mean().item()

    kinds = {
        kind: energies(classifier, pixels)
        for kind, pixels in others(classifier, datasets, name, images, seed)
    }
    return {
        **{"run": run.id, "model": classifier.saved.network["name"], "dataset": name},
        **{"weights": classifier.saved.sha256, "seed": seed},
        **{"threshold": threshold, "measured_now": told is None},
        "own": {"n": len(own), "flagged": flagged(own)},
        "kinds": {
            kind: {"n": len(some), "auroc": auroc(own, some), "flagged": flagged(some)}
            for kind, some in kinds.items()
        },
    }


def others(
    classifier: Classifier, datasets: Datasets, name: str, images: int, seed: int
) -> Iterator[tuple[str, Tensor]]:
    """Each kind and its images (N, size, size, 3) uint8; shapes10's but for a run that knows it."""
    size = classifier.preprocessing.source_size
    for kind, make in OOD_IMAGES.items():
        yield kind, make(images, size, seed)
    if name != "shapes10":
        shapes = some_of(datasets, "shapes10", images, seed).numpy()
        yield "shapes10", torch.from_numpy(np.stack([crop_to_square(rgb, size) for rgb in shapes]))


def some_of(datasets: Datasets, name: str, images: int, seed: int) -> Tensor:
    """So many of a dataset's test images, or all, chosen by a seed: (N, size, size, 3) uint8."""
    stored, labels = datasets.load(name, "test")
    chosen = np.random.default_rng(seed).permutation(len(labels))[:images]
    return torch.from_numpy(stored[np.sort(chosen)])


def energies(classifier: Classifier, images: Tensor) -> Tensor:
    """(N,) float64, of images (N, H, W, 3) uint8."""
    preprocessing, device = classifier.preprocessing, pick_device()
    model = classifier.saved.model.to(device, memory_format=torch.channels_last)
    few = evaluation_batch_size(preprocessing)
    return energy(predict(model, preprocessing.prepare, images.to(device), few))
