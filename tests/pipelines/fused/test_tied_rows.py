"""A converted head is compared on rows where classes tie: a difference on these alone is noticed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from topwork.pipelines.fused.tied_rows import approach_boundaries, make_tied_rows


def load_rows() -> tuple[NDArray[np.float32], NDArray[Any]]:
    X, y = load_digits(return_X_y=True)
    return X[:90].astype(np.float32), y[:90] % 3


def has_row(rows: NDArray[np.float32], row: Any) -> bool:
    return bool(np.isclose(rows, row, rtol=1e-5, atol=1e-5).all(axis=1).any())


@pytest.mark.parametrize(
    "head", [LogisticRegression(max_iter=500), make_pipeline(StandardScaler(), LogisticRegression())]
)
def test_zeros_axes_and_the_mean_are_among_the_rows(head: Any) -> None:
    rows, labels = load_rows()
    tied = make_tied_rows(head.fit(rows, labels), 64)
    assert tied.dtype == np.float32
    assert has_row(tied, np.zeros(64))
    assert has_row(tied, np.eye(64)[3])
    assert has_row(tied, -np.eye(64)[3])
    if hasattr(head, "steps"):
        assert has_row(tied, head[0].mean_)


@pytest.mark.parametrize("head", [KNeighborsClassifier(), make_pipeline(StandardScaler(), SVC())])
def test_rows_that_a_head_remembers_are_among_them(head: Any) -> None:
    rows, labels = load_rows()
    tied = make_tied_rows(head.fit(rows, labels), 64)
    remembered = rows if isinstance(head, KNeighborsClassifier) else rows[head[-1].support_]
    assert all(has_row(tied, row) for row in remembered[:5])


@pytest.mark.parametrize("labels", [np.repeat([0, 1], 45), np.repeat(["a", "b"], 45).astype(object)])
def test_boundaries_are_approached_from_both_sides(labels: NDArray[Any]) -> None:
    rows, _ = load_rows()
    head = LogisticRegression(max_iter=500).fit(rows, labels)
    last = approach_boundaries(head, rows)[-1]
    assert np.abs(head.decision_function(last)).max() < 0.1
    assert set(head.predict(last)) == set(labels)


def test_boundaries_of_sets_of_labels() -> None:
    rows, codes = load_rows()
    head = KNeighborsClassifier().fit(rows, np.column_stack([codes == 0, codes == 1]).astype(int))
    assert len(approach_boundaries(head, rows)) > 0
