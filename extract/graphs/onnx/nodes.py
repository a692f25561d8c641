"""New nodes for an ONNX graph, in the operators of its own opset."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

PREFIX = "topwork/"
AXES_ARE_INPUTS = {"ReduceSum": 13, "ReduceMean": 18, "ReduceMax": 18, "ReduceL2": 18}
"""The opset from which on an operator takes its axes as an input; before, they were an attribute."""


class Nodes:
    """Nodes in the order in which they run, and their constants.

    Parameters
    ----------
    opset : int
        Version of the standard operators.
    """

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, operation: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Append a node, and return the name of its output."""
        import onnx

        name = f"{PREFIX}{operation}{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(operation, inputs, [output or name], name, **attributes))
        return output or name

    def constant(self, values: NDArray[Any]) -> str:
        """Append a constant, and return its name."""
        import onnx

        name = f"{PREFIX}constant{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(values, name))
        return name

    def floats(self, *values: float) -> str:
        """Append float32 numbers: a scalar, or one for each channel of images ``(batch, channels, height, width)``."""
        array = np.array(values, np.float32)
        return self.constant(array.reshape(()) if len(values) == 1 else array.reshape(1, -1, 1, 1))

    def integers(self, *values: int) -> str:
        """Append int64 numbers."""
        return self.constant(np.array(values, np.int64))

    def cast(self, value: str, kind: str) -> str:
        """Append a conversion to a type of ONNX, such as "FLOAT"."""
        import onnx

        return self.add("Cast", value, to=onnx.TensorProto.DataType.Value(kind))

    def reduce(self, operation: str, value: str, axes: tuple[int, ...], keepdims: bool = False) -> str:
        """Append a reduction over some axes."""
        if self.opset >= AXES_ARE_INPUTS[operation]:
            return self.add(operation, value, self.integers(*axes), keepdims=int(keepdims))
        return self.add(operation, value, axes=axes, keepdims=int(keepdims))
