"""Loaded networks, kept in memory for later pictures. Imports torch only when one is loaded."""

from threading import Lock
from typing import TYPE_CHECKING

from resnet_demo.lru import LRU
from resnet_demo.models.description import model_description
from resnet_demo.runs.store import Run

if TYPE_CHECKING:  # torch: the page starts without it
    from resnet_demo.inference.classifier import Classifier

MAX_BYTES = 256_000_000  # of parameters and buffers


class ClassifierCache:
    """Classifiers by run and sha256 of the weights, `max_bytes` in all."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self.classifiers: LRU[tuple[str, str], Classifier] = LRU(
            max_bytes, lambda classifier: classifier.size
        )
        self.lock = Lock()

    def get(self, run: Run) -> "Classifier":
        """Return the run's current weights, however large. Raises as `Classifier.load`."""
        with self.lock:  # also while loading, so that no other thread loads the same weights
            classifier = self.classifiers.get((run.id, model_description(run.path)["sha256"]))
            if classifier is None:
                from resnet_demo.inference.classifier import Classifier

                classifier = Classifier.load(run)
                # The weights may have been replaced since `describe`: take the loaded sha256.
                self.classifiers[run.id, classifier.saved.sha256] = classifier
            return classifier
