"""New nodes for an ONNX graph, in the operators of its own opset; the poolings and the normalisation among them.

The poolings compute the same as those of :mod:`topwork.extract.graphs.pooling`, whose names and constants they share.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....errors import LayerError
from ..layer import Layer
from ..pooling import (
    GEM_FLOOR,
    GEM_POWER,
    LOWEST_FEATURE,
    MIN_VECTOR_LENGTH,
    grid_of,
    split_pooling,
    token_count_of,
)

NODE_PREFIX = "topwork/"
OPSET_OF_AXES_INPUT = {"ReduceSum": 13, "ReduceMean": 18, "ReduceMax": 18, "ReduceL2": 18}
"""The first opset in which an operator takes its axes as an input; before, they were an attribute."""


class Nodes:
    """Nodes in the order in which they run, and their constants.

    `opset` is the version of the standard operators; every name begins with `prefix`.
    """

    def __init__(self, opset: int, prefix: str = NODE_PREFIX) -> None:
        self.opset = opset
        self.prefix = prefix
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, operation: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Append a node, and return the name of its output."""
        import onnx

        name = f"{self.prefix}{operation}{len(self.nodes)}"
        output = output or name
        self.nodes.append(onnx.helper.make_node(operation, inputs, [output], name=name, **attributes))
        return output

    def constant(self, values: NDArray[Any]) -> str:
        """Append a constant, and return its name."""
        import onnx

        name = f"{self.prefix}constant{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(values, name))
        return name

    def number(self, value: float) -> str:
        """Append a float32 scalar."""
        return self.constant(np.array(value, np.float32))

    def per_channel(self, values: tuple[float, ...]) -> str:
        """Append one float32 number for each channel of images ``(batch, channels, height, width)``."""
        return self.constant(np.array(values, np.float32).reshape(1, -1, 1, 1))

    def integers(self, *values: int) -> str:
        """Append int64 numbers."""
        return self.constant(np.array(values, np.int64))

    def cast(self, value: str, kind: str) -> str:
        """Append a conversion to a type of ONNX, such as "FLOAT"."""
        import onnx

        return self.add("Cast", value, to=onnx.TensorProto.DataType.Value(kind))

    def reduce(self, operation: str, value: str, axes: tuple[int, ...], keepdims: bool = False) -> str:
        """Append a reduction over some axes."""
        if self.opset >= OPSET_OF_AXES_INPUT[operation]:
            return self.add(operation, value, self.integers(*axes), keepdims=int(keepdims))
        return self.add(operation, value, axes=axes, keepdims=int(keepdims))


def append_pooling(nodes: Nodes, value: str, layer: Layer, *, pool: str, mask: str) -> str:
    """Append the pooling of a layer's float32 value ``(batch, *layer.shape)``, and return the name of the result.

    Its shape is ``(batch, features)``. Several poolings are joined by ``+``. For text `mask` names the mask, int64
    ``(batch, tokens)``; it is ignored for other inputs.
    """
    parts = [append_one_pooling(nodes, value, layer, name=name, mask=mask) for name in split_pooling(pool)]
    if len(parts) == 1:
        return parts[0]
    return nodes.add("Concat", *parts, axis=1)


def append_normalization(nodes: Nodes, value: str) -> str:
    """Append the division of each row by its length (L2 norm)."""
    length = nodes.reduce("ReduceL2", value, (1,), keepdims=True)
    divisor = nodes.add("Max", length, nodes.number(MIN_VECTOR_LENGTH))
    return nodes.add("Div", value, divisor)


def append_one_pooling(nodes: Nodes, value: str, layer: Layer, *, name: str, mask: str) -> str:
    """Append the pooling of a layer's value in one way."""
    if name in ("none", "flatten"):
        return nodes.add("Flatten", value, axis=1)  # (batch, *shape) -> (batch, features)
    if token_count_of(name) is not None:
        raise LayerError(
            f"pool='none' keeps the tokens of {layer.name!r} to train the layers above, which an ONNX file does not "
            "allow; expected a pooling such as mean"
        )
    if name == "cls":
        first = nodes.constant(np.array(0))
        return nodes.add("Gather", value, first, axis=1)  # (batch, tokens, features) -> (batch, features)
    if layer.is_masked:
        return append_token_pooling(nodes, value, name, mask=mask)
    channels_first = append_channels_first(nodes, value, layer)
    grid = grid_of(name)
    if grid is not None:
        return append_grid_pooling(nodes, channels_first, layer, grid=grid)
    positions = tuple(range(2, len(layer.shape) + 1))
    return append_position_pooling(nodes, channels_first, name, positions=positions)


def append_channels_first(nodes: Nodes, value: str, layer: Layer) -> str:
    """Append the change to ``(batch, channels, …)``, without the tokens that do not come from the input."""
    rank = len(layer.shape) + 1
    if layer.kind == "tokens":
        if layer.prefix_tokens:
            assert layer.shape[0] is not None
            input_tokens = nodes.integers(*range(layer.prefix_tokens, layer.shape[0]))
            value = nodes.add("Gather", value, input_tokens, axis=1)
        return nodes.add("Transpose", value, perm=(0, 2, 1))  # (batch, tokens, features) -> (batch, features, tokens)
    if layer.channel_axis == -1:
        return nodes.add("Transpose", value, perm=(0, rank - 1, *range(1, rank - 1)))
    return value


def append_position_pooling(nodes: Nodes, value: str, name: str, *, positions: tuple[int, ...]) -> str:
    """Pool ``(batch, channels, …)`` over all axes after the channels."""
    if name == "max":
        return nodes.reduce("ReduceMax", value, positions)
    if name == "gem":
        mean = nodes.reduce("ReduceMean", append_gem_power(nodes, value), positions)
        return append_gem_root(nodes, mean)
    return nodes.reduce("ReduceMean", value, positions)


def append_token_pooling(nodes: Nodes, value: str, name: str, *, mask: str) -> str:
    """Pool ``(batch, tokens, features)`` over the tokens whose mask is 1; padding may hold any values, NaN included."""
    column = nodes.add("Reshape", mask, nodes.integers(0, 0, 1))  # (batch, tokens) -> (batch, tokens, 1)
    is_token = nodes.cast(column, "BOOL")
    if name == "last_token":
        features = nodes.add("Where", append_last_token(nodes, column, is_token), value, nodes.number(0.0))
        return nodes.reduce("ReduceSum", features, (1,))
    if name == "max":
        features = nodes.add("Where", is_token, value, nodes.number(LOWEST_FEATURE))
        return nodes.reduce("ReduceMax", features, (1,))
    if name == "gem":
        powers = append_gem_power(nodes, value)
        mean = append_token_mean(nodes, powers, column=column, is_token=is_token)
        return append_gem_root(nodes, mean)
    return append_token_mean(nodes, value, column=column, is_token=is_token)


def append_token_mean(nodes: Nodes, value: str, *, column: str, is_token: str) -> str:
    """Append the mean over tokens, where the mask ``(batch, tokens, 1)``, given as integers and as booleans, is 1."""
    features = nodes.add("Where", is_token, value, nodes.number(0.0))
    total = nodes.reduce("ReduceSum", features, (1,))
    token_count = nodes.reduce("ReduceSum", nodes.cast(column, "FLOAT"), (1,))
    divisor = nodes.add("Max", token_count, nodes.number(1.0))
    return nodes.add("Div", total, divisor)


def append_last_token(nodes: Nodes, mask: str, is_token: str) -> str:
    """Append which tokens of a mask ``(batch, tokens, 1)`` are the last ones that are not padding."""
    tokens_from_here = nodes.add("CumSum", mask, nodes.constant(np.array(1, np.int64)), reverse=1)
    is_last_of_all = nodes.add("Equal", tokens_from_here, nodes.integers(1))
    return nodes.add("And", is_token, is_last_of_all)


def append_gem_power(nodes: Nodes, value: str) -> str:
    """Append what generalised mean pooling does before the mean."""
    raised = nodes.add("Max", value, nodes.number(GEM_FLOOR))
    return nodes.add("Pow", raised, nodes.number(GEM_POWER))


def append_gem_root(nodes: Nodes, value: str) -> str:
    """Append what generalised mean pooling does after the mean."""
    return nodes.add("Pow", value, nodes.number(1 / GEM_POWER))


def append_grid_pooling(nodes: Nodes, value: str, layer: Layer, *, grid: tuple[int, int]) -> str:
    """Average over the cells of a grid: a product with the shares of the rows and one with those of the columns."""
    rows, columns = grid
    if layer.channel_axis == 0:
        height, width = layer.shape[1:]
    else:
        height, width = layer.shape[:-1]
    assert height is not None
    assert width is not None
    row_shares = nodes.constant(cell_shares(rows, height))
    column_shares = nodes.constant(cell_shares(columns, width).T.copy())
    strips = nodes.add("MatMul", value, column_shares)  # -> (batch, channels, height, columns)
    cells = nodes.add("MatMul", row_shares, strips)  # -> (batch, channels, rows, columns)
    return nodes.add("Flatten", cells, axis=1)  # -> (batch, features)


def cell_shares(cells: int, side: int) -> NDArray[np.float32]:
    """Return the weight of each position along a map's side in the average of each cell, float32 ``(cells, side)``.

    Each row adds up to 1. Cells of unequal size may overlap.
    """
    shares = np.zeros((cells, side), np.float32)
    for cell in range(cells):
        start = cell * side // cells
        end = -(-(cell + 1) * side // cells)  # rounded up
        shares[cell, start:end] = 1 / (end - start)
    return shares
