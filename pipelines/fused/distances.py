"""Squared Euclidean distances between rows and fitted points."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .graph_builder import GraphBuilder, TypedValue, Value


def add_squares(graph: GraphBuilder, features: Value, by_feature: Value, *, dtype: Any) -> Value:
    """Return squared distances to fitted rows, ``(n_rows, n_fitted)``, in float64.

    Features, those of the fitted rows, ``(n_features, n_fitted)``, and their differences have a type of numpy. As in
    scikit-learn, squares are added from the first feature to the last.
    """

    def add_square(inner: GraphBuilder, states: list[Value], items: list[Value]) -> list[Value]:
        own = inner.add("Reshape", items[0], inner.constant(np.array([-1, 1], np.int64)))
        difference = inner.cast(inner.add("Sub", own, items[1]), np.float64)
        return [inner.add("Add", states[0], inner.add("Mul", difference, difference))]

    n_rows = graph.add("Gather", graph.add("Shape", features), graph.constant(np.array([0], np.int64)))
    n_fitted = graph.add("Gather", graph.add("Shape", by_feature), graph.constant(np.array([1], np.int64)))
    zeros = graph.add("Expand", graph.constant(np.array(0.0)), graph.add("Concat", n_rows, n_fitted, axis=0))
    sequences = [TypedValue(name, dtype) for name in (graph.add("Transpose", features), by_feature)]
    return graph.loop(add_square, [TypedValue(zeros, np.float64)], sequences)[0]


def add_closeness(
    graph: GraphBuilder, features: Value, scaled: NDArray[Any], points: NDArray[Any], offset: NDArray[Any]
) -> Value:
    """Return the negative squared distances to points plus an offset, up to a term that all points share.

    `scaled` are the points divided by the variances that the distances are in units of.
    """
    constant = offset - (scaled * points).sum(axis=1)
    return graph.affine(features, 2 * scaled.T, constant)
