"""Robustness of a run: accuracy at each kind and strength of corruption."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from resnet_demo.data.splits import check_split
from resnet_demo.data.store import Datasets
from resnet_demo.evaluation.corruptions import CORRUPTIONS, STRENGTHS, corrupt
from resnet_demo.evaluation.metrics import Predictions
from resnet_demo.evaluation.modes import (
    is_cross_validation,
    no_validation_images,
    require_images,
)
from resnet_demo.inference.classifier import Classifier
from resnet_demo.inference.embeddings import folded_network
from resnet_demo.inference.predict import OnBatch, evaluation_batch_size, predict
from resnet_demo.models.device import pick_device
from resnet_demo.runs.dataset import describe_images
from resnet_demo.runs.store import Run

MAX_IMAGES = 2000  # of a split: the interval is one or two points wide, in minutes on a CPU
# Images corrupted in one call. Fixed, so that every network is given the same pixels.
CORRUPTED_TOGETHER = 100
SEED = 0


def measure_robustness(
    run: Run,
    datasets: Datasets,
    split: str = "test",
    dataset: str | None = None,
    on_batch: OnBatch | None = None,
) -> dict[str, Any]:
    """Measure top-1 on a fixed sample of a split, clean and with each of CORRUPTIONS, for JSON.

    The keys are `stored_results.ROBUSTNESS_KEYS`. kinds: name -> top-1 at each strength.
    on_batch(done, total) is called after each batch; every version of an image counts as an image.
    It may raise StoppedError.

    Raises:
        ConfigError: an unknown split, or a dataset with other classes.
        NotFoundError: no weights, or the images are not on this machine.
        DamagedError: damaged weights or images.
    """
    check_split(split)
    classifier, name = Classifier.load(run), dataset or run.config().dataset
    # Stored predictions are no help here: corruption needs pixels.
    require_images(name, datasets)
    if is_cross_validation(run, datasets, split, name):
        raise no_validation_images(run, "a head that has not seen an image is not kept")
    classifier.check_classes(datasets.get(name))
    scorer = RobustnessScorer(classifier, *sample_split(run, datasets, split, name), on_batch)
    clean = scorer.top1()
    return {
        "run": run.id,
        "dataset": name,
        "split": split,
        "weights": classifier.saved.sha256,
        **describe_images(run, datasets, split, name, sample_positions),
        "n": len(scorer.labels),
        "seed": SEED,
        "top1": clean,
        "strengths": [*STRENGTHS],
        "kinds": {
            kind: [scorer.top1(kind, strength) for strength in STRENGTHS] for kind in CORRUPTIONS
        },
    }


def sample_split(
    run: Run, datasets: Datasets, split: str, name: str, limit: int = MAX_IMAGES
) -> tuple[Tensor, Tensor]:
    """Return at most `limit` images of the split, (N, H, W, 3) uint8, and their labels (N,).

    The choice depends only on the number of images in the split.
    """
    images, labels, of_split = datasets.load_split(run.config(), split, name)
    chosen = of_split[sample_positions(len(of_split), limit)]
    return torch.from_numpy(images[chosen]), torch.from_numpy(labels[chosen])


def sample_positions(n: int, limit: int = MAX_IMAGES) -> np.ndarray:
    """Return at most `limit` positions in a split of n images, in order."""
    # The legacy generator: its stream is the same in every version of NumPy.
    return np.sort(np.random.RandomState(SEED).permutation(n)[:limit])


class RobustnessScorer:
    """A network and a sample of images, scored under one corruption after another."""

    def __init__(
        self, classifier: Classifier, images: Tensor, labels: Tensor, on_batch: OnBatch | None
    ) -> None:
        self.device = pick_device()
        self.preprocessing = classifier.preprocessing
        size = self.preprocessing.image_size
        self.model = folded_network(classifier.saved.model, size, self.device)
        self.images, self.labels, self.on_batch = images, labels, on_batch
        # 1: the clean images are predicted too.
        self.done, self.total = 0, len(images) * (1 + len(CORRUPTIONS) * len(STRENGTHS))

    def top1(self, kind: str | None = None, strength: int = 0) -> float:
        """Return top-1, a fraction, under that corruption; clean if kind is None."""
        logits = [self.predict_batch(batch, kind, strength, seed) for batch, seed in self.batches()]
        predicted = Predictions.from_logits(torch.cat(logits)).predicted
        return (predicted == self.labels).double().mean().item()

    def batches(self) -> Iterator[tuple[Tensor, int]]:
        """Yield the images in batches, each with its seed."""
        # The same seeds for every kind and strength, so that a curve shows the effect of the
        # strength and not of other random numbers.
        for number, batch in enumerate(self.images.split(CORRUPTED_TOGETHER)):
            # SeedSequence mixes both numbers, so that neighbouring batches get unrelated random
            # numbers.
            entropy = np.random.SeedSequence((SEED, number))
            yield batch.to(self.device), int(entropy.generate_state(1, np.uint64)[0] >> 1)

    def predict_batch(self, images: Tensor, kind: str | None, strength: int, seed: int) -> Tensor:
        """Return logits (B, C) of the corrupted images."""
        corrupted = images if kind is None else corrupt(images, kind, strength, seed)
        before = self.done

        def report(done: int, _: int) -> None:
            self.done = before + done
            if self.on_batch is not None:
                self.on_batch(self.done, self.total)

        prepare, size = self.preprocessing.prepare, evaluation_batch_size(self.preprocessing)
        return predict(self.model, prepare, corrupted, size, report)
