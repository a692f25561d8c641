"""Learning curves: slopes of known curves, what follows from them, and the verdict on real digits."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import LearningCurveDisplay
from topwork.errors import InputError, MissingPackageError
from topwork.heads import LearningCurve, few_shot_curve
from topwork.heads.learning_curve import FewShotPoint


def make_curve(sizes: Sequence[int], gain: float, noise: float = 0.0, n_draws: int = 6) -> LearningCurve:
    """Return a curve whose score grows by a gain with each doubling; the noise differs between draws and sizes."""
    errors = noise * np.random.default_rng(0).standard_normal((len(sizes), n_draws))
    points = [
        FewShotPoint(size, size, 0.5 + gain * np.log2(size / sizes[0]) + error, np.ones(n_draws))
        for size, error in zip(sizes, errors, strict=True)
    ]
    return LearningCurve(tuple(points), held_out_ratio=1 / 3)


@pytest.mark.parametrize(
    ("gain", "noise", "verdict", "sentence"),
    [
        (0.05, 0.001, True, "More labels would help"),
        (0.001, 0.001, False, "More labels would hardly help"),
        (0.02, 0.05, None, "It is not certain whether more labels would help"),
    ],
)
def test_slope_and_its_confidence_decide(gain: float, noise: float, verdict: bool | None, sentence: str) -> None:
    curve = make_curve([10, 20, 40, 80, 160], gain, noise)
    assert curve.slope is not None
    assert curve.slope.low < curve.slope.gain < curve.slope.high
    assert curve.slope.low <= gain <= curve.slope.high
    assert curve.more_labels_help is verdict
    assert curve.explain().startswith(f"{sentence}: from 40 to 160 rows")


def test_slope_is_that_of_the_last_two_doublings() -> None:
    flat = make_curve([10, 20], gain=0.3)
    end = [FewShotPoint(size, size, np.full(6, 0.9 + gain), np.ones(6)) for size, gain in ((40, 0.0), (160, 0.04))]
    curve = LearningCurve((*flat, *end), held_out_ratio=1 / 3)
    assert curve.slope is not None
    assert curve.slope.gain == pytest.approx(0.02)
    assert (curve.slope.first_rows, curve.slope.last_rows) == (40, 160)


def test_points_that_are_far_apart_have_a_slope_in_any_order() -> None:
    curve = make_curve([10, 1000], gain=0.03)
    turned = LearningCurve(curve.points[::-1], held_out_ratio=1 / 3)
    assert curve.slope is not None
    assert curve.slope.gain == pytest.approx(0.03)
    assert turned.slope == curve.slope


def test_one_size_has_no_slope_and_one_draw_no_interval() -> None:
    single = make_curve([10], gain=0.0)
    assert single.slope is None
    assert single.more_labels_help is None
    assert "not known" in single.explain()
    of_one_draw = make_curve([10, 20], gain=0.1, n_draws=1)
    assert of_one_draw.more_labels_help is None
    assert "interval" not in of_one_draw.explain()
    assert json.loads(json.dumps(of_one_draw.to_dict()))["slope"]["low"] is None


def test_curve_of_digits_says_that_more_labels_help_at_first_only() -> None:
    X, y = load_digits(return_X_y=True)
    few = few_shot_curve(X, y, "ridge", (1, 2, 4, 8), draws=8)
    assert few.more_labels_help
    assert not few_shot_curve(X, y, "ridge", (16, 32, 64, "all"), draws=8).more_labels_help
    assert [point.shots for point in few] == few.to_frame()["shots"].tolist() == [1, 2, 4, 8]
    assert few[-1] is few.points[3]
    assert few[:2] == few.points[:2]
    assert len(few) == len(few.draw().splitlines()) == 4
    assert str(few).splitlines()[-1] == few.explain()


def make_power_law(power: float, n_draws: int = 4) -> LearningCurve:
    """Return a curve whose error is a power of the rows, twice as high in half of the draws."""
    factors = np.resize([0.5, 1.0], n_draws)
    points = [FewShotPoint(rows, rows, 1 - factors * rows**-power, np.ones(n_draws)) for rows in (8, 16, 32, 64, 128)]
    return LearningCurve(tuple(points), held_out_ratio=1 / 3)


@pytest.mark.parametrize("power", [0.3, 0.5])
@pytest.mark.parametrize("n_rows", [128, 10_000])
def test_gain_of_a_power_law_is_predicted(power: float, n_rows: int) -> None:
    predicted = make_power_law(power).predict_gain(n_rows)
    assert predicted is not None
    assert predicted.gain == pytest.approx(0.75 * (n_rows**-power - (2 * n_rows) ** -power))
    assert predicted.low < predicted.gain < predicted.high
    assert (predicted.first_rows, predicted.last_rows) == (n_rows, 2 * n_rows)


def test_gain_of_perfect_scores_is_near_zero() -> None:
    points = [FewShotPoint(rows, rows, np.ones(3), np.ones(3)) for rows in (8, 16, 32)]
    predicted = LearningCurve(tuple(points), held_out_ratio=1 / 3).predict_gain(32)
    assert predicted is not None
    assert (predicted.gain, predicted.low, predicted.high) == pytest.approx((0, 0, 0), abs=1e-12)


def test_gain_of_one_size_is_not_known() -> None:
    assert make_curve([10], gain=0.0).predict_gain(10) is None


def test_display_of_scikit_learn_has_the_scores(pyplot: Any) -> None:
    curve = make_curve([40, 10, 20, 20], gain=0.1, noise=0.01)
    display = curve.plot()
    assert isinstance(display, LearningCurveDisplay)
    points = [curve[1], curve[2], curve[0]]
    np.testing.assert_array_equal(display.train_sizes, [10, 20, 40])
    np.testing.assert_array_equal(display.test_scores, [point.scores for point in points])
    np.testing.assert_array_equal(display.train_scores, [point.training_scores for point in points])
    means = display.lines_[1].get_ydata()
    np.testing.assert_allclose(means, [point.scores.mean() for point in points])
    assert display.ax_.get_ylabel() == "accuracy"
    figure, axes = pyplot.subplots()
    drawn = curve.plot(ax=axes)
    assert drawn.ax_ is axes
    assert drawn.figure_ is figure


def test_curve_that_cannot_be_drawn_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="1 numbers of rows"):
        make_curve([10, 10], gain=0.1).plot()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingPackageError, match=r"topwork\[plots\]"):
        make_curve([10, 20], gain=0.1).plot()
