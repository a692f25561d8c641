"""``audit``: what is probably wrong with the items of a store, from their features alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import InputError
from ...extract.store.feature_store import FeatureStore
from ...heads.neighbors import Neighbors
from .audited_rows import AuditedRows, select_rows
from .copy_findings import NearCopies, find_equal_contents, find_near_copies, join_copies
from .findings import KINDS, REVIEW, Finding, Findings
from .label_findings import find_label_errors

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_ISOLATION = 3.5
"""Robust score of outliers (Iglewicz and Hoaglin 1993)."""
NEAR_LIMIT = 0.3
"""Distance of near copies, in relation to the median distance to a nearest neighbour."""


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
