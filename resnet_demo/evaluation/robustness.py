"""How a run bears images that are made worse: its accuracy for each kind and strength."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from resnet_demo.data.preprocess import Preprocessing
from resnet_demo.data.splits import check_split
from resnet_demo.data.store import Datasets
from resnet_demo.evaluation.corruptions import CORRUPTIONS, corrupt
from resnet_demo.evaluation.intervals import wilson_interval
from resnet_demo.evaluation.modes import require_images
from resnet_demo.evaluation.predictions import Predictions
from resnet_demo.inference.classifier import Classifier
from resnet_demo.inference.predict import OnBatch, evaluation_batch_size, predict, split_positions
from resnet_demo.models.device import pick_device
from resnet_demo.runs.store import Run

MAX_IMAGES = 2000  # of a split: the interval is one or two points wide, in minutes on a CPU
# Images corrupted in one call. Fixed, so that every network is given the same pixels.
CORRUPTED_TOGETHER = 100
SEED = 0
STRENGTHS = (1, 2, 3, 4, 5)


def measure_robustness(
    run: Run,
    datasets: Datasets,
    split: str = "test",
    dataset: str | None = None,
    on_batch: OnBatch | None = None,
) -> dict[str, Any]:
    """top-1 on a fixed sample of a split, clean and with every one of CORRUPTIONS, for JSON.

    Its keys are `results.ROBUSTNESS`. kinds: name -> top-1 at each of the strengths;
    interval_half_width: of the clean one's 95 % interval. on_batch(done, total) is told after each
    batch, every version of an image counted as one, and may raise StoppedError.
    Raises ConfigError, NotFoundError, DamagedError.
    """
    check_split(split)
    classifier, name = Classifier.load(run), dataset or run.config().dataset
    require_images(name, datasets)
    classifier.check_classes(datasets.get(name))
    shares = RobustnessScorer(classifier, *sample_split(run, datasets, split, name), on_batch)
    clean = shares.right()
    n = len(shares.labels)
    low, high = wilson_interval(round(clean * n), n)
    return {
        **{"run": run.id, "dataset": name, "split": split, "weights": classifier.saved.sha256},
        **{"n": n, "seed": SEED, "top1": clean, "strengths": [*STRENGTHS]},
        "kinds": {kind: [shares.right(kind, by) for by in STRENGTHS] for kind in CORRUPTIONS},
        "interval_half_width": (high - low) / 2,
    }


def sample_split(
    run: Run, datasets: Datasets, split: str, name: str, limit: int = MAX_IMAGES
) -> tuple[Tensor, Tensor]:
    """At most so many images of the split, (N, H, W, 3) uint8, and their labels (N,).

    Which ones depends on the number of images in the split alone.
    """
    images, labels = datasets.load(name, "test" if split == "test" else "train")
    of_split = np.arange(len(labels))[split_positions(run, split, len(labels))]
    order = np.random.RandomState(SEED).permutation(len(of_split))  # its stream never changes
    chosen = of_split[np.sort(order[:limit])]
    return torch.tensor(images[chosen]), torch.tensor(labels[chosen])


class RobustnessScorer:
    """Shares of right answers on the same images, made worse in one way after another."""

    def __init__(
        self, classifier: Classifier, images: Tensor, labels: Tensor, on_batch: OnBatch | None
    ) -> None:
        self.device = pick_device()
        self.model = classifier.saved.model.to(self.device, memory_format=torch.channels_last)
        self.preprocessing = Preprocessing.from_dict(classifier.saved.preprocessing)
        self.images, self.labels, self.on_batch = images, labels, on_batch
        self.done, self.total = 0, len(images) * (1 + len(CORRUPTIONS) * len(STRENGTHS))

    def right(self, kind: str | None = None, strength: int = 0) -> float:
        """Of images made worse in that way; None: as they are."""
        logits = [self.answers(part, kind, strength, seed) for part, seed in self.parts()]
        predicted = Predictions.from_logits(torch.cat(logits)).predicted
        return (predicted == self.labels).double().mean().item()

    def parts(self) -> Iterator[tuple[Tensor, int]]:
        """The images, so many at a time, and a number of its own for each part.

        The same for every kind and strength: a curve falls by the strength, not by other chances.
        """
        for number, part in enumerate(self.images.split(CORRUPTED_TOGETHER)):
            entropy = np.random.SeedSequence((SEED, number))
            yield part.to(self.device), int(entropy.generate_state(1, np.uint64)[0] >> 1)

    def answers(self, images: Tensor, kind: str | None, strength: int, seed: int) -> Tensor:
        """Logits (B, C)."""
        worse = images if kind is None else corrupt(images, kind, strength, seed)
        before = self.done

        def tell(done: int, _: int) -> None:
            self.done = before + done
            if self.on_batch is not None:
                self.on_batch(self.done, self.total)

        return predict(
            self.model,
            self.preprocessing.prepare,
            worse,
            evaluation_batch_size(self.preprocessing),
            tell,
        )
