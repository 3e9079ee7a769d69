"""The export format `script`: classify.py with its weights, for torch and pillow alone.

train.py lies beside it where the run's recipe can be written as a short script of torch and numpy:
for the networks of He et al. 2015, section 4.2, trained with SGD. It draws the same random numbers
as `training` does, so its losses are those of the run.

The code is made from the templates in `export/templates`: the network's definition and the
preprocessing stand in it with this run's numbers.
"""

import json
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from resnet_demo.architectures import CIFAR_DEPTHS
from resnet_demo.config import TrainConfig, defaults
from resnet_demo.data import shapes
from resnet_demo.data.image_sizes import image_sizes
from resnet_demo.errors import DemoError
from resnet_demo.export.code import network_values, plain_word, python_text, render_code
from resnet_demo.export.parity import ParityPicture, Predict
from resnet_demo.export.source import ExportSource
from resnet_demo.files import write_atomically
from resnet_demo.runs.view import RunView
from resnet_demo.training.optimizers import ONE_CYCLE_END, ONE_CYCLE_RISE, ONE_CYCLE_START

CLASSIFY, WEIGHTS, DESCRIPTION = "classify.py", "weights.pt", "description.json"
KNOWN = "known.pt"  # embeddings of training images, for runs whose gauge compares with them
MAX_COLUMNS = 100  # of a line of code
FIT_TEXTS = {"crop": "its centre square", "squash": "squashed", "pad": "padded"}
# Reads paths, a line each, and prints what `classify` returns, with every class.
SERVER = """\
import json, runpy, sys
import torch
torch.set_num_threads(1)
script = runpy.run_path(sys.argv[1])
network = script["build_network"]().eval()
network.load_state_dict(torch.load(script["HERE"] / "weights.pt", weights_only=True))
for line in sys.stdin:
    print(json.dumps(script["classify"](network, line[:-1], len(script["LABELS"]))), flush=True)
"""
TRAIN, SHAPES = "train.py", "shapes10.py"
NETWORKS = {f"{kind}{depth}" for kind in ("resnet", "plain") for depth in CIFAR_DEPTHS}
# Settings that the script does not have: it is offered where they are at their defaults.
LEFT_OUT = (
    "weights",
    "train_layers",
    "backbone_lr",
    "freeze_batch_norm",
    "crop_area",
    "rotation",
    "colour_jitter",
    "ema_decay",
    "class_weights",
    "patience",
    "validate_in_training_mode",
    "report_last_batch",
)
USAGES = {
    "shapes10": "`python train.py` draws its pictures with shapes10.py. Needs torch and numpy.",
    "cifar10": """\
`python train.py FOLDER` reads CIFAR-10: the original batches in cifar-10-batches-py, or
train-images.npy, train-labels.npy, test-images.npy, test-labels.npy. Needs torch and numpy.""",
    "arrays": """\
`python train.py FOLDER` reads train-images.npy (N, H, W, 3) uint8, train-labels.npy (N,) from 0 on,
and the same of val and test where there are any. Needs torch and numpy.""",
}
# Of data/shapes.py: the drawing does not need them.
OWN_IMPORTS = (
    "from hashlib import blake2b\n",
    "from resnet_demo.data.info import DatasetInfo\n",
    "from resnet_demo.fingerprint import Fingerprint\n\n",
)
# Code of `training.optimizers.learning_rate`, after the warm-up.
SCHEDULES = {
    "constant": "    return PEAK_LR",
    "linear": "    return PEAK_LR * (1 - done)",
    "cosine": "    return PEAK_LR * (1 + math.cos(math.pi * done)) / 2",
    "range-test": "    return PEAK_LR * 1e5 ** (done - 1)",
}
ONE_CYCLE = """\
    last = EPOCHS * steps_per_epoch - 1
    peak = {rise} - 1
    if step <= peak:  # half a cosine up, then one down
        start, end, share = {start!r}, 1.0, step / max(peak, 1)
    else:
        start, end, share = 1.0, {end!r}, (step - peak) / max(last - peak, 1)
    return PEAK_LR * (end + (start - end) * (1 + math.cos(math.pi * share)) / 2)"""


def write_script(source: ExportSource, folder: Path) -> tuple[list[str], list[str]]:
    """Write all files but the weights; return their names, and notes for the person.

    Raises OSError.
    """
    write_atomically(folder / CLASSIFY, classify_code(source).encode())
    description = json.dumps(source.description(), indent=2) + "\n"
    write_atomically(folder / DESCRIPTION, description.encode())
    files, note = write_train_script(source, folder)
    if (known := source.saved.known) is not None:
        write_atomically(folder / KNOWN, lambda file: torch.save(known, file))
        files = [KNOWN, *files]
    return [CLASSIFY, WEIGHTS, DESCRIPTION, *files], [note]


def write_weights(source: ExportSource, folder: Path, half: bool) -> None:
    """Write weights.pt for the classify.py in the folder.

    half: in float16, which the script reads into float32. Raises OSError.
    """
    # The script's own network: what is written must load in it.
    network = runpy.run_path(str(folder / CLASSIFY))["build_network"]()
    weights = script_weights(source, network.state_dict(), half)
    write_atomically(folder / WEIGHTS, lambda file: torch.save(weights, file))


def classify_code(source: ExportSource) -> str:
    """Return the text of classify.py."""
    network, preprocessing = source.saved.network, source.preprocessing
    labels = "({})".format(", ".join(map(python_text, source.labels)))
    # A long list is read from description.json, and a tuple of one would need a comma.
    fits = len(f"LABELS = {labels}") <= MAX_COLUMNS and len(source.labels) > 1
    return render_code(
        "classify.py.jinja",
        **network_values(network, preprocessing.image_size),
        dataset=plain_word(source.config.dataset),
        labels=labels if fits else "",
        side=preprocessing.source_size,
        mean=preprocessing.mean,
        std=preprocessing.std,
        fit=preprocessing.fit,
        fit_text=FIT_TEXTS[preprocessing.fit],
        measure=source.measure,
        known=source.saved.known is not None,
        threshold=source.threshold,
        false_alarms=source.description()["false_alarms"],
    )


def script_weights(
    source: ExportSource, initial: dict[str, Tensor], half: bool
) -> dict[str, Tensor]:
    """Return the run's weights by the names that the script's network has for them.

    initial: the state of that network. Both networks are defined in the same order, so the names
    are matched by position. Raises DemoError if they are not the same.
    """
    own = source.saved.model.state_dict()
    if [tensor.shape for tensor in own.values()] != [tensor.shape for tensor in initial.values()]:
        raise DemoError(f"{CLASSIFY} has another network than {source.run.id}")
    tensors = (tensor.detach().cpu().contiguous() for tensor in own.values())
    return {
        name: tensor.half() if half and tensor.is_floating_point() else tensor
        for name, tensor in zip(initial, tensors, strict=True)
    }


@contextmanager
def script_answers(folder: Path) -> Iterator[Predict]:
    """Yield a function that classifies pictures, as files, with an exported classify.py.

    The script runs in a process of its own, which ends with the block.
    """
    labels = json.loads((folder / DESCRIPTION).read_text("utf-8"))["labels"]
    # One process for all pictures: starting torch for each would take an hour.
    command = [sys.executable, "-c", SERVER, str(folder / CLASSIFY)]
    with (
        tempfile.TemporaryDirectory() as scratch,
        # A file and no pipe: a pipe that nobody reads fills up and blocks the script.
        tempfile.TemporaryFile("w+", encoding="utf-8") as errors,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        path = Path(scratch, "picture")

        def answer(picture: ParityPicture) -> list[float]:
            """Return the probabilities of a picture."""
            path.write_bytes(picture.data)
            process.stdin.write(f"{path}\n")
            process.stdin.flush()
            line = process.stdout.readline()
            if not line:
                errors.seek(0)
                last = errors.read().strip().splitlines()[-1:]
                raise DemoError(f"{CLASSIFY} failed on {picture.name}: {''.join(last)}")
            shares = {row["label"]: row["confidence"] for row in json.loads(line)["labels"]}
            return [shares[label] for label in labels]  # the script sorts them by confidence

        yield lambda pictures: np.array([answer(picture) for picture in pictures])


def write_train_script(source: ExportSource, folder: Path) -> tuple[list[str], str]:
    """Write train.py if the run's recipe fits it; return the names of the files and a note.

    Raises OSError.
    """
    reason = why_not_offered(source)
    if reason:
        return [], f"train.py is not offered: {reason}."
    files = {TRAIN: render_code("train.py.jinja", **train_values(source))}
    if source.config.dataset == "shapes10":
        files[SHAPES] = shapes_code()
    for name, text in files.items():
        write_atomically(folder / name, text.encode())
    return [*files], "train.py repeats the training; the first lines in it say how to run it."


def why_not_offered(source: ExportSource) -> str:
    """Return why a run has no train.py, as the rest of a sentence; empty where it has one."""
    config, usual = source.config, defaults()
    if source.run.is_pretrained:
        return "the network was trained elsewhere"
    if config.model not in NETWORKS or config.optimizer != "sgd":
        return "it is for resnetN and plainN (He et al. 2015, section 4.2) trained with SGD"
    for name in LEFT_OUT:
        if getattr(config, name) != usual[name]:
            return f"it has no setting {name}, which this run uses"
    return ""


def train_values(source: ExportSource) -> dict[str, Any]:
    """Return what the template of train.py needs."""
    config, preprocessing = source.config, source.preprocessing
    fingerprint = source.run.fingerprint()
    view = RunView(source.run.log())
    view.refresh()
    sizes = image_sizes(config)
    return {
        **network_values(source.saved.network, config.image_size),
        "c": config,
        "bf16": view.started is not None and view.started.precision == "bf16",
        "reader": config.dataset if config.dataset in USAGES else "arrays",
        "usage": USAGES.get(config.dataset, USAGES["arrays"]),
        "stored_val": bool(fingerprint and fingerprint.images.get("val")),
        "schedule_code": schedule_code(config),
        "sizes": sizes,
        # The very operation of the app's networks: another one would round otherwise.
        "pool": f"nn.AvgPool2d({-(-config.image_size // 4)})" if len(sizes) == 1 else "Mean()",
        # Another number of threads adds floating-point numbers in another order.
        "threads": view.started.threads if view.started else 1,
        "augment_text": augment_text(config),
        "side": preprocessing.source_size,
        "mean": preprocessing.mean,
        "std": preprocessing.std,
    }


def schedule_code(config: TrainConfig) -> str:
    """Return the body of `learning_rate` as code."""
    warm_up = f"{config.warmup_epochs:g} * steps_per_epoch"
    if config.schedule == "one-cycle":
        share = f"{ONE_CYCLE_RISE} * EPOCHS * steps_per_epoch"
        rise = warm_up if config.warmup_epochs else share
        return ONE_CYCLE.format(rise=rise, start=ONE_CYCLE_START, end=ONE_CYCLE_END)
    lines, code = [], SCHEDULES[config.schedule]
    if config.warmup_epochs:
        lines = [
            f"    warm_up = {warm_up}",
            "    if step < warm_up:",
            "        return PEAK_LR * (step + 1) / (warm_up + 1)",
        ]
    if "done" in code:
        done = "(step - warm_up) / max(1, {} - warm_up)" if lines else "step / ({})"
        lines.append("    done = " + done.format("EPOCHS * steps_per_epoch"))
    return "\n".join([*lines, code])


def augment_text(config: TrainConfig) -> str:
    """Return what augmentation does, as part of a docstring."""
    parts = [
        "mirrored" if config.flip else "",
        "shifted" if config.crop else "",
        "with a blank square" if config.cutout else "",
    ]
    return ", ".join(filter(None, parts))


def shapes_code() -> str:
    """Return the module that draws shapes10, without what only this program needs."""
    code = Path(shapes.__file__).read_text("utf-8")
    # Between the outlines and the drawing stands the description of the dataset.
    before, rest = code.split("\n\nINFO = DatasetInfo(")
    code = before + "\n\n\n" + rest[rest.index("@lru_cache") :]
    for line in OWN_IMPORTS:
        code = code.replace(line, "")
    return code
