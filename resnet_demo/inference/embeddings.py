"""Embeddings of a dataset's images by a frozen backbone, kept for the next run that needs them.

The file of a cache holds one record per image, written as soon as it is computed and checked by its
own checksum: a killed run loses nothing, and a damaged record is computed again.
"""

import copy
import hashlib
import json
import logging
import os
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from resnet_demo.models.layers import Network

FOLDER = ".embeddings"  # below the data root; hidden, since other folders are datasets
MAX_BYTES = 2 * 10**9  # of all files; the one that was used longest ago is removed
LARGE_IMAGE = 64  # pixels a side from which folding BatchNorm is worth a copy of the network
FORMAT = 1  # another number for embeddings that are computed in another way


class Backbone:
    """A network without its head, in the form in which it computes embeddings fastest.

    A copy of the network in which BatchNorm is folded into the convolutions, in bf16 where that is
    the precision: EfficientNet-Lite0 is then almost four times as fast on a CPU with AMX.
    """

    def __init__(self, model: Network, precision: str, image_size: int) -> None:
        device = next(model.parameters()).device
        frozen = copy.deepcopy(model).eval()
        with torch.no_grad():
            fold_batch_norm(frozen, torch.zeros(1, 3, image_size, image_size, device=device))
        # No autocast: it would convert every weight again at each call.
        self.kind = torch.bfloat16 if precision == "bf16" else torch.float32
        self.model = frozen.to(self.kind).to(memory_format=torch.channels_last)
        self.device = device

    @torch.inference_mode()
    def embed(self, x: Tensor) -> Tensor:
        """Return the features' mean over all pixels, (B, C) float16 on the CPU.

        x: (B, 3, S, S), normalized, channels last.
        """
        maps = self.model.features(x.to(self.device, self.kind))
        # float16, which a cache holds in half the space: its 11 bits are more than those of bf16.
        return maps.float().mean((2, 3)).half().cpu()


def folded_network(model: Network, image_size: int, device: torch.device) -> Network:
    """Return a network on a device that computes the same logits in float32, faster.

    It is a copy with BatchNorm folded into the convolutions, in evaluation mode; for small images
    it is the network itself. EfficientNet-Lite0 takes 0.75 of the time on a CPU, and its logits
    differ by 5e-6 at most.
    """
    if image_size < LARGE_IMAGE:
        return model.to(device, memory_format=torch.channels_last)
    folded = copy.deepcopy(model).to(device).eval()
    with torch.no_grad():
        fold_batch_norm(folded, torch.zeros(1, 3, image_size, image_size, device=device))
    return folded.to(memory_format=torch.channels_last)


def fold_batch_norm(model: Network, x: Tensor) -> None:
    """Fold each BatchNorm that follows a convolution into it, in place; the outputs stay.

    x: (1, 3, S, S), any image: which layer follows which is observed in a forward pass.
    """
    outputs: dict[int, tuple[nn.Conv2d, Tensor]] = {}
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []

    def after_convolution(layer: nn.Module, _: Any, output: Tensor) -> None:
        outputs[id(output)] = layer, output  # the tensor is held, so that its id stays its own

    def before_norm(layer: nn.Module, inputs: tuple[Tensor]) -> None:
        if id(inputs[0]) in outputs:
            pairs.append((outputs[id(inputs[0])][0], layer))

    hooks = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(after_convolution))
        elif isinstance(module, nn.BatchNorm2d):
            hooks.append(module.register_forward_pre_hook(before_norm))
    model.features(x)
    for hook in hooks:
        # Removed before the weights change: the copy of the network stays in use.
        hook.remove()
    for layer, norm in pairs:
        layer.weight, layer.bias = fuse_conv_bn_weights(
            layer.weight,
            layer.bias,
            norm.running_mean,
            norm.running_var,
            norm.eps,
            norm.weight,
            norm.bias,
        )
    # Replaced, not only emptied: a BatchNorm that does nothing still reads and writes the map.
    folded = {norm for _, norm in pairs}
    for parent in model.modules():
        for name, child in parent.named_children():
            if child in folded:
                setattr(parent, name, nn.Identity())


def backbone_digest(model: Network) -> str:
    """Return the sha256 of all weights but the head's, in hex."""
    whole = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        if not name.startswith("head."):
            # The name too: two layers of the same shape may be swapped.
            whole.update(name.encode())
            whole.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return whole.hexdigest()


class EmbeddingCache:
    """Embeddings of the images of a stored split, by their position in it.

    A disk that is full or read-only only means that they are computed again the next time.
    root: of the data; None keeps nothing. facts: all that the embeddings depend on.
    """

    def __init__(
        self, root: Path | None, facts: Mapping[str, Any], images: int, width: int
    ) -> None:
        self.record = np.dtype([("checksum", "<u4"), ("known", "u1"), ("row", "<f2", (width,))])
        self.size = images * self.record.itemsize
        text = json.dumps({**facts, "images": images, "width": width, "format": FORMAT})
        # The facts are in the name: embeddings by other weights or another preprocessing are
        # another file.
        name = hashlib.sha256(text.encode()).hexdigest()[:32]
        self.path = None if root is None else root / FOLDER / f"{name}.bin"

    def read(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows, (n, width) float16, and which of them are known, (n,) bool."""
        rows = np.zeros((len(positions), *self.record["row"].shape), np.float16)
        known = np.zeros(len(positions), bool)
        try:
            # Or another program's file.
            if self.path is None or self.path.stat().st_size != self.size:
                return rows, known
            records = np.memmap(self.path, self.record, "c")[positions]
            with suppress(OSError):  # a disk of another owner may refuse
                os.utime(self.path)  # used now: the oldest are removed
        except (OSError, ValueError):
            return rows, known
        for number, record in enumerate(records):
            row = record["row"]
            known[number] = record["known"] == 1 and record["checksum"] == checksum(row)
        rows[known] = records["row"][known]
        return rows, known

    def write(self, positions: np.ndarray, rows: np.ndarray) -> None:
        """Store rows, (n, width) float16, at these positions."""
        if self.path is None:
            return
        records = np.zeros(len(rows), self.record)
        records["row"], records["known"] = rows, 1
        records["checksum"] = [checksum(row) for row in records["row"]]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Plain writes instead of a memory map: a full disk then raises OSError and is no
            # SIGBUS.
            with open(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644), "r+b") as file:
                # A sparse file: records that are not computed yet take no space.
                file.truncate(self.size)
                for position, record in zip(positions.tolist(), records, strict=True):
                    file.seek(position * self.record.itemsize)
                    file.write(record.tobytes())
        except OSError as error:
            logging.getLogger("resnet_demo").warning("embeddings are not kept: %s", error)
            self.path = None

    def tidy(self) -> None:
        """Remove the files that were used longest ago, above MAX_BYTES in all; never this one."""
        if self.path is None:
            return
        with suppress(OSError):
            files = [(file, file.stat()) for file in self.path.parent.glob("*.bin")]
            files.sort(key=lambda entry: entry[1].st_mtime)
            # Not the size: of a file with few records, most is a hole.
            # st_blocks counts in units of 512 bytes, whatever the disk's block size.
            total = sum(512 * found.st_blocks for _, found in files)
            for file, found in files:
                if total > MAX_BYTES and file != self.path:
                    file.unlink()
                    total -= 512 * found.st_blocks


def checksum(row: np.ndarray) -> int:
    """Return the CRC-32 of an embedding."""
    return zlib.crc32(row.tobytes())
