"""Accuracy by the number of labels: it grows, a seed repeats it, and what was trained on is not judged by."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier
from topwork import few_shot_curve
from topwork.errors import InputError

Data = tuple[NDArray[Any], NDArray[Any]]


@pytest.fixture(scope="module")
def digits() -> Data:
    data = load_digits()
    return data.data[:600].astype(np.float32), np.array(list("abcdefghij"))[data.target[:600]]


def test_more_labels_are_better_and_a_seed_repeats(digits: Data) -> None:
    curve = few_shot_curve(*digits, "centroid", draws=4)
    assert [point.shots for point in curve] == [1, 2, 4, 8, 16, "all"]
    assert [point.n_rows for point in curve] == [10, 20, 40, 80, 160, 450]
    means = [point.scores.mean() for point in curve]
    assert means[0] < means[2] < means[-1]
    assert means[-1] > 0.85
    again = few_shot_curve(*digits, "centroid", draws=4, n_jobs=2)
    assert [point.scores.tolist() for point in again] == [point.scores.tolist() for point in curve]


def test_what_was_trained_on_is_not_judged_by(digits: Data) -> None:
    X = np.random.default_rng(0).standard_normal(digits[0].shape)  # tells nothing
    point = few_shot_curve(X, digits[1], KNeighborsClassifier(1), ["all"], draws=5)[0]
    assert point.training_scores.tolist() == [1] * 5
    assert point.scores.mean() < 0.2
    assert "in training 1.000" in str(point)
    assert len(str(point)) <= 80


def test_groups_are_held_out_together() -> None:
    groups = np.repeat(np.arange(60), 4)
    X = np.random.default_rng(0).standard_normal((60, 8))[groups]
    y = np.arange(60)[groups] % 2
    alone, together = (
        few_shot_curve(X, y, KNeighborsClassifier(1), ["all"], groups=each)[0].scores.mean() for each in (None, groups)
    )
    assert alone > 0.95
    assert together < 0.75


def test_default_head_is_trained_on_one_label_for_each_class(digits: Data) -> None:
    with pytest.warns(UserWarning, match="no class has rows in two folds"):
        point = few_shot_curve(*digits, shots=[1], draws=2)[0]
    assert point.scores.mean() > 0.3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shots": [0]}, "shots is"),
        ({"shots": []}, "shots is"),
        ({"y": ["a"] * 599 + ["b"]}, "label 'b' has 1 row"),
        ({"y": ["a"] * 3}, "600 rows but labels"),
        ({"head": "nothing"}, "does not exist"),
        ({"X": np.ones(600)}, "shape \\(600,\\)"),
    ],
)
def test_what_cannot_be_is_refused(change: dict[str, Any], message: str, digits: Data) -> None:
    with pytest.raises(InputError, match=message):
        few_shot_curve(**{"X": digits[0], "y": digits[1], **change})


def test_curve_takes_what_users_have() -> None:
    X, y = load_digits(return_X_y=True)
    mixed = [int(label) if label < 5 else str(label) for label in y[:300]]
    assert few_shot_curve(X[:300], mixed, "centroid", (np.int64(2),), draws=1, random_state=None)[0].scores.mean() > 0.5
    assert few_shot_curve(X[:300], y[:300], "knn", (1,), draws=1)[0].n_rows == 10
    with pytest.raises(InputError, match="draws is 0"):
        few_shot_curve(X, y, "centroid", draws=0)
    with pytest.raises(InputError, match="'lda' cannot learn from 1 labels a class"):
        few_shot_curve(X, y, "lda", (1,), draws=1)
