"""Network surgery: scale residual branches or remove blocks of a trained network, and test it.

Veit, Wilber and Belongie 2016, "Residual networks behave like ensembles of relatively shallow
networks", section 4.1: a residual network hardly suffers without one of its blocks; a plain one
drops to chance.
"""

from collections.abc import Collection, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from resnet_demo.data.store import Datasets
from resnet_demo.errors import ConfigError
from resnet_demo.evaluation.intervals import wilson_interval
from resnet_demo.evaluation.modes import require_images
from resnet_demo.evaluation.robustness import sample_split
from resnet_demo.inference.classifier import Classifier
from resnet_demo.inference.predict import predict
from resnet_demo.models.layers import Network
from resnet_demo.models.measure import count_model

MAX_IMAGES = 500  # of the test split
MAX_MACS = 4e10  # multiply-adds of one score: about a second on two cores
BATCH_SIZE = 100
MAX_STRENGTH = 2.0
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 1.75, MAX_STRENGTH)  # of a chart


class ScaledBlock(nn.Module):
    """A block whose branch is multiplied by `strength`. Shapes are those of the block.

    At strength 0 a residual block is its shortcut, and a plain block returns zeros.
    """

    def __init__(self, block: nn.Module, strength: float) -> None:
        super().__init__()
        self.block, self.strength = block, strength

    def forward(self, x: Tensor) -> Tensor:
        """Compute the block with its branch scaled."""
        branch = self.strength * self.block.branch(x)
        if isinstance(self.block.branch, nn.Module):  # resnet9: no ReLU after the sum
            return x + branch
        shortcut = self.block.shortcut
        return F.relu(branch if shortcut is None else branch + shortcut(x))


def block_names(model: Network) -> list[str]:
    """Return the submodule names of the blocks, in order."""
    return [name for name, module in model.named_modules() if hasattr(module, "branch")]


def removable_blocks(model: Network) -> list[str]:
    """Return the names of the blocks without which all shapes still match.

    These are the blocks with a shortcut, and plain blocks that keep the shape of the feature map.
    """
    return [name for name in block_names(model) if is_removable(model.get_submodule(name))]


def apply_surgery(model: Network, strength: float = 1.0, dropped: Collection[str] = ()) -> Network:
    """Return a copy whose branches are multiplied by `strength`, without the dropped blocks.

    A dropped residual block becomes its shortcut, a dropped plain block the identity.

    Raises:
        ConfigError: a dropped block does not exist or cannot be removed.
    """
    # A copy: the network is shared with the other tabs.
    allowed, copy = removable_blocks(model), deepcopy(model)
    for name in dropped:
        if name not in allowed:
            raise ConfigError.rule("dropped", "blocks that can be left out", name)
    for name in block_names(model):
        block = copy.get_submodule(name)
        if name in dropped:
            bypass = ScaledBlock(block, 0.0) if has_shortcut(block) else nn.Identity()
            replace_submodule(copy, name, bypass)
        elif strength != 1:
            replace_submodule(copy, name, ScaledBlock(block, strength))
    return copy


def replace_submodule(model: nn.Module, name: str, module: nn.Module) -> None:
    """Replace the submodule of that dotted name."""
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)


def has_shortcut(block: nn.Module) -> bool:
    """Return whether the block adds its input to the output of its branch."""
    return isinstance(block.branch, nn.Module) or block.shortcut is not None


def is_removable(block: nn.Module) -> bool:
    """Return whether the network's shapes still match without the block."""
    if has_shortcut(block):
        return True
    return block.conv1.stride == (1, 1) and block.conv1.in_channels == block.conv2.out_channels


@dataclass(frozen=True)
class SurgeryScore:
    """top1, a fraction of n test images, and its 95 % Wilson interval."""

    top1: float
    n: int
    interval: tuple[float, float]


@dataclass(frozen=True)
class SurgeryEvaluator:
    """A trained network and a fixed sample of test images, to score it after each operation."""

    classifier: Classifier
    images: Tensor  # (n, H, W, 3) uint8
    labels: Tensor  # (n,) int64

    @classmethod
    def of(cls, classifier: Classifier, datasets: Datasets) -> "SurgeryEvaluator":
        """Load as many test images as score in about a second.

        Raises:
            ConfigError: the network has no blocks.
            NotFoundError: the images are not on this machine.
        """
        run, model = classifier.run, classifier.saved.model
        if not block_names(model):
            name = classifier.saved.network["name"]
            raise ConfigError(f"{name} has no blocks to operate on: choose a run of another", "run")
        dataset = run.config().dataset
        require_images(dataset, datasets)
        # Measuring copies the network, with the hooks of another thread that holds the lock.
        with classifier.lock:
            macs = count_model(model, classifier.preprocessing.image_size).macs
        # A slider moves while a person watches: a score has to come within about a second.
        limit = max(BATCH_SIZE, min(MAX_IMAGES, int(MAX_MACS / macs)))
        split = "test" if datasets.get(dataset).test else "val"
        return cls(classifier, *sample_split(run, datasets, split, dataset, limit))

    @property
    def blocks(self) -> list[str]:
        """Return the names of the removable blocks, in order."""
        return removable_blocks(self.classifier.saved.model)

    def score(self, strength: float = 1.0, dropped: Collection[str] = ()) -> SurgeryScore:
        """Score the network with branches scaled by `strength` (0 to 2), without these blocks.

        Raises:
            ConfigError: a strength or a block that is not allowed.
        """
        is_number = isinstance(strength, int | float) and not isinstance(strength, bool)
        if not is_number or not 0 <= strength <= MAX_STRENGTH:
            raise ConfigError.rule("strength", f"a number from 0 to {MAX_STRENGTH:g}", strength)
        # Under the lock, so that no other thread's hooks are copied. The copy is this thread's own.
        with self.classifier.lock:
            model = apply_surgery(self.classifier.saved.model, strength, dropped)
        logits = predict(model, self.classifier.preprocessing.prepare, self.images, BATCH_SIZE)
        correct, n = int((logits.argmax(1) == self.labels).sum()), len(self.labels)
        return SurgeryScore(correct / n, n, wilson_interval(correct, n))

    def scores_without_each_block(self) -> Iterator[tuple[str, SurgeryScore]]:
        """Yield each removable block and the score without that block alone."""
        for name in self.blocks:
            yield name, self.score(dropped=[name])

    def chart(self) -> dict[str, Any]:
        """Return top-1 at each of STRENGTHS and without each block, ready for JSON.

        n: number of images. strengths and blocks: lists of [strength or name, top-1].
        """
        return {
            "n": len(self.labels),
            "strengths": [[strength, self.score(strength).top1] for strength in STRENGTHS],
            "blocks": [[name, score.top1] for name, score in self.scores_without_each_block()],
        }
