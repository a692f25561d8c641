"""Bins of probability are those of a count by hand, and intervals those of the literature."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import r2_score
from topwork.pipelines.estimators.measures import Answers
from topwork.pipelines.report.reliability import (
    compute_calibration_error,
    find_accuracy_interval,
    find_r2_interval,
    measure_reliability,
)


def test_bins_count_the_likeliest_class() -> None:
    probabilities = np.array([[0.95, 0.05], [0.91, 0.09], [0.3, 0.7], [0.0, 1.0], [0.5, 0.5]])
    answers = Answers(
        ids=list("abcde"),
        truth=np.array(["x", "y", "y", "y", "x"], object),
        predicted=np.array(["x", "x", "y", "y", None], object),
        probabilities=probabilities,
        classes=["x", "y"],
    )
    bins = measure_reliability(answers)
    assert [bin_.n for bin_ in bins] == [0, 0, 0, 0, 0, 1, 0, 1, 0, 3]
    assert bins[9].confidence == pytest.approx((0.95 + 0.91 + 1.0) / 3)
    assert bins[9].accuracy == pytest.approx(2 / 3)
    assert bins[5].accuracy == 1.0  # the head abstains, but its likeliest class is right
    assert bins[0].accuracy is None
    by_hand = (3 * abs(2.86 / 3 - 2 / 3) + 1 * 0.3 + 1 * 0.5) / 5
    assert compute_calibration_error(bins) == pytest.approx(by_hand)


def test_accuracy_interval_is_wilsons() -> None:
    interval = find_accuracy_interval(np.arange(100) < 90)
    assert interval == pytest.approx((0.8256, 0.9448), abs=1e-4)  # Wilson 1927, for 90 of 100


def test_r2_interval_has_the_score_within() -> None:
    generator = np.random.default_rng(0)
    truth = generator.standard_normal(200)
    predicted = truth + 0.7 * generator.standard_normal(200)
    interval = find_r2_interval(truth, predicted)
    assert interval is not None
    assert interval.low < r2_score(truth, predicted) < interval.high
    assert find_r2_interval(np.ones(5), np.arange(5.0)) is None
    several = np.stack([truth, truth], axis=1)
    assert find_r2_interval(several, np.stack([predicted, predicted], axis=1)) == pytest.approx(interval)
