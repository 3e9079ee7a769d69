"""A run's kept weights in memory, for any number of pictures: shared by page, CLI and API."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import repeat
from threading import Lock

import numpy as np
import torch

from resnet_demo.data.info import DatasetInfo
from resnet_demo.data.pictures import FITS
from resnet_demo.data.preprocess import Preprocessing
from resnet_demo.errors import ConfigError
from resnet_demo.fingerprint import class_names
from resnet_demo.inference.class_maps import ClassMap, map_classes
from resnet_demo.inference.classification import (
    TOP,
    Classification,
    Missed,
    classify,
    network_input,
    ood_measure,
    ood_verdict,
)
from resnet_demo.inference.feature_maps import stage_grids
from resnet_demo.inference.neighbours import ImageIndex, embed, nearest
from resnet_demo.inference.ood import other_images
from resnet_demo.inference.predict import Embedder, evaluation_batch_size, predict
from resnet_demo.models.saved import SavedModel, load_model
from resnet_demo.runs.store import Run

SINGLE_THREAD_SIZE = 64  # pixels a side; up to this size one thread is faster than several


@dataclass(frozen=True)
class Classifier:
    """A run's kept weights, loaded once and usable from any thread.

    A picture is (H, W, 3) uint8 of any size; `fit`, one of FITS, is how it is made square; None: as
    the training images were. Every method raises ConfigError for another fit.
    lock: held while the network runs, because hooks see every forward pass. measured: what
    `count_missed` has counted.
    """

    run: Run
    saved: SavedModel
    lock: Lock = field(default_factory=Lock, repr=False, compare=False)
    measured: list[Missed] = field(default_factory=list, repr=False, compare=False)

    @classmethod
    def load(cls, run: Run) -> "Classifier":
        """Load a run's weights. Raises NotFoundError before the first are saved, DamagedError."""
        saved = load_model(run.path)
        # Pictures come channels-last, and convolutions on them are faster so.
        saved.model.to(memory_format=torch.channels_last)
        return cls(run, saved)

    @property
    def preprocessing(self) -> Preprocessing:
        """Return how pictures are prepared. Raises DamagedError."""
        return Preprocessing.from_dict(self.saved.preprocessing)

    @property
    def size(self) -> int:
        """Return the bytes that parameters and buffers take in memory."""
        model = self.saved.model
        return sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the lock, and use one thread for a small picture."""
        with self.lock:
            # Under the lock: a new thread takes over the number that another picture has set, and
            # would later restore 1 for the whole process.
            threads = torch.get_num_threads()
            # On a small picture threads wait for each other longer than they compute: where they
            # sleep while waiting, ResNet-20 takes 3 ms on one thread and 11 ms on two. And one
            # thread leaves the other cores to a run that trains.
            # Counted in pixels of the network's input, not of the picture: that is what is computed
            # on.
            is_small = self.preprocessing.image_size <= SINGLE_THREAD_SIZE
            torch.set_num_threads(1 if is_small else threads)
            try:
                yield
            finally:
                torch.set_num_threads(threads)

    def check_classes(self, info: DatasetInfo) -> None:
        """Raise ConfigError for a dataset with other classes than the run's."""
        if info.classes != self.saved.classes:
            if self.saved.fingerprint and info.name == self.run.config().dataset:
                raise ConfigError(
                    f"the dataset {info.name} has changed since training: its classes were "
                    f"{class_names(self.saved.classes)} and are {class_names(info.classes)}",
                    "dataset",
                )
            rule = f"a dataset of the run's classes ({class_names(self.saved.classes)})"
            raise ConfigError.rule("dataset", rule, info.name)

    def classify(self, rgb: np.ndarray, top: int = TOP, fit: str | None = None) -> Classification:
        """Return the picture's `top` labels, from 1 to the number of classes."""
        with self.exclusive():
            return classify(self.saved, rgb, top, fit)

    def count_missed(self) -> Missed | None:
        """Return how many pictures of other things are not flagged.

        None without a threshold. Of `ood.other_images`, counted once, because it takes as long as
        that many pictures; or what training has counted. Raises DamagedError.
        """
        # A list and no cached property: the dataclass is frozen.
        if self.measured:
            return self.measured[0]
        stored, _ = ood_measure(self.saved)
        if stored is None:
            return None
        if left_out := stored.get("left_out"):
            self.measured.append(Missed(left_out["missed"], left_out["n"], is_left_out=True))
            return self.measured[0]
        preprocessing = self.preprocessing
        images = other_images(preprocessing.source_size)
        with self.exclusive(), torch.inference_mode():
            # In the app's process, whose memory other visitors share.
            size = evaluation_batch_size(preprocessing, least=1)
            rows = predict(Embedder(self.saved.model), preprocessing.prepare, images, size)
            logits = self.saved.model.head(rows)
        verdicts = map(ood_verdict, repeat(self.saved), rows.split(1), logits.split(1))
        self.measured.append(Missed(sum(not verdict.is_ood for verdict in verdicts), len(rows)))
        return self.measured[0]

    def classify_each_fit(
        self, rgb: np.ndarray, known: Mapping[str, Classification] | None = None
    ) -> dict[str, Classification]:
        """Return fit -> the most likely label, for each of FITS.

        known: answers for this picture that need not be computed again, with any number of labels.
        """
        known = known or {}
        # The fit that the page shows is known already: two forward passes instead of three.
        return {fit: known.get(fit) or self.classify(rgb, 1, fit) for fit in FITS}

    def class_map(self, rgb: np.ndarray, label: str, fit: str | None = None) -> ClassMap:
        """Return the map of one class. Raises ConfigError for an unknown label."""
        return self.class_maps(rgb, [label], fit)[0]

    def class_maps(
        self, rgb: np.ndarray, labels: Sequence[str], fit: str | None = None
    ) -> list[ClassMap]:
        """Return a map for each of one or more labels, from one forward pass.

        Raises ConfigError for an unknown label.
        """
        with self.exclusive():
            return map_classes(self.saved, rgb, labels, fit)

    def feature_maps(self, rgb: np.ndarray, fit: str | None = None) -> list[tuple[str, np.ndarray]]:
        """Return for each stage its title and its strongest maps as a grid, (H, W, 3) uint8."""
        with self.exclusive():
            _, x = network_input(self.saved, rgb, fit)
            return stage_grids(self.saved.model, x)

    def similar_images(
        self, rgb: np.ndarray, index: ImageIndex, fit: str | None = None, limit: int = 5
    ) -> list[tuple[int, float, str]]:
        """Return the nearest training images: (position, cosine similarity, label).

        position: in the dataset's training images, from 0. Raises ConfigError for an index made
        with other weights.
        """
        if index.weights != self.saved.sha256:
            raise ConfigError("the index was made with other weights: build it again")
        with self.exclusive():
            _, x = network_input(self.saved, rgb, fit)
            query = embed(self.saved.model, x)
        # Outside of the lock: comparing runs no network, and takes longer.
        cosines, rows = nearest(query, index.features, limit)
        return [
            (int(index.places[row]), cosine, self.saved.classes[index.labels[row]])
            for cosine, row in zip(cosines[0].tolist(), rows[0].tolist(), strict=True)
        ]
