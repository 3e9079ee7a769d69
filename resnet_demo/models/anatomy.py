"""What a block and a network are made of, read off the real modules: shapes, weights, work.

They run on the meta device: shapes without arithmetic.
"""

import inspect
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from resnet_demo.errors import ConfigError
from resnet_demo.models.blocks import BasicBlock, Block, Bottleneck
from resnet_demo.models.layers import LayerOptions, Padding
from resnet_demo.models.measure import count_parameters
from resnet_demo.models.zoo import build_model

BLOCKS: dict[str, type[Block]] = {"basic": BasicBlock, "bottleneck": Bottleneck}
SHORTCUTS = ("identity", "padding", "projection", "none")
Shape = tuple[int, ...]  # channels, height, width


@dataclass(frozen=True)
class Layer:
    """One layer of a branch or of a shortcut: its name, what it is, the shape of what it puts out.

    what: in words. parameters: its weights. macs: multiply-adds an image.
    """

    name: str
    what: str
    shape: Shape
    parameters: int
    macs: int


@dataclass(frozen=True)
class BlockAnatomy:
    """A block as it is built: the shape that goes in, both ways through it, the shape of the sum.

    around: None in a plain network, empty where the input is added as it is.
    """

    entry: Shape
    branch: list[Layer]
    shortcut: list[Layer] | None
    sum: Shape
    parameters: int
    macs: int


@dataclass(frozen=True)
class Part:
    """A part of a network: the stem, a stage, the head.

    blocks: residual or plain blocks in it, 0 where it has none. shape: of what it puts out. share:
    of the network's multiply-adds, from 0 to 1.
    """

    name: str
    blocks: int
    shape: Shape
    parameters: int
    macs: int
    share: float


def block_anatomy(
    kind: str, c_in: int, width: int, stride: int, shortcut: str, side: int
) -> BlockAnatomy:
    """A block for a map of c_in channels and side x side pixels.

    kind: of BLOCKS; shortcut: of SHORTCUTS. Raises ConfigError for a shortcut that cannot make the
    shape of the branch.
    """
    block_type, entry = BLOCKS[kind], (c_in, side, side)
    c_out = width * block_type.expansion
    if shortcut == "identity" and (stride, c_in) != (1, c_out):
        raise ConfigError(
            f"an identity adds the input as it is: the block turns {c_in} channels into {c_out} at "
            f"stride {stride}, so choose padding or a projection",
            "shortcut",
        )
    if shortcut == "padding" and c_in > c_out:
        raise ConfigError(
            f"zeros can be added to {c_in} channels, not taken away: the block puts out {c_out}",
            "shortcut",
        )
    way = "padding" if shortcut == "identity" else shortcut
    with torch.device("meta"):
        block = block_type(c_in, width, stride, LayerOptions(shortcut=way))
    outputs, exit_shape = run(block, block, entry)
    layers = {
        name: layer(name, module, outputs[name])
        for name, module in block.named_modules()
        if name in outputs and not list(module.children())
    }
    inside = [one for name, one in layers.items() if not name.startswith("shortcut")]
    outside = [
        one
        for name, one in layers.items()
        if name.startswith("shortcut") and one.what != "identity"
    ]
    macs = sum(one.macs for one in layers.values())
    around = None if block.shortcut is None else outside
    return BlockAnatomy(entry, inside, around, exit_shape, count_parameters(block), macs)


def network_anatomy(name: str, image_size: int, num_classes: int = 10) -> list[Part]:
    """The parts of a network of the zoo, in order, with the small stem where it can be chosen."""
    with torch.device("meta"):
        model = build_model(name, num_classes)
    model.eval()
    outputs, _ = run(model, model.features, (3, image_size, image_size))
    named = [(part, model.get_submodule(part)) for part in model.stage_names]
    rows = [
        (
            part,
            blocks_in(module),
            outputs[part],
            count_parameters(module),
            macs_of(part, module, outputs),
        )
        for part, module in named
    ]
    rows.append(
        ("head", 0, (num_classes,), count_parameters(model.head), model.head.weight.numel())
    )
    total = sum(row[-1] for row in rows)
    return [Part(*row, share=row[-1] / total) for row in rows]


def source_of(kind: str) -> str:
    """The PyTorch code of a block, as this package has it: what all share, then its own."""
    return inspect.getsource(Block) + "\n\n" + inspect.getsource(BLOCKS[kind])


def run(model: nn.Module, forward: object, entry: Shape) -> tuple[dict[str, Shape], Shape]:
    """What each submodule puts out for one image of that shape, by name, and the whole."""
    outputs: dict[str, Shape] = {}

    def keep(name: str) -> object:
        return lambda module, _, y: outputs.update({name: tuple(y.shape[1:])})

    for name, module in model.named_modules():
        if name:
            module.register_forward_hook(keep(name))
    exit_shape = forward(torch.empty(1, *entry, device="meta"))
    return outputs, tuple(exit_shape.shape[1:])


def layer(name: str, module: nn.Module, shape: Shape) -> Layer:
    """One leaf in words and numbers."""
    return Layer(
        name,
        layer_text(module),
        shape,
        count_parameters(module),
        macs_of(name, module, {name: shape}),
    )


def macs_of(name: str, module: nn.Module, outputs: dict[str, Shape]) -> int:
    """Multiply-adds an image of the convolutions in a module of that name."""
    return sum(
        convolution.weight.numel() * pixels(outputs[".".join(filter(None, (name, inner)))])
        for inner, convolution in convolutions(module)
    )


def convolutions(module: nn.Module) -> Iterable[tuple[str, nn.Conv2d]]:
    """Every convolution in it, itself included, by its name within."""
    return ((name, one) for name, one in module.named_modules() if isinstance(one, nn.Conv2d))


def pixels(shape: Shape) -> int:
    """Of one channel."""
    return shape[1] * shape[2]


def blocks_in(module: nn.Module) -> int:
    """How many blocks stand in a part of a network: what adds, or would, a branch to its input."""
    return sum(hasattr(one, "branch") for one in module.modules())


def layer_text(module: nn.Module) -> str:
    """What a layer is."""
    if isinstance(module, nn.Conv2d):
        side, stride = module.kernel_size[0], module.stride[0]
        return f"{side}×{side} convolution" + (f", stride {stride}" if stride > 1 else "")
    if isinstance(module, Padding):
        return (
            "every other pixel, zeros for new channels"
            if module.stride > 1
            else "zeros for new channels"
        )
    return {"BatchNorm2d": "BatchNorm", "Identity": "identity"}.get(
        type(module).__name__, type(module).__name__
    )
