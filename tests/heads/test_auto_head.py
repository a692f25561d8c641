"""The head that chooses itself: what it compares and takes, in the same folds, and its answers afterwards."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.datasets import load_digits, make_circles
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from topwork.errors import InputError
from topwork.heads import AutoHead
from topwork.heads.auto_head import Result, choose
from topwork.heads.closed_form import predict_discriminant, predict_ridge
from topwork.heads.fit_report import fit_report
from topwork.heads.folds import make_folds

Array = NDArray[Any]


@pytest.fixture(scope="module")
def digits() -> tuple[Array, Array]:
    X, y = load_digits(return_X_y=True)
    return X[:400].astype(np.float32), y[:400]


@pytest.mark.parametrize("width", [64, 600])  # less and more than the rows
def test_fast_predictions_are_those_of_scikit_learn(width: int, digits: tuple[Array, Array]) -> None:
    X, y = digits
    if width > X.shape[1]:
        X = np.tanh(X @ np.random.default_rng(0).standard_normal((X.shape[1], width)) / 20)
    train, held = np.arange(250), np.arange(250, 400)
    found = predict_discriminant(X, y, train=train, held=held, shrinkages=(0.3, 0.9))
    for shrinkage, predicted in zip((0.3, 0.9), found, strict=True):
        lda = make_pipeline(StandardScaler(), LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage))
        expected = lda.fit(X[train].astype(np.float64), y[train]).predict(X[held].astype(np.float64))
        assert np.mean(predicted == expected) > 0.99
    found = predict_ridge(X, y, train=train, held=held, penalties=(1.0, 100.0))
    for penalty, predicted in zip((1.0, 100.0), found, strict=True):
        ridge = make_pipeline(StandardScaler(), RidgeClassifier(alpha=penalty))
        expected = ridge.fit(X[train].astype(np.float64), y[train]).predict(X[held].astype(np.float64))
        assert np.mean(predicted == expected) > 0.99


def test_all_heads_are_compared_in_the_same_folds(digits: tuple[Array, Array]) -> None:
    head = AutoHead().fit(*digits)
    assert [each["name"] for each in head.comparison_] == ["linear", "lda", "centroid", "ridge", "knn"]
    accuracies = {each["name"]: each["accuracy"] for each in head.comparison_ if each["n_folds"] == 5}
    assert accuracies[head.name_] >= max(accuracies.values()) - 0.02
    assert np.mean(head.fold_scores_) == pytest.approx(accuracies[head.name_])
    assert head.name_ in head.reason_
    X, y = load_digits(return_X_y=True)
    assert head.score(X[400:], y[400:]) > 0.88
    report = fit_report(head, lambda rows: pytest.fail("fitted again"), X=digits[0], y=digits[1])
    assert report is not None
    assert report.held_out == pytest.approx(accuracies[head.name_])


def test_neighbors_are_taken_where_borders_are_curved() -> None:
    X, y = make_circles(300, noise=0.05, factor=0.5, random_state=0)
    X = np.hstack([np.ones((300, 1)), X])  # directions tell the radius apart from the constant
    angles = np.column_stack([np.full(300, 0.3), X[:, 1], X[:, 2]])
    head = AutoHead().fit(angles, y)
    assert head.name_ == "knn"
    assert head.score(angles, y) > 0.95
    assert not hasattr(head, "decision_function")


def test_the_first_within_one_standard_error_is_taken() -> None:
    best = Result("best", "", np.array([0.9, 0.8, 0.9, 0.8]), None)
    close = Result("close", "", np.array([0.85, 0.86, 0.82, 0.84]), None)
    far = Result("far", "", np.array([0.8, 0.7, 0.8, 0.7]), None)
    given_up = Result("given up", "", np.array([0.99, np.nan, np.nan, np.nan]), None)
    assert choose([close, best]).name == "close"
    assert choose([far, given_up, best, close]).name == "best"


@pytest.mark.parametrize(("n_labels", "names"), [(1, 1), (3, 1), (4, 1), (5, 5)])
def test_with_few_labels_only_penalties_are_compared(n_labels: int, names: int, digits: tuple[Array, Array]) -> None:
    X, y = digits
    rows = np.concatenate([np.flatnonzero(y == label)[:n_labels] for label in range(10)])
    head = AutoHead().fit(X[rows], y[rows])
    assert len(head.comparison_) == names
    assert head.score(X, y) > 0.5
    if names == 1:
        assert head.name_ == "linear"
        assert f"{n_labels} labels a class" in head.reason_


def test_rows_of_a_group_are_held_out_together() -> None:
    generator = np.random.default_rng(0)
    groups = np.tile(np.arange(40), 5)
    X = generator.standard_normal((40, 30))[groups] + 1e-3 * generator.standard_normal((200, 30))
    y = (np.arange(40) % 2)[groups]
    assert np.mean(AutoHead().fit(X, y).fold_scores_) > 0.95
    assert np.mean(AutoHead().fit(X, y, groups=groups).fold_scores_) < 0.75


def test_weights_and_several_labels_compare_penalties_only(digits: tuple[Array, Array]) -> None:
    X, y = digits
    weighted = AutoHead(class_weight="balanced").fit(X, y)
    assert weighted.comparison_[0]["name"] == weighted.name_ == "linear"
    assert "with weights" in weighted.reason_
    assert AutoHead().fit(X, y, sample_weight=np.ones(400)).name_ == "linear"
    labels = np.column_stack([y % 2, y > 4]).astype(int)
    several = AutoHead().fit(X, labels)
    assert several.predict(X).shape == (400, 2)
    assert np.mean(several.predict(X) == labels) > 0.9


def test_probabilities_leave_ridge_out(digits: tuple[Array, Array]) -> None:
    head = AutoHead(probabilities=True).fit(*digits)
    assert "ridge" not in [each["name"] for each in head.comparison_]
    assert head.predict_proba(digits[0]).shape == (400, 10)


def test_folds_are_those_of_make_folds(digits: tuple[Array, Array]) -> None:
    head = AutoHead(n_folds=3).fit(*digits)
    assert len(head.fold_scores_) == len(make_folds(digits[1], None, 3)) == 3
    assert clone(head).get_params() == head.get_params()


@pytest.mark.parametrize(
    ("options", "y", "message"),
    [({"n_folds": 1}, [0, 1], "n_folds is 1"), ({"class_weight": 3}, [0, 1], "class_weight"), ({}, [1, 1], "class")],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], y: list[int], message: str) -> None:
    with pytest.raises((InputError, ValueError), match=message):
        AutoHead(**options).fit([[0.0], [1.0]], y)
