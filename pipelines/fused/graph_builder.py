"""Nodes and constants that are appended to an ONNX graph, in operators that all versions since 11 have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Value = str
"""The name of a value in the graph."""


@dataclass(frozen=True)
class Prediction:
    """Values of a graph: positions of the classes ``(n_rows,)``, and probabilities ``(n_rows, n_classes)`` if any."""

    positions: Value
    probabilities: Value | None = None


class GraphBuilder:
    """Appends nodes to a graph, whose values and constants begin with a prefix.

    Matrices are float64 unless said otherwise: a constant that is float32 is stored as such, and cast in the graph.
    Converters compute decisions in the precision of the model's own, or in float64 if they are to be `in_double`.
    """

    def __init__(self, graph: Any, prefix: str, in_double: bool = True) -> None:
        self.in_double = in_double
        self._graph = graph
        self._prefix = prefix
        self._count = 0

    def add(self, operator: str, *inputs: Value, **attributes: Any) -> Value:
        """Append a node with one output, and return the name of that."""
        from onnx import helper

        output = self._next_name(operator)
        self._graph.node.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def add_pair(self, operator: str, *inputs: Value, **attributes: Any) -> tuple[Value, Value]:
        """Append a node with two outputs, and return their names."""
        from onnx import helper

        first = self._next_name(operator)
        second = self._next_name(operator)
        self._graph.node.append(helper.make_node(operator, inputs, [first, second], name=first, **attributes))
        return first, second

    def constant(self, value: NDArray[Any]) -> Value:
        """Append a constant of the type that it has."""
        from onnx import numpy_helper

        name = self._next_name("constant")
        self._graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def numbers(self, value: Any) -> Value:
        """Append a float64 constant, stored as float32 where that loses nothing."""
        exact = np.asarray(value, dtype=np.float64)
        short = exact.astype(np.float32)
        if exact.ndim > 0 and np.array_equal(short.astype(np.float64), exact):
            return self.cast(self.constant(short), np.float64)
        return self.constant(exact)

    def cast(self, value: Value, dtype: Any) -> Value:
        """Convert values to a type of numpy."""
        from onnx import helper

        return self.add("Cast", value, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def affine(self, rows: Value, weights: NDArray[Any], constant: NDArray[Any]) -> Value:
        """Return ``rows @ weights + constant``."""
        product = self.add("MatMul", rows, self.numbers(weights))
        return self.add("Add", product, self.numbers(constant))

    def affine_in(self, dtype: Any, rows: Value, weights: NDArray[Any], constant: NDArray[Any]) -> Value:
        """Return ``rows @ weights + constant``, computed in a type of numpy."""
        product = self.add("MatMul", self.cast(rows, dtype), self.constant(weights.astype(dtype)))
        total = self.add("Add", product, self.constant(constant.astype(dtype)))
        return self.cast(total, np.float64)

    def sum_rows(self, rows: Value, width: int) -> Value:
        """Return the sum of each row of a matrix ``(n_rows, width)``, as ``(n_rows, 1)``."""
        return self.add("MatMul", rows, self.numbers(np.ones((width, 1))))

    def argmax(self, rows: Value) -> Value:
        """Return the position of the largest value in each row, of equal ones the first."""
        return self.add("ArgMax", rows, axis=1, keepdims=0)

    def is_positive(self, values: Value) -> Value:
        """Return 1.0 where values are above zero, else 0.0."""
        return self.cast(self.add("Greater", values, self.numbers(0.0)), np.float64)

    def choose_of_two(self, decisions: Value) -> Value:
        """Return 1 where the only decision of a row is above zero, else 0, as ``(n_rows,)``."""
        flat = self.add("Reshape", self.is_positive(decisions), self.constant(np.array([-1], np.int64)))
        return self.cast(flat, np.int64)

    def columns(self, rows: Value, positions: Any) -> Value:
        """Return some columns of a matrix."""
        return self.add("Gather", rows, self.constant(np.asarray(positions, dtype=np.int64)), axis=1)

    def _next_name(self, kind: str) -> Value:
        self._count += 1
        return f"{self._prefix}{kind}_{self._count}"
