"""Decisions of linear classifiers in the precision that scikit-learn computes them in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .graph_builder import GraphBuilder, Value


def add_linear_decisions(graph: GraphBuilder, features: Value, models: Sequence[Any]) -> Value:
    """Return the decisions of linear classifiers side by side, as a float64 matrix.

    A model with one decision is computed in float64: numpy adds a product with one vector in another order than ONNX
    Runtime, so that the same precision would not give the same result.
    """
    decisions = []
    for model in models:
        weights = np.atleast_2d(model.coef_).T  # (n_features, n_decisions)
        constant = np.atleast_1d(model.intercept_)
        is_single = weights.shape[1] == 1 and len(models) == 1
        dtype = np.float64 if graph.in_double or is_single else find_decision_type(model)
        decisions.append(graph.affine_in(dtype, features, weights, constant))
    return decisions[0] if len(decisions) == 1 else graph.add("Concat", *decisions, axis=1)


def find_decision_type(model: Any) -> Any:
    """Return the type of a linear classifier's decisions for float32 features."""
    row = np.zeros((1, np.atleast_2d(model.coef_).shape[1]), np.float32)
    return model.decision_function(row).dtype
