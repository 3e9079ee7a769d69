"""Training on embeddings: the frozen layers run once over the images, then a head is fitted.

The head is a logistic regression on standardized embeddings: convex, so L-BFGS finds the same one
from every start, in a second. Its weight decay is the one that predicts best what was held out, a
validation split or the parts of a cross-validation. The standardization is folded into the linear
layer at the end, so the saved network is an ordinary one.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn, optim

from resnet_demo.data.splits import fold_numbers, take_of_each_class
from resnet_demo.data.store import Datasets
from resnet_demo.errors import StoppedError
from resnet_demo.evaluation.stored_predictions import write_cross_validation
from resnet_demo.events import Epoch, Event, Head
from resnet_demo.inference.ood import neighbour_metric, ood_metric, sample_known
from resnet_demo.models.saved import write_known
from resnet_demo.training.embed import Part, embed_splits
from resnet_demo.training.state import Training

# Tried from the strongest to the weakest, each from where the one before ended.
WEIGHT_DECAYS = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
TRIAL_ITERATIONS = 10  # of L-BFGS for each of them
HEAD_ITERATIONS = 30  # before all layers are trained
CURVE_ITERATIONS = 20  # for each point of the learning curve
CURVE_SHARES = (0.25, 0.5, 1.0)  # of the training images
MIN_HELD_OUT = 100  # images; on fewer, a weight decay would be chosen by chance
CHOICE_FOLDS = 5  # of the cross-validation that then chooses it


class LinearHead:
    """A softmax regression that L-BFGS fits, an iteration at a time.

    The loss is the mean cross-entropy plus weight_decay / 2 times the squared norm of the weights.
    """

    def __init__(self, part: Part, training: Training, weight_decay: float) -> None:
        classes = len(training.batches.classes)
        self.part, self.weight_decay = part, weight_decay
        self.smoothing = training.config.label_smoothing
        weights = training.class_weights
        self.class_weights = None if weights is None else weights.cpu()
        # From zero and not from random numbers: the best weights are the same.
        self.weight = torch.zeros(classes, part.x.shape[1], requires_grad=True)
        self.bias = torch.zeros(classes, requires_grad=True)
        self.restart()

    def restart(self) -> None:
        """Forget the curvature, for a new weight decay."""
        # One iteration a call, so that a stop and a progress event can come in between.
        self.optimizer = optim.LBFGS(
            [self.weight, self.bias], max_iter=1, history_size=10, line_search_fn="strong_wolfe"
        )

    def logits(self, x: Tensor) -> Tensor:
        """Return logits (N, classes) of standardized embeddings (N, D)."""
        return F.linear(x, self.weight, self.bias)

    def iterate(self, times: int = 1) -> "LinearHead":
        """Run that many iterations over all rows, and return the head itself."""
        for _ in range(times):
            self.optimizer.step(self.loss)
        return self

    def loss(self) -> Tensor:
        """Return the loss, with its gradient in the weights."""
        self.optimizer.zero_grad()
        loss = F.cross_entropy(
            self.logits(self.part.x),
            self.part.y,
            self.class_weights,
            label_smoothing=self.smoothing,
        )
        loss = loss + self.weight_decay / 2 * self.weight.square().sum()
        loss.backward()
        return loss

    @torch.no_grad()
    def predict(self, x: Tensor) -> Tensor:
        """Return logits (N, classes) without a gradient."""
        return self.logits(x)


class HeldOut:
    """Heads that predict images they were not fitted to: one for each fold, or one for all.

    With folds, each training image is predicted by the head of its fold, which is fitted to the
    others. Without, the validation images are predicted by a head that is fitted to all of `train`.
    folds: their number; 0 for none.
    """

    def __init__(self, train: Part, val: Part, folds: int, training: Training) -> None:
        config = training.config
        self.training, self.views = training, config.views
        self.numbers, self.parts, self.labels = None, [(train, val)], val.y
        if folds:
            self.labels = train.y[:: self.views]  # the rows between are augmented views
            numbers = fold_numbers(self.labels.numpy(), folds, config.seed)
            self.numbers = torch.from_numpy(numbers)
            # The views of an image are never parted: a head would know the one from the other.
            of_row = self.numbers.repeat_interleave(self.views)
            originals = Part(train.x[:: self.views], self.labels)
            self.parts = [
                (train.where(of_row != fold), originals.where(self.numbers == fold))
                for fold in range(int(self.numbers.max()) + 1)
            ]

    def heads(self, weight_decay: float) -> list[LinearHead]:
        """Return the heads, not yet fitted."""
        return [LinearHead(train, self.training, weight_decay) for train, _ in self.parts]

    def predict(self, heads: Sequence[LinearHead]) -> Tensor:
        """Return the logits (N, classes) of all rows that are held out, in their order."""
        parts = [head.predict(held.x) for head, (_, held) in zip(heads, self.parts, strict=True)]
        if self.numbers is None:
            return parts[0]
        logits = parts[0].new_zeros(len(self.numbers), parts[0].shape[1])
        for fold, part in enumerate(parts):
            logits[self.numbers == fold] = part
        return logits

    def choose_weight_decay(self) -> float:
        """Return the strongest weight decay that is not clearly worse than the best one.

        Clearly: by more than one standard error of the difference (Breiman et al. 1984, "the 1 SE
        rule"), over the losses of all rows that are held out.
        """
        heads, losses = self.heads(WEIGHT_DECAYS[0]), []
        for weight_decay in WEIGHT_DECAYS:
            for head in heads:
                head.weight_decay = weight_decay
                head.restart()
                head.iterate(TRIAL_ITERATIONS)
            # One loss per image: the standard error of a difference needs pairs.
            losses.append(F.cross_entropy(self.predict(heads), self.labels, reduction="none"))
        best = losses[int(torch.stack(losses).mean(1).argmin())]
        for weight_decay, loss in zip(WEIGHT_DECAYS, losses, strict=True):
            difference = loss - best
            error = difference.std(correction=0) / len(difference) ** 0.5
            if difference.mean() <= error:
                return weight_decay
        return WEIGHT_DECAYS[-1]

    def curve_point(self, share: float, weight_decay: float) -> list[int]:
        """Return the number of images trained on, of right answers and of answers.

        share: of the training images of each class.
        """
        heads, images = [], []
        for train, _ in self.parts:
            taken = take_of_each_class(train.y.numpy(), share, self.training.config.seed)
            part = train.where(torch.from_numpy(taken))
            heads.append(LinearHead(part, self.training, weight_decay).iterate(CURVE_ITERATIONS))
            images.append(len(part) / self.views)
        right = (self.predict(heads).argmax(1) == self.labels).sum()
        return [round(sum(images) / len(images)), int(right), len(self.labels)]


def fit_head(
    training: Training, datasets: Datasets, should_stop: Callable[[], bool]
) -> Iterator[Event]:
    """Fit the head of the training's network to embeddings; yield progress, epochs, the result.

    Where the head is all that is trained, an epoch is an iteration of L-BFGS and has an event, and
    the weights are kept as the config says. With `keep` last-or-head they are kept as epoch 0.

    Raises StoppedError between two batches or iterations. Nothing is lost: what was embedded is in
    the cache, and the rest takes a second.
    """
    config, began = training.config, time.monotonic() - training.seconds
    train, val = yield from embed_splits(training, datasets, should_stop)
    chosen = config.views * sample_known(len(train) // config.views, config.seed)
    known = neighbour_metric(
        train.x[chosen], train.y[chosen], val.x if datasets.holds_out(config) else None
    )
    mean, scale = standardization(train.x)
    train, val = (Part((part.x - mean) / scale, part.y) for part in (train, val))
    held_out = HeldOut(train, val, config.folds, training)
    weight_decay = choose_weight_decay(held_out, train, val)
    head = LinearHead(train, training, weight_decay)
    fitted = yield from iterate_head(training, head, held_out, should_stop, began)
    set_head(training.model.head, fitted.weight, fitted.bias, mean, scale)
    if training.averaged is not None:  # what is kept; it has the head of the start
        training.averaged.module.load_state_dict(training.model.state_dict())
    curve = [held_out.curve_point(share, weight_decay) for share in CURVE_SHARES]
    training.seconds = time.monotonic() - began
    yield Head(
        **training.position(),
        weight_decay=weight_decay,
        folds=config.folds,
        val_loss=fitted.summary.val_loss,
        val_top1=fitted.summary.val_top1,
        curve=curve,
        seconds=training.seconds,
        train_loss=fitted.summary.train_loss,
        train_top1=fitted.summary.train_top1,
    )
    if config.train_layers == "head":
        facts = {"weight_decay": weight_decay, "folds": config.folds, "curve": curve}
        keep_head(training, datasets, held_out, fitted, facts, known)
    elif config.keep == "last-or-head":
        training.keep_weights(replace(fitted.summary, step=0, epoch=0), ood_metric(fitted.logits))
        right = fitted.logits.argmax(1) == held_out.labels
        training.head_right = right if datasets.holds_out(config) else right[:0]


@dataclass(frozen=True)
class FittedHead:
    """The iteration of a head that is kept: its event, its weights, and its held-out logits."""

    summary: Epoch
    weight: Tensor  # (classes, D)
    bias: Tensor  # (classes,)
    logits: Tensor  # (N, classes), of the images that are held out


def iterate_head(
    training: Training,
    head: LinearHead,
    held_out: HeldOut,
    should_stop: Callable[[], bool],
    began: float,
) -> Iterator[Epoch]:
    """Fit a head; yield the epochs where it is all that is trained; return the FittedHead.

    began: on the steady clock, when the run began, less its earlier sessions. Raises StoppedError
    between two iterations.
    """
    config = training.config
    # Without folds, the head itself predicts the validation images.
    heads = held_out.heads(head.weight_decay) if config.folds else [head]
    best: FittedHead | None = None
    is_all = config.train_layers == "head"
    for epoch in range(1, 1 + (config.epochs if is_all else HEAD_ITERATIONS)):
        if training.world.any(should_stop()):
            raise StoppedError("stopped while the head was fitted")
        # With folds, the kept head is another one than those that are scored: it is fitted to all
        # images.
        for each in (head, *heads) if config.folds else heads:
            each.iterate()
        logits = held_out.predict(heads)
        training.seconds = time.monotonic() - began
        summary = epoch_event(training, head, logits, held_out.labels, epoch)
        if best is None or config.keep != "best" or summary.val_top1 > best.summary.val_top1:
            weight, bias = (each.detach().clone() for each in (head.weight, head.bias))
            best = FittedHead(summary, weight, bias, logits)
        if is_all:
            yield summary
            training.step = epoch
            training.close_epoch(summary)
            if training.is_out_of_patience():
                break
    return best


def keep_head(
    training: Training,
    datasets: Datasets,
    held_out: HeldOut,
    fitted: FittedHead,
    facts: dict[str, Any],
    known: tuple[dict[str, Any], Tensor] | None,
) -> None:
    """Save the weights of a network of which only the head was trained.

    facts: about the head, for model.json. known: of `neighbour_metric`. Raises DiskFullError.
    """
    config, folder = training.config, training.folder
    # Where the dataset has a validation split of its own, that one can be evaluated.
    if config.folds and folder and not datasets.get(config.dataset).val:
        digest = write_cross_validation(folder, fitted.logits, held_out.labels)
        facts = {**facts, "cross_validation": digest}
    metrics: dict[str, Any] = {"head": facts}
    if known and folder:
        metrics |= write_known(folder, *known)
    training.keep_weights(fitted.summary, ood_metric(fitted.logits), metrics)


def choose_weight_decay(held_out: HeldOut, train: Part, val: Part) -> float:
    """Return the weight decay of the head: the config's, or the one that suits the images.

    Fine-tuning always chooses: the config's is then that of its optimizer.
    """
    config = held_out.training.config
    if config.train_layers == "head" and config.weight_decay > 0:
        return config.weight_decay
    # Where the validation images are those trained on, they choose nothing.
    if config.folds or (config.val_share > 0 and len(val) >= MIN_HELD_OUT):
        return held_out.choose_weight_decay()
    images = len(train) // config.views
    if images < 2 * CHOICE_FOLDS:  # parts of a single image would choose by chance
        return WEIGHT_DECAYS[0]
    return HeldOut(train, val, CHOICE_FOLDS, held_out.training).choose_weight_decay()


def epoch_event(
    training: Training, head: LinearHead, logits: Tensor, labels: Tensor, epoch: int
) -> Epoch:
    """Return the event of an iteration. logits: of the images that are held out."""
    answers = head.predict(head.part.x)
    seconds = training.seconds - training.epoch_began
    return Epoch(
        step=epoch,
        epoch=epoch,
        train_loss=F.cross_entropy(answers, head.part.y).item(),
        train_top1=(answers.argmax(1) == head.part.y).float().mean().item(),
        val_loss=F.cross_entropy(logits, labels).item(),
        val_top1=(logits.argmax(1) == labels).float().mean().item(),
        lr=1.0,  # of L-BFGS, whose line search finds the length of its steps
        seconds=seconds,
        images_per_s=len(head.part) / max(seconds, 1e-9),
        val_images=len(labels),
    )


def standardization(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the scale of each of the D columns of embeddings (N, D).

    The scale is the column's standard deviation and the mean one, added in quadrature. By the
    deviation alone, a column that hardly varies among a few images would dominate all others: with
    two, five or ten images a class that costs 5 to 19 points (docs/experiments.md).
    """
    deviation = x.std(0, correction=0)
    scale = (deviation.square() + deviation.mean().square()).sqrt()
    return x.mean(0), scale.clamp(min=1e-6)  # a constant column would be divided by 0


@torch.no_grad()
def set_head(layer: nn.Linear, weight: Tensor, bias: Tensor, mean: Tensor, scale: Tensor) -> None:
    """Set a linear layer to a head on standardized embeddings: W (x - mean) / scale + b."""
    folded = weight / scale
    layer.weight.copy_(folded)
    layer.bias.copy_(bias - folded @ mean)
