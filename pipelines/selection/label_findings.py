"""Labels that are probably wrong, and classes that are one, among audited rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ...heads.folds import make_folds
from ...heads.label_formats import name_columns
from ...heads.label_quality import (
    calibrate,
    find_indistinct_classes,
    judge_labels,
    predict_labels_out_of_fold,
    predict_out_of_fold,
    predict_values_out_of_fold,
)
from ...heads.neighbors import score_robustly
from ...heads.targets import encode_labels
from .audited_rows import AuditedRows
from .findings import MERGE, RELABEL, REVIEW, Finding

if TYPE_CHECKING:
    from numpy.typing import NDArray

N_FOLDS = 5
MIN_JUDGED_ROWS = 10
"""With fewer labelled rows, labels are not judged."""
MIN_ERROR_PROBABILITY = 0.5
"""From this probability of an error on, a label is a finding: it is more likely wrong than right."""
MIN_RESIDUAL = 5.0
"""Deviation of a value from its out-of-fold prediction, in robust standard deviations, of a finding."""


def find_label_errors(rows: AuditedRows, units: NDArray[np.intp], task: str, notes: list[str]) -> Iterator[Finding]:
    """Yield labels that are probably wrong, and classes that are one; what could not be judged is noted."""
    n_labelled = len(rows.labelled)
    if n_labelled < MIN_JUDGED_ROWS:
        notes.append(f"labels were not judged: {n_labelled} items have one; expected at least {MIN_JUDGED_ROWS}")
        return
    if task == "regression":
        yield from find_wrong_values(rows, units)
    elif rows.labels.ndim == 2:
        yield from find_wrong_label_sets(rows, units)
    else:
        yield from find_wrong_classes(rows, units, notes)


def make_unit_folds(units: NDArray[np.intp], codes: NDArray[Any] | None) -> list[tuple[Any, Any]]:
    """Return folds that keep units together; each has its share of the classes of the units' first rows.

    Units are shuffled: in data that are ordered by the true class, errors of a kind would be in one fold.
    """
    firsts, unit_of_row = np.unique(units, return_index=True, return_inverse=True)[1:]
    order = np.random.default_rng(0).permutation(len(firsts))
    by_class = codes is not None
    strata = codes[firsts[order]] if codes is not None else order
    folds = make_folds(strata, None, N_FOLDS, by_class=by_class)
    is_held_of_fold = [np.isin(unit_of_row, order[held]) for _, held in folds]
    return [(np.flatnonzero(~is_held), np.flatnonzero(is_held)) for is_held in is_held_of_fold]


def find_wrong_classes(rows: AuditedRows, units: NDArray[np.intp], notes: list[str]) -> Iterator[Finding]:
    """Yield labels that are probably wrong, and pairs of classes that cannot be told apart."""
    classes, codes = encode_labels(rows.labels)
    if len(classes) < 2:
        notes.append(f"labels were not judged: all {len(codes)} are {classes[0]!r}; expected at least two classes")
        return
    features = rows.take_features(rows.labelled)
    folds = make_unit_folds(units[rows.labelled], codes)
    probabilities = predict_out_of_fold(features, codes, len(classes), folds)
    calibrated = calibrate(probabilities, codes)
    judged = judge_labels(calibrated, codes)
    n_unknown = int(np.isnan(judged.wrong).sum())
    if n_unknown:
        notes.append(f"{n_unknown} labels were not judged: no other item (or group) has them")
    names = classes.tolist()
    for row in order_suspects(judged.wrong):
        best = names[judged.best[row]]
        is_clear = judged.best_is_true[row] >= MIN_ERROR_PROBABILITY
        yield Finding(
            id=rows.ids[rows.labelled[row]],
            kind="label",
            evidence=f"labelled {names[codes[row]]}, whose out-of-fold probability is {judged.given[row]:.3g}; "
            f"{best} has {judged.best_probability[row]:.3g}",
            suggestion=RELABEL if is_clear else REVIEW,
            score=round(float(judged.wrong[row]), 4),
            label=best if is_clear else None,
        )
    for first, second, area in find_indistinct_classes(probabilities, codes):
        yield Finding(
            id=f"{names[first]} / {names[second]}",
            kind="classes",
            evidence=f"the classes {names[first]} and {names[second]} cannot be told apart: area under the ROC curve "
            f"{area:.2f} (0.5 is chance)",
            suggestion=MERGE,
            score=round(area, 4),
        )


def order_suspects(wrong: NDArray[np.float64]) -> list[int]:
    """Return the rows whose label is probably wrong, the most certain first."""
    suspects = np.flatnonzero(np.nan_to_num(wrong) >= MIN_ERROR_PROBABILITY)
    order: list[int] = suspects[np.argsort(-wrong[suspects], kind="stable")].tolist()
    return order


def find_wrong_label_sets(rows: AuditedRows, units: NDArray[np.intp]) -> Iterator[Finding]:
    """Yield items of which one of several labels is probably wrong, or missing."""
    marks = rows.labels.astype(np.int64)
    names = name_columns(marks, rows.label_names).tolist()
    features = rows.take_features(rows.labelled)
    folds = make_unit_folds(units[rows.labelled], None)
    probabilities = predict_labels_out_of_fold(features, marks, folds)
    wrong = np.zeros(marks.shape)
    for column in range(marks.shape[1]):
        of_label = np.stack([1 - probabilities[:, column], probabilities[:, column]], axis=1)
        calibrated = calibrate(of_label, marks[:, column])
        wrong[:, column] = np.nan_to_num(judge_labels(calibrated, marks[:, column]).wrong)
    for row in order_suspects(wrong.max(axis=1)):
        suspected = wrong[row] >= MIN_ERROR_PROBABILITY
        changed = np.where(suspected, 1 - marks[row], marks[row])
        changes = [
            f"{'-' if marks[row, column] else '+'}{names[column]} ({wrong[row, column]:.2f})"
            for column in np.flatnonzero(suspected)
        ]
        yield Finding(
            id=rows.ids[rows.labelled[row]],
            kind="label",
            evidence=f"probably wrong (-) or missing (+): {', '.join(changes)}",
            suggestion=RELABEL,
            score=round(float(wrong[row].max()), 4),
            label=[names[column] for column in np.flatnonzero(changed)],
        )


def find_wrong_values(rows: AuditedRows, units: NDArray[np.intp]) -> Iterator[Finding]:
    """Yield items whose value is far from what a ridge regression predicts that was trained on other folds."""
    values = rows.labels.astype(np.float64)
    folds = make_unit_folds(units[rows.labelled], None)
    predicted = predict_values_out_of_fold(rows.take_features(rows.labelled), values, folds)
    residuals = values - predicted
    is_known = np.isfinite(residuals)
    if not is_known.any():
        return
    scores = np.nan_to_num(np.abs(score_robustly(residuals, residuals[is_known])))
    suspects = np.flatnonzero(scores >= MIN_RESIDUAL)
    for row in suspects[np.argsort(-scores[suspects], kind="stable")].tolist():
        yield Finding(
            id=rows.ids[rows.labelled[row]],
            kind="label",
            evidence=f"value {values[row]:.4g}, out-of-fold prediction {predicted[row]:.4g}: "
            f"{scores[row]:.1f} standard deviations off",
            suggestion=REVIEW,
            score=round(float(scores[row]), 4),
        )
