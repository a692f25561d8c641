"""Nodes and constants that are appended to an ONNX graph, in operators that all versions since 11 have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Value = str
"""The name of a value in the graph."""


@dataclass(frozen=True)
class Prediction:
    """Values of a graph: positions of the classes ``(n_rows,)``, and probabilities ``(n_rows, n_classes)`` if any.

    Of two classes some classifiers also have the score, ``(n_rows, 1)``, that scikit-learn's ``OneVsRestClassifier``
    compares with a threshold. Several labels of each row have zeros and ones instead of positions, and as many
    probabilities.
    """

    positions: Value
    probabilities: Value | None = None
    score: Value | None = None


@dataclass(frozen=True)
class TypedValue:
    """The name of a value in the graph, and its type of numpy."""

    name: Value
    dtype: Any


Step = Callable[["GraphBuilder", list[Value], list[Value]], list[Value]]
"""Adds to the body of a loop what computes new states from states and the items of sequences."""


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
        self._originals: dict[Value, Value] = {}

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
        self._graph.initializer.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
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

        if np.dtype(dtype) == np.float32 and value in self._originals:
            return self._originals[value]
        return self.add("Cast", value, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def widen(self, value: Value) -> Value:
        """Convert a float32 matrix to float64, such that a cast back to float32 is the matrix itself.

        ONNX Runtime removes a cast back and forth, even if the body of a loop still needs the value between.
        """
        wide = self.cast(value, np.float64)
        self._originals[wide] = value
        return wide

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

    def add_complement(self, probabilities: Value) -> Value:
        """Return the probabilities of two classes from those of the second, as two columns."""
        complement = self.add("Sub", self.numbers(1.0), probabilities)
        return self.add("Concat", complement, probabilities, axis=1)

    def normalise_rows(self, values: Value, width: int) -> Value:
        """Divide rows by their sums; where all values are zero, all of them become equal."""
        total = self.sum_rows(values, width)
        is_zero = self.add("Equal", total, self.numbers(0.0))
        filled = self.add("Where", is_zero, self.numbers(1.0), values)
        divisor = self.add("Where", is_zero, self.numbers(float(width)), total)
        return self.add("Div", filled, divisor)

    def columns(self, rows: Value, positions: Any) -> Value:
        """Return some columns of a matrix."""
        return self.add("Gather", rows, self.constant(np.asarray(positions, dtype=np.int64)), axis=1)

    def shape_like(self, rows: Value, width: int) -> Value:
        """Return the shape of a matrix with as many rows as another one, and a width of its own."""
        n_rows = self.add("Gather", self.add("Shape", rows), self.constant(np.array([0], np.int64)), axis=0)
        return self.add("Concat", n_rows, self.constant(np.array([width], np.int64)), axis=0)

    def fill(self, rows: Value, width: int, value: NDArray[Any]) -> Value:
        """Return a matrix with as many rows as another one, that holds a scalar everywhere."""
        return self.add("Expand", self.constant(value), self.shape_like(rows, width))

    def loop(
        self,
        step: Step,
        states: Sequence[TypedValue],
        sequences: Sequence[TypedValue],
        *,
        collected: Sequence[Any] = (),
    ) -> list[Value]:
        """Return the states after a step for each item of sequences, along their first axis.

        What a step returns after the states is `collected` of all steps, in values of these types.
        """
        from onnx import GraphProto, helper

        name = self._next_name("Scan")
        body = GraphProto(name=name)
        builder = GraphBuilder(body, f"{name}/", in_double=self.in_double)
        inputs = [builder._add_input(value.dtype) for value in (*states, *sequences)]
        results = step(builder, inputs[: len(states)], inputs[len(states) :])
        dtypes = [*(state.dtype for state in states), *collected]
        for result, dtype in zip(results, dtypes, strict=True):
            builder._add_output(result, dtype)
        outputs = [self._next_name("result") for _ in dtypes]
        names = [value.name for value in (*states, *sequences)]
        node = helper.make_node("Scan", names, outputs, name=name, body=body, num_scan_inputs=len(sequences))
        self._graph.node.append(node)
        return outputs

    def choose(self, condition: Value, make: Callable[[GraphBuilder], Value], otherwise: Value, *, dtype: Any) -> Value:
        """Return a value that is computed only if a condition is true, else one that there is."""
        from onnx import GraphProto, helper

        name = self._next_name("If")
        then_branch = GraphProto(name=f"{name}/then")
        else_branch = GraphProto(name=f"{name}/else")
        on_true = GraphBuilder(then_branch, f"{name}/then/", in_double=self.in_double)
        on_false = GraphBuilder(else_branch, f"{name}/else/", in_double=self.in_double)
        on_true._add_output(make(on_true), dtype)
        on_false._add_output(on_false.add("Identity", otherwise), dtype)
        node = helper.make_node(
            "If", [condition], [f"{name}/result"], name=name, then_branch=then_branch, else_branch=else_branch
        )
        self._graph.node.append(node)
        return f"{name}/result"

    def _add_input(self, dtype: Any) -> Value:
        """Append an input of the graph, and return its name."""
        from onnx import helper

        name = self._next_name("input")
        element_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self._graph.input.append(helper.make_tensor_value_info(name, element_type, None))
        return name

    def _add_output(self, value: Value, dtype: Any) -> None:
        """Make a value an output of the graph."""
        from onnx import helper

        element_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self._graph.output.append(helper.make_tensor_value_info(value, element_type, None))

    def _next_name(self, kind: str) -> Value:
        self._count += 1
        return f"{self._prefix}{kind}_{self._count}"
