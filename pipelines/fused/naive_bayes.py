"""Gaussian naive Bayes, whose likelihoods are added in the order of numpy's sums."""

from __future__ import annotations

from typing import Any

import numpy as np

from .graph_builder import GraphBuilder, Prediction, TypedValue, Value

N_LANES = 8
"""Number of partial sums of numpy, see ``pairwise_sum`` in its loops."""
MAX_BLOCK = 128
"""Number of values up to which numpy adds them in one block."""


def is_gaussian_naive_bayes(model: Any) -> bool:
    """Check for Gaussian naive Bayes."""
    from sklearn.naive_bayes import GaussianNB

    return type(model) is GaussianNB


def convert_gaussian_naive_bayes(graph: GraphBuilder, model: Any, features: Value) -> Prediction:
    """Choose the class of the highest joint likelihood."""
    n_features = model.theta_.shape[1]
    dtype = model.theta_.dtype
    joint_dtype = np.result_type(dtype, model.class_prior_.dtype)
    own = graph.cast(features, dtype)
    logarithms = np.array([-0.5 * np.sum(np.log(2.0 * np.pi * variance)) for variance in model.var_])
    log_priors = np.log(model.class_prior_).astype(joint_dtype)
    one_half = np.array(0.5, dtype)

    def add_class(inner: GraphBuilder, states: list[Value], items: list[Value]) -> list[Value]:
        mean, variance, logarithm, log_prior = items
        difference = inner.add("Sub", own, mean)
        scaled = inner.add("Div", inner.add("Mul", difference, difference), variance)
        total = add_numpy_sum(inner, scaled, start=0, stop=n_features)
        half = inner.add("Mul", inner.constant(one_half), total)
        likelihood = inner.add("Sub", logarithm, half)
        return [inner.add("Add", log_prior, inner.cast(likelihood, joint_dtype))]

    parameters = [model.theta_, model.var_, logarithms.astype(dtype), log_priors]
    sequences = [TypedValue(graph.constant(values), values.dtype) for values in parameters]
    by_class = graph.loop(add_class, [], sequences, collected=[joint_dtype])[0]
    flat = graph.add("Reshape", by_class, graph.constant(np.array([len(model.classes_), -1], np.int64)))
    likelihoods = graph.add("Transpose", flat)  # (n_rows, n_classes)
    return Prediction(
        graph.argmax(likelihoods), add_posterior(graph, likelihoods, n_classes=len(model.classes_), dtype=joint_dtype)
    )


def add_posterior(graph: GraphBuilder, likelihoods: Value, *, n_classes: int, dtype: Any) -> Value:
    """Return probabilities from logarithms of likelihoods of a type of numpy.

    As in scikit-learn, the logarithm of the sum is rounded before it is subtracted: large ones of equal size are all
    given the probability 1.
    """
    largest, _ = graph.add_pair("TopK", likelihoods, graph.constant(np.array([1], np.int64)), axis=1)
    relative = graph.cast(graph.add("Exp", graph.add("Sub", likelihoods, largest)), np.float64)
    logarithm = graph.cast(graph.add("Log", graph.sum_rows(relative, n_classes)), dtype)
    total = graph.add("Add", logarithm, largest)  # (n_rows, 1)
    return graph.cast(graph.add("Exp", graph.add("Sub", likelihoods, total)), np.float64)


def add_numpy_sum(graph: GraphBuilder, values: Value, *, start: int, stop: int) -> Value:
    """Return the sums of some columns of a matrix, ``(n_rows, 1)``, in the order in which numpy adds them."""
    count = stop - start
    if count > MAX_BLOCK:
        half = count // 2
        middle = start + half - half % N_LANES
        left = add_numpy_sum(graph, values, start=start, stop=middle)
        right = add_numpy_sum(graph, values, start=middle, stop=stop)
        return graph.add("Add", left, right)
    n_in_lanes = count - count % N_LANES
    columns = [graph.columns(values, [number]) for number in range(start + n_in_lanes, stop)]
    if n_in_lanes:
        columns = [add_lanes(graph, values, start=start, stop=start + n_in_lanes), *columns]
    total = columns[0]
    for column in columns[1:]:
        total = graph.add("Add", total, column)
    return total


def add_lanes(graph: GraphBuilder, values: Value, *, start: int, stop: int) -> Value:
    """Return the sums of columns whose number is a multiple of eight: lanes from left to right, then pairs of lanes."""
    lanes = graph.columns(values, range(start, start + N_LANES))
    for first in range(start + N_LANES, stop, N_LANES):
        lanes = graph.add("Add", lanes, graph.columns(values, range(first, first + N_LANES)))
    for width in (N_LANES // 2, N_LANES // 4, N_LANES // 8):
        even = graph.columns(lanes, range(0, 2 * width, 2))
        odd = graph.columns(lanes, range(1, 2 * width, 2))
        lanes = graph.add("Add", even, odd)
    return lanes
