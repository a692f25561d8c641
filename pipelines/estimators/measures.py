"""Measures of predictions beside the truth: scikit-learn's, for labels, several labels, and values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...heads.metrics import compute_accuracy, compute_mean_absolute_error, compute_r2

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOP = 5
"""Number of likeliest labels among which the true one counts for ``top5_accuracy``."""
AVERAGES = ("macro", "weighted")


@dataclass(frozen=True)
class Answers:
    """The labelled items that were predicted, and what was predicted for them.

    Parameters
    ----------
    ids : list of str
    truth : ndarray of shape (n_items,) or (n_items, n_targets)
        Labels as text; several labels as zeros and ones; or values.
    predicted : ndarray of the shape of `truth`
        None where there is no prediction.
    probabilities : ndarray of shape (n_items, n_classes), or None
    classes : list of str
        Names of the classes or columns, as text.
    """

    ids: list[str]
    truth: NDArray[Any]
    predicted: NDArray[Any]
    probabilities: NDArray[np.floating[Any]] | None
    classes: list[str]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: NDArray[np.intp]) -> Answers:
        """Return some of the items."""
        return Answers(
            ids=[self.ids[row] for row in rows],
            truth=self.truth[rows],
            predicted=self.predicted[rows],
            probabilities=None if self.probabilities is None else self.probabilities[rows],
            classes=self.classes,
        )


def measure_labels(answers: Answers) -> dict[str, Any]:
    """Return the measures of one label for each item.

    Items without a prediction count as wrong, as do labels that the head has not learned.
    """
    truth = answers.truth
    predicted = answers.predicted
    is_answered = np.array([answer is not None for answer in predicted], bool)
    accuracy_answered = None
    if is_answered.any():
        accuracy_answered = compute_accuracy(truth[is_answered], predicted[is_answered])
    per_class = measure_each_class(answers)
    recalls = [entry["recall"] for entry in per_class.values() if entry["n"]]
    return {
        "accuracy": compute_accuracy(truth, predicted),
        "balanced_accuracy": float(np.mean(recalls)),
        **average_classes(per_class),
        **measure_probabilities(answers),
        "abstained": int((~is_answered).sum()),
        "accuracy_answered": accuracy_answered,
        "unknown": int((~np.isin(truth, answers.classes)).sum()),
        "per_class": per_class,
    }


def list_labels_of(answers: Answers) -> list[str]:
    """Return the labels that occur as truth or as prediction, sorted."""
    predicted = {answer for answer in answers.predicted.tolist() if answer is not None}
    return sorted(predicted.union(answers.truth.tolist()))


def measure_each_class(answers: Answers) -> dict[str, dict[str, Any]]:
    """Return for each label the number of items ``n``, precision, recall (also as ``accuracy``) and F1."""
    from sklearn.metrics import precision_recall_fscore_support

    names = list_labels_of(answers)
    no_label = "".join(names) + "?"  # equal to none of them
    predicted = [no_label if answer is None else answer for answer in answers.predicted.tolist()]
    measures = precision_recall_fscore_support(answers.truth.tolist(), predicted, labels=names, zero_division=0)
    return tabulate(names, measures)


def tabulate(names: Sequence[str], measures: Any) -> dict[str, dict[str, Any]]:
    """Return arrays of precision, recall, F1 and numbers of items as one dictionary for each label."""
    per_class = {}
    for name, precision, recall, f1, n_items in zip(names, *measures, strict=True):
        per_class[str(name)] = {
            "n": int(n_items),
            "accuracy": float(recall),
            "precision": float(precision),
            "recall": float(recall),
            "f1": float(f1),
        }
    return per_class


def average_classes(per_class: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Return precision, recall and F1, averaged over labels: equally (macro), or by their numbers of items."""
    entries = list(per_class.values())
    weights_of = {"macro": np.ones(len(entries)), "weighted": np.array([entry["n"] for entry in entries], float)}
    averages = {}
    for measure in ("precision", "recall", "f1"):
        values = [entry[measure] for entry in entries]
        for name in AVERAGES:
            averages[f"{measure}_{name}"] = float(np.average(values, weights=weights_of[name]))
    return averages


def measure_probabilities(answers: Answers) -> dict[str, float | None]:
    """Return the accuracy of the five likeliest labels, and the log loss; None where there are no probabilities.

    The log loss is that of the items whose label the head has learned: all others would make it infinite.
    """
    from sklearn.metrics import log_loss

    if answers.probabilities is None:
        return {"top5_accuracy": None, "log_loss": None}
    column_of = {name: column for column, name in enumerate(answers.classes)}
    columns = np.array([column_of.get(label, -1) for label in answers.truth.tolist()], np.intp)
    known = np.flatnonzero(columns >= 0)
    if not len(known):
        return {"top5_accuracy": 0.0, "log_loss": None}
    probabilities = answers.probabilities[known].astype(np.float64)
    own = probabilities[np.arange(len(known)), columns[known]]
    n_likelier = (probabilities > own[:, None]).sum(axis=1)
    total = probabilities.sum(axis=1, keepdims=True)
    loss = log_loss(columns[known], probabilities / total, labels=np.arange(len(answers.classes)))
    return {"top5_accuracy": float((n_likelier < TOP).sum() / len(answers)), "log_loss": float(loss)}


def measure_label_sets(answers: Answers) -> dict[str, Any]:
    """Return the measures of several labels for each item; ``accuracy`` is the share with all labels right."""
    from sklearn.metrics import average_precision_score, f1_score, precision_recall_fscore_support

    truth = answers.truth.astype(np.int64)
    predicted = answers.predicted.astype(np.int64)
    measures = precision_recall_fscore_support(truth, predicted, zero_division=0)
    per_class = tabulate(answers.classes, measures)
    mean_average_precision = None
    has_both = (truth.min(axis=0) == 0) & (truth.max(axis=0) == 1)
    if answers.probabilities is not None and has_both.any():
        scores = answers.probabilities[:, has_both]
        mean_average_precision = float(average_precision_score(truth[:, has_both], scores, average="macro"))
    return {
        "accuracy": compute_accuracy(truth, predicted),
        "mean_average_precision": mean_average_precision,
        **average_classes(per_class),
        "f1_micro": float(f1_score(truth, predicted, average="micro", zero_division=0)),
        "f1_samples": float(f1_score(truth, predicted, average="samples", zero_division=0)),
        "per_class": per_class,
    }


def measure_values(answers: Answers) -> dict[str, Any]:
    """Return R2 (None for a single item), mean absolute and root mean squared error, and Spearman's rank correlation.

    For several values they are averaged over the values. The correlation is None if all values or predictions are
    equal.
    """
    truth = answers.truth
    predicted = answers.predicted
    r2 = None
    if len(truth) > 1:
        r2 = compute_r2(truth, predicted)
    squared_errors = (truth - predicted) ** 2
    return {
        "r2": r2,
        "mean_absolute_error": compute_mean_absolute_error(truth, predicted),
        "root_mean_squared_error": float(np.sqrt(squared_errors.mean(axis=0)).mean()),
        "rank_correlation": correlate_ranks(truth.reshape(len(truth), -1), predicted.reshape(len(truth), -1)),
    }


def correlate_ranks(truth: NDArray[Any], predicted: NDArray[Any]) -> float | None:
    """Return Spearman's rank correlation, averaged over columns; None if a column is constant."""
    from scipy.stats import spearmanr

    correlations = []
    for column in range(truth.shape[1]):
        own = truth[:, column]
        other = predicted[:, column]
        if np.ptp(own) == 0 or np.ptp(other) == 0:
            return None
        correlations.append(spearmanr(own, other).statistic)
    return float(np.mean(correlations))


def list_confusions(answers: Answers) -> list[dict[str, Any]]:
    """Return the confusion matrix: a row for each true label, with the number of items of each predicted one."""
    from sklearn.metrics import confusion_matrix

    names = list_labels_of(answers)
    is_answered = np.array([answer is not None for answer in answers.predicted], bool)
    truth = answers.truth[is_answered].tolist()
    predicted = answers.predicted[is_answered].tolist()
    counts = np.zeros((len(names), len(names)), np.int64)
    if truth:
        counts = confusion_matrix(truth, predicted, labels=names)
    rows = []
    for name, row in zip(names, counts.tolist(), strict=True):
        entry: dict[str, Any] = {"truth": name, **dict(zip(names, row, strict=True))}
        if not is_answered.all():
            entry["(no answer)"] = int((answers.truth[~is_answered] == name).sum())
        rows.append(entry)
    return rows


def list_mistakes(answers: Answers) -> list[dict[str, Any]]:
    """Return the items that are predicted wrongly, the most certain first: id, truth, prediction, probability.

    The probability is that of the prediction, or the highest one if there is no prediction; None if the head has none.
    """
    column_of = {name: column for column, name in enumerate(answers.classes)}
    mistakes = []
    for row, (truth, predicted) in enumerate(zip(answers.truth.tolist(), answers.predicted.tolist(), strict=True)):
        if truth == predicted:
            continue
        probability = None
        if answers.probabilities is not None:
            of_classes = answers.probabilities[row]
            probability = float(of_classes.max() if predicted is None else of_classes[column_of[predicted]])
        mistakes.append({"id": answers.ids[row], "truth": truth, "prediction": predicted, "probability": probability})
    return sorted(mistakes, key=lambda mistake: -(mistake["probability"] or 0.0))


def list_set_mistakes(answers: Answers) -> list[dict[str, Any]]:
    """Return the items of which a label is predicted wrongly: id, true and predicted names, lowest probability.

    The probability is that of the labels as they were predicted, of the least certain one that is wrong.
    """
    names = np.array(answers.classes, object)
    mistakes = []
    for row in np.flatnonzero((answers.truth != answers.predicted).any(axis=1)).tolist():
        predicted = answers.predicted[row] == 1
        probability = None
        if answers.probabilities is not None:
            is_wrong = answers.truth[row] != answers.predicted[row]
            certainty = np.where(predicted, answers.probabilities[row], 1 - answers.probabilities[row])
            probability = float(certainty[is_wrong].min())
        mistakes.append(
            {
                "id": answers.ids[row],
                "truth": join_names(names[answers.truth[row] == 1]),
                "prediction": join_names(names[predicted]),
                "probability": probability,
            }
        )
    return mistakes


def join_names(names: NDArray[Any]) -> str:
    """Return the names of several labels as one text."""
    return "|".join(names.tolist())


def list_errors(answers: Answers) -> list[dict[str, Any]]:
    """Return the values of all items, the largest error first: id, truth, prediction, (mean absolute) error."""
    errors = np.abs(answers.truth - answers.predicted).reshape(len(answers), -1).mean(axis=1)
    rows = []
    for row in np.argsort(-errors, kind="stable").tolist():
        rows.append(
            {
                "id": answers.ids[row],
                "truth": answers.truth[row].tolist(),
                "prediction": answers.predicted[row].tolist(),
                "error": float(errors[row]),
            }
        )
    return rows
