"""The ONNX graph of a classifier: nodes one by one, and the preprocessing of pictures.

PIL resizes in two passes, first along the rows, with weights of 22 bits, and rounds to whole
numbers after each. The graph does the same sums in whole numbers, as products of matrices, so its
squares are equal bit for bit. ONNX's antialiased Resize rounds some halves otherwise: over 1,030
pictures the shipped network's probabilities were up to 0.0101 apart.
"""

from typing import Any

import numpy as np
from torch import Tensor

from resnet_demo.data.preprocess import Preprocessing

INPUT, PROBABILITIES = "image", "probabilities"
PRECISION_BITS = 22  # of PIL's weights
BLOCK = 16  # new pixels whose weights are computed together
OPSET, IR_VERSION = 20, 9  # the oldest that have all operators, so that older programs open it
ABOUT = (
    "Input: pictures as RGB, uint8 (N, H, W, 3), upright, of any size. Outputs: probabilities "
    "(N, classes), and energy or distance (N,): a picture with a value above the threshold is "
    "unlike the training pictures. Metadata: labels, threshold and description, each as JSON."
)


class Graph:
    """An ONNX graph that grows node by node. A value is the name of a node's output."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, kind: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        """Add an operator and return its output."""
        from onnx import helper

        # Names need only be unique; the operator in them helps a reader of the file.
        out = out or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [out], **attributes))
        return out

    def constant(self, values: np.ndarray | Tensor) -> str:
        """Add a constant and return it."""
        from onnx import numpy_helper

        if isinstance(values, Tensor):
            values = values.detach().numpy()
        name = f"constant_{len(self.constants)}"
        # Order: ONNX stores plain bytes, and a channels-last tensor has others.
        self.constants.append(numpy_helper.from_array(np.asarray(values, order="C"), name))
        return name

    def whole(self, *values: int) -> str:
        """Add a constant of whole numbers, (n,) int64."""
        return self.constant(np.array(values, np.int64))

    def number(self, value: int) -> str:
        """Add a constant, int32."""
        return self.constant(np.array(value, np.int32))

    def real(self, value: float) -> str:
        """Add a constant, float64."""
        return self.constant(np.array(value, np.float64))

    def exact(self, value: str) -> str:
        """Add a conversion to float64, in which PIL and Python compute sizes."""
        from onnx import TensorProto

        return self.add("Cast", value, to=TensorProto.DOUBLE)

    def integer(self, value: str) -> str:
        """Add a conversion to int64, which cuts off."""
        from onnx import TensorProto

        return self.add("Cast", value, to=TensorProto.INT64)

    def split(self, value: str, axis: int, count: int) -> list[str]:
        """Add a split of an axis into equal parts."""
        from onnx import helper

        names = [f"{value}_{part}" for part in range(count)]
        self.nodes.append(helper.make_node("Split", [value], names, axis=axis, num_outputs=count))
        return names

    def model(self, classes: int, score: str) -> Any:
        """Return the graph as an ONNX model with its inputs and outputs.

        score: name of the second output.
        """
        from onnx import TensorProto, helper

        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            self.nodes,
            "classifier",
            [value(INPUT, TensorProto.UINT8, ["N", "H", "W", 3])],
            [
                value(PROBABILITIES, TensorProto.FLOAT, ["N", classes]),
                value(score, TensorProto.FLOAT, ["N"]),
            ],
            self.constants,
        )
        return helper.make_model(
            graph,
            producer_name="resnet-demo",
            doc_string=ABOUT,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
        )

    def squared(self, image: str, preprocessing: Preprocessing) -> str:
        """Add `Preprocessing.fit_picture`: (N, H, W, 3) uint8 -> (N, 3, S, S) uint8."""
        side = self.whole(preprocessing.source_size)
        if preprocessing.fit == "pad":
            return self.padded(image, side)
        if preprocessing.fit == "crop":
            image = self.cropped(image)
        return self.resized(image, side, side, preprocessing.source_size)

    def size(self, image: str) -> tuple[str, str]:
        """Add the height and width of (N, H, W, 3), (1,) int64 each."""
        return self.add("Shape", image, start=1, end=2), self.add("Shape", image, start=2, end=3)

    def cropped(self, image: str) -> str:
        """Add `crop_region`: (N, H, W, 3) -> the centre square."""
        height, width = self.size(image)
        # Sizes are computed in the graph: they differ from picture to picture.
        shortest = self.add("Min", height, width)
        lengths = self.add("Concat", height, width, axis=0)
        start = self.add("Div", self.add("Sub", lengths, shortest), self.whole(2))
        end = self.add("Add", start, shortest)
        return self.add("Slice", image, start, end, self.whole(1, 2))

    def resized(self, image: str, height: str, width: str, side: int | None = None) -> str:
        """Add PIL's bilinear resize: (N, H, W, 3) uint8 -> (N, 3, height, width) uint8.

        side: the height and width where they are known.
        """
        old_height, old_width = self.size(image)
        pixels = self.add("Transpose", image, perm=[0, 3, 1, 2])  # (N, 3, H, W)
        pixels = self.one_pass(pixels, old_width, width, 3, side)
        return self.one_pass(pixels, old_height, height, 2, side)

    def one_pass(self, pixels: str, old: str, new: str, axis: int, side: int | None) -> str:
        """Add one pass of PIL's resize: (N, 3, H, W) uint8 with another length of one axis."""
        old, new = (self.exact(self.add("Squeeze", v, self.whole(0))) for v in (old, new))
        scale, zero = self.add("Div", old, new), self.real(0)
        if side is None or side <= BLOCK:
            weights = self.weights(zero, new, zero, old, scale)
            return self.weighted(pixels, weights, axis)
        # A new pixel depends on few old ones: in blocks, most zeros of the weights are left out.
        support, blocks = self.add("Max", scale, self.real(1)), []
        for start in range(0, side, BLOCK):
            end = min(start + BLOCK, side)
            first = self.add("Sub", self.add("Mul", self.real(start + 0.5), scale), support)
            last = self.add("Add", self.add("Mul", self.real(end - 0.5), scale), support)
            # One pixel more on either side: its weight is zero, and rounding cannot cut one off
            # that counts.
            low = self.add("Max", self.add("Sub", self.add("Floor", first), self.real(1)), zero)
            high = self.add("Min", self.add("Add", self.add("Ceil", last), self.real(1)), old)
            weights = self.weights(self.real(start), self.real(end), low, high, scale)
            limits = (self.add("Reshape", self.integer(v), self.whole(1)) for v in (low, high))
            block = self.add("Slice", pixels, *limits, self.whole(axis))
            blocks.append(self.weighted(block, weights, axis))
        return self.add("Concat", *blocks, axis=axis)

    def weighted(self, pixels: str, weights: str, axis: int) -> str:
        """Add sums of pixels (N, 3, H, W) uint8 along an axis, by weights (new, old) int32."""
        from onnx import TensorProto

        # Products of bytes are exact in int32 and as fast as those of floats. A weight has three.
        shifted = [self.add("Div", weights, self.number(256**part)) for part in range(3)]
        parts = self.add("Mod", self.add("Concat", *shifted, axis=0), self.number(256))
        parts = self.add("Cast", parts, to=TensorProto.UINT8)  # (3 new, old)
        if axis == 3:
            sums = self.add("MatMulInteger", pixels, self.add("Transpose", parts, perm=[1, 0]))
        else:
            sums = self.add("MatMulInteger", parts, pixels)
        total = self.number(1 << (PRECISION_BITS - 1))  # a half, to round
        for number, part in enumerate(self.split(sums, axis, 3)):
            total = self.add("Add", total, self.add("Mul", part, self.number(256**number)))
        # Whole numbers: it cuts off.
        pixels = self.add("Div", total, self.number(1 << PRECISION_BITS))
        return self.add("Cast", self.add("Min", pixels, self.number(255)), to=TensorProto.UINT8)

    def weights(self, start: str, end: str, low: str, high: str, scale: str) -> str:
        """Add the weights of old pixels low to high for new ones start to end, (new, old) int32.

        As `precompute_coeffs` of PIL's Resample.c: a triangle over the pixels that exist, as wide
        as a new pixel but at least as an old one.
        """
        from onnx import TensorProto

        zero, half, one = self.real(0), self.real(0.5), self.real(1)
        steepness = self.add("Div", one, self.add("Max", scale, one))
        places = self.add("Add", self.add("Range", start, end, one), half)
        centres = self.add("Unsqueeze", self.add("Mul", places, scale), self.whole(1))  # (new, 1)
        offsets = self.add("Add", self.add("Sub", self.add("Range", low, high, one), centres), half)
        heights = self.add("Sub", one, self.add("Abs", self.add("Mul", offsets, steepness)))
        triangle = self.add("Max", heights, zero)
        total = self.add("ReduceSum", triangle, self.whole(1), keepdims=1)
        # In float64 up to here, as in PIL: the rounding to whole weights must be the same.
        weights = self.add("Mul", self.add("Div", triangle, total), self.real(1 << PRECISION_BITS))
        return self.add("Cast", self.add("Add", weights, half), to=TensorProto.INT32)  # cut off

    def padded(self, image: str, side: str) -> str:
        """Add `pad_to_square`: (N, H, W, 3) uint8 -> (N, 3, S, S), padded with the mean colour."""
        from onnx import TensorProto

        height, width = self.size(image)
        longest = self.exact(self.add("Max", height, width))
        lengths = self.exact(self.add("Concat", height, width, axis=0))
        scaled = self.add("Mul", lengths, self.exact(side))
        scaled = self.add("Round", self.add("Div", scaled, longest))
        one = self.whole(1)
        size = self.add("Max", self.integer(scaled), one)
        rows, columns = (
            self.add("Slice", size, self.whole(place), self.whole(place + 1)) for place in (0, 1)
        )
        content = self.exact(self.resized(image, rows, columns))
        axes = self.whole(2, 3)
        total = self.add("ReduceSum", content, axes, keepdims=1)
        count = self.exact(self.add("Mul", rows, columns))
        mean = self.add("Round", self.add("Div", total, count))
        # The difference from the mean colour is padded with zeros: Pad takes one value only.
        missing = self.add("Sub", side, size)
        before = self.add("Div", missing, self.whole(2))  # as `_middle` of `data.pictures` rounds
        pads = self.add("Concat", before, self.add("Sub", missing, before), axis=0)
        square = self.add("Pad", self.add("Sub", content, mean), pads, "", axes)
        return self.add("Cast", self.add("Add", square, mean), to=TensorProto.UINT8)

    def prepared(self, pixels: str, preprocessing: Preprocessing) -> str:
        """Add `Preprocessing.prepare`: (N, 3, S, S) uint8 -> (N, 3, S', S') float32."""
        from onnx import TensorProto

        std = np.array(preprocessing.std, np.float32).reshape(3, 1, 1)
        mean = np.array(preprocessing.mean, np.float32).reshape(3, 1, 1)
        x = self.add("Cast", pixels, to=TensorProto.FLOAT)
        # In the order of `Preprocessing.prepare`, so that roundings are the same.
        x = self.add("Mul", x, self.constant(1 / (255 * std)))
        x = self.add("Sub", x, self.constant(mean / std))
        side = preprocessing.image_size
        if side == preprocessing.source_size:
            return x
        size = self.add("Concat", self.add("Shape", x, end=1), self.whole(3, side, side), axis=0)
        shrinks = int(side < preprocessing.source_size)
        return self.add(
            "Resize",
            *(x, "", "", size),
            mode="linear",
            coordinate_transformation_mode="half_pixel",
            antialias=shrinks,
            # PyTorch divides by the weights of the pixels that exist.
            exclude_outside=shrinks,
        )
