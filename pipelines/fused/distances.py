"""Squared Euclidean distances between rows and fitted points."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .graph_builder import GraphBuilder, TypedValue, Value
from .rounding import add_fused_product


def add_distances(graph: GraphBuilder, features: Value, rows: NDArray[np.float64]) -> Value:
    """Return squared distances to fitted rows, of the same terms in the same order as in scikit-learn."""
    own = graph.sum_rows(graph.add("Mul", features, features), rows.shape[1])  # (n_rows, 1)
    product = graph.add("MatMul", features, graph.numbers(rows.T))
    partial_sum = graph.add("Sub", own, graph.add("Add", product, product))
    lengths = [row @ row for row in rows]
    return graph.add("Max", graph.add("Add", partial_sum, graph.numbers(lengths)), graph.numbers(0.0))


def add_squares(graph: GraphBuilder, features: Value, by_feature: Value) -> Value:
    """Return squared distances to fitted rows, given as ``(n_features, n_fitted)``, of shape (n_rows, n_fitted).

    Squares are added from the first feature to the last, each sum rounded once.
    """

    def add_square(inner: GraphBuilder, states: list[Value], items: list[Value]) -> list[Value]:
        own = inner.add("Reshape", items[0], inner.constant(np.array([-1, 1], np.int64)))
        difference = inner.add("Sub", own, items[1])
        return [add_fused_product(inner, states[0], difference, difference)]

    n_rows = graph.add("Gather", graph.add("Shape", features), graph.constant(np.array([0], np.int64)))
    n_fitted = graph.add("Gather", graph.add("Shape", by_feature), graph.constant(np.array([1], np.int64)))
    zeros = graph.add("Expand", graph.constant(np.array(0.0)), graph.add("Concat", n_rows, n_fitted, axis=0))
    sequences = [TypedValue(name, np.float64) for name in (graph.add("Transpose", features), by_feature)]
    return graph.loop(add_square, [TypedValue(zeros, np.float64)], sequences)[0]
