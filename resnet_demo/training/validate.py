"""Loss and accuracy on the validation split during training."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from resnet_demo.errors import StoppedError
from resnet_demo.inference.ood import ood_metric
from resnet_demo.inference.predict import MappedImages, OnBatch, predict
from resnet_demo.training.state import Training


@dataclass(frozen=True)
class Validation:
    """Results on the validation split: loss in nats, top1 as a fraction.

    ood_threshold: the energy threshold for out-of-distribution images, in the form of model.json.
    None if the network computes NaN, and None for validation in training mode: the energies of a
    single image differ from those under batch statistics.
    """

    loss: float
    top1: float
    ood_threshold: dict[str, Any] | None


def validate(training: Training, should_stop: Callable[[], bool]) -> Validation:
    """Evaluate the kept model on the validation split.

    Each rank evaluates its share of the images. With `validate_in_training_mode`, the tutorial's
    fault, each rank evaluates all of them, because the result depends on the batches.

    Raises StoppedError between two batches, on all ranks; the network is then as it was before.
    """
    batches, in_training_mode = training.batches, training.config.validate_in_training_mode
    world, n = training.world, len(training.batches.val_labels)
    is_shared = not in_training_mode and n >= world.size
    mine, stopped = world.share(n) if is_shared else slice(n), False
    training.average_batch_norm()  # each rank has seen its own share of every batch

    def on_batch(done: int, total: int) -> None:
        # Unless it is shared, SyncBatchNorm makes the ranks wait for each other in every batch: one
        # that stopped alone would leave the others waiting.
        if (is_shared or world.size == 1) and should_stop():
            raise StoppedError("stopped during validation")

    buffers = list(training.kept_model.buffers()) if in_training_mode else []
    # A stop half-way must not leave moved statistics.
    before = [buffer.clone() for buffer in buffers]
    try:
        logits = predict_kept(training, mine, on_batch)
    except StoppedError:
        stopped = True
    if world.any(stopped):
        for buffer, old in zip(buffers, before, strict=True):
            buffer.copy_(old)
        raise StoppedError("stopped during validation")
    if is_shared:
        logits = world.concatenate(logits, n)
    # from the logits of all images, not from means of batches, whose sizes differ
    labels = batches.val_labels.cpu()
    return Validation(
        loss=F.cross_entropy(logits, labels).item(),
        top1=(logits.argmax(1) == labels).float().mean().item(),
        ood_threshold=None if in_training_mode else ood_metric(logits),
    )


def predict_kept(training: Training, images: slice, on_batch: OnBatch) -> Tensor:
    """Return the kept model's logits (n, num_classes) of these validation images.

    They are float32 on the CPU.
    """
    batches = training.batches
    val = batches.val_images
    with training.autocast():
        return predict(
            training.kept_model,
            batches.preprocessing.prepare,
            val.part(images) if isinstance(val, MappedImages) else val[images],
            batch_size=batches.val_batch_size,
            training_mode=training.config.validate_in_training_mode,
            on_batch=on_batch,
        )
