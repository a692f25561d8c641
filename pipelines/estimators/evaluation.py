"""How well a classifier or regressor does on labelled items."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import RegressorMixin

from ...errors import InputError
from ...extract.store.feature_store import FeatureStore
from ...heads.metrics import compute_accuracy, compute_mean_absolute_error, compute_r2
from .features import is_no_view

if TYPE_CHECKING:
    from .transfer_estimator import TransferEstimator


def evaluate(classifier: TransferEstimator, data: Any) -> dict[str, Any]:
    """Compare predictions with the labels of a source or store.

    Parameters
    ----------
    classifier : TransferClassifier or TransferRegressor
        Fitted.
    data : str, path, Table or FeatureStore
        With labels, or values.

    Returns
    -------
    dict
        ``n``, the number of items with a label that were predicted; ``failed``; ``unlabelled``. Of a classifier
        ``accuracy``; ``abstained``, the number of items without an answer, which count as wrong, and
        ``accuracy_answered`` without them (None if there is no answer); and ``per_class``: for each label its number of
        items and the share predicted right. Of a regressor ``r2`` and ``mean_absolute_error``.
    """
    pairs, counts = _pairs(classifier, data)
    return {**(_values(pairs) if isinstance(classifier, RegressorMixin) else _labels(classifier, pairs)), **counts}


def _pairs(classifier: TransferEstimator, data: Any) -> tuple[list[tuple[Any, Any]], dict[str, int]]:
    """Return label and prediction of each labelled item, and how many items there are of which kind."""
    if not isinstance(data, FeatureStore):
        data = classifier.extractor_.open(data)
    predicted = classifier.predict(data).tolist()
    if isinstance(data, FeatureStore):
        rows = np.flatnonzero(is_no_view(data))
        predicted, labels = ([of[row] for row in rows] for of in (predicted, data.labels))
    else:
        own = [item.label for item in data]
        labels = [own[position] for position in classifier.extractor_.kept_]
    pairs = [(label, guess) for label, guess in zip(labels, predicted, strict=True) if label is not None]
    if not pairs:
        raise InputError(
            "no item has a label; expected a folder whose sub-folders name the labels, or a store made from one "
            f"({len(predicted)} items were predicted, {len(classifier.failures_)} failed)"
        )
    counts = {"n": len(pairs), "failed": len(classifier.failures_), "unlabelled": len(labels) - len(pairs)}
    return pairs, counts


def _labels(classifier: Any, pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
    labels = [str(label) for label, _ in pairs]
    guesses = [None if guess is None else str(guess) for _, guess in pairs]
    known = {str(name) for name in classifier.classes_.tolist()}
    if not known & set(labels):
        raise InputError(f"none of the labels ({_few(labels)}) is one that the head knows ({_few(known)})")
    targets = np.array(labels)
    predictions = np.array(guesses, dtype=object)
    is_answered = np.array([guess is not None for guess in guesses])
    per_class = {}
    for name in sorted(set(labels)):
        is_own = targets == name
        accuracy = compute_accuracy(targets[is_own], predictions[is_own])
        per_class[name] = {"n": int(is_own.sum()), "accuracy": accuracy}
    accuracy_answered = None
    if is_answered.any():
        accuracy_answered = compute_accuracy(targets[is_answered], predictions[is_answered])
    return {
        "accuracy": compute_accuracy(targets, predictions),
        "abstained": int((~is_answered).sum()),
        "accuracy_answered": accuracy_answered,
        "per_class": per_class,
    }


def _values(pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
    try:
        truth, found = (np.array(each, np.float64) for each in zip(*pairs, strict=True))
    except (TypeError, ValueError) as error:
        raise InputError(f"values of the items: {error}; expected a number for each") from error
    r2 = compute_r2(truth, found) if len(truth) > 1 else None
    return {"r2": r2, "mean_absolute_error": compute_mean_absolute_error(truth, found)}


def _few(names: Iterable[str]) -> str:
    distinct = sorted(set(names))
    return ", ".join(distinct[:5]) + (", …" if len(distinct) > 5 else "")
