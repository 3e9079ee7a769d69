"""Example images of a split: the picture, the prediction, and its class activation map."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from resnet_demo.data.store import Datasets
from resnet_demo.errors import ConfigError
from resnet_demo.evaluation.evaluate_run import RunEvaluation
from resnet_demo.evaluation.metrics import Predictions
from resnet_demo.evaluation.modes import require_images
from resnet_demo.inference.class_maps import class_maps
from resnet_demo.inference.classifier import Classifier
from resnet_demo.inference.heatmaps import heatmap, overlay
from resnet_demo.inference.predict import evaluation_batch_size

MIN_SIDE = 192  # pixels; a browser would blur the pixels of a smaller picture
OPACITY = 0.6


@dataclass(frozen=True)
class ExampleImage:
    """An image of a split and its prediction. index: in the split, from 0.

    picture: (H, W, 3) uint8, each stored pixel enlarged to a square. overlay: the same with the
    class activation map of the predicted class. truth, predicted: labels. confidence: of the
    prediction, from 0 to 1.
    """

    index: int
    picture: np.ndarray
    overlay: np.ndarray
    truth: str
    predicted: str
    confidence: float


def load_example_images(
    classifier: Classifier,
    datasets: Datasets,
    evaluation: RunEvaluation,
    indices: Sequence[int] | Tensor,
    limit: int = 24,
) -> list[ExampleImage]:
    """Load the first `limit` of the images at these indices of the evaluated split, in order.

    Raises:
        NotFoundError: the images are not on this machine.
        ConfigError: the run's weights have changed since the evaluation.
        DamagedError: the images are damaged.
    """
    check_evaluation(classifier, datasets, evaluation)
    chosen = torch.as_tensor(indices, dtype=torch.int64)[:limit]
    predictions = Predictions.from_logits(evaluation.logits[chosen])
    truths, classes = evaluation.labels[chosen].tolist(), classifier.saved.classes
    pixels = load_pixels(classifier, datasets, evaluation, chosen.numpy())
    # A whole multiple of the stored size, so that each stored pixel is a square.
    scale = -(-MIN_SIDE // pixels.shape[1])  # rounded up
    heats = predicted_heatmaps(classifier, pixels, predictions.predicted, scale * pixels.shape[1])
    large = pixels.repeat(scale, axis=1).repeat(scale, axis=2)
    covered = overlay(large, heats, OPACITY)
    return [
        ExampleImage(
            index=index,
            picture=large[i],
            overlay=covered[i],
            truth=classes[truths[i]],
            predicted=classes[predictions.predicted[i]],
            confidence=predictions.confidence[i].item(),
        )
        for i, index in enumerate(chosen.tolist())
    ]


def check_evaluation(classifier: Classifier, datasets: Datasets, evaluation: RunEvaluation) -> None:
    """Raise NotFoundError without the images, ConfigError if weights or images have changed."""
    require_images(evaluation.result["dataset"], datasets)
    if evaluation.result["weights"] != classifier.saved.sha256:
        raise ConfigError(f"{classifier.run.id} has new weights: evaluate it again")
    fingerprint = datasets.fingerprint(evaluation.result["dataset"])
    if fingerprint and evaluation.result["fingerprint"] not in (None, fingerprint.digest):
        raise ConfigError(
            f"the dataset {evaluation.result['dataset']} has changed since the evaluation of "
            f"{classifier.run.id}: evaluate it again"
        )


def load_pixels(
    classifier: Classifier, datasets: Datasets, evaluation: RunEvaluation, indices: np.ndarray
) -> np.ndarray:
    """Load the images at these indices of the evaluated split: (K, size, size, 3) uint8.

    The dataset is memory-mapped; only these images are read.
    """
    name, split = evaluation.result["dataset"], evaluation.result["split"]
    images, _, of_split = datasets.load_split(classifier.run.config(), split, name)
    return np.ascontiguousarray(images[of_split[indices]])


@torch.inference_mode()
def predicted_heatmaps(
    classifier: Classifier, pixels: np.ndarray, classes: Tensor, side: int
) -> Tensor:
    """Compute the class activation map of one class for each image.

    pixels: (K, H, W, 3) uint8; classes: (K,) int64. Returns (K, side, side), 0 to 1, on the CPU.
    """
    preprocessing, model = classifier.preprocessing, classifier.saved.model
    device, size = next(model.parameters()).device, evaluation_batch_size(preprocessing)
    heats = []
    batches = zip(torch.from_numpy(pixels).split(size), classes.split(size), strict=True)
    # The maps hook the shared network; a hook would also see another thread's pass.
    with classifier.lock:
        for batch, batch_classes in batches:
            maps = class_maps(
                model, preprocessing.prepare(batch.to(device)), batch_classes[:, None]
            )
            heats.append(heatmap(maps, side)[:, 0])
    return torch.cat(heats).cpu()
