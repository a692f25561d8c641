"""Classifiers that decide between each pair of classes, and choose the class with most votes."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .distances import add_distances, add_squares
from .graph_builder import GraphBuilder, Prediction, Value
from .linear_decisions import add_linear_decisions
from .rounding import add_exponential

MAX_FEATURES_IN_ORDER = 15
"""Number of features up to which BLAS adds their products from the first to the last."""


def convert_one_vs_one(graph: GraphBuilder, model: Any, features: Value) -> Prediction:
    """Choose the class of most pairs as ``OneVsOneClassifier.predict`` does, with linear parts.

    A positive decision is for the second class of a pair. Votes that tie are ordered by the sum of the decisions.
    """
    decisions = add_linear_decisions(graph, features, model.estimators_)  # (n_rows, n_pairs)
    n_classes = len(model.classes_)
    if n_classes == 2:
        return Prediction(graph.choose_of_two(decisions))
    return Prediction(graph.argmax(add_ordered_votes(graph, decisions, n_classes=n_classes)))


def add_ordered_votes(graph: GraphBuilder, decisions: Value, *, n_classes: int) -> Value:
    """Return votes for each class plus a monotonic function, below a third, of the sum of its decisions.

    `decisions` are positive for the second class of a pair, see ``_ovr_decision_function`` of scikit-learn.
    """
    votes = add_votes(graph, decisions, n_classes=n_classes)
    to_first, to_second = pair_matrices(n_classes)
    total = graph.add("MatMul", decisions, graph.numbers(to_second - to_first))  # (n_rows, n_classes)
    shifted = graph.add("Add", graph.add("Abs", total), graph.numbers(1.0))
    bounded = graph.add("Div", total, graph.add("Mul", graph.numbers(3.0), shifted))
    return graph.add("Add", votes, bounded)


def add_votes(graph: GraphBuilder, decisions: Value, *, n_classes: int) -> Value:
    """Return the number of pairs that each class wins; a positive decision is for the second of a pair."""
    to_first, to_second = pair_matrices(n_classes)
    for_second = graph.is_positive(decisions)  # (n_rows, n_pairs)
    for_first = graph.add("Sub", graph.numbers(1.0), for_second)
    first = graph.add("MatMul", for_first, graph.numbers(to_first))
    second = graph.add("MatMul", for_second, graph.numbers(to_second))
    return graph.add("Add", first, second)


def pair_matrices(n_classes: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return matrices ``(n_pairs, n_classes)`` that are one at the first, and at the second class of each pair."""
    one_hot = np.eye(n_classes)
    pairs = list(combinations(range(n_classes), 2))
    first = [i for i, _ in pairs]
    second = [j for _, j in pairs]
    return one_hot[first], one_hot[second]


def convert_support_vectors(graph: GraphBuilder, model: Any, features: Value) -> Prediction:
    """Choose the class of most pairs as the ``predict`` of a support vector classifier does.

    libsvm's decisions are positive for the first class of a pair; one that is zero is a vote for the second.
    """
    n_classes = len(model.classes_)
    decisions = add_pair_decisions(graph, model, features)
    if model.break_ties and n_classes > 2:
        ordered = add_ordered_votes(graph, graph.add("Neg", decisions), n_classes=n_classes)
        return Prediction(graph.argmax(ordered))
    to_first, to_second = pair_matrices(n_classes)
    for_first = graph.is_positive(decisions)
    for_second = graph.add("Sub", graph.numbers(1.0), for_first)
    first = graph.add("MatMul", for_first, graph.numbers(to_first))
    second = graph.add("MatMul", for_second, graph.numbers(to_second))
    score = graph.add("Neg", decisions) if n_classes == 2 else None
    return Prediction(graph.argmax(graph.add("Add", first, second)), score=score)


def add_pair_decisions(graph: GraphBuilder, model: Any, features: Value) -> Value:
    """Return libsvm's decisions ``(n_rows, n_pairs)``.

    The decision between two classes sums the kernels of the support vectors of the first one with their coefficients
    against the second, then those of the second with their coefficients against the first, one after the other.
    """
    n_classes = len(model.classes_)
    n_pairs = n_classes * (n_classes - 1) // 2
    first, second = np.triu_indices(n_classes, 1)
    position_of_pair = np.zeros((n_classes, n_classes), np.int64)
    position_of_pair[first, second] = np.arange(n_pairs)
    position_of_pair += position_of_pair.T
    kernels = graph.add("Transpose", add_kernel(graph, model, features))  # (n_support, n_rows)
    totals = graph.add("Transpose", graph.fill(features, n_pairs, np.array(0.0)))  # (n_pairs, n_rows)
    ends = np.cumsum(model._n_support)
    for number, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
        if start == end:
            continue
        own_pairs = np.delete(position_of_pair[number], number)
        positions = graph.constant(own_pairs[:, None])  # (n_classes - 1, 1)
        coefficients = model._dual_coef_[:, start:end]  # (n_classes - 1, n_own)
        own_kernels = graph.add("Gather", kernels, graph.constant(np.arange(start, end)), axis=0)
        own_totals = graph.add("GatherND", totals, positions)  # (n_classes - 1, n_rows)
        sums = add_weighted_sums(graph, own_totals, kernels=own_kernels, coefficients=coefficients)
        totals = graph.add("ScatterND", totals, positions, sums)
    return graph.add("Add", graph.add("Transpose", totals), graph.numbers(model._intercept_))


def add_weighted_sums(
    graph: GraphBuilder, totals: Value, *, kernels: Value, coefficients: NDArray[np.float64]
) -> Value:
    """Add the kernels of support vectors times their coefficients to totals, ``(n_sums, n_rows)``, in their order."""
    n_sums, n_own = coefficients.shape
    first = graph.add("Reshape", totals, graph.constant(np.array([1, n_sums, -1], np.int64)))
    by_vector = graph.add("Reshape", kernels, graph.constant(np.array([n_own, 1, -1], np.int64)))
    terms = graph.add("Mul", by_vector, graph.numbers(coefficients.T[:, :, None]))  # (n_own, n_sums, n_rows)
    joined = graph.add("Concat", first, terms, axis=0)
    sums = graph.add("CumSum", joined, graph.constant(np.array(0, np.int64)))
    return graph.add("Gather", sums, graph.constant(np.array(n_own, np.int64)), axis=0)


def add_kernel(graph: GraphBuilder, model: Any, features: Value) -> Value:
    """Return the kernel between rows and support vectors."""
    vectors = np.asarray(model.support_vectors_, dtype=np.float64)
    if model.kernel == "rbf":
        distance = add_kernel_distances(graph, features, vectors)
        return add_exponential(graph, graph.add("Mul", distance, graph.numbers(-model._gamma)))
    product = graph.add("MatMul", features, graph.numbers(vectors.T))
    if model.kernel == "linear":
        return product
    scaled = graph.add("Mul", product, graph.numbers(model._gamma))
    shifted = graph.add("Add", scaled, graph.numbers(model.coef0))
    if model.kernel == "poly":
        return graph.add("Pow", shifted, graph.numbers(float(model.degree)))
    return graph.add("Tanh", shifted)


def add_kernel_distances(graph: GraphBuilder, features: Value, vectors: NDArray[np.float64]) -> Value:
    """Return squared distances to support vectors, ``(n_rows, n_support)``.

    Few features are added one after the other, as in BLAS. It adds more of them in an order of its own, in several sums
    at a time, so that they might as well come from a matrix product.
    """
    n_features = vectors.shape[1]
    if n_features > MAX_FEATURES_IN_ORDER:
        return add_distances(graph, features, vectors)
    return add_squares(graph, features, graph.numbers(vectors.T))
