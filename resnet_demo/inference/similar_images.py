"""The images that a run learned from, as its kept weights see them."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from resnet_demo.data.store import Datasets
from resnet_demo.inference.classifier import Classifier
from resnet_demo.inference.neighbours import Index, penultimate
from resnet_demo.inference.predict import batch_size, places_of
from resnet_demo.models.device import pick_device
from resnet_demo.runs.store import Run


def index_of(
    run: Run, datasets: Datasets, on_batch: Callable[[int, int], object] = lambda done, total: None
) -> Index:
    """The features of the run's training split, by the order in which the images lie.

    on_batch(done, total) is told after each batch and may raise StoppedError. Raises NotFoundError,
    ConfigError where the dataset has other classes by now, DamagedError.
    """
    classifier, config = Classifier.of(run), run.config()
    classifier.check_classes(datasets.get(config.dataset))
    images, labels = datasets.load(config.dataset, "train")
    places = np.sort(places_of(run, "train", len(labels)))
    preprocessing = classifier.preprocessing
    model = classifier.saved.model.to(pick_device(), memory_format=torch.channels_last)
    size = batch_size(preprocessing)
    parts = []
    for start in range(0, len(places), size):
        batch = torch.from_numpy(images[places[start : start + size]])  # read as it is needed
        parts.append(F.normalize(penultimate(model, preprocessing.prepare, batch), dim=1).half())
        on_batch(min(start + size, len(places)), len(places))
    return Index(
        torch.cat(parts),
        torch.from_numpy(places),
        torch.from_numpy(labels[places]),
        classifier.saved.sha256,
    )


def rows(found: Iterable[tuple[int, float, str]]) -> list[dict[str, Any]]:
    """What `Classifier.similar` found as command line and API tell it, ready for JSON."""
    return [{"place": place, "cosine": cosine, "label": label} for place, cosine, label in found]
