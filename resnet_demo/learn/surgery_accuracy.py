"""How a run's network does after an operation: accuracy on so few images that a page can wait."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from resnet_demo.data.store import Datasets
from resnet_demo.errors import ConfigError
from resnet_demo.evaluation.intervals import wilson
from resnet_demo.evaluation.modes import require_images
from resnet_demo.evaluation.robustness import sample
from resnet_demo.inference.classifier import Classifier
from resnet_demo.inference.predict import predict
from resnet_demo.learn.surgery import block_names, operated, removable
from resnet_demo.models.measure import measure

MOST_IMAGES = 500  # of the test split
MOST_MACS = 4e10  # multiply-adds that two cores do within a second or so
AT_ONCE = 100
STRONGEST = 2.0
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 1.75, STRONGEST)  # of a chart


@dataclass(frozen=True)
class Outcome:
    """top1 on n test images, the same ones for every operation; its 95 % Wilson interval."""

    top1: float
    n: int
    interval: tuple[float, float]


@dataclass(frozen=True)
class Patient:
    """A trained network, and the images that it is asked about after each operation."""

    classifier: Classifier
    images: Tensor  # (n, H, W, 3) uint8
    labels: Tensor  # (n,) int64

    @classmethod
    def of(cls, classifier: Classifier, datasets: Datasets) -> "Patient":
        """Raises ConfigError where the network has no blocks, NotFoundError without the images."""
        run, model = classifier.run, classifier.saved.model
        if not block_names(model):
            name = classifier.saved.network["name"]
            raise ConfigError(f"{name} has no blocks to operate on: choose a run of another", "run")
        dataset = run.config().dataset
        require_images(dataset, datasets)
        macs = measure(model, classifier.preprocessing.image_size).macs
        most = max(AT_ONCE, min(MOST_IMAGES, int(MOST_MACS / macs)))
        return cls(classifier, *sample(run, datasets, "test", dataset, most))

    @property
    def blocks(self) -> list[str]:
        """Those that can be left out, in order."""
        return removable(self.classifier.saved.model)

    def after(self, strength: float = 1.0, dropped: Collection[str] = ()) -> Outcome:
        """With branches that count `strength` times, from 0 to 2, and without these blocks.

        Raises ConfigError.
        """
        number = isinstance(strength, int | float) and not isinstance(strength, bool)
        if not number or not 0 <= strength <= STRONGEST:
            raise ConfigError.rule("strength", f"a number from 0 to {STRONGEST:g}", strength)
        return self.ask(operated(self.classifier.saved.model, strength, dropped))

    def each_dropped(self) -> Iterator[tuple[str, Outcome]]:
        """Every block that can go, and how the network does without it alone."""
        for name in self.blocks:
            yield name, self.after(dropped=[name])

    def chart(self) -> dict[str, Any]:
        """Top-1 at each of STRENGTHS and without each block, ready for JSON.

        n: images; blocks, strengths: [what, top-1] each.
        """
        return {
            "n": len(self.labels),
            "strengths": [[by, self.after(by).top1] for by in STRENGTHS],
            "blocks": [[name, outcome.top1] for name, outcome in self.each_dropped()],
        }

    def ask(self, model: nn.Module) -> Outcome:
        """The model's answers; it may use all cores."""
        prepare = self.classifier.preprocessing.prepare
        logits = predict(model, prepare, self.images, AT_ONCE)
        right, n = int((logits.argmax(1) == self.labels).sum()), len(self.labels)
        return Outcome(right / n, n, wilson(right, n))
