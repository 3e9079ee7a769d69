"""Run a network over the images of a split."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from resnet_demo.data.preprocess import Preprocessing
from resnet_demo.data.store import Datasets
from resnet_demo.models.device import pick_device
from resnet_demo.models.layers import Network
from resnet_demo.runs.store import Run

Prepare = Callable[[Tensor], Tensor]  # Preprocessing.prepare
OnBatch = Callable[[int, int], object]  # called with (images done, total); may raise StoppedError
MAX_LOADED_BYTES = 2**28  # of a split's images in memory: CIFAR-10's 50,000 take 154 MB
# In a batch: 100 images of 32 pixels a side, whose maps a processor's cache holds better than those
# of 500, or 500 on a GPU. Of 100, an image takes 0.7 to 0.9 of the time.
CPU_PIXELS, GPU_PIXELS = 100 * 32 * 32, 500 * 32 * 32
MIN_EVALUATION_BATCH = 32  # of 224 pixels, 10 images together take 1.6 times as long each


@torch.inference_mode()
def predict(
    model: nn.Module,
    prepare: Prepare,
    images: "Tensor | MappedImages",
    batch_size: int = 500,
    on_batch: OnBatch | None = None,
    training_mode: bool = False,
) -> Tensor:
    """Return logits (N, num_classes) float32 on the CPU.

    images: (N, H, W, 3) uint8 on any device. on_batch: called after each batch; it raises
    StoppedError to stop. training_mode: the article's fault, BatchNorm normalizes over each batch
    and moves its running statistics. The model's mode is restored afterwards.
    """
    device = next(model.parameters()).device
    logits, done = [], 0
    with model_mode(model, training_mode):
        for batch in batches(images, batch_size):
            # float: under autocast the logits come in bf16.
            logits.append(model(prepare(batch.to(device))).float())
            done += len(batch)
            if on_batch is not None:
                on_batch(done, len(images))
    # Moved once at the end: each move would wait for the device.
    return torch.cat(logits).cpu()


class Embedder(nn.Module):
    """A network without its head, for `predict`: images -> embeddings (N, C)."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Return what the head would get."""
        return self.network.embed(x)


@contextmanager
def model_mode(model: nn.Module, training: bool = False) -> Iterator[None]:
    """Set evaluation mode (or training mode), and restore the mode of every layer on exit."""
    # Of every layer: the mode of a new wrapper around a network is not that of the network.
    before = {module: module.training for module in model.modules()}
    model.train(training)
    try:
        yield
    finally:
        for module, was_training in before.items():
            module.training = was_training


def batches(images: "Tensor | MappedImages", batch_size: int) -> Iterator[Tensor]:
    """Yield the images in order, batch by batch."""
    start, n = 0, len(images)
    while start < n:
        end = start + batch_size
        # A lone last image joins the batch before it: BatchNorm cannot train on one image.
        end = n if n - end <= 1 else end
        yield images[start:end]
        start = end


def evaluation_batch_size(preprocessing: Preprocessing, least: int = MIN_EVALUATION_BATCH) -> int:
    """Return how many images of this size to run at once. least: fewer take less memory."""
    pixels = CPU_PIXELS if pick_device().type == "cpu" else GPU_PIXELS
    return max(least, pixels // preprocessing.image_size**2)


@dataclass(frozen=True)
class MappedImages:
    """Images (N, H, W, 3) uint8 that stay on the disk until a batch of them is read.

    array: of a stored split, mapped. positions: (N,) of the images in it.
    """

    array: np.ndarray
    positions: np.ndarray

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.positions)

    def __getitem__(self, chosen: slice | Tensor) -> Tensor:
        """Read the images at these places: (n, H, W, 3) uint8, on the CPU."""
        # As an array: NumPy would take a tensor of one place for a number.
        places = chosen.numpy() if isinstance(chosen, Tensor) else chosen
        return torch.from_numpy(self.array[self.positions[places]])

    def part(self, chosen: slice) -> "MappedImages":
        """Return a part of the images; none is read."""
        return MappedImages(self.array, self.positions[chosen])

    def reordered(self, order: Tensor) -> "MappedImages":
        """Return the images in another order, (N,) positions among them; none is read."""
        return MappedImages(self.array, self.positions[order.numpy()])


def load_split(
    run: Run, datasets: Datasets, split: str, name: str
) -> tuple[Tensor | MappedImages, Tensor]:
    """Return images (N, H, W, 3) uint8 and labels (N,) of a split, as the run split the dataset.

    Many large images stay mapped: they may be more than the memory holds.
    """
    images, labels, chosen = datasets.load_split(run.config(), split, name)
    # Small sets are read whole: random access through a map costs a page fault per image.
    is_large = len(chosen) * images[0].nbytes > MAX_LOADED_BYTES
    loaded = MappedImages(images, chosen) if is_large else torch.from_numpy(images[chosen])
    return loaded, torch.from_numpy(labels[chosen])
