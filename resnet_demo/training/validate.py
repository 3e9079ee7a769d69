"""Loss and accuracy on the validation split during training."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from resnet_demo.errors import StoppedError, counted
from resnet_demo.inference.ood import ood_metric
from resnet_demo.inference.predict import MappedImages, OnBatch, predict
from resnet_demo.training.state import Training


@dataclass(frozen=True)
class Validation:
    """Results on the validation split: loss in nats, top1 as a fraction.

    ood_threshold: the energy threshold for out-of-distribution images, in the form of model.json.
    None if the network computes NaN, and None for validation in training mode: the energies of a
    single image differ from those under batch statistics. right: (n,) bool, one for each image.
    """

    loss: float
    top1: float
    ood_threshold: dict[str, Any] | None
    right: Tensor


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
    right = logits.argmax(1) == labels
    return Validation(
        loss=F.cross_entropy(logits, labels).item(),
        top1=right.float().mean().item(),
        ood_threshold=None if in_training_mode else ood_metric(logits),
        right=right,
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


def keeps_head(training: Training, right: Tensor) -> bool:
    """Return whether the weights of the fitted head stay the kept ones after an epoch.

    With `keep` last-or-head they are replaced by those of the last epoch if that one has more
    validation images right, by more than one standard error of the difference (the one-standard-
    error rule, Breiman et al. 1984). The difference depends only on the images that one of the two
    has right, b and c of them, as in McNemar's test (1947): of two equally good networks, its
    variance is b + c. As in that test, it counts for one image less (Edwards 1948): two images are
    chance in one of four cases. Sets the training's verdict after the last epoch.

    right: (n,) bool, of `Validation`.
    """
    before = training.head_right
    if before is None:
        return False
    if training.epochs_done < training.config.epochs and not training.is_out_of_patience():
        return True
    if not len(before):
        training.verdict = (
            "no images were held out to compare fine-tuning with the head, so the head's weights "
            "are kept"
        )
        return True
    gained, lost = int((right & ~before).sum()), int((before & ~right).sum())
    is_better = gained - lost - 1 > (gained + lost) ** 0.5
    how = "clearly better" if is_better else "not clearly better" if gained > lost else "not better"
    whose, images = "its" if is_better else "the head's", counted(len(before), "validation image")
    training.verdict = (
        f"fine-tuning was {how} on the {images} ({int(right.sum()):,} right, "
        f"{int(before.sum()):,} before it), so {whose} weights are kept"
    )
    return not is_better
