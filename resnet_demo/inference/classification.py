"""What a saved network says about one picture, and whether it should be believed."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from resnet_demo.data.preprocess import Preprocessing
from resnet_demo.errors import ConfigError, DamagedError
from resnet_demo.inference.ood import energy
from resnet_demo.models.saved import Saved

TOP = 5  # labels, where nobody says how many


@dataclass(frozen=True)
class Outside:
    """Whether a picture is unlike all that the network was trained for, by its energy.

    threshold: the energy that the share `false_alarms` of n validation images lay above; see
    `analysis.outside`.
    """

    energy: float
    threshold: float
    false_alarms: float
    n: int

    @property
    def is_outside(self) -> bool:
        """True: do not believe the labels."""
        return self.energy > self.threshold

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON, the verdict too."""
        told = asdict(self) | {"is_outside": self.is_outside}
        told.pop("n")
        return told


@dataclass(frozen=True)
class Classification:
    """labels: {"label", "confidence"}, the surest first. seen: the picture as the network got it.

    seen is (source_size, source_size, 3) uint8, before it is scaled and normalized. outside: None
    where nothing was measured when the network was saved.
    """

    labels: list[dict[str, Any]]
    seen: np.ndarray
    outside: Outside | None = None

    def to_dict(self) -> dict[str, Any]:
        """labels and outside, ready for JSON."""
        return {"labels": self.labels, "outside": self.outside and self.outside.to_dict()}


@torch.inference_mode()
def classify(saved: Saved, rgb: np.ndarray, top: int = TOP, fit: str = "crop") -> Classification:
    """The `top` likeliest classes of a picture (H, W, 3) uint8 of any size.

    fit: how a square is made of it. Confidences are softmax's: they sum to 1 over all classes, and
    say nothing about pictures of something else; `outside` does. Raises ConfigError for another
    fit or number, DamagedError for a network that only computes NaN.
    """
    check_top(top, len(saved.classes))
    seen, x = shown(saved, rgb, fit)
    logits = saved.model(x).float().cpu()
    confidences = logits[0].double().softmax(0)
    if not confidences.isfinite().all():
        raise DamagedError("the network's answer is not a number: its training went astray")
    best = confidences.topk(min(top, len(saved.classes)))
    labels = [
        {"label": saved.classes[index], "confidence": confidence}
        for confidence, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]
    return Classification(labels, seen, outside(saved.metrics, logits))


def shown(saved: Saved, rgb: np.ndarray, fit: str) -> tuple[np.ndarray, Tensor]:
    """A picture as the network got it, `Classification.seen`, and (1, 3, S, S) on its device."""
    preprocessing = Preprocessing.from_dict(saved.preprocessing)
    seen = preprocessing.fit_picture(rgb, fit)
    device = next(saved.model.parameters()).device
    return seen, preprocessing.prepare(torch.tensor(seen, device=device)[None])


def outside(metrics: dict[str, Any], logits: Tensor) -> Outside | None:
    """The verdict on one picture's logits (1, C); None where metrics tell no threshold.

    Raises DamagedError for a threshold that no program of ours wrote.
    """
    told = metrics.get("outside")
    if told is None:
        return None
    try:
        threshold, share, n = (told[name] for name in ("threshold", "false_alarms", "n"))
        sound = math.isfinite(threshold) and 0 <= share <= 1 and n > 0
    except (KeyError, TypeError) as error:
        raise DamagedError("the threshold for pictures of something else is incomplete") from error
    if not sound:
        raise DamagedError("the threshold for pictures of something else makes no sense")
    return Outside(energy(logits).item(), threshold, share, n)


def check_top(top: object, classes: int) -> None:
    """Raises ConfigError for what is no number of labels.

    TOP is allowed where there are fewer classes too, and gives all of them.
    """
    most = max(classes, TOP)
    if type(top) is not int or not 1 <= top <= most:
        raise ConfigError.rule("top", f"a whole number from 1 to {most}", top)
