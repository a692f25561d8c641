"""Small untrained networks of typical operations, to measure what a machine computes fast; made without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..atomic import write_file
from .backbone import Backbone
from .loading import load_backbone
from .tensor_spec import TensorSpec

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

INPUT_SHAPE = (3, 112, 112)
N_BLOCKS = 2
STEM_KERNEL = 7
STEM_STRIDE = 4
BOTTLENECK_WIDTHS = (256, 64)
"""Channels outside and inside of the blocks in the first stage of a ResNet-50."""
INVERTED_WIDTHS = (64, 384)
"""Channels outside and inside of the blocks in the middle of a MobileNetV2."""
PATCH_SIZE = 16
TOKEN_WIDTH = 384
"""Width of a ViT-S."""
N_HEADS = 6
OPSET = 20
IR_VERSION = 9
WEIGHTS_SEED = 0


def make_benchmark_backbones(folder: Path) -> dict[str, Backbone]:
    """Write ONNX files into a folder, and return them as backbones by the names of their main operations."""
    models = {
        "convolutions": make_residual_network(*BOTTLENECK_WIDTHS, is_depthwise=False),
        "depthwise convolutions": make_residual_network(*INVERTED_WIDTHS, is_depthwise=True),
        "transformer": make_transformer(),
    }
    backbones = {}
    for name, model in models.items():
        path = folder / f"{name}.onnx"
        write_file(path, model.SerializeToString())
        backbones[name] = load_backbone(f"onnx:{path}", input_spec=TensorSpec(INPUT_SHAPE))
    return backbones


def make_residual_network(width: int, inner_width: int, *, is_depthwise: bool) -> ModelProto:
    """Return blocks of a 1 x 1, a 3 x 3 and a 1 x 1 convolution, each beside a shortcut, at a quarter of the size."""
    builder = GraphBuilder()
    groups = inner_width if is_depthwise else 1
    x = builder.convolve("input", (INPUT_SHAPE[0], width), kernel=STEM_KERNEL, stride=STEM_STRIDE)
    for _ in range(N_BLOCKS):
        inner = builder.convolve(x, (width, inner_width), kernel=1)
        inner = builder.convolve(inner, (inner_width, inner_width), kernel=3, groups=groups)
        x = builder.add("Add", x, builder.convolve(inner, (inner_width, width), kernel=1))
    side = INPUT_SHAPE[1] // STEM_STRIDE
    return builder.to_model(x, (width, side, side))


def make_transformer() -> ModelProto:
    """Return an embedding of patches, and transformer blocks that normalise first."""
    builder = GraphBuilder()
    patches = builder.convolve("input", (INPUT_SHAPE[0], TOKEN_WIDTH), kernel=PATCH_SIZE, stride=PATCH_SIZE, padding=0)
    flat = builder.add("Reshape", patches, builder.add_constant([0, TOKEN_WIDTH, -1]))
    x = builder.add("Transpose", flat, perm=[0, 2, 1])  # (batch, tokens, width)
    for _ in range(N_BLOCKS):
        x = builder.add("Add", x, builder.attend(builder.normalize(x)))
        hidden = builder.add("Gelu", builder.multiply(builder.normalize(x), (TOKEN_WIDTH, 4 * TOKEN_WIDTH)))
        x = builder.add("Add", x, builder.multiply(hidden, (4 * TOKEN_WIDTH, TOKEN_WIDTH)))
    n_tokens = (INPUT_SHAPE[1] // PATCH_SIZE) ** 2
    return builder.to_model(builder.normalize(x), (n_tokens, TOKEN_WIDTH))


@dataclass
class GraphBuilder:
    """Nodes and seeded random weights of an ONNX graph; its methods add to it, and return the name of the result."""

    nodes: list[NodeProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(WEIGHTS_SEED))

    def add(self, operation: str, *inputs: str, **attributes: Any) -> str:
        """Add an operation."""
        from onnx.helper import make_node

        name = f"{operation.lower()}{len(self.nodes)}"
        self.nodes.append(make_node(operation, list(inputs), [name], name=name, **attributes))
        return name

    def add_constant(self, value: Any) -> str:
        """Add a constant: a weight, or integers as int64."""
        from onnx.numpy_helper import from_array

        name = f"constant{len(self.constants)}"
        self.constants.append(from_array(np.asarray(value), name))
        return name

    def add_weight(self, shape: tuple[int, ...], fan_in: int) -> str:
        """Add a random weight that keeps the variance of what it is multiplied with."""
        values = self.random.normal(0, math.sqrt(1 / fan_in), shape)
        return self.add_constant(values.astype(np.float32))

    def convolve(
        self,
        x: str,
        widths: tuple[int, int],
        *,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        padding: int | None = None,
    ) -> str:
        """Add a convolution and its activation."""
        n_inputs = widths[0] // groups
        weight = self.add_weight((widths[1], n_inputs, kernel, kernel), fan_in=n_inputs * kernel**2)
        pads = [kernel // 2 if padding is None else padding] * 4
        return self.add("Relu", self.add("Conv", x, weight, strides=[stride, stride], pads=pads, group=groups))

    def multiply(self, x: str, widths: tuple[int, int]) -> str:
        """Add a product with a weight."""
        return self.add("MatMul", x, self.add_weight(widths, fan_in=widths[0]))

    def normalize(self, x: str) -> str:
        """Add a normalisation of each token."""
        return self.add("LayerNormalization", x, self.add_constant(np.ones(TOKEN_WIDTH, np.float32)))

    def attend(self, x: str) -> str:
        """Add attention of tokens to each other (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, 3.2)."""
        head_width = TOKEN_WIDTH // N_HEADS
        square = (TOKEN_WIDTH, TOKEN_WIDTH)
        by_head = self.add_constant([0, 0, N_HEADS, head_width])
        queries, keys, values = (self.add("Reshape", self.multiply(x, square), by_head) for _ in range(3))
        scores = self.add(  # (batch, heads, tokens, tokens)
            "MatMul",
            self.add("Transpose", queries, perm=[0, 2, 1, 3]),
            self.add("Transpose", keys, perm=[0, 2, 3, 1]),
        )
        scale = self.add_constant(np.float32(head_width**-0.5))
        shares = self.add("Softmax", self.add("Mul", scores, scale), axis=-1)
        attended = self.add("MatMul", shares, self.add("Transpose", values, perm=[0, 2, 1, 3]))
        joined = self.add("Transpose", attended, perm=[0, 2, 1, 3])  # (batch, tokens, heads, width of head)
        return self.multiply(self.add("Reshape", joined, self.add_constant([0, 0, TOKEN_WIDTH])), square)

    def to_model(self, output: str, shape: tuple[int, ...]) -> ModelProto:
        """Return the graph from the input to an output of a shape, as a model."""
        from onnx import TensorProto
        from onnx.helper import make_graph, make_model, make_opsetid, make_tensor_value_info

        ports = [make_tensor_value_info("input", TensorProto.FLOAT, ["batch", *INPUT_SHAPE])]
        results = [make_tensor_value_info(output, TensorProto.FLOAT, ["batch", *shape])]
        graph = make_graph(self.nodes, "benchmark", ports, results, self.constants)
        return make_model(graph, opset_imports=[make_opsetid("", OPSET)], ir_version=IR_VERSION)
