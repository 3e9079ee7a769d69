"""ONNX: one file with preprocessing, network and softmax inside.

Exported networks that answer differently have their cause outside of the file: in resizing and
normalization that somebody wrote again. So the file takes the pixels of a picture of any size.

The graph is written here, from the layers that `torch.fx` finds. `torch.onnx.export` takes seven
seconds for the same network, and needs another package.
"""

import importlib.util
import json
import operator
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from resnet_demo.errors import ConfigError
from resnet_demo.export.onnx_graph import INPUT, PROBABILITIES, Graph
from resnet_demo.export.parity import ParityPicture, Predict
from resnet_demo.export.source import ExportSource
from resnet_demo.models.efficientnet import SameConv2d
from resnet_demo.models.layers import Network, Padding

PACKAGES = ("onnx", "onnxruntime")


def write_onnx(source: ExportSource, folder: Path) -> str:
    """Write the run's network as an ONNX file and return its name.

    Raises ConfigError if a package is missing.
    """
    check_packages()
    import onnx

    graph = Graph()
    pixels = graph.squared(INPUT, source.preprocessing)
    x = graph.prepared(pixels, source.preprocessing)
    embedding, logits = add_network(graph, x, source.saved.model)
    graph.add("Softmax", logits, axis=1, out=PROBABILITIES)
    add_score(graph, embedding, logits, source.saved.known, source.measure)
    model = graph.model(len(source.labels), source.measure)
    description = source.description()
    # On their own too: a program needs these two, and not the whole description.
    for name in ("labels", "threshold"):
        model.metadata_props.add(key=name, value=json.dumps(description[name]))
    model.metadata_props.add(key="description", value=json.dumps(description))
    # A graph against the standard's rules is refused here, not by the programs that open the file.
    onnx.checker.check_model(model)
    name = f"{source.run.id}.onnx"
    (folder / name).write_bytes(model.SerializeToString())
    return name


def check_packages() -> None:
    """Raise ConfigError unless the packages of the extra `onnx` are installed."""
    if any(importlib.util.find_spec(name) is None for name in PACKAGES):
        raise ConfigError(
            f"ONNX needs more packages: `pip install {' '.join(PACKAGES)}` in the app's "
            "environment (`make` has it in .venv/bin)",
            "format",
        )


def predictor(path: Path) -> Predict:
    """Return a function that gives the file's probabilities, in batches of equal size."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # Threads that spin while they wait slow down a training beside it.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def predict(pictures: Sequence[ParityPicture]) -> np.ndarray:
        # Only neighbours of one size are put together, so the answers keep the order of the
        # pictures.
        groups = groupby((picture.rgb for picture in pictures), lambda rgb: rgb.shape)
        batches = (np.stack(list(group)) for _, group in groups)
        return np.concatenate([session.run([PROBABILITIES], {INPUT: b})[0] for b in batches])

    return predict


def add_score(graph: Graph, embedding: str, logits: str, known: Tensor | None, name: str) -> None:
    """Add `ood_scores`, (N,), as the output of that name.

    known: embeddings of training images, (M, D) float16, or None.
    """
    from onnx import TensorProto

    axis = graph.whole(1)
    if known is None:
        graph.add("Neg", graph.add("ReduceLogSumExp", logits, axis, keepdims=0), out=name)
        return
    # In float16, as the app keeps them: the same distances from half the bytes.
    rows = graph.add("Cast", graph.constant(known), to=TensorProto.FLOAT)
    unit, known_unit = (graph.add("LpNormalization", v, axis=1, p=2) for v in (embedding, rows))
    cosines = graph.add("MatMul", unit, graph.add("Transpose", known_unit, perm=[1, 0]))
    one = graph.constant(np.array(1, np.float32))
    graph.add("Sub", one, graph.add("ReduceMax", cosines, axis, keepdims=0), out=name)


def add_network(graph: Graph, x: str, model: Network) -> tuple[str, str]:
    """Add a network: (N, 3, S, S) normalized -> embedding (N, D) and logits (N, C)."""
    root = Features(model)
    modules = dict(root.named_modules())
    values: dict[fx.Node, str] = {}
    folded: set[fx.Node] = set()
    for node in LayerTracer().trace(root).nodes:
        inputs = [values[value] for value in node.all_input_nodes]
        if node.op == "placeholder":
            values[node] = x
        elif node.op == "output":
            features = inputs[0]  # the output of Features, the last map
        elif node in folded:
            values[node] = inputs[0]
        elif node.op == "call_module":
            module = modules[node.target]
            after = next(iter(node.users))
            if isinstance(module, nn.Conv2d) and is_norm(after, modules, node):
                # A batch norm after a convolution is a convolution with other weights.
                module = fuse_conv_bn_eval(module, modules[after.target])  # as float32, on a copy
                folded.add(after)
            values[node] = add_layer(graph, module, *inputs)
        else:
            values[node] = graph.add(FUNCTIONS[node.target], *inputs)
    # GlobalAveragePool leaves (N, C, 1, 1), and Gemm takes matrices.
    pooled = graph.add("Flatten", graph.add("GlobalAveragePool", features))
    head = model.head
    weights = (graph.constant(head.weight), graph.constant(head.bias))
    # nn.Linear stores its weights as (classes, features).
    return pooled, graph.add("Gemm", pooled, *weights, transB=1)


def add_layer(graph: Graph, module: nn.Module, x: str) -> str:
    """Add one layer. Raises KeyError for a kind that no network here has."""
    # By base class too: SameConv2d is a Conv2d.
    return next(LAYERS[kind] for kind in type(module).__mro__ if kind in LAYERS)(graph, module, x)


class Features(nn.Module):
    """A network without its pool and head."""

    def __init__(self, model: Network) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Return the last feature map."""
        return self.model.features(x)


class LayerTracer(fx.Tracer):
    """Traces a network down to the layers in LAYERS."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Return whether a module is not looked into."""
        # Both compute with the size of their input, for which FUNCTIONS has no operator.
        return isinstance(m, SameConv2d | Padding) or super().is_leaf_module(
            m, module_qualified_name
        )


def is_norm(after: fx.Node, modules: dict[str, nn.Module], node: fx.Node) -> bool:
    """Return whether the only use of a node's output is a batch norm."""
    return (
        # Another user of the convolution would see the output of the norm as well.
        len(node.users) == 1
        and after.op == "call_module"
        and isinstance(modules[after.target], nn.BatchNorm2d)
    )


def add_convolution(graph: Graph, conv: nn.Conv2d, x: str) -> str:
    """Add a convolution."""
    weights = [graph.constant(conv.weight)]
    weights += [graph.constant(conv.bias)] if conv.bias is not None else []
    # TensorFlow's padding, of which SameConv2d computes the numbers from the size of the input
    padding = (
        {"auto_pad": "SAME_UPPER"}
        if isinstance(conv, SameConv2d)
        else {"pads": [*conv.padding, *conv.padding]}
    )
    return graph.add("Conv", x, *weights, strides=conv.stride, group=conv.groups, **padding)


def add_norm(graph: Graph, norm: nn.BatchNorm2d, x: str) -> str:
    """Add a batch norm with its running statistics."""
    tensors = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    return graph.add("BatchNormalization", x, *map(graph.constant, tensors), epsilon=norm.eps)


def add_max_pool(graph: Graph, pool: nn.MaxPool2d, x: str) -> str:
    """Add a max-pool."""
    size, stride, padding = ([v, v] for v in (pool.kernel_size, pool.stride, pool.padding))
    return graph.add("MaxPool", x, kernel_shape=size, strides=stride, pads=padding * 2)


def add_padding(graph: Graph, shortcut: Padding, x: str) -> str:
    """Add the shortcut without parameters: every stride-th pixel, and zero channels."""
    # Slice has no open end; ONNX names the largest number for it.
    step, far = shortcut.stride, np.iinfo(np.int64).max
    ranges = (graph.whole(*numbers) for numbers in ((0, 0), (far, far), (2, 3), (step, step)))
    x = graph.add("Slice", x, *ranges)
    # Taken from the value: the tracer knows no shapes.
    channels = graph.add("Shape", x, start=1, end=2)
    missing = graph.add("Sub", graph.whole(shortcut.channels), channels)
    pads = graph.add("Concat", graph.whole(0), missing, axis=0)
    # "" is the optional fill value, 0 if left out; 1 is the axis of the channels.
    return graph.add("Pad", x, pads, "", graph.whole(1))


def add_relu6(graph: Graph, relu: nn.ReLU6, x: str) -> str:
    """Add a ReLU that ends at 6."""
    # Limits of another type than the input's are refused.
    return graph.add("Clip", x, *(graph.constant(np.array(v, np.float32)) for v in (0, 6)))


LAYERS: dict[type, Callable[[Graph, Any, str], str]] = {
    nn.Conv2d: add_convolution,
    nn.BatchNorm2d: add_norm,
    nn.MaxPool2d: add_max_pool,
    Padding: add_padding,
    nn.ReLU6: add_relu6,
    nn.ReLU: lambda graph, _, x: graph.add("Relu", x),
    nn.GELU: lambda graph, _, x: graph.add("Gelu", x),
    nn.Identity: lambda graph, _, x: x,  # a network without BatchNorm, and shortcuts
}
FUNCTIONS = {F.relu: "Relu", F.gelu: "Gelu", operator.add: "Add"}
