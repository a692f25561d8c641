"""``audit``: what is probably wrong with the items of a store, from their features alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from ...errors import InputError
from ...extract.store.feature_store import FeatureStore
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
from ...heads.neighbors import Neighbors, score_robustly
from ...heads.targets import encode_labels
from .audited_rows import AuditedRows, select_rows
from .findings import EXCLUDE, KINDS, MERGE, RELABEL, REVIEW, Finding, Findings

if TYPE_CHECKING:
    from numpy.typing import NDArray

N_FOLDS = 5
MIN_JUDGED_ROWS = 10
"""With fewer labelled rows, labels are not judged."""
MIN_ERROR_PROBABILITY = 0.5
"""From this probability of an error on, a label is a finding: it is more likely wrong than right."""
MIN_RESIDUAL = 5.0
"""Deviation of a value from its out-of-fold prediction, in robust standard deviations, of a finding."""
MIN_ISOLATION = 3.5
"""Robust score of outliers (Iglewicz and Hoaglin 1993)."""
NEAR_LIMIT = 0.3
"""Distance of near copies, in relation to the median distance to a nearest neighbour."""
CERTAIN_LIMIT = 0.13
"""Distance below which near copies are suggested to be excluded, not only reviewed."""


def audit(
    store: FeatureStore | str | Path,
    *,
    columns: Sequence[str] | None = None,
    labels: Any = None,
    groups: Any = None,
    task: str = "classification",
    near: float = NEAR_LIMIT,
) -> Findings:
    """Find label errors, duplicates, leakage, outliers and indistinct classes in a store; nothing is changed.

    Label errors are found by predictions of a linear probe that was trained on other folds, in which copies and groups
    stay together. Copies have equal contents, or features whose distance is less than `near` times the median distance
    to a nearest neighbour in their class. Distances are cosine distances of whitened features.

    Parameters
    ----------
    store : FeatureStore or path
    columns : sequence of str, optional
        Names of the columns of features to audit by, concatenated; by default all. Copies are best found by early
        layers with poolings that keep the place, such as ``avg2x2``.
    labels : mapping, path, table or sequence, optional
        Instead of the store's own labels, as :func:`refit` takes them.
    groups : sequence or mapping, optional
        Group of each row of the store, or of ids: items that belong together, such as photographs of one animal. Copies
        in two groups are leakage, near copies within one are no finding.
    task : {"classification", "regression"}
        Whether labels are classes or numbers.
    near : float
        The limit of near copies; from 0.13 on they are suggested for review only.

    Returns
    -------
    Findings
        A row for each finding.

    Raises
    ------
    InputError
        If there is nothing to audit, a parameter is wrong, or the labels do not fit the task.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import topwork
    >>> rows = np.random.default_rng(0).standard_normal((60, 20)) + np.repeat([[0.0], [9.0]], 30, axis=0)
    >>> labels = ["a"] * 30 + ["b"] * 30
    >>> labels[7] = "b"
    >>> store = topwork.FeatureStore.import_features(f"{tempfile.mkdtemp()}/store", rows, labels=labels)
    >>> [(finding.id, finding.kind, finding.suggestion, finding.label) for finding in topwork.audit(store)]
    [('7', 'label', 'relabel', 'a')]
    """
    if not isinstance(store, FeatureStore):
        store = FeatureStore.open(store)
    if not 0 < near < 1:
        raise InputError(f"near={near!r} of audit: expected a share between 0 and 1")
    rows = select_rows(store, columns=columns, labels=labels, groups=groups, task=task)

    # Find copies and outliers among rows of different contents.
    distinct = np.unique(rows.contents, return_index=True)[1]
    distinct.sort()
    classes = rows.encode_classes() if task == "classification" else None
    classes_of_distinct = None if classes is None else classes[distinct]
    neighbors = Neighbors.of(rows.take_features(distinct))
    pairs, ratios = neighbors.find_close_pairs(near, classes_of_distinct)
    near_copies = NearCopies(distinct[pairs], ratios)
    isolation = neighbors.measure_isolation(classes_of_distinct)

    # Judge labels by folds in which copies stay together.
    units = join_copies(rows, near_copies)
    notes: list[str] = []
    found = list(find_label_errors(rows, units, task, notes))
    found += find_equal_contents(rows)
    found += find_near_copies(rows, near_copies)
    found += find_outliers(rows, distinct, isolation)
    found.sort(key=lambda finding: KINDS.index(finding.kind))
    return Findings(
        findings=tuple(found),
        n_items=len(rows),
        n_labelled=len(rows.labelled),
        columns=rows.columns,
        notes=tuple(notes),
    )


@dataclass(frozen=True)
class NearCopies:
    """Pairs ``(n_pairs, 2)`` of places of audited rows, and their distances in relation to the usual one."""

    pairs: NDArray[np.intp]
    ratios: NDArray[np.float64]


def join_copies(rows: AuditedRows, near_copies: NearCopies) -> NDArray[np.intp]:
    """Return the number of the unit of each row: rows of a group, and copies, are of one unit."""
    edges = [near_copies.pairs, pair_equal(rows.contents)]
    known_groups = [group is not None for group in rows.groups]
    grouped = np.flatnonzero(known_groups)
    if len(grouped):
        names = np.array([str(rows.groups[place]) for place in grouped.tolist()])
        numbers = np.unique(names, return_inverse=True)[1]
        edges.append(grouped[pair_equal(numbers)])
    first, second = np.concatenate(edges).T
    graph = coo_matrix((np.ones(len(first), bool), (first, second)), shape=(len(rows), len(rows)))
    units: NDArray[np.intp] = connected_components(graph, directed=False)[1].astype(np.intp)
    return units


def pair_equal(numbers: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return pairs ``(n_pairs, 2)`` of places of equal numbers, such that each number's places are connected."""
    order = np.argsort(numbers, kind="stable")
    is_same = numbers[order][1:] == numbers[order][:-1]
    return np.stack([order[:-1][is_same], order[1:][is_same]], axis=1)


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
    """Return folds that keep units together; each has its share of the classes of the units' first rows."""
    firsts, unit_of_row = np.unique(units, return_index=True, return_inverse=True)[1:]
    by_class = codes is not None
    strata = codes[firsts] if codes is not None else firsts
    folds = make_folds(strata, None, N_FOLDS, by_class=by_class)
    is_held_of_fold = [np.isin(unit_of_row, held) for _, held in folds]
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


def find_equal_contents(rows: AuditedRows) -> Iterator[Finding]:
    """Yield items whose content is that of another one: of another split or group, or a duplicate."""
    order = np.argsort(rows.contents, kind="stable")
    bounds = np.flatnonzero(np.diff(rows.contents[order], prepend=-1, append=-1))
    found: list[Finding] = []
    for start, stop in pairwise(bounds.tolist()):
        if stop - start > 1:
            found += describe_copies(rows, order[start:stop].tolist())
    yield from sorted(found, key=lambda finding: finding.id)


def describe_copies(rows: AuditedRows, places: list[int]) -> Iterator[Finding]:
    """Yield a finding for each of some rows of equal content but the one to keep: a held-out one, or the first."""
    kept = min(places, key=lambda place: (rows.is_trained_on(place), place))
    label_of = name_labels(rows, places)
    for place in places:
        if place == kept:
            continue
        leak = explain_leak(rows, place, kept)
        labels_differ = label_of[place] != label_of[kept]
        evidence = "equal content" + (f" {leak}" if leak else "")
        if labels_differ:
            evidence += f"; labelled {label_of[place]}, but {label_of[kept]} there"
        yield Finding(
            id=rows.ids[place],
            kind="leakage" if leak else "duplicate",
            evidence=evidence,
            suggestion=REVIEW if labels_differ and not leak else EXCLUDE,
            score=0.0,
            related=rows.ids[kept],
        )


def name_labels(rows: AuditedRows, places: list[int]) -> dict[int, str]:
    """Return the label of each of some rows as a text."""
    found = {}
    for place in places:
        position = int(np.searchsorted(rows.labelled, place))
        is_labelled = position < len(rows.labelled) and rows.labelled[position] == place
        found[place] = str(rows.labels[position]) if is_labelled else "nothing"
    return found


def explain_leak(rows: AuditedRows, place: int, kept: int) -> str:
    """Return in which other split or group a copy lies; an empty text if in none."""
    if rows.splits[place] != rows.splits[kept]:
        return f"in the splits {rows.splits[place] or 'of none'} and {rows.splits[kept] or 'of none'}"
    group = rows.groups[place]
    other = rows.groups[kept]
    if group is not None and other is not None and group != other:
        return f"in the groups {group} and {other}"
    return ""


def find_near_copies(rows: AuditedRows, near_copies: NearCopies) -> Iterator[Finding]:
    """Yield items that are nearly equal to another one, each once of a kind, the nearest first."""
    named = set()
    for number in np.argsort(near_copies.ratios, kind="stable").tolist():
        ratio = float(near_copies.ratios[number])
        pair = near_copies.pairs[number].tolist()
        kept = min(pair, key=lambda place: (rows.is_trained_on(place), place))
        place = pair[1] if kept == pair[0] else pair[0]
        leak = explain_leak(rows, place, kept)
        is_same_group = rows.groups[place] is not None and rows.groups[place] == rows.groups[kept]
        if is_same_group and not leak:
            continue
        kind = "near_leakage" if leak else "near_duplicate"
        if (place, kind) in named:
            continue
        named.add((place, kind))
        yield Finding(
            id=rows.ids[place],
            kind=kind,
            evidence=f"nearly equal{f' {leak}' if leak else ''}: {ratio:.2f} of the usual distance",
            suggestion=EXCLUDE if ratio < CERTAIN_LIMIT else REVIEW,
            score=round(ratio, 4),
            related=rows.ids[kept],
        )


def find_outliers(rows: AuditedRows, distinct: NDArray[np.intp], isolation: NDArray[np.float64]) -> Iterator[Finding]:
    """Yield items that are unusually far from their nearest neighbours, the farthest first."""
    places = np.flatnonzero(isolation >= MIN_ISOLATION)
    for number in places[np.argsort(-isolation[places], kind="stable")].tolist():
        yield Finding(
            id=rows.ids[distinct[number]],
            kind="outlier",
            evidence=f"{isolation[number]:.1f} standard deviations farther from its neighbours than usual",
            suggestion=REVIEW,
            score=round(float(isolation[number]), 4),
        )
