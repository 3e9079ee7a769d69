"""How long a person waits for an answer about a picture, on the server's side."""

import io
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image

from resnet_demo import __version__
from resnet_demo.bench.interleaved import Clock
from resnet_demo.config import make_config, to_json
from resnet_demo.data.pictures import decode_picture
from resnet_demo.data.preprocess import preprocessing_for
from resnet_demo.data.shapes import INFO
from resnet_demo.errors import DemoError
from resnet_demo.inference.classifier import Classifier
from resnet_demo.inference.heatmaps import overlay
from resnet_demo.inference.predict import predict
from resnet_demo.models.device import device_name
from resnet_demo.models.saved import save_model
from resnet_demo.paths import REPOSITORY
from resnet_demo.runs.store import Run
from resnet_demo.training.state import initial_model, model_arguments

SHAPE = (480, 640)  # pixels of the picture, height and width
WARM_UP = 3  # calls that do not count
OPACITY = 0.5


def measure_latency(
    run: Run, rounds: int = 30, fresh: int = 3, images: int = 100, clock: Clock = time.perf_counter
) -> dict[str, Any]:
    """Seconds, each as median, min and max, and what was measured on what.

    picture: from the bytes of a JPEG of SHAPE to its labels and the map of the first over it;
    batch: so many stored images at once, labels only, both `rounds` times in a process that is
    warm; fresh: the command line's answer about that picture, torch loaded, `fresh` times.
    Raises as Classifier.load, and DemoError where a process of its own fails.
    """
    classifier = Classifier.load(run)
    jpeg, saved = picture(), classifier.saved
    return {
        "run": run.id,
        "model": saved.network["name"],
        "image_size": saved.preprocessing["image_size"],
        "device": device_name(next(saved.model.parameters()).device),
        "threads": torch.get_num_threads(),
        "picture": times(lambda: one_picture(classifier, jpeg), rounds, clock),
        "batch": times(batch(classifier, images), rounds, clock),
        "fresh": times(lambda: fresh_process(run, jpeg), fresh, clock, warm_up=0),
        **{"shape": list(SHAPE), "images": images, "rounds": rounds, "processes": fresh},
    }


@contextmanager
def untrained(model: str = "resnet20") -> Iterator[Run]:
    """A run of that network with its first weights, for as long as the context lasts."""
    config = make_config({"model": model, "dataset": INFO.name})
    with TemporaryDirectory(prefix="resnet-demo-bench-") as name:
        folder = Path(name) / "untrained"
        folder.mkdir()
        (folder / "config.json").write_text(to_json(config, __version__), "utf-8")
        save_model(
            folder,
            initial_model(config, len(INFO.classes)),
            network=model_arguments(config, len(INFO.classes)),
            classes=INFO.classes,
            preprocessing=preprocessing_for(INFO, config.image_size).to_dict(),
            metrics={},
        )
        yield Run(folder)


def picture() -> bytes:
    """A JPEG of SHAPE, as busy as a photograph."""
    coarse = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize(SHAPE[::-1], Image.Resampling.BICUBIC).save(file, "JPEG")
    return file.getvalue()


def one_picture(classifier: Classifier, jpeg: bytes) -> np.ndarray:
    """What the page does about a picture: labels, and the first one's map laid over it."""
    rgb = decode_picture(io.BytesIO(jpeg))
    label = classifier.classify(rgb).labels[0]["label"]
    looked = classifier.class_map(rgb, label)
    return overlay(looked.picture, looked.heat, OPACITY)


def batch(classifier: Classifier, images: int) -> Callable[[], object]:
    """Labels of so many images as the dataset would store them."""
    preprocessing = classifier.preprocessing
    shape = (images, preprocessing.source_size, preprocessing.source_size, 3)
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    model = classifier.saved.model
    return lambda: predict(model, preprocessing.prepare, pixels, images).argmax(1)


def fresh_process(run: Run, jpeg: bytes) -> None:
    """One answer of the command line. Raises DemoError."""
    with TemporaryDirectory(prefix="resnet-demo-bench-") as name:
        file = Path(name) / "picture.jpg"
        file.write_bytes(jpeg)
        command = [sys.executable, "-m", "resnet_demo", "classify", str(run.path), str(file)]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    if done.returncode:
        why = (done.stderr or done.stdout).strip()
        raise DemoError(f"a process of its own did not answer: {why}")


def times(
    work: Callable[[], object], rounds: int, clock: Clock, warm_up: int = WARM_UP
) -> dict[str, float]:
    """Median, least and most seconds of a call; the first few do not count."""
    took = []
    for _ in range(warm_up + rounds):
        began = clock()
        work()
        took.append(clock() - began)
    counted = took[warm_up:]
    return {"median": median(counted), "min": min(counted), "max": max(counted)}
