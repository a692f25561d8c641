"""Fit reports: over-fitting is shown; held-out scores are scikit-learn's; a sweep's own folds are used."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_diabetes, load_digits
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.tree import DecisionTreeClassifier
from topwork.heads.fit_report import FitReport, fit_report
from topwork.heads.linear.linear_probe import LinearProbeCV
from topwork.heads.registry import resolve_head

X, y = load_digits(return_X_y=True)
X, y = X[:500], y[:500]


def judged(head: Any, X: NDArray[Any] = X, y: NDArray[Any] = y, **options: Any) -> FitReport | None:
    return fit_report(head.fit(X, y), lambda rows: resolve_head(head).fit(X[rows], y[rows]), X, y, **options)


def test_held_out_score_is_that_of_scikit_learn() -> None:
    head = LogisticRegression(max_iter=2000)
    expected = cross_val_score(head, X, y, cv=StratifiedKFold(5))
    report = judged(head)
    assert report is not None
    assert report.held_out == pytest.approx(expected.mean())
    assert report.spread == pytest.approx(expected.std())
    assert (report.training, report.n_folds) == (1.0, 5)
    assert not report.gap_is_large
    assert "large" not in str(report)


def test_over_fitting_is_told() -> None:
    noise = np.random.default_rng(0).permutation(y)
    report = judged(DecisionTreeClassifier(random_state=0), X, noise)
    assert report is not None
    assert (report.training, report.gap_is_large) == (1.0, True)
    assert "accuracy 1.000 in training, 0." in str(report)
    assert "is large" in str(report)


def test_sweep_has_judged_itself() -> None:
    head = LinearProbeCV().fit(X, y)
    report = fit_report(head, lambda rows: pytest.fail("fitted again"), X, y)
    assert report is not None
    best = int(np.flatnonzero(head.cv_results_["C"] == head.C_)[0])
    assert report.held_out == pytest.approx(head.cv_results_["mean_accuracy"][best])
    assert report.n_folds == 5


def test_many_rows_are_judged_by_one_fifth() -> None:
    report = judged(LogisticRegression(max_iter=2000), min_rows_for_single_split=400)
    assert report is not None
    assert (report.n_folds, report.spread) == (1, None)
    assert "on held-out rows" in str(report)
    assert 0.9 < report.held_out < 1


def test_values_are_judged_by_r2() -> None:
    X, y = load_diabetes(return_X_y=True)
    report = judged(Ridge(0.1), X, y, metric="R2")
    assert report is not None
    assert report.training == pytest.approx(Ridge(0.1).fit(X, y).score(X, y))
    assert 0.3 < report.held_out < report.training


def test_nothing_to_hold_out_is_no_report() -> None:
    few = np.unique(y, return_index=True)[1]
    assert judged(resolve_head("centroid"), X[few], y[few]) is None
    assert judged(LogisticRegression(max_iter=2000), n_folds=0) is None


def test_groups_are_held_out_together() -> None:
    twice, labels, groups = np.repeat(X, 2, axis=0), np.repeat(np.random.default_rng(1).permutation(y), 2), None
    groups = np.repeat(np.arange(len(X)), 2)
    tree = DecisionTreeClassifier(random_state=0)
    apart, together = judged(tree, twice, labels), judged(tree, twice, labels, groups=groups)
    assert apart is not None
    assert together is not None
    assert together.held_out < 0.2 < apart.held_out + 0.2


def test_score_is_of_rows_as_they_are_whatever_weights_classes_have() -> None:
    generator = np.random.default_rng(0)
    X = generator.standard_normal((300, 5))
    y = (generator.random(300) < 0.06).astype(int)
    fits: list[int] = []

    def fit(rows: Any) -> Any:
        fits.append(len(rows))
        return LinearProbeCV(class_weight="balanced").fit(X[rows], y[rows])

    report = fit_report(LinearProbeCV(class_weight="balanced").fit(X, y), fit, X, y)
    assert report is not None
    assert len(fits) == 5
    assert abs(report.gap) < 0.1


def test_rows_count_by_their_weights() -> None:
    X, y = np.zeros((40, 1)), np.arange(40) % 2
    weights = np.where(y == 1, 3.0, 1.0)
    head = DummyClassifier(strategy="constant", constant=1).fit(X, y)
    report = fit_report(head, lambda rows: head, X, y, weights=weights)
    assert report is not None
    assert (report.training, report.held_out) == (0.75, 0.75)
