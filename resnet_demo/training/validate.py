"""Loss and accuracy on the validation split, during training."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F

from resnet_demo.errors import StoppedError
from resnet_demo.inference.ood import ood_metric
from resnet_demo.inference.predict import predict
from resnet_demo.training.state import Training


@dataclass(frozen=True)
class Validation:
    """loss in nats, top1 as a fraction.

    outside: the threshold for pictures of something else, as model.json keeps it. None for a
    network that computes NaN, and for one that answered on batch statistics: asked about a single
    picture it answers otherwise, and its energies are others.
    """

    loss: float
    top1: float
    outside: dict[str, Any] | None


def validate(training: Training, should_stop: Callable[[], bool]) -> Validation:
    """How good the network is by now, on batch statistics if the config has that fault.

    Each rank looks at its share of the images; with that fault at all of them, since batches then
    have a say in the result. Raises StoppedError between two batches, or on all ranks when one was
    stopped; the network is then as it was before.
    """
    batches, as_article = training.batches, training.config.validate_in_training_mode
    world, n = training.world, len(training.batches.val_labels)
    shared = not as_article and n >= world.size
    mine, stopped = world.share(n) if shared else slice(n), False
    training.average_batch_norm()

    def between_batches(done: int, total: int) -> None:
        # not where BatchNorm waits for all ranks, in each batch
        if (shared or world.size == 1) and should_stop():
            raise StoppedError("stopped during validation")

    before = [b.clone() for b in training.kept_model.buffers()] if as_article else []
    try:
        with training.autocast():
            logits = predict(
                training.kept_model,
                batches.preprocessing.prepare,
                batches.val_images[mine],
                batch_size=batches.val_batch_size,
                training_mode=as_article,
                on_batch=between_batches,
            )
    except StoppedError:
        stopped = True
    if world.any(stopped):
        for buffer, old in zip(training.kept_model.buffers(), before, strict=as_article):
            buffer.copy_(old)
        raise StoppedError("stopped during validation")
    if shared:
        logits = world.concatenate(logits, n)
    labels = batches.val_labels.cpu()
    return Validation(
        loss=F.cross_entropy(logits, labels).item(),
        top1=(logits.argmax(1) == labels).float().mean().item(),
        outside=None if as_article else ood_metric(logits),
    )
