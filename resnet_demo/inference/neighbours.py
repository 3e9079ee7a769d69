"""Nearest training images: embed a run's training split once, then compare pictures with it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from resnet_demo.data.store import Datasets
from resnet_demo.inference.embeddings import folded_network
from resnet_demo.inference.predict import (
    OnBatch,
    Prepare,
    batches,
    evaluation_batch_size,
    model_mode,
)
from resnet_demo.models.device import pick_device
from resnet_demo.models.layers import Network

if TYPE_CHECKING:  # `classifier` imports this module
    from resnet_demo.inference.classifier import Classifier

CHUNK = 8192  # images compared at a time: the whole library in float32 would double its memory


@dataclass(frozen=True)
class ImageIndex:
    """Embeddings of the training images by one set of weights.

    features: (N, C) float16, each of length 1. places: (N,) int64, positions in the dataset's
    training images. labels: (N,) int64. weights: sha256 of the weights.
    """

    features: Tensor  # float16: half the file and the memory of float32
    places: Tensor
    labels: Tensor
    weights: str


def index_training_images(
    classifier: "Classifier",
    datasets: Datasets,
    on_batch: OnBatch = lambda done, total: None,
) -> ImageIndex:
    """Embed the training split of the classifier's run, in the dataset's order.

    The classifier's network is moved to the accelerator: pass one that is not shared.
    on_batch(done, total) is called after each batch and may raise StoppedError. Raises
    NotFoundError without the images, ConfigError where the dataset's classes have changed.
    """
    config = classifier.run.config()
    classifier.check_classes(datasets.get(config.dataset))
    images, labels, positions = datasets.load_split(config, "train")
    # Sorted: the images are mapped, and a disk reads forwards fastest.
    places = np.sort(positions)
    preprocessing = classifier.preprocessing
    model = folded_network(classifier.saved.model, preprocessing.image_size, pick_device())
    size = evaluation_batch_size(preprocessing)
    parts = []
    for start in range(0, len(places), size):
        # Read from disk batch by batch: a dataset may be larger than the memory.
        batch = torch.from_numpy(images[places[start : start + size]])
        parts.append(F.normalize(embed_images(model, preprocessing.prepare, batch), dim=1).half())
        on_batch(min(start + size, len(places)), len(places))
    return ImageIndex(
        torch.cat(parts),
        torch.from_numpy(places),
        torch.from_numpy(labels[places]),
        classifier.saved.sha256,
    )


@torch.no_grad()
def embed_images(model: Network, prepare: Prepare, images: Tensor, batch_size: int = 500) -> Tensor:
    """Return embeddings (N, C) float32 on the CPU of images (N, H, W, 3) uint8, N from 1."""
    device = next(model.parameters()).device
    parts = (prepare(batch.to(device)) for batch in batches(images, batch_size))
    return torch.cat([embed(model, x) for x in parts])


@torch.no_grad()
def embed(model: Network, x: Tensor) -> Tensor:
    """Return embeddings (B, C) float32 on the CPU: the mean of the features over all pixels.

    x: (B, 3, H, W), normalized.
    """
    with model_mode(model):
        return model.features(x).float().mean((2, 3)).cpu()


def nearest(queries: Tensor, library: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k rows of the library with the largest cosine similarity to each query.

    queries: (M, C). library: (N, C). Return similarities (M, k) from -1 to 1, the largest first,
    and rows (M, k) int64; all N where k is larger. The similarity of a zero vector is 0, that of
    NaN is -1.
    """
    # Of unit vectors the dot product is the cosine.
    queries = F.normalize(queries.float(), dim=1)
    parts = (F.normalize(part.float(), dim=1) for part in library.split(CHUNK))
    cosines = torch.cat([queries @ part.T for part in parts], dim=1)  # (M, N)
    # clamp: rounding can take the cosine of equal vectors slightly above 1.
    best = cosines.nan_to_num(-1).clamp(-1, 1).topk(min(k, len(library)))
    return best.values, best.indices


def neighbour_rows(found: Iterable[tuple[int, float, str]]) -> list[dict[str, Any]]:
    """Convert the result of `Classifier.similar_images` to rows for JSON."""
    return [{"place": place, "cosine": cosine, "label": label} for place, cosine, label in found]
