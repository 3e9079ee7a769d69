"""What a network finds alike: images whose features point the same way."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from resnet_demo.inference.hooks import evaluating
from resnet_demo.inference.predict import Prepare, batches
from resnet_demo.models.layers import Network

CHUNK = 8192  # images compared at a time: the whole library in float32 would be twice its size


@dataclass(frozen=True)
class Index:
    """What some weights make of the images they learned from.

    features (N, C) float16, each of length 1; places (N,) int64, where in the dataset's own
    training images they lie; labels (N,) int64; weights: their sha256.
    """

    features: Tensor
    places: Tensor
    labels: Tensor
    weights: str


@torch.no_grad()
def penultimate(model: Network, prepare: Prepare, images: Tensor, batch_size: int = 500) -> Tensor:
    """What the head is given: the mean of the features over all pixels.

    images (N, H, W, 3) uint8 on any device, N from 1 -> (N, C) float32 on the CPU.
    """
    device = next(model.parameters()).device
    parts = (prepare(batch.to(device)) for batch in batches(images, batch_size))
    return torch.cat([features_of(model, x) for x in parts])


@torch.no_grad()
def features_of(model: Network, x: Tensor) -> Tensor:
    """What the head is given: x (B, 3, H, W) normalized -> (B, C) float32 on the CPU."""
    with evaluating(model):
        return model.features(x).float().mean((2, 3)).cpu()


def nearest(queries: Tensor, library: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k of the library (N, C) most alike to each query (M, C), by the cosine of their angle.

    (similarity (M, k) from -1 to 1, place (M, k) int64), the most alike first; all N of them where
    that is fewer. Features that are all 0 are alike to nothing (0), NaN the opposite of all (-1).
    A query that is in the library finds itself.
    """
    queries = F.normalize(queries.float(), dim=1)
    parts = (F.normalize(part.float(), dim=1) for part in library.split(CHUNK))
    cosines = torch.cat([queries @ part.T for part in parts], dim=1)
    best = cosines.nan_to_num(-1).clamp(-1, 1).topk(min(k, len(library)))
    return best.values, best.indices
