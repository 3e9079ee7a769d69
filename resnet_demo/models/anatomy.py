"""Shapes, parameters and multiply-adds inside blocks and networks, measured on the real modules."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from resnet_demo.errors import ConfigError
from resnet_demo.models.layers import LayerOptions, Padding
from resnet_demo.models.measure import count_parameters
from resnet_demo.models.resnet import BasicBlock, Block, Bottleneck
from resnet_demo.models.zoo import build_model

BLOCKS: dict[str, type[Block]] = {"basic": BasicBlock, "bottleneck": Bottleneck}
SHORTCUTS = ("identity", "padding", "projection", "none")
Shape = tuple[int, ...]  # channels, height, width


@dataclass(frozen=True)
class Layer:
    """A layer of a branch or shortcut. shape: of its output. macs: multiply-adds per image."""

    name: str
    description: str
    shape: Shape
    parameters: int
    macs: int


@dataclass(frozen=True)
class BlockAnatomy:
    """A block: the shapes of input and output, and the layers of branch and shortcut.

    shortcut: None in a plain network, empty if the input is added unchanged.
    """

    input: Shape
    branch: list[Layer]
    shortcut: list[Layer] | None
    output: Shape
    parameters: int
    macs: int


@dataclass(frozen=True)
class Part:
    """A part of a network: the stem, a stage or the head.

    blocks: number of its blocks, residual or plain. shape: of its output. share: of the network's
    multiply-adds, from 0 to 1.
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
    """Return the anatomy of a block for an input of c_in channels and side x side pixels.

    kind: a key of BLOCKS. shortcut: one of SHORTCUTS.
    Raises ConfigError for a shortcut that cannot produce the shape of the branch.
    """
    block_type = BLOCKS[kind]
    c_out = width * block_type.expansion
    check_shortcut(shortcut, c_in, c_out, stride)
    # LayerOptions makes an identity by itself if the shape stays.
    options = LayerOptions(shortcut="padding" if shortcut == "identity" else shortcut)
    with torch.device("meta"):
        block = block_type(c_in, width, stride, options)
    input_shape = (c_in, side, side)
    outputs, output_shape = trace_shapes(block, block, input_shape)
    # Leaf modules only: a container would count its layers a second time.
    layers = [
        describe_layer(name, module, outputs[name])
        for name, module in block.named_modules()
        if name in outputs and not list(module.children())
    ]
    branch = [layer for layer in layers if not layer.name.startswith("shortcut")]
    bypass = [
        layer
        for layer in layers
        # An empty list means that the input is added unchanged.
        if layer.name.startswith("shortcut") and layer.description != "identity"
    ]
    return BlockAnatomy(
        input=input_shape,
        branch=branch,
        shortcut=None if block.shortcut is None else bypass,
        output=output_shape,
        parameters=count_parameters(block),
        macs=sum(layer.macs for layer in layers),
    )


def check_shortcut(shortcut: str, c_in: int, c_out: int, stride: int) -> None:
    """Raise ConfigError for a shortcut that cannot turn c_in into c_out channels at that stride."""
    if shortcut == "identity" and (stride, c_in) != (1, c_out):
        raise ConfigError(
            f"an identity shortcut keeps the shape, but the block turns {c_in} channels into "
            f"{c_out} at stride {stride}: choose padding or projection",
            "shortcut",
        )
    if shortcut == "padding" and c_in > c_out:
        raise ConfigError(
            f"padding can only add channels, but the block turns {c_in} channels into {c_out}: "
            "choose projection",
            "shortcut",
        )


def network_anatomy(name: str, image_size: int, num_classes: int = 10) -> list[Part]:
    """Return the parts of a network in order, with the small stem where there is a choice."""
    with torch.device("meta"):
        # Shapes and counts need no memory for weights.
        model = build_model(name, num_classes)
    # BatchNorm in training mode refuses one image whose map is a single pixel.
    model.eval()
    outputs, _ = trace_shapes(model, model.features, (3, image_size, image_size))
    modules = {part: model.get_submodule(part) for part in model.stage_names}
    macs = {part: count_macs(part, module, outputs) for part, module in modules.items()}
    # The bias costs no multiplication.
    head_macs = model.head.weight.numel()
    # Without what is between the stages: pooling and sums have no multiplications.
    total = sum(macs.values()) + head_macs
    parts = [
        Part(
            name=part,
            blocks=count_blocks(module),
            shape=outputs[part],
            parameters=count_parameters(module),
            macs=macs[part],
            share=macs[part] / total,
        )
        for part, module in modules.items()
    ]
    head = Part(
        name="head",
        blocks=0,
        shape=(num_classes,),
        parameters=count_parameters(model.head),
        macs=head_macs,
        share=head_macs / total,
    )
    return [*parts, head]


def block_source(kind: str) -> str:
    """Return the PyTorch code of a block: its base class, then its own."""
    # Read from the module itself, so that the page shows what runs.
    return inspect.getsource(Block) + "\n\n" + inspect.getsource(BLOCKS[kind])


def trace_shapes(
    model: nn.Module, forward: Callable[[Tensor], Tensor], input_shape: Shape
) -> tuple[dict[str, Shape], Shape]:
    """Return the output shape of each submodule for one image, by name, and of the whole.

    The model is on the meta device, so only shapes are computed.
    """
    outputs: dict[str, Shape] = {}

    # One function per name: a lambda made in the loop below would only see the loop's last name.
    def save_shape(name: str) -> Callable:
        return lambda module, _, y: outputs.update({name: tuple(y.shape[1:])})

    for name, module in model.named_modules():
        if name:
            module.register_forward_hook(save_shape(name))
    output = forward(torch.empty(1, *input_shape, device="meta"))
    return outputs, tuple(output.shape[1:])


def describe_layer(name: str, module: nn.Module, shape: Shape) -> Layer:
    """Return a layer's description and counts."""
    macs = count_macs(name, module, {name: shape})
    return Layer(name, layer_text(module), shape, count_parameters(module), macs)


def count_macs(name: str, module: nn.Module, outputs: dict[str, Shape]) -> int:
    """Return the multiply-adds per image of the convolutions in the module of that name."""
    total = 0
    for inner, convolution in convolutions(module):
        _, height, width = outputs[".".join(filter(None, (name, inner)))]
        total += convolution.weight.numel() * height * width
    return total


def convolutions(module: nn.Module) -> Iterator[tuple[str, nn.Conv2d]]:
    """Yield (name, convolution) in a module, which may itself be one (its name is then empty)."""
    for name, inner in module.named_modules():
        # Norms and activations are few operations beside these; papers do not count them either.
        if isinstance(inner, nn.Conv2d):
            yield name, inner


def count_blocks(module: nn.Module) -> int:
    """Return the number of blocks, residual or plain, in a part of a network."""
    # All kinds of blocks have one.
    return sum(hasattr(inner, "branch") for inner in module.modules())


def layer_text(module: nn.Module) -> str:
    """Return the description of a layer."""
    if isinstance(module, nn.Conv2d):
        side, stride = module.kernel_size[0], module.stride[0]
        return f"{side}×{side} convolution" + (f", stride {stride}" if stride > 1 else "")
    if isinstance(module, Padding):
        if module.stride > 1:
            return "every other pixel, zeros for new channels"
        return "zeros for new channels"
    name = type(module).__name__
    return {"BatchNorm2d": "BatchNorm", "Identity": "identity"}.get(name, name)
