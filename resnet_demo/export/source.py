"""The source of an export: a run's kept weights, and one description for all formats."""

from dataclasses import dataclass
from typing import Any

from resnet_demo import __version__
from resnet_demo.config import TrainConfig
from resnet_demo.data.preprocess import Preprocessing
from resnet_demo.inference.classification import ood_measure
from resnet_demo.inference.classifier import Classifier
from resnet_demo.models.saved import SavedModel
from resnet_demo.runs.store import Run


@dataclass(frozen=True)
class ExportSource:
    """A run's kept weights and settings. saved.model: on the CPU, float32, in evaluation mode."""

    run: Run
    config: TrainConfig
    saved: SavedModel
    title: str

    @property
    def labels(self) -> tuple[str, ...]:
        """Return the classes, in the order of the network's outputs."""
        return self.saved.classes

    @property
    def preprocessing(self) -> Preprocessing:
        """Return how pictures are prepared. Raises DamagedError."""
        return Preprocessing.from_dict(self.saved.preprocessing)

    @property
    def threshold(self) -> float | None:
        """Return the score above which a picture is out of distribution; None without one."""
        return self._ood("threshold")

    @property
    def measure(self) -> str:
        """Return what the score is: `energy`, or `distance` where embeddings are known."""
        return ood_measure(self.saved)[1]

    def description(self) -> dict[str, Any]:
        """Return what every format embeds, ready for JSON."""
        saved = self.saved
        return {
            "run": self.run.id,
            "title": self.title,
            "network": dict(saved.network),
            "labels": list(self.labels),
            "measure": self.measure,
            "threshold": self.threshold,
            "false_alarms": self._ood("false_alarms"),
            "preprocessing": self.preprocessing.to_dict(),
            "dataset": self.config.dataset,
            "metrics": dict(saved.metrics),
            "sha256": saved.sha256,
            "version": __version__,
        }

    def _ood(self, name: str) -> Any:
        stored, _ = ood_measure(self.saved)
        return stored.get(name) if isinstance(stored, dict) else None


def load_source(run: Run) -> ExportSource:
    """Load a run for export: finished, stopped or still training, as long as weights were kept.

    Raises NotFoundError before the first weights are saved, ConfigError, DamagedError.
    """
    saved = Classifier.load(run).saved
    source = ExportSource(run, run.config(), saved, run.about_or_empty().title or run.id)
    source.description()  # damaged preprocessing is refused here
    return source
