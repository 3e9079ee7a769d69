"""Networks kept in memory while they are asked for. No torch here until one is."""

from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING

from resnet_demo.models.description import describe
from resnet_demo.runs.store import Run

if TYPE_CHECKING:  # torch, which the page must not wait for
    from resnet_demo.inference.classifier import Classifier

MOST_BYTES = 256_000_000  # of parameters and buffers


class Classifiers:
    """By run and weights; over `most_bytes`, the one not asked for longest goes first."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.most_bytes = most_bytes
        self.kept: OrderedDict[tuple[str, str], Classifier] = OrderedDict()
        self.lock = Lock()

    def get(self, run: Run) -> "Classifier":
        """The run's kept weights as they are now, however large. Raises as Classifier.of."""
        with self.lock:  # while one is loaded too: nobody loads it a second time
            key = (run.id, describe(run.path)["sha256"])
            if key in self.kept:
                self.kept.move_to_end(key)
                return self.kept[key]
            return self._load(run)

    def _load(self, run: Run) -> "Classifier":
        from resnet_demo.inference.classifier import Classifier

        classifier = Classifier.of(run)
        self.kept[run.id, classifier.saved.sha256] = classifier  # better by now, maybe
        while len(self.kept) > 1 and sum(one.size for one in self.kept.values()) > self.most_bytes:
            self.kept.popitem(last=False)
        return classifier
