"""Out-of-distribution detection of a run, measured on several kinds of other images."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from resnet_demo.data.pictures import crop_to_square
from resnet_demo.data.store import Datasets
from resnet_demo.errors import ConfigError, DamagedError
from resnet_demo.evaluation.evaluate_run import predict_split
from resnet_demo.inference.classification import ood_measure, ood_scores
from resnet_demo.inference.classifier import Classifier
from resnet_demo.inference.embeddings import folded_network
from resnet_demo.inference.ood import OOD_IMAGES, auroc, ood_metric
from resnet_demo.inference.predict import Embedder, evaluation_batch_size, predict
from resnet_demo.models.device import pick_device
from resnet_demo.runs.store import Run, check_trained_here


def measure_ood(
    run: Run, datasets: Datasets, images: int = 2000, seed: int = 0, others: str = ""
) -> dict[str, Any]:
    """Measure how well the score separates images of each kind from the run's test images.

    The score is the one that Classify uses, `measure`: energy, or distance to the nearest known
    embedding. images: of each kind, and of the test images. others: a dataset, whose classes that
    the run does not know are kinds, too. kinds: name -> auroc, the probability
    that an image of that kind has a higher score than a test image, and flagged, the share over the
    threshold. The threshold is the run's own; without one, it is set on the validation split, and
    `measured_now` is true.

    Raises:
        NotFoundError: the run has no weights, or its dataset is not on this machine.
        ConfigError: the dataset has other classes, or `others` none.
        DamagedError: damaged weights or images, or a network that computes NaN.
    """
    # The images that the pretrained network learned from are not here to compare with.
    check_trained_here(run, "measured")
    classifier, name = Classifier.load(run), run.config().dataset
    classifier.check_classes(datasets.get(name))
    own = scores(classifier, sample_test_images(datasets, name, images, seed))
    stored, measure = ood_measure(classifier.saved)
    # Runs of older versions have no threshold.
    threshold = stored or ood_metric(predict_split(classifier, datasets, "val", name)[0])
    if threshold is None:
        raise DamagedError("the network's outputs are not numbers: its training diverged")

    def flagged(values: Tensor) -> float:
        # In float64, which divides the count as Python would.
        return (values > threshold["threshold"]).double().mean().item()

    kinds = {
        kind: scores(classifier, pixels)
        for kind, pixels in ood_images(classifier, datasets, name, images, seed, others)
    }
    return {
        "run": run.id,
        "model": classifier.saved.network["name"],
        "dataset": name,
        "weights": classifier.saved.sha256,
        "seed": seed,
        "measure": measure,
        "threshold": threshold,
        "measured_now": stored is None,
        "own": {"n": len(own), "flagged": flagged(own)},
        "kinds": {
            kind: {"n": len(values), "auroc": auroc(own, values), "flagged": flagged(values)}
            for kind, values in kinds.items()
        },
    }


def ood_images(
    classifier: Classifier,
    datasets: Datasets,
    name: str,
    images: int,
    seed: int,
    others: str = "",
) -> Iterator[tuple[str, Tensor]]:
    """Yield each kind and its images (N, size, size, 3) uint8.

    shapes10 is one of the kinds, except for a run that was trained on it. others: see
    `measure_ood`. Raises ConfigError if the run knows all of its classes.
    """
    size = classifier.preprocessing.source_size

    def resized(pictures: Iterable[np.ndarray]) -> Tensor:
        # As an uploaded picture is, since their size may differ from the network's.
        return torch.from_numpy(np.stack([crop_to_square(rgb, size) for rgb in pictures]))

    for kind, make in OOD_IMAGES.items():
        # These are drawn at the network's size: nothing to resize.
        yield kind, make(images, size, seed)
    # They are the other side of the comparison then.
    if name != "shapes10":
        yield "shapes10", resized(sample_test_images(datasets, "shapes10", images, seed).numpy())
    if others:
        known, stored = set(classifier.saved.classes), datasets.load(others, "test")
        # By label: a class that the run has learned is not out of distribution.
        new = [label for label in datasets.get(others).classes if label not in known]
        if not new:
            rule = f"a dataset with classes that {classifier.run.id} does not know"
            raise ConfigError.rule("others", rule, others)
        for label in new:
            chosen = np.flatnonzero(stored[1] == datasets.get(others).classes.index(label))
            yield f"{others}: {label}", resized(stored[0][chosen[:images]])


def sample_test_images(datasets: Datasets, name: str, images: int, seed: int) -> Tensor:
    """Return at most `images` random test images of a dataset: (N, size, size, 3) uint8."""
    stored, labels = datasets.load(name, "test")
    # Sorted below, because the images are memory-mapped: the disk is read in one direction.
    chosen = np.random.default_rng(seed).permutation(len(labels))[:images]
    return torch.from_numpy(stored[np.sort(chosen)])


def scores(classifier: Classifier, images: Tensor) -> Tensor:
    """Return the out-of-distribution scores (N,) of images (N, H, W, 3) uint8."""
    preprocessing, device = classifier.preprocessing, pick_device()
    model = folded_network(classifier.saved.model, preprocessing.image_size, device)
    size = evaluation_batch_size(preprocessing)
    # One pass gives both scores: the logits follow from the embeddings.
    rows = predict(Embedder(model), preprocessing.prepare, images.to(device), size)
    with torch.inference_mode():
        logits = model.head(rows.to(device)).cpu()
    return ood_scores(classifier.saved, rows, logits)
