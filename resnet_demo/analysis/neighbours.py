"""What a network finds alike: images whose features point the same way."""

import torch
import torch.nn.functional as F
from torch import Tensor

from resnet_demo.analysis.evaluate import Prepare, batches
from resnet_demo.analysis.hooks import evaluating
from resnet_demo.models.layers import Network


@torch.no_grad()
def penultimate(model: Network, prepare: Prepare, images: Tensor, batch_size: int = 500) -> Tensor:
    """What the head is given: the mean of the features over all pixels.

    images (N, H, W, 3) uint8 on any device, N from 1 -> (N, C) float32 on the CPU.
    """
    device = next(model.parameters()).device
    with evaluating(model):
        parts = [
            model.features(prepare(batch.to(device))).float().mean((2, 3)).cpu()
            for batch in batches(images, batch_size)
        ]
    return torch.cat(parts)


def nearest(queries: Tensor, library: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k of the library (N, C) most alike to each query (M, C), by the cosine of their angle.

    (similarity (M, k) from -1 to 1, place (M, k) int64), the most alike first; all N of them where
    that is fewer. Features that are all 0 are alike to nothing (0), NaN the opposite of all (-1).
    A query that is in the library finds itself.
    """
    cosines = F.normalize(queries.float(), dim=1) @ F.normalize(library.float(), dim=1).T
    best = cosines.nan_to_num(-1).clamp(-1, 1).topk(min(k, len(library)))
    return best.values, best.indices
