"""A run's kept weights in memory, asked about pictures: one way for page, command line and API."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

import numpy as np
import torch

from resnet_demo.data.info import DatasetInfo
from resnet_demo.data.pictures import FITS, decode_picture
from resnet_demo.data.preprocess import Preprocessing
from resnet_demo.errors import ConfigError
from resnet_demo.inference.class_map_view import Looked, looked
from resnet_demo.inference.classification import TOP, Classification, classify, shown
from resnet_demo.inference.feature_maps import grids
from resnet_demo.inference.neighbours import Index, features_of, nearest
from resnet_demo.models.saved import Saved, load_model
from resnet_demo.runs.store import Run

SMALL = 64  # pixels a side


@dataclass(frozen=True)
class Classifier:
    """A run's kept weights, loaded once for any number of pictures, in any number of threads.

    lock: held while the network works, for whoever looks inside it must not see the work of others.
    A picture is (H, W, 3) uint8 of any size, and `fit` how a square is made of it: one of FITS.
    Everything here raises ConfigError for another fit.
    """

    run: Run
    saved: Saved
    lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    @classmethod
    def of(cls, run: Run) -> "Classifier":
        """Raises NotFoundError where nothing is saved yet, DamagedError."""
        saved = load_model(run.path)
        saved.model.to(memory_format=torch.channels_last)  # as pictures come, and faster
        return cls(run, saved)

    @property
    def preprocessing(self) -> Preprocessing:
        """How its pictures are made. Raises DamagedError."""
        return Preprocessing.from_dict(self.saved.preprocessing)

    @property
    def size(self) -> int:
        """Bytes of its numbers in memory."""
        model = self.saved.model
        return sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))

    @contextmanager
    def asking(self) -> Iterator[None]:
        """The network is the caller's alone, and a small picture is one thread's.

        Two would wait for each other longer than they compute: where threads sleep while they
        wait, ResNet-20 takes 3 ms on one and 11 on two. And a run that trains has its cores.
        """
        threads = torch.get_num_threads()
        with self.lock:
            torch.set_num_threads(1 if self.preprocessing.image_size <= SMALL else threads)
            try:
                yield
            finally:
                torch.set_num_threads(threads)

    def check_classes(self, info: DatasetInfo) -> None:
        """Raises ConfigError for a dataset of other classes than the run's."""
        if info.classes != self.saved.classes:
            rule = f"a dataset of the run's classes ({', '.join(self.saved.classes)})"
            raise ConfigError.rule("dataset", rule, info.name)

    def classify_file(self, picture: Path, top: int = TOP, fit: str = "crop") -> Classification:
        """What the network says of a picture file. Raises DamagedError for what is no picture."""
        return self.classify(decode_picture(picture), top, fit)

    def classify(self, rgb: np.ndarray, top: int = TOP, fit: str = "crop") -> Classification:
        """What the network says of a picture. top: labels, from 1 to the number of classes."""
        with self.asking():
            return classify(self.saved, rgb, top, fit)

    def fits(self, rgb: np.ndarray, top: int = 1) -> dict[str, Classification]:
        """What it says of the picture in each way to make a square of it: fit -> answer."""
        return {fit: self.classify(rgb, top, fit) for fit in FITS}

    def looked(self, rgb: np.ndarray, label: str, fit: str = "crop") -> Looked:
        """Where it saw the class of that label. Raises ConfigError for another label."""
        return self.looks(rgb, [label], fit)[0]

    def looks(self, rgb: np.ndarray, labels: Sequence[str], fit: str = "crop") -> list[Looked]:
        """The same of several labels at the cost of one, one at least."""
        with self.asking():
            return looked(self.saved, rgb, labels, fit)

    def inside(self, rgb: np.ndarray, fit: str = "crop") -> list[tuple[str, np.ndarray]]:
        """What it sees on the way: (stage in words, its strongest maps in a grid, uint8)."""
        with self.asking():
            _, x = shown(self.saved, rgb, fit)
            return grids(self.saved.model, x)

    def similar(
        self, rgb: np.ndarray, index: Index, fit: str = "crop", most: int = 5
    ) -> list[tuple[int, float, str]]:
        """The training images most alike to it: (place in the dataset, cosine, label).

        place: from 0 in the dataset's own training images. index: of these very weights, else
        ConfigError.
        """
        if index.weights != self.saved.sha256:
            raise ConfigError("the training images were looked at by other weights: do it again")
        with self.asking():
            _, x = shown(self.saved, rgb, fit)
            query = features_of(self.saved.model, x)
        cosines, rows = nearest(query, index.features, most)
        return [
            (int(index.places[row]), cosine, self.saved.classes[index.labels[row]])
            for cosine, row in zip(cosines[0].tolist(), rows[0].tolist(), strict=True)
        ]
