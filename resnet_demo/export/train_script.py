"""train.py of the export format `script`: a run's recipe as one short script, torch and numpy.

It is offered for the networks of He et al. 2015, section 4.2, trained with SGD. The script draws
the same random numbers as `training` does, so its losses are those of the run.
"""

from pathlib import Path
from typing import Any

from resnet_demo.architectures import CIFAR_DEPTHS
from resnet_demo.config import TrainConfig, defaults
from resnet_demo.data import shapes
from resnet_demo.data.image_sizes import image_sizes
from resnet_demo.export.code import network_values, render_code
from resnet_demo.export.source import ExportSource
from resnet_demo.files import write_atomically
from resnet_demo.runs.view import RunView
from resnet_demo.training.optimizers import ONE_CYCLE_END, ONE_CYCLE_RISE, ONE_CYCLE_START

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
