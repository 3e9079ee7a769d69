"""What a saved network says about one picture."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from resnet_demo.data.preprocess import Preprocessing
from resnet_demo.errors import DamagedError
from resnet_demo.models.saved import Saved


@dataclass(frozen=True)
class Classification:
    """labels: {"label", "confidence"}, the surest first. seen: the picture as the network got it.

    seen is (source_size, source_size, 3) uint8, before it is scaled and normalized.
    """

    labels: list[dict[str, Any]]
    seen: np.ndarray


@torch.inference_mode()
def classify(saved: Saved, rgb: np.ndarray, top: int = 5) -> Classification:
    """The `top` likeliest classes of a picture (H, W, 3) uint8 of any size.

    Confidences are softmax's: they sum to 1 over all classes, and say nothing about pictures of
    something else. Raises DamagedError for a network that only computes NaN.
    """
    preprocessing = Preprocessing.from_dict(saved.preprocessing)
    seen = preprocessing.picture(rgb)
    device = next(saved.model.parameters()).device
    images = torch.tensor(seen, device=device)[None]
    confidences = saved.model(preprocessing.prepare(images))[0].double().softmax(0)
    if not confidences.isfinite().all():
        raise DamagedError("the network's answer is not a number: its training went astray")
    best = confidences.topk(min(top, len(saved.classes)))
    labels = [
        {"label": saved.classes[index], "confidence": confidence}
        for confidence, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]
    return Classification(labels, seen)
