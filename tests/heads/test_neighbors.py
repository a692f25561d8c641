"""Neighbours: what is near, what is far, and what there is not enough of to tell."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from topwork.heads.neighbors import MAX_WHITENED_FEATURES, Neighbors, score_robustly, whiten


@pytest.fixture(scope="module")
def digits() -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    found = load_digits()
    return found.data.astype(np.float32)[:600], found.target[:600]


def test_neighbors_are_those_of_all_distances(digits: tuple[NDArray[np.float32], NDArray[np.intp]]) -> None:
    X = digits[0][:200]
    found = Neighbors.of(X, n_neighbors=3)
    rows = whiten(X).astype(np.float64)
    distances = 1 - rows @ rows.T
    np.fill_diagonal(distances, np.inf)
    np.testing.assert_array_equal(found.positions[:, 0], distances.argmin(axis=1))
    np.testing.assert_allclose(found.distances, np.sort(distances, axis=1)[:, :3], atol=1e-6)


def test_whitened_rows_have_unit_length_and_ignore_scales(
    digits: tuple[NDArray[np.float32], NDArray[np.intp]],
) -> None:
    rows = whiten(digits[0])
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-5)
    scaled = whiten(digits[0] * np.logspace(0, 3, digits[0].shape[1], dtype=np.float32))
    np.testing.assert_allclose(rows @ rows.T, scaled @ scaled.T, atol=1e-3)


def test_many_features_are_standardised_only() -> None:
    X = np.random.default_rng(0).standard_normal((20, MAX_WHITENED_FEATURES + 1))
    standardised = (X - X.mean(axis=0)) / X.std(axis=0)
    expected = standardised / np.linalg.norm(standardised, axis=1, keepdims=True)
    np.testing.assert_allclose(whiten(X), expected, atol=1e-5)


@pytest.mark.parametrize("n_rows", [1, 2, 3])
def test_few_rows_have_few_neighbors(n_rows: int) -> None:
    X = np.arange(n_rows * 4, dtype=np.float32).reshape(n_rows, 4) ** 2
    found = Neighbors.of(X)
    assert found.positions.shape == (n_rows, n_rows - 1)
    assert np.isfinite(found.measure_isolation()).all()
    assert len(found.find_close_pairs(0.13)[0]) == 0


def test_equal_rows_have_no_isolation_and_are_close() -> None:
    found = Neighbors.of(np.ones((5, 3), np.float32), n_neighbors=4)
    np.testing.assert_array_equal(found.measure_isolation(), np.zeros(5))
    pairs, ratios = found.find_close_pairs(0.13)
    assert len(pairs) == 10
    np.testing.assert_array_equal(ratios, np.zeros(10))


def test_near_copies_are_close_and_others_are_not(digits: tuple[NDArray[np.float32], NDArray[np.intp]]) -> None:
    X, y = digits
    before = Neighbors.of(X).find_close_pairs(0.13, y)[0]
    noise = np.random.default_rng(0).standard_normal((20, X.shape[1])) * 0.05 * X.std(axis=0)
    extended = np.vstack([X, X[:20] + noise]).astype(np.float32)
    pairs, ratios = Neighbors.of(extended).find_close_pairs(0.13, np.concatenate([y, y[:20]]))
    planted = [(row, 600 + row) for row in range(20)]
    assert set(planted) <= set(map(tuple, pairs.tolist()))
    assert len(pairs) == len(before) + 20
    assert (ratios < 0.13).all()


def test_the_limit_is_lower_in_few_dimensions() -> None:
    generator = np.random.default_rng(0)
    for n_features, lowest, highest in ((3, 0.0, 0.02), (40, 0.5, 0.9)):
        found = Neighbors.of(generator.standard_normal((1000, n_features)))
        assert lowest <= found.find_chance_limit() <= highest
        assert len(found.find_close_pairs(0.3)[0]) < 10


def test_a_class_has_its_own_scale() -> None:
    generator = np.random.default_rng(0)
    tight = generator.standard_normal((50, 8)) * 0.01 + np.eye(8)[0]
    wide = generator.standard_normal((50, 8)) + 5 * np.eye(8)[1]
    classes = np.repeat([0, 1], 50)
    scales = Neighbors.of(np.vstack([tight, wide])).measure_scales(classes)
    assert scales[0] < scales[-1] / 10
    assert len(np.unique(scales)) == 2


def test_small_classes_have_the_scale_of_all(digits: tuple[NDArray[np.float32], NDArray[np.intp]]) -> None:
    classes = np.zeros(100, np.intp)
    classes[:4] = 1
    found = Neighbors.of(digits[0][:100])
    assert found.measure_scales(classes)[0] == found.measure_scales()[0]


def test_the_isolated_row_has_the_highest_score() -> None:
    X = np.random.default_rng(0).standard_normal((200, 6)) * 0.1 + np.eye(6)[0]
    X[17] = 4 * np.eye(6)[5]
    scores = Neighbors.of(X).measure_isolation()
    assert scores.argmax() == 17
    assert scores[17] > 3.5


def test_robust_scores_are_those_of_the_median_absolute_deviation() -> None:
    values = np.array([1.0, 2.0, 3.0, 4.0, 100.0])
    np.testing.assert_allclose(score_robustly(values, values), 0.6745 * (values - 3.0))
    np.testing.assert_array_equal(score_robustly(np.ones(3), np.ones(3)), np.zeros(3))
