"""A run's best weights in memory, asked about pictures: one way for page, command line and API."""

from dataclasses import dataclass
from pathlib import Path

from resnet_demo.analysis.classify import Classification, classify
from resnet_demo.data.info import DatasetInfo
from resnet_demo.data.pictures import decode_picture
from resnet_demo.errors import ConfigError
from resnet_demo.models.saved import Saved, load_model
from resnet_demo.runs.store import Run


@dataclass(frozen=True)
class Classifier:
    """A run's best weights, loaded once for any number of pictures."""

    run: Run
    saved: Saved

    @classmethod
    def of(cls, run: Run) -> "Classifier":
        """Raises NotFoundError where nothing is saved yet, DamagedError."""
        return cls(run, load_model(run.path))

    def check_classes(self, info: DatasetInfo) -> None:
        """Raises ConfigError for a dataset of other classes than the run's."""
        if info.classes != self.saved.classes:
            rule = f"a dataset of the run's classes ({', '.join(self.saved.classes)})"
            raise ConfigError.rule("dataset", rule, info.name)

    def classify_file(self, picture: Path, top: int = 5) -> Classification:
        """What the network says of a picture file. Raises DamagedError for what is no picture."""
        return classify(self.saved, decode_picture(picture), top)
