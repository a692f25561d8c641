"""Classifiers that predict several labels of each row, as a matrix of zeros and ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...errors import ExportError
from .distances import add_distances
from .graph_builder import GraphBuilder, Prediction, Value
from .head_converters import add_perceptron, find_converter, has_linear_decisions, is_perceptron
from .linear_decisions import add_linear_decisions
from .neighbors import add_nearest, has_heap
from .preparation import add_step, can_prepare


def add_label_matrix(graph: GraphBuilder, model: Any, features: Value, n_features: int) -> Prediction:
    """Return which labels apply to a row, int64 of shape (n_rows, n_labels), and their probabilities if any."""
    from sklearn.multiclass import OneVsRestClassifier

    if type(model) is OneVsRestClassifier:
        return add_labels_apart(graph, model, features, n_features)
    if has_label_votes(model):
        return add_label_votes(graph, model, features)
    if has_linear_decisions(model):
        scores = add_linear_decisions(graph, features, [model])
    elif is_perceptron(model):
        scores = add_perceptron(graph, model, features)
    else:
        raise ExportError("there is no converter for several labels; expected a named head")
    labels = graph.cast(graph.is_positive(scores), np.int64)
    if not hasattr(model, "predict_proba"):
        return Prediction(labels)
    return Prediction(labels, graph.add("Sigmoid", scores))


def add_labels_apart(graph: GraphBuilder, model: Any, features: Value, n_features: int) -> Prediction:
    """Return labels that are learned each apart, by the scores and the threshold of scikit-learn."""
    from sklearn.multiclass import _threshold_for_binary_predict

    parts = [add_part(graph, part, features, n_features) for part in model.estimators_]
    scores = join([part.score for part in parts], graph)
    is_above = graph.add("Greater", scores, graph.numbers(float(_threshold_for_binary_predict(model.estimators_[0]))))
    labels = graph.cast(is_above, np.int64)
    probabilities = [part.probabilities for part in parts if part.probabilities is not None]
    if len(probabilities) < len(parts):
        return Prediction(labels)
    return Prediction(labels, join([graph.columns(values, [1]) for values in probabilities], graph))


def join(columns: list[Any], graph: GraphBuilder) -> Value:
    """Return columns ``(n_rows, 1)`` side by side."""
    return graph.add("Concat", *columns, axis=1)


def add_part(graph: GraphBuilder, part: Any, features: Value, n_features: int) -> Prediction:
    """Return the prediction of a classifier of two classes; one that has seen one class only is constant."""
    from sklearn.multiclass import _ConstantPredictor

    if type(part) is _ConstantPredictor:
        label = float(np.ravel(part.y_)[0])
        score = graph.fill(features, 1, np.array(label))
        return Prediction(score, graph.add_complement(score), score)
    steps = [step for _, step in getattr(part, "steps", [])[:-1]]
    last = part.steps[-1][1] if hasattr(part, "steps") else part
    convert = find_converter(last)
    if convert is None or not all(map(can_prepare, steps)):
        raise ExportError(f"there is no converter for {type(part).__name__} as a part; expected a named head")
    prepared = graph.cast(features, np.float32)
    for step in steps:
        prepared = add_step(graph, step, prepared, n_features)
    prediction = convert(graph, last, graph.widen(prepared))
    if prediction.score is None:
        raise ExportError(f"{type(last).__name__} has no converter for the score of two classes; expected a named head")
    return prediction


def has_label_votes(model: Any) -> bool:
    """Check for a vote of the nearest neighbours in Euclidean distance on each label."""
    from sklearn.neighbors import KNeighborsClassifier

    if type(model) is not KNeighborsClassifier or not isinstance(model._fit_X, np.ndarray):
        return False
    is_plain = model.effective_metric_ == "euclidean" and model.weights == "uniform"
    return is_plain and bool(model.outputs_2d_) and has_heap(model)


def add_label_votes(graph: GraphBuilder, model: Any, features: Value) -> Prediction:
    """Return labels that most of the nearest rows have, and their shares of these rows."""
    count = model.n_neighbors
    columns = [np.asarray(values)[codes] == 1 for values, codes in zip(model.classes_, model._y.T, strict=True)]
    has_label = np.column_stack(columns).astype(np.float64)  # (n_fitted, n_labels)
    distances = add_distances(graph, features, np.asarray(model._fit_X, dtype=np.float64))
    nearest = add_nearest(graph, distances, n_fitted=len(has_label), count=count)
    ballots = graph.add("Gather", graph.numbers(has_label), nearest, axis=0)  # (n_rows, count, n_labels)
    votes = graph.add("MatMul", graph.numbers(np.ones((1, 1, count))), ballots)  # (n_rows, 1, n_labels)
    flat = graph.add("Reshape", votes, graph.constant(np.array([-1, has_label.shape[1]], np.int64)))
    labels = graph.cast(graph.add("Greater", flat, graph.numbers(count / 2)), np.int64)
    return Prediction(labels, graph.add("Div", flat, graph.numbers(float(count))))
