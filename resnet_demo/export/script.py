"""The export format `script`: classify.py with its weights, for torch and pillow alone.

Where the run's recipe can be written as a short script, train.py lies beside it
(`train_script`). The code is made from the templates in `export/templates`: the network's
definition and the preprocessing stand in it with this run's numbers.
"""

import json
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from resnet_demo.errors import DemoError
from resnet_demo.export.code import network_values, plain_word, python_text, render_code
from resnet_demo.export.parity import ParityPicture, Predict
from resnet_demo.export.source import ExportSource
from resnet_demo.export.train_script import write_train_script
from resnet_demo.files import write_atomically

CLASSIFY, WEIGHTS, DESCRIPTION = "classify.py", "weights.pt", "description.json"
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


def write_script(source: ExportSource, folder: Path) -> tuple[list[str], list[str]]:
    """Write all files but the weights; return their names, and notes for the person.

    Raises OSError.
    """
    write_atomically(folder / CLASSIFY, classify_code(source).encode())
    description = json.dumps(source.description(), indent=2) + "\n"
    write_atomically(folder / DESCRIPTION, description.encode())
    files, note = write_train_script(source, folder)
    return [CLASSIFY, WEIGHTS, DESCRIPTION, *files], [note]


def write_weights(source: ExportSource, folder: Path, half: bool) -> None:
    """Write weights.pt for the classify.py in the folder.

    half: in float16, which the script reads into float32. Raises OSError.
    """
    network = runpy.run_path(str(folder / CLASSIFY))["build_network"]()
    weights = script_weights(source, network.state_dict(), half)
    write_atomically(folder / WEIGHTS, lambda file: torch.save(weights, file))


def classify_code(source: ExportSource) -> str:
    """Return the text of classify.py."""
    network, preprocessing = source.saved.network, source.preprocessing
    labels = "({})".format(", ".join(map(python_text, source.labels)))
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
    command = [sys.executable, "-c", SERVER, str(folder / CLASSIFY)]
    with (
        tempfile.TemporaryDirectory() as scratch,
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
            return [shares[label] for label in labels]

        yield lambda pictures: np.array([answer(picture) for picture in pictures])
