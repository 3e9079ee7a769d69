"""Run a network over the images of a split."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from resnet_demo.data.preprocess import Preprocessing
from resnet_demo.data.splits import config_split
from resnet_demo.data.store import Datasets
from resnet_demo.runs.store import Run

Prepare = Callable[[Tensor], Tensor]  # Preprocessing.prepare
OnBatch = Callable[[int, int], object]  # told (images done, of how many); raises StoppedError
EVALUATION_PIXELS = 500 * 32 * 32  # a validation batch of 500 small images, or 10 of 224 pixels


@torch.inference_mode()
def predict(
    model: nn.Module,
    prepare: Prepare,
    images: Tensor,
    batch_size: int = 500,
    on_batch: Callable[[int, int], object] | None = None,
    training_mode: bool = False,
) -> Tensor:
    """Logits (N, num_classes) float32 on the CPU, for images (N, H, W, 3) uint8 on any device.

    on_batch: told (images done, N) after each batch; raises StoppedError to end it.
    training_mode: the article's fault: BatchNorm normalizes over each batch, and moves its running
    statistics. The model's own mode is back afterwards, whatever happens.
    """
    device, was_training = next(model.parameters()).device, model.training
    model.train(training_mode)
    logits, done = [], 0
    try:
        for batch in batches(images, batch_size):
            logits.append(model(prepare(batch.to(device))).float())
            done += len(batch)
            if on_batch is not None:
                on_batch(done, len(images))
    finally:
        model.train(was_training)
    return torch.cat(logits).cpu()


def batches(images: Tensor, batch_size: int) -> Iterator[Tensor]:
    """In order. A lone last image joins the batch before: BatchNorm cannot train on one."""
    start, n = 0, len(images)
    while start < n:
        end = start + batch_size
        end = n if n - end <= 1 else end
        yield images[start:end]
        start = end


def batch_size(preprocessing: Preprocessing) -> int:
    """How many images are shown at once, as memory allows."""
    return max(1, EVALUATION_PIXELS // preprocessing.image_size**2)


def images_of(run: Run, datasets: Datasets, split: str, name: str) -> tuple[Tensor, Tensor]:
    """The split's images (N, H, W, 3) uint8 and labels (N,), as the run split them."""
    images, labels = datasets.load(name, "test" if split == "test" else "train")
    chosen = places_of(run, split, len(labels))
    return torch.tensor(images[chosen]), torch.tensor(labels[chosen])


def places_of(run: Run, split: str, n: int) -> np.ndarray | slice:
    """Where the split's images lie among the n of the dataset's test or training images."""
    if split == "test":
        return slice(None)
    train, val = config_split(n, run.config())
    return train if split == "train" else val
