"""The map that a column of an exported graph is the mean of, as an additional output of the graph."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ....errors import ExportError
from ..model_file import load_model

RESHAPES = ("Reshape", "Flatten", "Squeeze", "Identity", "Cast")
MEANS = ("ReduceMean", "GlobalAveragePool")


@dataclass(frozen=True)
class MapOutput:
    """A graph, as the content of an ONNX file, whose last output is the map before a mean over its positions.

    `positions` are the axes over which the mean is taken, of the map ``(batch, …)``.
    """

    content: bytes
    positions: tuple[int, ...]


def add_map_output(path: Path, column: str, pool: str) -> MapOutput:
    """Return the graph in a file with the map that a column, pooled in some way, is the mean of as another output.

    Raise an ExportError if the column is no mean over the positions of a map.
    """
    import onnx

    model = load_model(path)
    makers = {name: node for node in model.graph.node for name in node.output}
    node = makers.get(column)
    while node is not None and node.op_type in RESHAPES:
        node = makers.get(node.input[0])
    if node is None or node.op_type not in MEANS:
        raise ExportError(
            f"the features {column!r} (pooling {pool}) are no mean over the places of a map; "
            "expected a map pooled with avg, or tokens with mean: fit with --pool avg (mean), or another layer"
        )
    positions = read_positions(model, node)
    value = onnx.ValueInfoProto(name=node.input[0])
    value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    model.graph.output.append(value)
    return MapOutput(model.SerializeToString(), positions)


def read_positions(model: Any, node: Any) -> tuple[int, ...]:
    """Return the axes over which a node takes the mean."""
    import onnx

    if node.op_type == "GlobalAveragePool":
        return (2, 3)
    for attribute in node.attribute:
        if attribute.name == "axes":
            return tuple(attribute.ints)
    constants = {initializer.name: initializer for initializer in model.graph.initializer}
    for maker in model.graph.node:
        if maker.op_type == "Constant":
            constants[maker.output[0]] = maker.attribute[0].t
    axes: Any = onnx.numpy_helper.to_array(constants[node.input[1]])
    return tuple(int(axis) for axis in np.atleast_1d(axes))
