"""Calibration: probabilities come to mean what they say, labels stay; heads with scores alone get probabilities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from topwork.errors import InputError
from topwork.heads.calibration import fit_calibrated
from topwork.heads.mlp.mlp_head import MLPHead
from topwork.heads.persistence import load_head, save_head
from topwork.heads.registry import resolve_head

X, y = load_digits(return_X_y=True)
RIGHT = np.random.default_rng(0).random(len(y)) > 0.3
NOISY = np.where(RIGHT, y, (y + 1) % 10)
TRAIN, TEST = slice(None, 900), slice(900, None)


def test_probabilities_get_better_and_labels_stay() -> None:
    sure = MLPHead(early_stopping=False, epochs=40, random_state=0)  # learns the noise by heart
    plain = MLPHead(early_stopping=False, epochs=40, random_state=0).fit(X[TRAIN], NOISY[TRAIN])
    calibrated = fit_calibrated(sure, X[TRAIN], NOISY[TRAIN])
    losses = [log_loss(NOISY[TEST], head.predict_proba(X[TEST])) for head in (plain, calibrated)]
    assert losses[1] < 0.9 * losses[0]
    assert (plain.predict(X[TEST]) == calibrated.predict(X[TEST])).mean() > 0.99


@pytest.mark.parametrize("name", ["ridge", "svm"])
def test_heads_with_scores_alone_get_probabilities(name: str) -> None:
    head = fit_calibrated(resolve_head(name), X[TRAIN], y[TRAIN])
    chances = head.predict_proba(X[TEST])
    assert np.allclose(chances.sum(axis=1), 1)
    assert log_loss(y[TEST], chances) < 0.6
    assert head.score(X[TEST], y[TEST]) > 0.85


def test_groups_and_weights_are_taken() -> None:
    groups = np.arange(900) // 3
    head = fit_calibrated(resolve_head("linear"), X[TRAIN], y[TRAIN], sample_weight=np.ones(900), groups=groups)
    assert head.score(X[TEST], y[TEST]) > 0.9
    assert head.cv == 5


def test_class_of_one_row_and_several_labels_are_refused() -> None:
    labels = np.array(["a"] * 8 + ["b"])
    with pytest.raises(InputError, match=r"'b' has one row .or group. only"):
        fit_calibrated(resolve_head("linear"), X[:9], labels)
    with pytest.raises(InputError, match="several labels"):
        fit_calibrated(resolve_head("linear"), X[:9], np.eye(9, 3, dtype=int))


def test_file_needs_no_trust(tmp_path: Path) -> None:
    head = fit_calibrated(resolve_head("linear"), X[TRAIN], y[TRAIN])
    assert save_head(head, tmp_path) == []
    np.testing.assert_array_equal(load_head(tmp_path).predict_proba(X[TEST]), head.predict_proba(X[TEST]))


def test_weights_reach_a_head_in_a_pipeline() -> None:
    from topwork.pipelines.estimators.training_set import TrainingSet, fit_head

    labels = np.random.default_rng(0).integers(4, size=900)
    rows = TrainingSet(X[TRAIN], labels, np.where(labels == 1, 1000.0, 1.0))
    for calibrate in (False, True):
        head = fit_head(resolve_head("logreg"), rows, calibrate)
        assert (head.predict(X[TEST]) == 1).mean() > 0.8


def test_groups_that_have_a_class_alone_are_refused_and_rows_without_weight_are_absent() -> None:
    labels = np.arange(900) % 3
    with pytest.raises(InputError, match=r"class 0 has one row .or group. only"):
        fit_calibrated(resolve_head("logreg"), X[TRAIN], labels, groups=labels)
    head = fit_calibrated(resolve_head("linear"), X[TRAIN], labels, sample_weight=(labels > 0).astype(float))
    assert head.classes_.tolist() == [1, 2]


def test_neighbours_are_no_more_than_a_fold_has() -> None:
    few, labels = X[:6], np.array([0, 1] * 3)
    assert fit_calibrated(resolve_head("knn"), few, labels).predict(few).shape == (6,)
