"""Evaluate a classifier or regressor on labelled items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import RegressorMixin

from ...errors import InputError
from ...extract.sources.path_labels import name_split
from ...extract.sources.selected import find_rows
from ...extract.store.feature_store import FeatureStore
from ...heads.label_formats import GivenLabels, require_known_labels
from ...large_arrays import take_rows
from .item_labels import collect_labels, find_originals, list_ids
from .item_splits import Items, list_held_out, list_splits
from .measures import (
    Answers,
    list_confusions,
    list_errors,
    list_mistakes,
    list_set_mistakes,
    measure_label_sets,
    measure_labels,
    measure_values,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .transfer_estimator import TransferEstimator

REGRESSION = "regression"
LABELS = "labels"
LABEL_SETS = "label sets"


@dataclass(frozen=True)
class Evaluation:
    """Predictions of labelled items beside their labels.

    Parameters
    ----------
    kind : {"labels", "label sets", "regression"}
    answers : Answers
    split : str or None
        The split that the items are of.
    failures : list of (str, str)
        Id and reason of the items that could not be used.
    unlabelled : int
        Number of items without a label.
    trained_on : int or None
        Number of items with the features of an item that the head was trained on (of at most 10,000 such items), where
        that is known.
    features : ndarray of float32, shape (n_items, n_features), or None
        Of the items that were predicted, if they are to be kept.
    """

    kind: str
    answers: Answers
    split: str | None
    failures: list[tuple[str, str]]
    unlabelled: int
    trained_on: int | None = None
    features: NDArray[np.float32] | None = None

    def measure(self) -> dict[str, Any]:
        """Return the measures, and the numbers of items; see :func:`evaluate`."""
        measure_answers = {LABELS: measure_labels, LABEL_SETS: measure_label_sets, REGRESSION: measure_values}
        scores = measure_answers[self.kind](self.answers)
        counts = {
            "n": len(self.answers),
            "failed": len(self.failures),
            "unlabelled": self.unlabelled,
            "trained_on": self.trained_on,
        }
        return {**self._name(), **scores, **counts}

    def _name(self) -> dict[str, Any]:
        return {} if self.split is None else {"split": self.split}

    def list_mistakes(self) -> list[dict[str, Any]]:
        """Return the items that are predicted wrongly; of values all items, the largest error first."""
        list_wrong = {LABELS: list_mistakes, LABEL_SETS: list_set_mistakes, REGRESSION: list_errors}
        return [{**self._name(), **mistake} for mistake in list_wrong[self.kind](self.answers)]

    def list_confusions(self) -> list[dict[str, Any]]:
        """Return the rows of the confusion matrix; raise an InputError if there is not one label for each item."""
        if self.kind != LABELS:
            raise InputError("a confusion matrix is of one label for each item; leave --confusion out")
        return [{**self._name(), **row} for row in list_confusions(self.answers)]


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
        are ``n``, the number of items with a label that were predicted; ``failed``; ``unlabelled``; ``trained_on``, how
        many have the features of an item that the head was trained on; and the measures:
        for one label for each item those of :func:`topwork.pipelines.estimators.measures.measure_labels`, for several
        :func:`~topwork.pipelines.estimators.measures.measure_label_sets`, for values
        :func:`~topwork.pipelines.estimators.measures.measure_values`.

    Raises
    ------
    InputError
        If no item has a label, or none that the head can predict; before any feature is computed.
    """
    return summarize(predict_labelled(estimator, data, split))


def summarize(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """Return the measures of the only evaluation, or of several by their splits."""
    scores = [evaluation.measure() for evaluation in evaluations]
    if len(scores) == 1:
        return scores[0]
    return {"splits": {of_split["split"]: of_split for of_split in scores}}


def predict_labelled(
    estimator: TransferEstimator,
    data: Any,
    split: str | Sequence[str] | None = None,
    *,
    keep_features: bool = False,
) -> list[Evaluation]:
    """Predict the labelled items of a source or store, without views, each split apart; see :func:`evaluate`."""
    items = data if isinstance(data, FeatureStore) else estimator.extractor_.open(data)
    known = list_splits(items)
    names = list_held_out(known) if split is None else list_names(split)
    parts: list[tuple[str | None, NDArray[np.intp]]] = [(None, np.arange(len(known)))]
    if names:
        parts = [(name, np.array(find_rows(known, name), np.intp)) for name in names]

    # Check the labels of all parts, before anything is computed.
    for _, positions in parts:
        find_truth(estimator, collect_labels(items, None, positions))
    evaluations = [
        predict_part(estimator, items, name, positions, keep_features=keep_features) for name, positions in parts
    ]
    estimator.failures_ = [failure for evaluation in evaluations for failure in evaluation.failures]
    return evaluations


def list_names(split: str | Sequence[str]) -> list[str]:
    """Return the names of splits, each once."""
    names = [split] if isinstance(split, str) else split
    return list(dict.fromkeys(name_split(name) for name in names))


def predict_part(
    estimator: TransferEstimator,
    items: Items,
    name: str | None,
    positions: NDArray[np.intp],
    *,
    keep_features: bool,
) -> Evaluation:
    """Predict the items at some positions, which are those of the named split."""
    labels = collect_labels(items, None, positions)
    truth = find_truth(estimator, labels)
    features = estimator.compute_features_at(items, positions)
    is_original = find_originals(items)[positions[features.kept]]
    is_labelled = labels.is_labelled[features.kept]
    rows = np.flatnonzero(is_original & is_labelled)
    if not len(rows):
        raise InputError(
            f"no item with a label can be evaluated ({is_original.sum()} items were predicted, "
            f"{len(features.failures)} failed)"
        )
    matrix = take_rows(features.matrix, rows)
    row_of_item = np.cumsum(labels.is_labelled) - 1
    kept = features.kept[rows]
    answers = Answers(
        ids=list_ids(items)[positions[kept]].tolist(),
        truth=truth[row_of_item[kept]],
        predicted=find_predictions(estimator, matrix),
        probabilities=find_probabilities(estimator, matrix),
        classes=list_classes(estimator),
    )
    return Evaluation(
        kind=find_kind_of_targets(estimator),
        answers=answers,
        split=name,
        failures=features.failures,
        unlabelled=int((is_original & ~is_labelled).sum()),
        trained_on=count_known(estimator, matrix),
        features=matrix if keep_features else None,
    )


def count_known(estimator: Any, matrix: NDArray[np.float32]) -> int | None:
    """Return how many rows have the features of a training row; None if these are not known."""
    familiarity = getattr(estimator, "familiarity_", None)
    return None if familiarity is None else int(familiarity.are_known(matrix).sum())


def find_kind_of_targets(estimator: Any) -> str:
    """Return what the estimator predicts."""
    if isinstance(estimator, RegressorMixin):
        return REGRESSION
    return LABEL_SETS if estimator.multilabel_ else LABELS


def list_classes(estimator: Any) -> list[str]:
    """Return the names of the classes as text; none of a regressor."""
    return [] if isinstance(estimator, RegressorMixin) else [str(name) for name in estimator.classes_.tolist()]


def find_truth(estimator: Any, labels: GivenLabels) -> NDArray[Any]:
    """Return the targets of labelled items; classes as text, as sources have their labels as text.

    Raise an InputError if they cannot be compared with predictions.
    """
    if find_kind_of_targets(estimator) != LABELS:
        targets: NDArray[Any] = estimator.as_known_targets(labels)
        return targets
    values = labels.take_labelled()
    if values.ndim != 1:
        raise InputError("the items have several labels, but the head predicts one for each")
    names = np.array([str(label) for label in values.tolist()], object)
    require_known_labels(names, np.array(list_classes(estimator), object))
    return names


def find_predictions(estimator: Any, matrix: NDArray[np.float32]) -> NDArray[Any]:
    """Return predicted targets; classes as text, None where the head abstains."""
    predicted: NDArray[Any] = estimator.predict_features(matrix)
    if find_kind_of_targets(estimator) != LABELS:
        return predicted
    texts = [None if label is None else str(label) for label in predicted.tolist()]
    return np.array(texts, object)


def find_probabilities(estimator: Any, matrix: NDArray[np.float32]) -> NDArray[np.floating[Any]] | None:
    """Return the probability of each class; None if the head has none."""
    if isinstance(estimator, RegressorMixin) or not hasattr(estimator.head_, "predict_proba"):
        return None
    probabilities: NDArray[np.floating[Any]] = estimator.predict_proba_features(matrix)
    return probabilities
