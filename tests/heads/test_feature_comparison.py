"""The comparison of feature matrices by held-out rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_diabetes, load_digits
from topwork.errors import InputError
from topwork.heads import feature_comparison
from topwork.heads.feature_comparison import (
    HeldOutScores,
    choose_features,
    compare_features,
    compare_with_best,
    estimate_choice,
)
from topwork.heads.registry import CLASSIFICATION, MULTILABEL, REGRESSION

Array = NDArray[Any]


@pytest.fixture(scope="module")
def digits() -> tuple[dict[str, Array], Array]:
    """Return three views of digits: all pixels, every other row, and noise."""
    X, y = load_digits(return_X_y=True)
    noise = np.random.default_rng(0).normal(size=(len(y), 20))
    return {"noise": noise, "half": X.reshape(-1, 8, 8)[:, ::2].reshape(len(y), -1), "pixels": X}, y


def test_scores_are_those_of_held_out_rows(digits: tuple[dict[str, Array], Array]) -> None:
    matrices, y = digits
    scores = compare_features({name: X[:600] for name, X in matrices.items()}, y[:600], CLASSIFICATION)
    assert list(scores) == ["noise", "half", "pixels"]
    assert scores["noise"].score < 0.2 < 0.8 < scores["half"].score < scores["pixels"].score
    assert {found.n_rows for found in scores.values()} == {600}
    low, high = scores["pixels"].interval()
    assert low < scores["pixels"].score < high
    assert high - low < 0.06


def test_hopeless_candidates_are_dropped_on_few_rows(digits: tuple[dict[str, Array], Array]) -> None:
    matrices, y = digits
    scores = compare_features(matrices, y, CLASSIFICATION)
    assert scores["noise"].n_rows == feature_comparison.FIRST_ROWS
    assert scores["pixels"].n_rows == len(y)
    choice = choose_features(scores, {"noise": 0, "half": 1, "pixels": 2}.__getitem__)
    assert "noise" not in choice.differences
    assert choice.best == choice.chosen == "pixels"


def test_cheapest_within_one_standard_error_is_chosen() -> None:
    generator = np.random.default_rng(0)
    best = (generator.random(400) < 0.9).astype(float)
    flips = generator.choice(400, 20, replace=False)
    similar = best.copy()
    similar[flips] = 1 - similar[flips]
    scores = {
        "worse": HeldOutScores(np.zeros((1, 400)), np.ones(400)),
        "similar": HeldOutScores(similar[np.newaxis], np.ones(400)),
        "best": HeldOutScores(best[np.newaxis], np.ones(400)),
    }
    sums = np.stack([best, similar])
    differences, errors = compare_with_best(sums, np.ones(400))
    paired = similar - best
    assert errors[1] == pytest.approx(paired.std() / 20)
    assert differences[1] == pytest.approx(paired.mean())
    choice = choose_features(scores, {"worse": 0, "similar": 1, "best": 2}.__getitem__)
    is_within = -differences[1] <= errors[1]
    assert choice.chosen == ("similar" if is_within else "best")
    assert choose_features(scores, {"worse": 0, "similar": 2, "best": 1}.__getitem__).chosen == "best"


def test_not_more_than_a_point_is_given_away_for_a_lower_cost() -> None:
    """With few rows the standard error is several points."""
    best = np.repeat([1.0, 0.0], [54, 6])
    worse = np.repeat([0.0, 1.0, 0.0], [2, 53, 5])
    contributions = {"cheap": worse, "best": best}
    scores = {name: HeldOutScores(own[np.newaxis], np.ones(60)) for name, own in contributions.items()}
    choice = choose_features(scores, {"cheap": 0, "best": 1}.__getitem__)
    assert -choice.differences["cheap"] <= choice.errors["cheap"]
    assert choice.chosen == "best"


def test_choice_among_noise_is_not_flattered() -> None:
    """The best of many candidates that know nothing has a high score; rows that did not choose it say the truth."""
    highest = []
    estimated = []
    for seed in range(10):
        rows = (np.random.default_rng(seed).random((20, 1, 300)) < 0.5).astype(float)
        scores = {str(number): HeldOutScores(own, np.ones(300)) for number, own in enumerate(rows)}
        highest.append(scores[choose_features(scores, int).best].score)
        estimated.append(estimate_choice(scores, lambda name: 0, n_resamples=100))
    assert np.mean(highest) > 0.54
    assert np.mean([score for score, _ in estimated]) == pytest.approx(0.5, abs=0.015)
    assert sum(interval.low < 0.5 < interval.high for _, interval in estimated) >= 8


def test_groups_are_held_out_together_and_widen_the_interval(digits: tuple[dict[str, Array], Array]) -> None:
    matrices, y = digits
    X = np.repeat(matrices["pixels"][:100], 4, axis=0)
    labels = np.repeat(y[:100], 4)
    groups = np.repeat(np.arange(100), 4)
    apart = compare_features({"x": X}, labels, CLASSIFICATION)["x"]
    together = compare_features({"x": X}, labels, CLASSIFICATION, groups)["x"]
    assert apart.score == 1.0 > together.score
    assert len(together.sizes) == 100
    single = compare_features({"x": X[::4]}, labels[::4], CLASSIFICATION)["x"]
    assert np.ptp(together.interval()) == pytest.approx(np.ptp(single.interval()), rel=0.3)


def test_values_and_several_labels() -> None:
    X, y = load_diabetes(return_X_y=True)
    columns = {"two": X[:, [2, 8]], "all": X}
    scores = compare_features(columns, y, REGRESSION)
    assert 0.4 < scores["two"].score < scores["all"].score < 0.55
    several = np.stack([y, y**2], axis=1)
    assert compare_features(columns, several, REGRESSION)["all"].score > 0.4
    labels = (several > np.median(several, axis=0)).astype(np.int64)
    assert 0.6 < compare_features(columns, labels, MULTILABEL)["all"].score < 0.9


def test_rows_of_single_classes_cannot_be_judged() -> None:
    X = np.eye(3)
    with pytest.raises(InputError, match="no row of 3 can be held out"):
        compare_features({"x": X}, np.arange(3), CLASSIFICATION)
    scores = compare_features({"x": np.eye(9)}, np.array([0, 0, 0, 0, 1, 1, 1, 1, 2]), CLASSIFICATION)
    assert scores["x"].n_rows == 8
