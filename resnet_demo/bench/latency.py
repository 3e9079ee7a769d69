"""Latency of a classification on the server: one picture, a batch, a fresh process."""

import io
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image

from resnet_demo import __version__
from resnet_demo.bench.loops import Clock, median_and_range
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
from resnet_demo.training.initial import initial_model, model_arguments

# Larger than any network's input, as photographs are.
SHAPE = (480, 640)  # height and width of the picture in pixels
# The first calls allocate memory and choose kernels.
WARM_UP = 3  # calls before the measured ones
OPACITY = 0.5


def measure_latency(
    run: Run, rounds: int = 30, fresh: int = 3, images: int = 100, clock: Clock = time.perf_counter
) -> dict[str, Any]:
    """Return seconds, each as median, min and max, and the conditions.

    picture: from the bytes of a JPEG of SHAPE to its labels and the class activation map of the
    first, `rounds` times. batch: labels of `images` stored images at once, `rounds` times. fresh:
    the command line in a new process, with loading torch, `fresh` times.

    Raises:
        NotFoundError, DamagedError: as `Classifier.load`.
        DemoError: a new process failed.
    """
    classifier = Classifier.load(run)
    jpeg, saved = make_jpeg(), classifier.saved
    return {
        "run": run.id,
        "model": saved.network["name"],
        "image_size": saved.preprocessing["image_size"],
        "device": device_name(next(saved.model.parameters()).device),
        "threads": torch.get_num_threads(),
        "picture": time_calls(lambda: classify_picture(classifier, jpeg), rounds, clock),
        "batch": time_calls(batch_prediction(classifier, images), rounds, clock),
        # Without warm-up: a first call is just what is measured.
        "fresh": time_calls(lambda: run_process(run, jpeg), fresh, clock, warm_up=0),
        "shape": list(SHAPE),
        "images": images,
        "rounds": rounds,
        "processes": fresh,
    }


@contextmanager
def untrained_run(model: str = "resnet20") -> Iterator[Run]:
    """Yield a temporary run of that network with its initial weights."""
    # shapes10, which needs no download.
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


def make_jpeg() -> bytes:
    """Return a JPEG of SHAPE with as much detail as a photograph."""
    # Enlarged noise: noise of the full size would compress worse, and take longer to decode, than a
    # photograph.
    coarse = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize(SHAPE[::-1], Image.Resampling.BICUBIC).save(file, "JPEG")
    return file.getvalue()


def classify_picture(classifier: Classifier, jpeg: bytes) -> np.ndarray:
    """Classify a picture as the page does; return the overlay of the first label's class map."""
    rgb = decode_picture(io.BytesIO(jpeg))
    label = classifier.classify(rgb).labels[0]["label"]
    class_map = classifier.class_map(rgb, label)
    return overlay(class_map.picture, class_map.heat, OPACITY)


def batch_prediction(classifier: Classifier, images: int) -> Callable[[], object]:
    """Return a function that predicts the classes of so many images of the stored size."""
    preprocessing = classifier.preprocessing
    shape = (images, preprocessing.source_size, preprocessing.source_size, 3)
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    model = classifier.saved.model
    return lambda: predict(model, preprocessing.prepare, pixels, images).argmax(1)


def run_process(run: Run, jpeg: bytes) -> None:
    """Classify the picture with the command line. Raises DemoError."""
    with TemporaryDirectory(prefix="resnet-demo-bench-") as name:
        file = Path(name) / "picture.jpg"
        file.write_bytes(jpeg)
        command = [sys.executable, "-m", "resnet_demo", "classify", str(run.path), str(file)]
        # There `-m resnet_demo` finds this checkout, wherever the benchmark was started.
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    if done.returncode:
        message = (done.stderr or done.stdout).strip()
        raise DemoError(f"the command line failed to classify the picture: {message}")


def time_calls(
    work: Callable[[], object], rounds: int, clock: Clock, warm_up: int = WARM_UP
) -> dict[str, float]:
    """Return median, minimum and maximum seconds of a call, without the warm-up calls."""
    times = []
    for _ in range(warm_up + rounds):
        start = clock()
        work()
        times.append(clock() - start)
    return median_and_range(times[warm_up:])
