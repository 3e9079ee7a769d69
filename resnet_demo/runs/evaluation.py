"""Evaluating a run: one function for page, command line and API."""

from collections.abc import Callable
from typing import Any

import torch

from resnet_demo.analysis.evaluate import predict, score
from resnet_demo.data.preprocess import Preprocessing
from resnet_demo.data.rules import check_split
from resnet_demo.data.splits import split_indices
from resnet_demo.data.store import Datasets
from resnet_demo.models.description import predictions_sha256
from resnet_demo.runs.classifier import Classifier
from resnet_demo.runs.predictions import read_predictions
from resnet_demo.runs.store import Run
from resnet_demo.training.batches import EVALUATION_PIXELS
from resnet_demo.training.device import pick_device


def evaluate_run(
    run: Run,
    datasets: Datasets,
    split: str = "test",
    dataset: str | None = None,
    on_batch: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Score the run's best weights on a split, its own dataset's unless another is named.

    Where the images are not on this machine, the answers that are kept beside the weights stand in
    for them: `stored` is then true. on_batch(done, total) is told after each batch and may raise
    StoppedError. Raises ConfigError, NotFoundError, DamagedError.
    """
    check_split(split)
    classifier, name = Classifier.of(run), dataset or run.config().dataset
    saved = classifier.saved
    stored = name not in datasets.names() and predictions_sha256(saved.metrics, split, name)
    if stored:
        logits, labels = read_predictions(run.path, saved, split, name)
    else:
        logits, labels = answers(classifier, datasets, split, name, on_batch)
    result = score(logits, labels, saved.classes).to_dict()
    told = {"run": run.id, "dataset": name, "split": split, "weights": saved.sha256}
    return {**told, "stored": bool(stored), **result}


def answers(
    classifier: Classifier,
    datasets: Datasets,
    split: str,
    name: str,
    on_batch: Callable[[int, int], None] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (N, C) float32 for the split's images, and its labels (N,). Raises as evaluate_run."""
    saved = classifier.saved
    classifier.check_classes(datasets.get(name))
    images, labels = images_of(classifier.run, datasets, split, name)
    preprocessing, device = Preprocessing.from_dict(saved.preprocessing), pick_device()
    logits = predict(
        saved.model.to(device, memory_format=torch.channels_last),
        preprocessing.prepare,
        images.to(device),
        batch_size=max(1, EVALUATION_PIXELS // preprocessing.image_size**2),
        on_batch=on_batch,
    )
    return logits, labels


def images_of(
    run: Run, datasets: Datasets, split: str, name: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """The split's images (N, H, W, 3) uint8 and labels (N,), as the run split them."""
    images, labels = datasets.load(name, "test" if split == "test" else "train")
    if split != "test":
        config = run.config()
        train, val = split_indices(len(labels), config.val_share, config.seed)
        chosen = train if split == "train" else val
        images, labels = images[chosen], labels[chosen]
    return torch.tensor(images), torch.tensor(labels)
