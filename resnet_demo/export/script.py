"""The export format `script`: classify.py with its weights, for torch and pillow alone.

Where the run's recipe can be written as a short script, train.py lies beside it
(`train_script`). The code is made from the templates in `export/templates`: the network's
definition and the preprocessing stand in it with this run's numbers.
"""

import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from torch import Tensor

from resnet_demo.architectures import RESNET9_MODELS, STEM_CHOICE_MODELS
from resnet_demo.errors import DemoError, is_displayable
from resnet_demo.export.parity import ParityPicture, Predict
from resnet_demo.export.source import ExportSource
from resnet_demo.files import write_atomically
from resnet_demo.models.resnet import CIFAR_WIDTHS
from resnet_demo.models.resnet import WIDTHS as RESNET_WIDTHS
from resnet_demo.models.resnet9 import DEEP, RESIDUALS, WIDE, WIDTHS

CLASSIFY, WEIGHTS, DESCRIPTION = "classify.py", "weights.pt", "description.json"
TEMPLATES = Path(__file__).with_name("templates")
MAX_COLUMNS = 100  # of a line of code
FIT_TEXTS = {"crop": "its centre square", "squash": "squashed", "pad": "padded"}
DEPTHS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3)}
# Reads paths, a line each, and prints what `classify` returns, with every class.
SERVER = """\
import importlib.util, json, sys
import torch
torch.set_num_threads(1)
spec = importlib.util.spec_from_file_location("classify", sys.argv[1])
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)
network = script.build_network().eval()
network.load_state_dict(torch.load(script.HERE / "weights.pt", weights_only=True))
for line in sys.stdin:
    print(json.dumps(script.classify(network, line[:-1], len(script.LABELS))), flush=True)
"""


def write_script(source: ExportSource, folder: Path, half: bool = True) -> list[str]:
    """Write classify.py, its weights and description.json; return the names of the files.

    half: weights in float16, which `classify.py` reads into float32. Raises OSError.
    """
    description = json.dumps(source.description(), indent=2) + "\n"
    write_atomically(folder / DESCRIPTION, description.encode())
    write_atomically(folder / CLASSIFY, classify_code(source).encode())
    weights = script_weights(source, load_script(folder / CLASSIFY), half)
    write_atomically(folder / WEIGHTS, lambda file: torch.save(weights, file))
    return [CLASSIFY, WEIGHTS, DESCRIPTION]


def classify_code(source: ExportSource) -> str:
    """Return the text of classify.py."""
    network, preprocessing = source.saved.network, source.preprocessing
    outside = source.saved.metrics.get("outside") or {}
    labels = "({})".format(", ".join(map(python_text, source.labels)))
    fits = len(f"LABELS = {labels}") <= MAX_COLUMNS and len(source.labels) > 1
    return render(
        "classify.py.jinja",
        **network_values(network),
        # EfficientNet's padding depends on whether a side that is halved is even.
        odd_sides=preprocessing.image_size % 32 > 0,
        model=network["name"],
        article="an" if network["name"].startswith("e") else "a",
        dataset=plain_word(source.config.dataset),
        labels=labels if fits else "",
        classes=network["num_classes"],
        side=preprocessing.source_size,
        image_size=preprocessing.image_size,
        mean=preprocessing.mean,
        std=preprocessing.std,
        fit=preprocessing.fit,
        fit_text=FIT_TEXTS[preprocessing.fit],
        threshold=source.threshold,
        false_alarms=outside.get("false_alarms"),
    )


def network_values(network: dict[str, Any]) -> dict[str, Any]:
    """Return what the templates need to define a network. network: arguments of build_model."""
    name, batch_norm = network["name"], network["batch_norm"]
    values: dict[str, Any] = {"batch_norm": batch_norm, "pool": "nn.AdaptiveAvgPool2d(1)"}
    if name in RESNET9_MODELS:
        widths = WIDTHS if name == "resnet9" else WIDE
        residuals = DEEP if name == "resnet11" else RESIDUALS
        return {**values, "family": "resnet9", "stages": stages(widths, residuals)}
    if name in ("vgg16", "efficientnet-lite0"):
        return {**values, "family": name.rstrip("16").removesuffix("-lite0")}
    is_article, is_large = name == "resnet34-article", name in STEM_CHOICE_MODELS
    depth = int(re.search(r"\d+", name)[0])
    if is_article or is_large:
        widths, depths = RESNET_WIDTHS, DEPTHS[f"resnet{depth}"]
    else:
        widths, depths = CIFAR_WIDTHS, ((depth - 2) // 6,) * 3
    shortcut = "none" if name.startswith("plain") else "padding"
    return {
        **values,
        "family": "resnet",
        "stages": stages(widths, depths),
        "widths": widths,
        "bottleneck": name == "resnet50",
        "shortcut": "projection" if is_article or is_large else shortcut,
        "biased": is_article or not batch_norm,
        "large_stem": is_article or (is_large and network["stem"] == "imagenet"),
    }


def stages(widths: tuple[int, ...], depths: tuple[int, ...]) -> str:
    """Return the stages of a network as code: ((64, 2), (128, 2))."""
    return str(tuple(zip(widths, depths, strict=True)))


def script_weights(source: ExportSource, script: Any, half: bool) -> dict[str, Tensor]:
    """Return the run's weights by the names that the script's network has for them.

    Both networks are defined in the same order, so the names are matched by position.
    """
    own, names = source.saved.model.state_dict(), script.build_network().state_dict()
    if [tensor.shape for tensor in own.values()] != [tensor.shape for tensor in names.values()]:
        raise DemoError(f"the script has another network than {source.run.id}")
    tensors = (tensor.detach().cpu().contiguous() for tensor in own.values())
    return {
        name: tensor.half() if half and tensor.is_floating_point() else tensor
        for name, tensor in zip(names, tensors, strict=True)
    }


def load_script(path: Path) -> Any:
    """Return an exported script as a module; it is not registered."""
    spec = importlib.util.spec_from_file_location("exported_script", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


@contextmanager
def script_answers(folder: Path) -> Iterator[Predict]:
    """Yield a function that classifies pictures with an exported classify.py, as files.

    The script runs in a process of its own, which ends with the block.
    """
    labels = json.loads((folder / DESCRIPTION).read_text("utf-8"))["labels"]
    command = [sys.executable, "-c", SERVER, str(folder / CLASSIFY)]
    with (
        tempfile.TemporaryDirectory() as scratch,
        tempfile.TemporaryFile("w+", encoding="utf-8") as errors,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        path = Path(scratch, "picture")

        def predict(picture: ParityPicture) -> np.ndarray:
            """Return the probabilities of a picture, (C,) float64."""
            path.write_bytes(picture.data)
            process.stdin.write(f"{path}\n")
            process.stdin.flush()
            line = process.stdout.readline()
            if not line:
                errors.seek(0)
                last = errors.read().strip().splitlines()[-1:]
                raise DemoError(f"{CLASSIFY} failed on {picture.name}: {''.join(last)}")
            shares = {row["label"]: row["confidence"] for row in json.loads(line)["labels"]}
            return np.array([shares[label] for label in labels])

        yield predict
        process.stdin.close()


def render(name: str, **values: Any) -> str:
    """Return the text of a template of code."""
    # No autoescape: this is code. What other people wrote passes `python_text` or `plain_word`.
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    return environment.get_template(name).render(values)


def python_text(text: str) -> str:
    """Return a text as Python code, in double quotes and on one line."""
    # Marks of writing direction would make the code look other than it is.
    return json.dumps(text, ensure_ascii=False) if is_displayable(text) else ascii(text)


def plain_word(text: str) -> str:
    """Return a name with nothing in it that could end a comment or a docstring."""
    return re.sub(r"[^A-Za-z0-9._-]", "?", text)
