"""Steps of a pipeline before its last one, in the precision of scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np

from .graph_builder import GraphBuilder, Value

SMALLEST_LENGTH = np.array(10 * np.finfo(np.float32).eps, np.float32)
"""Rows that are shorter are zero to scikit-learn's ``Normalizer``."""


def can_prepare(step: Any) -> bool:
    """Check whether a step standardises features, or divides rows by their Euclidean length."""
    from sklearn.preprocessing import Normalizer, StandardScaler

    is_length = type(step) is Normalizer and step.norm == "l2"
    return type(step) is StandardScaler or is_length or step in ("passthrough", None)


def add_step(graph: GraphBuilder, step: Any, features: Value, n_features: int) -> Value:
    """Return float32 features after a step that :func:`can_prepare` knows."""
    from sklearn.preprocessing import Normalizer, StandardScaler

    if type(step) is Normalizer:
        return add_normalisation(graph, features, n_features)
    if type(step) is StandardScaler:
        return add_standardisation(graph, step, features)
    return features


def add_standardisation(graph: GraphBuilder, scaler: Any, features: Value) -> Value:
    """Subtract means, and divide by scales, as far as there are some."""
    if scaler.with_mean:
        features = graph.add("Sub", features, graph.constant(scaler.mean_.astype(np.float32)))
    if scaler.with_std:
        features = graph.add("Div", features, graph.constant(scaler.scale_.astype(np.float32)))
    return features


def add_normalisation(graph: GraphBuilder, features: Value, n_features: int) -> Value:
    """Divide rows by their length; rows that scikit-learn takes for zero stay as they are."""
    exact = graph.cast(features, np.float64)
    squares = graph.sum_rows(graph.add("Mul", exact, exact), n_features)
    length = graph.add("Sqrt", graph.cast(squares, np.float32))  # (n_rows, 1)
    is_zero = graph.add("Less", length, graph.constant(SMALLEST_LENGTH))
    divisor = graph.add("Where", is_zero, graph.constant(np.array(1.0, np.float32)), length)
    return graph.add("Div", features, divisor)
