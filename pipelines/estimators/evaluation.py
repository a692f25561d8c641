"""Evaluate a classifier or regressor on labelled items."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import RegressorMixin

from ...errors import InputError
from ...extract.sources.path_labels import name_split
from ...extract.sources.selected import find_rows
from ...extract.store.feature_store import FeatureStore
from ...heads.metrics import compute_accuracy, compute_mean_absolute_error, compute_r2
from .item_labels import find_originals, list_labels
from .item_splits import Items, list_held_out, list_splits

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .transfer_estimator import TransferEstimator

SHOWN_LABELS = 5
"""Number of labels that an error lists."""


def evaluate(estimator: TransferEstimator, data: Any, split: str | Sequence[str] | None = None) -> dict[str, Any]:
    """Compare the predictions of a fitted estimator with the labels (or values) of a source or store.

    Parameters
    ----------
    estimator : TransferClassifier or TransferRegressor
    data : source or FeatureStore
    split : str or sequence of str, optional
        Splits to evaluate; by default all that are held out, and if there are none, all items.

    Returns
    -------
    dict
        The scores of a single split have its name as ``split``; those of several are under ``splits``, by name. Scores
        are ``n``, the number of items with a label that were predicted; ``failed``; ``unlabelled``. For a classifier
        ``accuracy``; ``abstained``, the number of items without a prediction, which count as wrong, and
        ``accuracy_answered`` without them (None if nothing was predicted); and ``per_class``: for each label its number
        of items and the share predicted right. For a regressor ``r2`` and ``mean_absolute_error``.
    """
    items = data if isinstance(data, FeatureStore) else estimator.extractor_.open(data)
    known = list_splits(items)
    names = list_held_out(known) if split is None else list_names(split)
    if not names:
        return evaluate_at(estimator, items, np.arange(len(known)))
    scores = {}
    failures = []
    for name in names:
        scores[name] = {"split": name, **evaluate_at(estimator, items, np.array(find_rows(known, name)))}
        failures.extend(estimator.failures_)
    estimator.failures_ = failures
    if len(names) == 1:
        return scores[names[0]]
    return {"splits": scores}


def list_names(split: str | Sequence[str]) -> list[str]:
    """Return the names of splits, each once."""
    names = [split] if isinstance(split, str) else split
    return list(dict.fromkeys(name_split(name) for name in names))


def evaluate_at(estimator: TransferEstimator, items: Items, positions: NDArray[np.intp]) -> dict[str, Any]:
    """Return the scores on the items at some positions; see :func:`evaluate`."""
    answered = predict_originals(estimator, items, positions)
    labelled = [pair for pair in answered if pair[0] is not None]
    if not labelled:
        raise InputError(
            "no item has a label; expected a folder whose sub-folders name the labels, or a store made from one "
            f"({len(answered)} items were predicted, {len(estimator.failures_)} failed)"
        )
    labels, predicted = zip(*labelled, strict=True)
    if isinstance(estimator, RegressorMixin):
        scores = score_values(labels, predicted)
    else:
        scores = score_labels(labels, predicted, estimator.classes_.tolist())
    counts = {
        "n": len(labelled),
        "failed": len(estimator.failures_),
        "unlabelled": len(answered) - len(labelled),
    }
    return {**scores, **counts}


def predict_originals(estimator: TransferEstimator, items: Items, positions: NDArray[np.intp]) -> list[tuple[Any, Any]]:
    """Return the label and the prediction of each item that did not fail, of those at some positions, without views."""
    features = estimator.compute_features_at(items, positions)
    answers = estimator.predict_features(features.matrix).tolist()
    labels = list_labels(items)
    is_original = find_originals(items)
    pairs = []
    for position, answer in zip(positions[features.kept].tolist(), answers, strict=True):
        if is_original[position]:
            pairs.append((labels[position], answer))
    return pairs


def score_labels(labels: Sequence[Any], predicted: Sequence[Any], classes: Sequence[Any]) -> dict[str, Any]:
    """Return the accuracy, in all and per class, of predicted labels, compared as strings.

    Items without a prediction (None) count as wrong. Raise an InputError if no label is one of `classes`, which the
    classifier can predict.
    """
    names = [str(label) for label in labels]
    known = {str(name) for name in classes}
    if known.isdisjoint(names):
        raise InputError(f"none of the labels ({_list_some(names)}) is one that the head knows ({_list_some(known)})")
    targets = np.array(names)
    predictions = np.array([None if answer is None else str(answer) for answer in predicted], dtype=object)
    is_answered = np.array([answer is not None for answer in predicted])
    accuracy_answered = None
    if is_answered.any():
        accuracy_answered = compute_accuracy(targets[is_answered], predictions[is_answered])
    return {
        "accuracy": compute_accuracy(targets, predictions),
        "abstained": int((~is_answered).sum()),
        "accuracy_answered": accuracy_answered,
        "per_class": score_each_class(targets, predictions),
    }


def score_each_class(targets: NDArray[np.str_], predictions: NDArray[np.object_]) -> dict[str, dict[str, Any]]:
    """Return the number of items of each label ``n``, and the ``accuracy`` on them."""
    per_class = {}
    for name in sorted(set(targets.tolist())):
        of_class = targets == name
        accuracy = compute_accuracy(targets[of_class], predictions[of_class])
        per_class[name] = {"n": int(of_class.sum()), "accuracy": accuracy}
    return per_class


def score_values(values: Sequence[Any], predicted: Sequence[Any]) -> dict[str, Any]:
    """Return the R2 (None for a single item) and the mean absolute error of predicted values.

    Raise an InputError if a value is not a number.
    """
    try:
        true_values = np.array(values, np.float64)
        predicted_values = np.array(predicted, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"values of the items: {error}; expected a number for each") from error
    r2 = None
    if len(true_values) > 1:
        r2 = compute_r2(true_values, predicted_values)
    return {"r2": r2, "mean_absolute_error": compute_mean_absolute_error(true_values, predicted_values)}


def _list_some(names: Iterable[str]) -> str:
    distinct = sorted(set(names))
    shown = ", ".join(distinct[:SHOWN_LABELS])
    return f"{shown}, …" if len(distinct) > SHOWN_LABELS else shown
