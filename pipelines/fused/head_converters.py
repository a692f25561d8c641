"""Classifiers whose ONNX labels are computed as scikit-learn's ``predict`` computes them.

Labels come from decision values in double precision, and ties are broken as scikit-learn breaks them: the first of
equal decisions, and of two classes the first where the only decision is zero. skl2onnx chooses the most probable class
in float32 instead, but probabilities that are saturated or normalised tie where decisions do not.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from .gaussian_process import (
    convert_gaussian_process,
    convert_gaussian_process_regressor,
    is_gaussian_process,
    is_gaussian_process_regressor,
)
from .graph_builder import GraphBuilder, Prediction, Value
from .linear_decisions import add_linear_decisions, find_decision_type
from .naive_bayes import convert_gaussian_naive_bayes, is_gaussian_naive_bayes
from .neighbors import (
    convert_centroid,
    convert_neighbors,
    convert_neighbors_regressor,
    is_centroid,
    is_plain_neighbors,
    is_plain_neighbors_regressor,
)
from .pairwise_heads import add_kernel, convert_one_vs_one, convert_support_vectors
from .trees import (
    convert_decision_trees,
    convert_gradient_boosting,
    convert_histogram_boosting,
    convert_histogram_boosting_regressor,
    is_decision_tree,
    is_gradient_boosting,
    is_histogram_boosting,
    is_histogram_boosting_regressor,
)

Converter = Callable[[GraphBuilder, Any, Value], Prediction]
"""Adds the prediction of a fitted classifier for a float64 matrix of features."""
RegressorConverter = Callable[[GraphBuilder, Any, Value], Value]
"""Adds the values ``(n_rows, n_targets)`` of a fitted regressor for a float64 matrix of features."""


def find_converter(model: Any) -> Converter | None:
    """Return the converter of a fitted classifier, by its exact type, or None."""
    if getattr(model, "multilabel_", False):
        return None
    for is_meant, convert in list_converters():
        if is_meant(model):
            return convert
    return None


@cache
def list_converters() -> list[tuple[Callable[[Any], bool], Converter]]:
    """Return conditions for a classifier with the converters for them."""
    return [
        (has_linear_decisions, convert_linear),
        (is_centroid, convert_centroid),
        (is_perceptron, convert_perceptron),
        (is_plain_neighbors, convert_neighbors),
        (is_support_vector_machine, convert_support_vectors),
        (is_one_vs_one, convert_one_vs_one),
        (is_one_vs_rest, convert_one_vs_rest),
        (is_gaussian_process, convert_gaussian_process),
        (is_gaussian_naive_bayes, convert_gaussian_naive_bayes),
        (is_decision_tree, convert_decision_trees),
        (is_gradient_boosting, convert_gradient_boosting),
        (is_histogram_boosting, convert_histogram_boosting),
    ]


# Conditions.


@cache
def list_linear_types() -> frozenset[type]:
    """Return the classifiers whose decisions are ``X @ coef_.T + intercept_``."""
    from sklearn import linear_model, svm
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    from ...heads.linear.linear_probe import LinearProbe, LinearProbeCV

    return frozenset(
        [
            LinearDiscriminantAnalysis,
            LinearProbe,
            LinearProbeCV,
            linear_model.LogisticRegression,
            linear_model.LogisticRegressionCV,
            linear_model.PassiveAggressiveClassifier,
            linear_model.Perceptron,
            linear_model.RidgeClassifier,
            linear_model.RidgeClassifierCV,
            linear_model.SGDClassifier,
            svm.LinearSVC,
        ]
    )


def has_linear_decisions(model: Any) -> bool:
    """Check whether decisions are linear."""
    return type(model) in list_linear_types()


def is_perceptron(model: Any) -> bool:
    """Check for topwork's multilayer perceptron."""
    from ...heads.mlp.mlp_head import MLPHead

    return type(model) is MLPHead


def is_perceptron_regressor(model: Any) -> bool:
    """Check for topwork's multilayer perceptron for values."""
    from ...heads.mlp.mlp_regressor import MLPHeadRegressor

    return type(model) is MLPHeadRegressor


def is_scaled_support_vector_regressor(model: Any) -> bool:
    """Check for a support vector regressor with a named kernel, whose one target is standardised."""
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVR

    if type(model) is not TransformedTargetRegressor or type(model.regressor_) is not SVR:
        return False
    is_standardised = type(model.transformer_) is StandardScaler and model.transformer_.scale_ is not None
    has_named_kernel = isinstance(model.regressor_.kernel, str) and model.regressor_.kernel != "precomputed"
    return is_standardised and has_named_kernel and not model.regressor_._sparse


def is_support_vector_machine(model: Any) -> bool:
    """Check for a support vector classifier with a named kernel and without probabilities."""
    from sklearn.svm import SVC, NuSVC

    if type(model) not in (SVC, NuSVC) or not isinstance(model.kernel, str):
        return False
    return model.kernel != "precomputed" and not hasattr(model, "predict_proba") and not model._sparse


def is_one_vs_one(model: Any) -> bool:
    """Check for linear classifiers of pairs of classes."""
    from sklearn.multiclass import OneVsOneClassifier

    return type(model) is OneVsOneClassifier and all(map(has_linear_decisions, model.estimators_))


def is_one_vs_rest(model: Any) -> bool:
    """Check for linear classifiers of each class against the others."""
    from sklearn.multiclass import OneVsRestClassifier

    return type(model) is OneVsRestClassifier and all(map(has_linear_decisions, model.estimators_))


# Converters.


def convert_linear(graph: GraphBuilder, model: Any, features: Value) -> Prediction:
    """Choose the class of the highest decision."""
    decisions = add_linear_decisions(graph, features, [model])  # (n_rows, n_decisions)
    n_decisions = len(np.atleast_2d(model.coef_))
    return Prediction(
        choose_class(graph, decisions, n_decisions=n_decisions),
        add_probabilities(graph, model, decisions=decisions, n_decisions=n_decisions),
        score=decisions if n_decisions == 1 else None,
    )


def convert_one_vs_rest(graph: GraphBuilder, model: Any, features: Value) -> Prediction:
    """Choose the class of the highest decision against the others; probabilities are normalised."""
    parts = model.estimators_
    decisions = add_linear_decisions(graph, features, parts)  # (n_rows, n_decisions)
    positions = choose_class(graph, decisions, n_decisions=len(parts))
    if not hasattr(model, "predict_proba"):
        return Prediction(positions)
    apart = add_own_probabilities(graph, parts[0], decisions)
    if len(parts) == 1:
        return Prediction(positions, graph.add_complement(apart))
    return Prediction(positions, graph.normalise_rows(apart, len(parts)))


def convert_perceptron(graph: GraphBuilder, model: Any, features: Value) -> Prediction:
    """Choose the class of the highest output."""
    scores = add_perceptron(graph, model, features)
    return Prediction(graph.argmax(scores), graph.add("Softmax", scores, axis=1))


def find_regressor_converter(model: Any) -> RegressorConverter | None:
    """Return the converter of a fitted regressor, by its exact type, or None."""
    if is_perceptron_regressor(model):
        return convert_perceptron_regressor
    if is_scaled_support_vector_regressor(model):
        return convert_scaled_support_vector_regressor
    if is_gaussian_process_regressor(model):
        return convert_gaussian_process_regressor
    if is_plain_neighbors_regressor(model):
        return convert_neighbors_regressor
    if is_histogram_boosting_regressor(model):
        return convert_histogram_boosting_regressor
    return None


def convert_perceptron_regressor(graph: GraphBuilder, model: Any, features: Value) -> Value:
    """Return the values of a multilayer perceptron, ``(n_rows, n_targets)``."""
    scaled = graph.add("Mul", add_perceptron(graph, model, features), graph.numbers(model.target_scale_))
    return graph.add("Add", scaled, graph.numbers(model.target_mean_))


def convert_scaled_support_vector_regressor(graph: GraphBuilder, model: Any, features: Value) -> Value:
    """Return the values of a support vector regressor that was fitted to standardised targets, ``(n_rows, 1)``."""
    scaler = model.transformer_
    kernels = add_kernel(graph, model.regressor_, features)
    standardised = graph.affine(kernels, model.regressor_._dual_coef_.T, model.regressor_._intercept_)
    scaled = graph.add("Mul", standardised, graph.numbers(scaler.scale_))
    return graph.add("Add", scaled, graph.numbers(scaler.mean_))


def choose_class(graph: GraphBuilder, decisions: Value, *, n_decisions: int) -> Value:
    """Return the position of the highest decision; a single one is for the second class if it is above zero."""
    if n_decisions > 1:
        return graph.argmax(decisions)
    return graph.choose_of_two(decisions)


def add_probabilities(graph: GraphBuilder, model: Any, *, decisions: Value, n_decisions: int) -> Value | None:
    """Return the probabilities of a linear classifier, if it has some."""
    if not hasattr(model, "predict_proba"):
        return None
    if n_decisions == 1:
        return graph.add_complement(add_own_probabilities(graph, model, decisions))
    is_trained_apart = hasattr(model, "loss")  # SGDClassifier: one loss for each class against the others
    if is_trained_apart:
        apart = add_own_probabilities(graph, model, decisions)
        return graph.normalise_rows(apart, n_decisions)
    return graph.add("Softmax", decisions, axis=1)


def add_own_probabilities(graph: GraphBuilder, model: Any, decisions: Value) -> Value:
    """Return the probability of each decision on its own, in the precision of the model's decisions.

    Where decisions are float32, probabilities that are lower than its smallest number are zero.
    """
    if getattr(model, "loss", None) == "modified_huber":
        one = graph.numbers(1.0)
        clipped = graph.add("Max", graph.add("Min", decisions, one), graph.numbers(-1.0))
        return graph.add("Div", graph.add("Add", clipped, one), graph.numbers(2.0))
    dtype = find_decision_type(model)
    exponential = graph.add("Exp", graph.add("Neg", graph.cast(decisions, dtype)))
    one = graph.constant(np.array(1.0, dtype))
    return graph.cast(graph.add("Div", one, graph.add("Add", one, exponential)), np.float64)


def add_perceptron(graph: GraphBuilder, model: Any, features: Value) -> Value:
    """Return the outputs of a multilayer perceptron."""
    centred = graph.add("Sub", features, graph.numbers(model.mean_))
    values = graph.add("Div", centred, graph.numbers(model.scale_))
    *hidden, output = zip(model.weights_, model.biases_, strict=True)
    for weights, constant in hidden:
        values = graph.add("Relu", graph.affine(values, weights, constant))
    weights, constant = output
    return graph.affine(values, weights, constant)
