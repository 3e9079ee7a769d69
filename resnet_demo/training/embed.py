"""The embedding pass: the layers below the head run once over the images of a run."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from resnet_demo.config import TrainConfig
from resnet_demo.data.augment import mirror_mask
from resnet_demo.data.store import Datasets
from resnet_demo.errors import StoppedError
from resnet_demo.events import Embedding, Event
from resnet_demo.inference.embeddings import Backbone, EmbeddingCache, backbone_digest
from resnet_demo.inference.ood import neighbour_metric, sample_known
from resnet_demo.inference.predict import MappedImages
from resnet_demo.models.saved import add_known, load_model
from resnet_demo.training.batches import augment_batch
from resnet_demo.training.state import Training

EMBED_BATCH = 32  # images; larger ones are slower on a CPU and take more memory
EVENT_EVERY_S = 1.0  # between two events of progress


@dataclass(frozen=True)
class Part:
    """Embeddings (N, D) float32 with their labels (N,), on the CPU."""

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.y)

    def where(self, mask: Tensor) -> "Part":
        """Return the rows that a mask (N,) bool or indices choose."""
        return Part(self.x[mask], self.y[mask])


def embed_splits(
    training: Training, datasets: Datasets, should_stop: Callable[[], bool]
) -> Iterator[Event]:
    """Yield progress; return the embeddings of the training and the validation images.

    Each training image has `views` rows in a row: the image itself, then augmented ones. Raises
    StoppedError between two batches.
    """
    config, batches = training.config, training.batches
    backbone = Backbone(training.model, training.precision, config.image_size)
    facts = {
        "weights": backbone_digest(training.model),
        "dataset": datasets.content_key(config.dataset),
        "preprocessing": batches.preprocessing.to_dict(),
        "precision": training.precision,
        "device": training.device.type,  # another kind of device rounds otherwise
    }
    rows = []
    for split, views in (("train", range(config.views)), ("val", range(1))):
        stored, positions = datasets.split_positions(config, split, config.dataset)
        images, _ = datasets.load(config.dataset, stored)
        for view in views:
            # By stored split and position, so that another val_share or seed finds them again.
            of_view = {**facts, "split": stored, **view_facts(config, view)}
            # Without a fingerprint, other images could have the same name and position. Only rank 0
            # writes.
            is_known = facts["dataset"] and training.world.rank == 0
            cache = EmbeddingCache(
                datasets.root if is_known else None,
                of_view,
                len(images),
                training.model.head.in_features,
            )
            rows.append(
                (
                    yield from embed_images(
                        training, backbone, images, positions, view, cache, should_stop
                    )
                )
            )
    *train, val = rows
    labels = batches.train_labels.cpu().repeat_interleave(config.views)
    return (
        Part(torch.stack(train, 1).flatten(0, 1), labels),
        Part(val, batches.val_labels.cpu()),
    )


def view_facts(config: TrainConfig, view: int) -> dict[str, Any]:
    """Return what the pixels of a view depend on; view 0 is the image itself."""
    if view == 0:
        return {"view": 0}
    names = ("seed", "flip", "crop", "cutout", "crop_area", "rotation", "colour_jitter")
    return {"view": view, **{name: getattr(config, name) for name in names}}


def embed_images(
    training: Training,
    backbone: Backbone,
    images: np.ndarray,
    positions: np.ndarray,
    view: int,
    cache: EmbeddingCache,
    should_stop: Callable[[], bool],
) -> Iterator[Event]:
    """Yield progress; return the embeddings (N, D) float32 of the images at these positions.

    Ranks share every batch. Raises StoppedError between two batches, on all ranks.
    """
    world, prepare = training.world, training.batches.preprocessing.prepare
    # From rank 0: all ranks must leave out the same images.
    rows, known = world.broadcast(lambda: cache.read(positions))
    missing = np.flatnonzero(~known)
    began = shown = time.monotonic()
    size = EMBED_BATCH * world.size
    for start in range(0, len(missing), size):
        if world.any(should_stop()):
            raise StoppedError("stopped while the images were embedded")
        chosen = missing[start : start + size]
        mine = positions[chosen[world.share(len(chosen))]]
        part = torch.zeros(0, rows.shape[1], dtype=torch.float16)
        if len(mine):
            # Read from disk batch by batch: a dataset may be larger than the memory.
            pixels = torch.from_numpy(images[mine]).to(training.device)
            pixels = augmented_view(training, pixels, mine, len(images), view)
            part = backbone.embed(prepare(pixels))
        part = world.concatenate(part.float(), len(chosen)).half().numpy()
        rows[chosen] = part
        # After each batch: a run that is killed has lost one batch at most.
        cache.write(positions[chosen], part)
        now, done = time.monotonic(), start + len(chosen)
        # The first and the last are always shown: the page waits for them.
        if now - shown >= EVENT_EVERY_S or done == len(missing) or start == 0:
            shown = now
            yield Embedding(
                step=0,
                epoch=0,
                done=done,
                total=len(missing),
                images_per_s=done / max(now - began, 1e-9),
            )
    if len(missing):
        cache.tidy()  # after a pass that wrote something
    return torch.from_numpy(rows).float()


def keep_known_images(training: Training, datasets: Datasets) -> None:
    """Keep embeddings of training images beside the kept weights, to compare pictures with.

    They serve to notice pictures of other things, see `inference.ood`.
    """
    config, batches = training.config, training.batches
    saved, began = load_model(training.folder), time.monotonic()  # perhaps those of another epoch
    backbone = Backbone(saved.model.to(training.device), training.precision, config.image_size)

    def embed(images: Tensor | MappedImages, chosen: Tensor) -> Tensor:
        parts = (batches.preprocessing.prepare(images[part]) for part in chosen.split(EMBED_BATCH))
        return torch.cat([backbone.embed(part) for part in parts])

    chosen = sample_known(len(batches.train_labels), config.seed)
    held_out = None
    if datasets.holds_out(config):
        held_out = embed(batches.val_images, sample_known(len(batches.val_labels), config.seed))
    known = neighbour_metric(
        embed(batches.train_images, chosen), batches.train_labels.cpu()[chosen], held_out
    )
    if known:
        add_known(training.folder, saved, *known)
    training.seconds += time.monotonic() - began


def augmented_view(
    training: Training, pixels: Tensor, positions: np.ndarray, images: int, view: int
) -> Tensor:
    """Return a view of the images at these positions of a stored split of so many.

    It depends on seed, view and position alone. View 0 is the image itself.
    """
    if view == 0:
        return pixels
    config, at = training.config, torch.from_numpy(positions)
    return augment_batch(
        config,
        training.batches.preprocessing,
        pixels,
        mirror_mask(images, config.seed, view)[at].to(pixels.device),
        epoch=view,
        index=0,
        batch_size=images,
        positions=at,
    )
