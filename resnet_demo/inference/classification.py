"""Classify one picture with a saved network, and check whether it is out of distribution."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from resnet_demo.data.preprocess import Preprocessing
from resnet_demo.errors import ConfigError, DamagedError
from resnet_demo.inference.ood import energy, neighbour_distance
from resnet_demo.models.saved import SavedModel

TOP = 5  # labels by default


@dataclass(frozen=True)
class OodVerdict:
    """The out-of-distribution verdict on a picture, by a score (see `inference.ood`).

    measure: what the score is, `energy` or `distance`. threshold: at most the share `false_alarms`
    of n images, of which none was known, has a higher score.
    """

    score: float
    threshold: float
    false_alarms: float
    n: int
    measure: str = "energy"

    @property
    def is_ood(self) -> bool:
        """Return whether the labels should not be trusted."""
        return self.score > self.threshold

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict and its numbers, ready for JSON."""
        return {
            self.measure: self.score,
            "threshold": self.threshold,
            "false_alarms": self.false_alarms,
            "is_outside": self.is_ood,
        }


@dataclass(frozen=True)
class Missed:
    """A count of pictures of other things that a run does not flag, and their total.

    is_left_out: they are of the run's own classes, each of which was left out in turn; otherwise
    plain colours and text.
    """

    count: int
    total: int
    is_left_out: bool = False


@dataclass(frozen=True)
class Classification:
    """The answer for one picture.

    labels: {"label", "confidence"}, the most confident first. seen: (S, S, 3) uint8, S the source
    size: the picture before it is scaled and normalized. ood: None where the network was saved
    without a threshold.
    """

    labels: list[dict[str, Any]]
    seen: np.ndarray
    ood: OodVerdict | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return labels and verdict, ready for JSON."""
        return {"labels": self.labels, "outside": self.ood and self.ood.to_dict()}


@torch.inference_mode()
def classify(
    saved: SavedModel, rgb: np.ndarray, top: int = TOP, fit: str | None = None
) -> Classification:
    """Return the `top` most likely classes of a picture (H, W, 3) uint8 of any size.

    fit: how the picture is made square; None: as the training images. Confidences are softmax's and
    sum to 1 over all classes, also for a picture of something else: check `ood`. Raises ConfigError
    for another fit or number of labels, DamagedError for a network that computes NaN.
    """
    check_top(top, len(saved.classes))
    seen, x = network_input(saved, rgb, fit)
    # In two parts: the verdict may need the embedding, which is then computed already.
    embedding = saved.model.embed(x)
    logits = saved.model.head(embedding).float().cpu()  # (1, C)
    # float64: of a sure network, float32 rounds the highest confidence to exactly 1.
    confidences = logits[0].double().softmax(0)
    if not confidences.isfinite().all():
        raise DamagedError("the network computes NaN instead of an answer: its training diverged")
    best = confidences.topk(min(top, len(saved.classes)))  # (top,), the largest first
    labels = [
        {"label": saved.classes[index], "confidence": confidence}
        for confidence, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]
    return Classification(labels, seen, ood_verdict(saved, embedding.float().cpu(), logits))


def network_input(saved: SavedModel, rgb: np.ndarray, fit: str | None) -> tuple[np.ndarray, Tensor]:
    """Return a picture as `Classification.seen`, and as (1, 3, S, S) on the network's device."""
    preprocessing = Preprocessing.from_dict(saved.preprocessing)
    seen = preprocessing.fit_picture(rgb, fit)
    device = next(saved.model.parameters()).device
    return seen, preprocessing.prepare(torch.tensor(seen, device=device)[None])


def ood_verdict(saved: SavedModel, embedding: Tensor, logits: Tensor) -> OodVerdict | None:
    """Return the verdict on an embedding (1, D) and its logits (1, C); None without a threshold.

    Raises DamagedError for a threshold that this program cannot have written.
    """
    stored, measure = ood_measure(saved)
    if stored is None:
        return None
    try:
        threshold, share, n = (stored[name] for name in ("threshold", "false_alarms", "n"))
        # A threshold of NaN would never flag anything, without a word.
        is_valid = math.isfinite(threshold) and 0 <= share <= 1 and n > 0
    except (KeyError, TypeError) as error:
        raise DamagedError("the out-of-distribution threshold is incomplete") from error
    if not is_valid:
        raise DamagedError("the out-of-distribution threshold is invalid")
    score = ood_scores(saved, embedding, logits).item()
    return OodVerdict(score, threshold, share, n, measure)


def ood_measure(saved: SavedModel) -> tuple[dict[str, Any] | None, str]:
    """Return the stored threshold and what it is of: `distance` where embeddings are known."""
    if saved.known is not None:
        return saved.metrics["neighbour"], "distance"
    return saved.metrics.get("outside"), "energy"


def ood_scores(saved: SavedModel, embeddings: Tensor, logits: Tensor) -> Tensor:
    """Return the scores (N,) of embeddings (N, D) and their logits (N, C), by `ood_measure`."""
    if saved.known is not None:
        return neighbour_distance(embeddings, saved.known)
    return energy(logits)


def check_top(top: object, classes: int) -> None:
    """Raise ConfigError for an invalid number of labels.

    TOP is allowed for fewer classes too, and then returns all of them.
    """
    limit = max(classes, TOP)
    if type(top) is not int or not 1 <= top <= limit:  # True is an int too
        raise ConfigError.rule("top", f"a whole number from 1 to {limit}", top)
