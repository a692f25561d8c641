"""Nearest centroids and votes of nearest rows, with the distances and ties of scikit-learn."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from .distances import add_distances
from .graph_builder import GraphBuilder, Prediction, TypedValue, Value


def is_centroid(model: Any) -> bool:
    """Check for a classifier by the nearest centroid in Euclidean distance."""
    from sklearn.neighbors import NearestCentroid

    from ...heads.centroid import Centroid

    return type(model) in (NearestCentroid, Centroid) and model.metric == "euclidean"


def is_plain_neighbors(model: Any) -> bool:
    """Check for a vote of the nearest neighbours in Euclidean distance, equal or weighted by its inverse."""
    from sklearn.neighbors import KNeighborsClassifier

    if type(model) is not KNeighborsClassifier:
        return False
    is_euclidean = model.effective_metric_ == "euclidean"
    is_dense = isinstance(model._fit_X, np.ndarray)
    has_named_weights = isinstance(model.weights, str)
    return is_euclidean and is_dense and has_named_weights and not model.outputs_2d_


def convert_centroid(graph: GraphBuilder, model: Any, features: Value) -> Prediction:
    """Choose the nearest centroid by the distance that ``predict`` uses, which ``predict_proba`` does not.

    The two are the plain one, and one divided by the standard deviation within the classes. With other priors than
    equal ones, both use the latter.
    """
    deviation = np.where(model.within_class_std_dev_ == 0, 1.0, model.within_class_std_dev_)
    scaled = graph.add("Div", features, graph.numbers(deviation))
    distances = graph.add("Sqrt", add_distances(graph, scaled, model.centroids_ / deviation))
    closeness = graph.add("Neg", graph.add("Mul", distances, distances))
    logits = graph.add("Add", closeness, graph.numbers(2 * np.log(model.class_prior_)))
    positions = graph.argmax(logits)
    has_uniform_prior = np.isclose(model.class_prior_, 1 / len(model.classes_)).all()
    if has_uniform_prior:
        plain = add_distances(graph, features, model.centroids_)
        positions = graph.argmax(graph.add("Neg", plain))
    score = None
    if len(model.classes_) == 2:
        score = graph.add("Sub", graph.columns(logits, [1]), graph.columns(logits, [0]))
    return Prediction(positions, graph.add("Softmax", logits, axis=1), score)


def convert_neighbors(graph: GraphBuilder, model: Any, features: Value) -> Prediction:
    """Choose the class of most of the nearest rows, of equally many votes the first class."""
    n_classes = len(model.classes_)
    count = model.n_neighbors
    rows = np.asarray(model._fit_X, dtype=np.float64)
    distances = add_distances(graph, features, rows)  # (n_rows, n_fitted)
    nearest = add_nearest(graph, distances, n_fitted=len(rows), count=count)
    one_hot = np.eye(n_classes)[model._y.ravel()]  # (n_fitted, n_classes)
    weights = graph.numbers(np.ones((1, 1, count)))
    if model.weights == "distance":
        own = graph.add("GatherElements", distances, nearest, axis=1)  # (n_rows, count)
        ascending, order = graph.add_pair("TopK", own, graph.constant(np.array([count], np.int64)), axis=1, largest=0)
        nearest = graph.add("GatherElements", nearest, order, axis=1)
        weights = add_inverse_distances(graph, ascending, count=count)
    ballots = graph.add("Gather", graph.numbers(one_hot), nearest, axis=0)  # (n_rows, count, n_classes)
    votes = graph.add("MatMul", weights, ballots)  # (n_rows, 1, n_classes)
    flat = graph.add("Reshape", votes, graph.constant(np.array([-1, n_classes], np.int64)))  # (n_rows, n_classes)
    return Prediction(graph.argmax(flat), graph.normalise_rows(flat, n_classes))


def is_plain_neighbors_regressor(model: Any) -> bool:
    """Check for the mean of the nearest neighbours in Euclidean distance, given float32 features."""
    from sklearn.neighbors import KNeighborsRegressor

    if type(model) is not KNeighborsRegressor or not isinstance(model._fit_X, np.ndarray):
        return False
    return model.effective_metric_ == "euclidean" and model.weights == "uniform" and has_heap(model)


def convert_neighbors_regressor(graph: GraphBuilder, model: Any, features: Value) -> Value:
    """Return the mean of the nearest rows, ``(n_rows, n_targets)``."""
    count = model.n_neighbors
    values = model._y.reshape(len(model._y), -1)  # (n_fitted, n_targets)
    distances = add_distances(graph, features, np.asarray(model._fit_X, dtype=np.float64))
    nearest = add_nearest(graph, distances, n_fitted=len(values), count=count)
    chosen = graph.add("Gather", graph.numbers(values), nearest, axis=0)  # (n_rows, count, n_targets)
    mean = graph.add("MatMul", graph.numbers(np.full((1, 1, count), 1 / count)), chosen)  # (n_rows, 1, n_targets)
    return graph.add("Reshape", mean, graph.constant(np.array([-1, values.shape[1]], np.int64)))


def has_heap(model: Any) -> bool:
    """Check whether scikit-learn offers all fitted rows to a heap, given float32 features."""
    return bool(model._fit_method == "brute" and model._fit_X.dtype == np.float32)


def add_nearest(graph: GraphBuilder, distances: Value, *, n_fitted: int, count: int) -> Value:
    """Return the positions of the nearest fitted rows, ``(n_rows, count)``, from the distances to all of them.

    Where more rows are as near as the last of them, they are those that remain in a heap to which all are offered.
    """
    n_smallest = min(count + 1, n_fitted)
    size = graph.constant(np.array([n_smallest], np.int64))
    smallest, order = graph.add_pair("TopK", distances, size, axis=1, largest=0)
    if n_smallest == count:
        return order
    nearest = graph.columns(order, np.arange(count))
    is_tied = graph.add("Equal", graph.columns(smallest, [count - 1]), graph.columns(smallest, [count]))
    flat = graph.add("Reshape", is_tied, graph.constant(np.array([-1], np.int64)))
    tied = graph.add("Transpose", graph.add("NonZero", flat))  # (n_tied, 1)
    has_ties = graph.add("Greater", graph.add("Size", tied), graph.constant(np.array(0, np.int64)))

    def decide(inner: GraphBuilder) -> Value:
        decided = add_heap(inner, inner.add("GatherND", distances, tied), n_fitted=n_fitted, count=count)
        return inner.add("ScatterND", nearest, tied, decided)

    return graph.choose(has_ties, decide, nearest, dtype=np.int64)


def add_heap(graph: GraphBuilder, distances: Value, *, n_fitted: int, count: int) -> Value:
    """Return the positions in a heap of the nearest rows, ``(n_rows, count)``, after all fitted rows are offered to it.

    The furthest is the root, at position 0, and gives way to a row that is nearer.
    """
    states = [
        TypedValue(graph.fill(distances, count, np.array(np.inf)), np.float64),
        TypedValue(graph.fill(distances, count, np.array(0, np.int64)), np.int64),
    ]
    sequences = [
        TypedValue(graph.add("Transpose", distances), np.float64),
        TypedValue(graph.constant(np.arange(n_fitted)), np.int64),
    ]
    return graph.loop(partial(push_to_heap, count=count), states, sequences)[1]


def push_to_heap(graph: GraphBuilder, states: list[Value], items: list[Value], *, count: int) -> list[Value]:
    """Return distances and positions of a heap after a row is offered, see ``heap_push`` of scikit-learn.

    A new row starts at the root, and changes places with the further one of the two below it while that is further.
    """
    distances, positions = states  # (n_rows, count)
    offered = graph.add("Reshape", items[0], graph.constant(np.array([-1, 1], np.int64)))  # (n_rows, 1)
    is_nearer = graph.add("Less", offered, graph.columns(distances, [0]))
    places = graph.constant(np.arange(count))
    one = graph.constant(np.array(1, np.int64))
    padding = graph.constant(np.array([0, 0, 0, count + 1], np.int64))
    padded_distances = graph.add(
        "Pad", distances, padding, graph.constant(np.array(-np.inf))
    )  # (n_rows, 2 * count + 1)
    padded_positions = graph.add("Pad", positions, padding)

    # Move rows up until the place of the new one is found.
    new_distances = distances
    new_positions = positions
    current = graph.add("Mul", graph.columns(positions, [0]), graph.constant(np.array(0, np.int64)))  # (n_rows, 1)
    for _ in range(int(np.log2(count))):
        left = graph.add("Add", graph.add("Add", current, current), one)
        right = graph.add("Add", left, one)
        left_distance = graph.add("GatherElements", padded_distances, left, axis=1)
        right_distance = graph.add("GatherElements", padded_distances, right, axis=1)
        child = graph.add("Where", graph.add("Less", left_distance, right_distance), right, left)
        child_distance = graph.add("Max", left_distance, right_distance)
        moves = graph.add("Less", offered, child_distance)
        is_changed = graph.add("And", moves, graph.add("Equal", places, current))  # (n_rows, count)
        child_position = graph.add("GatherElements", padded_positions, child, axis=1)
        new_distances = graph.add("Where", is_changed, child_distance, new_distances)
        new_positions = graph.add("Where", is_changed, child_position, new_positions)
        current = graph.add("Where", moves, child, current)

    # Put the new row there, if it belongs to the heap.
    is_current = graph.add("Equal", places, current)
    new_distances = graph.add("Where", is_current, offered, new_distances)
    new_positions = graph.add("Where", is_current, items[1], new_positions)
    return [
        graph.add("Where", is_nearer, new_distances, distances),
        graph.add("Where", is_nearer, new_positions, positions),
    ]


def add_inverse_distances(graph: GraphBuilder, squares: Value, *, count: int) -> Value:
    """Return the inverse distances, ``(n_rows, 1, count)``, from squared ones.

    If some distances are zero, their weights are one, and those of other rows zero.
    """
    shape = graph.constant(np.array([-1, 1, count], np.int64))
    distances = graph.add("Sqrt", graph.add("Reshape", squares, shape))
    is_zero = graph.add("Equal", distances, graph.numbers(0.0))
    zeros = graph.cast(is_zero, np.float64)
    has_zero = graph.add("Greater", graph.add("MatMul", zeros, graph.numbers(np.ones((count, 1)))), graph.numbers(0.0))
    inverse = graph.add("Div", graph.numbers(1.0), graph.add("Where", is_zero, graph.numbers(1.0), distances))
    return graph.add("Where", has_zero, zeros, inverse)
