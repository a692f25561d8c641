"""Whether features are familiar, computed in the graph as :mod:`topwork.heads.familiarity` does."""

from __future__ import annotations

import numpy as np

from ...heads.familiarity import LARGEST_DEVIATION, Familiarity
from .graph_builder import GraphBuilder, Value

LARGEST_FLOAT32 = float(np.finfo(np.float32).max)


def add_familiarity(graph: GraphBuilder, features: Value, known: Familiarity) -> Value:
    """Return whether features ``(n_rows, n_features)`` are familiar, booleans ``(n_rows,)``.

    Features that are not all finite are not; they are found by comparison, as some runtimes compute ``IsInf`` wrongly.
    """
    # Replace what is not finite.
    n_features = len(known.mean)
    limit = graph.constant(np.array(LARGEST_FLOAT32, np.float32))
    is_other = graph.add("Not", graph.add("Less", graph.add("Abs", features), limit))
    zero = graph.constant(np.array(0.0, np.float32))
    finite = graph.add("Where", is_other, zero, features)
    n_others = graph.sum_rows(graph.cast(is_other, np.float64), n_features)  # (n_rows, 1)

    # Compare the distance with the limit.
    to_rows = add_row_distances(graph, add_deviations(graph, finite, known), known)
    nearest = add_two_nearest(graph, add_class_distances(graph, to_rows, known), n_classes=len(known.starts))
    weights = np.array([[1.0 + known.lead_weight], [-known.lead_weight]])  # distance less a part of the lead
    unfamiliarity = graph.add("MatMul", graph.cast(nearest, np.float64), graph.numbers(weights))
    is_far = graph.add("Greater", unfamiliarity, graph.numbers(known.limit))
    is_finite = graph.add("Not", graph.add("Greater", n_others, graph.numbers(0.0)))
    is_familiar = graph.add("And", is_finite, graph.add("Not", is_far))
    return graph.add("Reshape", is_familiar, graph.constant(np.array([-1], np.int64)))


def add_deviations(graph: GraphBuilder, features: Value, known: Familiarity) -> Value:
    """Return features in standard deviations from the mean, float32, at most as large as the limit for them."""
    difference = graph.add("Sub", graph.cast(features, np.float64), graph.numbers(known.mean))
    deviations = graph.add("Div", difference, graph.numbers(known.scale))
    bounded = graph.add("Min", deviations, graph.numbers(LARGEST_DEVIATION))
    return graph.cast(graph.add("Max", bounded, graph.numbers(-LARGEST_DEVIATION)), np.float32)


def add_row_distances(graph: GraphBuilder, deviations: Value, known: Familiarity) -> Value:
    """Return the distances ``(n_rows, n_known)`` of standardised features to the known rows, float32."""
    n_features = known.rows.shape[1]
    rows = graph.cast(graph.constant(known.rows.T), np.float32)  # stored as float16
    squares = (known.rows.astype(np.float32) ** 2).sum(axis=1)
    product = graph.add("MatMul", deviations, rows)
    own = graph.add("Mul", deviations, deviations)
    ones = graph.constant(np.ones((n_features, 1), np.float32))
    partial_sum = graph.add("Sub", graph.constant(squares), graph.add("Add", product, product))
    squared = graph.add("Add", partial_sum, graph.add("MatMul", own, ones))
    positive = graph.add("Max", squared, graph.constant(np.array(0.0, np.float32)))
    return graph.add("Sqrt", graph.add("Div", positive, graph.constant(np.array(n_features, np.float32))))


def add_class_distances(graph: GraphBuilder, to_rows: Value, known: Familiarity) -> Value:
    """Return the mean distance to the nearest rows of each class, ``(n_rows, n_classes)``, classes in any order."""
    counts = np.diff(known.starts, append=len(known.rows))
    parts = []
    for count in np.unique(counts).tolist():
        starts = known.starts[counts == count]
        columns = (starts[:, None] + np.arange(count)).ravel()
        shape = graph.constant(np.array([-1, len(starts), count], np.int64))
        of_class = graph.add("Reshape", graph.columns(to_rows, columns), shape)  # (n_rows, classes, count)
        k = min(count, known.n_neighbors)
        nearest, _ = graph.add_pair("TopK", of_class, graph.constant(np.array([k], np.int64)), axis=2, largest=0)
        mean = graph.add("MatMul", nearest, graph.constant(np.full((k, 1), 1 / k, np.float32)))
        parts.append(graph.add("Reshape", mean, graph.constant(np.array([-1, len(starts)], np.int64))))
    return graph.add("Concat", *parts, axis=1)


def add_two_nearest(graph: GraphBuilder, to_classes: Value, *, n_classes: int) -> Value:
    """Return the two smallest distances ``(n_rows, 2)``, ascending; the only one twice."""
    if n_classes == 1:
        return graph.add("Concat", to_classes, to_classes, axis=1)
    return graph.add_pair("TopK", to_classes, graph.constant(np.array([2], np.int64)), axis=1, largest=0)[0]
