"""Images of a split to look at: the picture, what was said of it, and where that was seen."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from resnet_demo.data.preprocess import Preprocessing
from resnet_demo.data.store import Datasets
from resnet_demo.errors import ConfigError
from resnet_demo.evaluation.evaluate_run import RunEvaluation
from resnet_demo.evaluation.modes import require_images
from resnet_demo.evaluation.predictions import Predictions
from resnet_demo.inference.class_maps import class_maps
from resnet_demo.inference.classifier import Classifier
from resnet_demo.inference.heatmaps import heatmap, overlay
from resnet_demo.inference.predict import evaluation_batch_size, split_positions

LEAST_SIDE = 192  # pixels; smaller, a page would blur a stored pixel into its neighbours
OPACITY = 0.6


@dataclass(frozen=True)
class ExampleImage:
    """An image of a split, by its place there, from 0.

    picture: (H, W, 3) uint8, each stored pixel a square. overlay: the same under the map of the
    class `predicted`. truth, predicted: labels. confidence: of the prediction, from 0 to 1.
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
    evaluated: RunEvaluation,
    places: Sequence[int] | Tensor,
    limit: int = 24,
) -> list[ExampleImage]:
    """The images at the first `limit` of these places in the evaluated split, in their order.

    Raises NotFoundError where the images are not on this machine, ConfigError where the run has
    better weights by now, DamagedError.
    """
    check(classifier, datasets, evaluated)
    chosen = torch.as_tensor(places, dtype=torch.int64)[:limit]
    said = Predictions.from_logits(evaluated.logits[chosen])
    truth, classes = evaluated.labels[chosen].tolist(), classifier.saved.classes
    pixels = stored_pixels(classifier, datasets, evaluated, chosen.numpy())
    side = -(-LEAST_SIDE // pixels.shape[1]) * pixels.shape[1]
    heats = heats_of(classifier, pixels, said.predicted, side)
    large = pixels.repeat(side // pixels.shape[1], axis=1).repeat(side // pixels.shape[2], axis=2)
    covered = overlay(large, heats, OPACITY)
    return [
        ExampleImage(
            place, large[i], covered[i], classes[truth[i]], classes[said.predicted[i]], sure
        )
        for i, (place, sure) in enumerate(
            zip(chosen.tolist(), said.confidence.tolist(), strict=True)
        )
    ]


def check(classifier: Classifier, datasets: Datasets, evaluated: RunEvaluation) -> None:
    """Raises as `pictures_of`."""
    require_images(evaluated.result["dataset"], datasets)
    if evaluated.result["weights"] != classifier.saved.sha256:
        raise ConfigError(f"{classifier.run.id} has better weights by now: evaluate it again")


def stored_pixels(
    classifier: Classifier, datasets: Datasets, evaluated: RunEvaluation, chosen: np.ndarray
) -> np.ndarray:
    """(K, size, size, 3) uint8 of these places in the evaluated split; the others stay on disk."""
    name, split = evaluated.result["dataset"], evaluated.result["split"]
    images, labels = datasets.load(name, "test" if split == "test" else "train")
    of_split = np.arange(len(labels))[split_positions(classifier.run, split, len(labels))]
    return np.ascontiguousarray(images[of_split[chosen]])


@torch.inference_mode()
def heats_of(classifier: Classifier, pixels: np.ndarray, classes: Tensor, side: int) -> Tensor:
    """(K, side, side) on the CPU, from 0 to 1: where a class of each image was seen."""
    preprocessing = Preprocessing.from_dict(classifier.saved.preprocessing)
    model = classifier.saved.model
    device, few = next(model.parameters()).device, evaluation_batch_size(preprocessing)
    parts = zip(torch.from_numpy(pixels).split(few), classes.split(few), strict=True)
    heats = []
    with classifier.lock:
        for part, of in parts:
            maps = class_maps(model, preprocessing.prepare(part.to(device)), of[:, None])
            heats.append(heatmap(maps, side)[:, 0])
    return torch.cat(heats).cpu()
