"""Familiarity of features: scikit-learn's neighbours, the calibrated limit, and data that are awkward."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler
from topwork.heads.familiarity import (
    MAX_REFERENCE_ROWS,
    MIN_REFERENCE_ROWS,
    Familiarity,
    draw_in_shares,
    find_limit,
    learn_familiarity,
)

CENTRES = np.random.default_rng(7).standard_normal((4, 16)) * 3


def draw_clusters(n_rows: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Draw features of four classes."""
    generator = np.random.default_rng(seed)
    y = generator.integers(4, size=n_rows)
    return (CENTRES[y] + generator.standard_normal((n_rows, 16))).astype(np.float32), y


def learn(X: Any, y: Any, **options: Any) -> Familiarity:
    """Learn from rows that are enough."""
    found = learn_familiarity(X, y, **options)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def rows() -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    return draw_clusters(3000, seed=0)


@pytest.fixture(scope="module")
def learned(rows: tuple[NDArray[np.float32], NDArray[np.intp]]) -> Familiarity:
    return learn(*rows)


def measure_with_scikit_learn(
    X: NDArray[np.float32], y: NDArray[np.intp], queries: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return the distance to the nearest class, less half of the lead over the next, by scikit-learn's neighbours."""
    scaler = StandardScaler().fit(X)
    rows, others = scaler.transform(X) / 4, scaler.transform(queries) / 4  # 16 features
    to_classes = []
    for label in np.unique(y):
        neighbors = NearestNeighbors(n_neighbors=3).fit(rows[y == label])
        to_classes.append(neighbors.kneighbors(others)[0].mean(axis=1))
    nearest = np.sort(to_classes, axis=0)[[0, min(1, len(to_classes) - 1)]]
    return nearest[0] - 0.5 * (nearest[1] - nearest[0])


@pytest.mark.parametrize("by_class", [True, False])
def test_distances_are_those_of_scikit_learn(
    by_class: bool, rows: tuple[NDArray[np.float32], NDArray[np.intp]]
) -> None:
    X, y = rows
    queries = np.concatenate([draw_clusters(1500, seed=1)[0], np.zeros((1, 16), np.float32)])  # more than one block
    found = learn(X, y, by_class=by_class)
    expected = measure_with_scikit_learn(X, y if by_class else np.zeros(len(y)), queries)
    assert np.abs(found.measure(queries) - expected).max() < 2e-3
    assert found.rows.dtype == np.float16


def test_limit_is_calibrated_on_rows_that_are_held_out() -> None:
    X, y = draw_clusters(80, seed=12)
    found = learn(X, y)
    measured = []
    for row in range(80):
        others = np.arange(80) != row
        scaled = StandardScaler().fit(X).transform(X) / 4
        to_rows = np.linalg.norm(scaled[others] - scaled[row], axis=1)
        nearest = sorted(np.sort(to_rows[y[others] == label])[:3].mean() for label in range(4))
        measured.append(nearest[0] - 0.5 * (nearest[1] - nearest[0]))
    assert found.limit == pytest.approx(sorted(measured)[76], abs=2e-3)  # the 77th of 80: 95 % of 81


def test_new_rows_like_the_old_are_familiar_in_the_stated_share(learned: Familiarity) -> None:
    assert 0.92 <= learned.are_familiar(draw_clusters(4000, seed=2)[0]).mean() <= 0.98
    strange = np.random.default_rng(3).standard_normal((500, 16)) * 3
    assert learned.are_familiar(strange).mean() < 0.1


def test_limit_is_that_of_held_out_rows() -> None:
    distances = np.arange(1, 100) / 100.0
    assert find_limit(distances, 0.95) == 0.95
    assert find_limit(distances[:10], 0.95) == 0.1


def test_rows_of_a_group_do_not_vouch_for_one_another() -> None:
    X, y = draw_clusters(200, seed=4)
    jitter = np.random.default_rng(5).normal(0, 0.01, (15, *X.shape))
    versions = (X + jitter).reshape(-1, 16).astype(np.float32)
    groups = np.tile(np.arange(200), 15)
    others = draw_clusters(500, seed=6)[0]
    assert learn(versions, np.tile(y, 15)).are_familiar(others).mean() < 0.1
    assert learn(versions, np.tile(y, 15), groups=groups).are_familiar(others).mean() > 0.9


def test_equal_rows_count_once(rows: tuple[NDArray[np.float32], NDArray[np.intp]]) -> None:
    X, y = rows[0][:300], rows[1][:300]
    once = learn(X, y)
    often = learn(np.repeat(X, 20, axis=0), np.repeat(y, 20))
    assert len(often.rows) == 300
    assert often.limit == pytest.approx(once.limit, rel=1e-3)


@pytest.mark.parametrize(
    "X",
    [
        np.zeros((0, 4)),
        np.random.default_rng(0).random((MIN_REFERENCE_ROWS - 1, 4)),
        np.ones((500, 4)),
        np.zeros((500, 4)),
        np.full((500, 4), np.nan),
        np.repeat(np.eye(4), 100, axis=0),
    ],
    ids=["none", "few", "constant", "zero", "nan", "four"],
)
def test_too_few_different_rows_have_no_limit(X: NDArray[np.float64]) -> None:
    assert learn_familiarity(X.astype(np.float32), np.zeros(len(X))) is None


def test_fewest_rows_have_a_limit_and_a_single_group_has_none() -> None:
    X, y = draw_clusters(MIN_REFERENCE_ROWS, seed=8)
    assert learn(X, y).are_familiar(X).mean() > 0.9
    assert learn_familiarity(X, y, groups=np.zeros(len(X), int)) is None


def test_features_that_are_not_finite_are_unfamiliar(rows: tuple[NDArray[np.float32], NDArray[np.intp]]) -> None:
    X = rows[0].copy()
    X[::10, 3] = np.nan
    X[1::10, 5] = -np.inf
    found = learn(X, rows[1])
    assert len(found.rows) == 2400
    assert np.isinf(found.measure(X)[::10]).all()
    assert not found.are_familiar(X)[::10].any()
    assert found.are_familiar(X)[2::10].mean() > 0.9


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1e6, 1e30])
def test_scale_and_offset_of_features_do_not_matter(
    scale: float, rows: tuple[NDArray[np.float32], NDArray[np.intp]], learned: Familiarity
) -> None:
    queries = draw_clusters(200, seed=9)[0]
    scales = np.where(np.arange(16) % 2, scale, 1.0)
    found = learn((rows[0] * scales).astype(np.float32), rows[1])
    distances = found.measure((queries * scales).astype(np.float32))
    assert np.abs(distances - learned.measure(queries)).max() < 2e-3


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int32])
def test_features_of_any_dtype_are_compared(
    dtype: Any, rows: tuple[NDArray[np.float32], NDArray[np.intp]], learned: Familiarity
) -> None:
    X = (rows[0] * 100).astype(dtype)
    found = learn(X, rows[1])
    assert found.limit == pytest.approx(learned.limit, rel=0.01)
    assert found.are_familiar(X).mean() > 0.9


def test_constant_features_change_nothing_until_they_vary(
    rows: tuple[NDArray[np.float32], NDArray[np.intp]], learned: Familiarity
) -> None:
    X = np.column_stack([rows[0], np.zeros(len(rows[0])), np.full(len(rows[0]), 7.0)]).astype(np.float32)
    found = learn(X, rows[1])
    assert found.limit == pytest.approx(learned.limit * (16 / 18) ** 0.5, abs=1e-3)
    X[:, 16] = 1000
    assert not found.are_familiar(X).any()


def test_many_rows_are_sampled_in_the_shares_of_the_classes() -> None:
    X, _ = draw_clusters(30_000, seed=10)
    y = np.repeat(["common", "rare", "rarest"], [29_400, 594, 6])
    found = learn(X, y)
    assert len(found.rows) == MAX_REFERENCE_ROWS
    assert found.limit == learn(X, y).limit  # the sample is fixed
    drawn = draw_in_shares(y, MAX_REFERENCE_ROWS, np.random.default_rng(0))
    assert len(set(drawn.tolist())) == MAX_REFERENCE_ROWS
    counts = dict(zip(*np.unique(y[drawn], return_counts=True), strict=True))
    assert np.abs(np.array([counts[name] for name in ("common", "rare", "rarest")]) - [9800, 198, 2]).max() <= 1
    values = draw_in_shares(np.arange(30_000.0)[::-1], 1000, np.random.default_rng(0))
    assert np.abs(np.sort(values) - np.arange(15, 30_000, 30)).max() <= 30
    assert len(draw_in_shares(np.eye(3)[np.arange(300) % 3], 100, np.random.default_rng(0))) == 100


def test_only_candidates_are_kept(rows: tuple[NDArray[np.float32], NDArray[np.intp]]) -> None:
    candidates = np.arange(100, 400)
    some = learn(rows[0][candidates], rows[1][candidates])
    found = learn(*rows, candidates=candidates)
    assert np.array_equal(found.rows, some.rows)
    assert found.limit == some.limit


def test_arrays_hold_everything(learned: Familiarity) -> None:
    queries = draw_clusters(50, seed=11)[0]
    arrays = learned.to_arrays()
    found = Familiarity.from_arrays(arrays)
    assert np.array_equal(found.measure(queries), learned.measure(queries))
    assert (found.limit, found.n_neighbors) == (learned.limit, learned.n_neighbors)
    with pytest.raises(KeyError):
        Familiarity.from_arrays({name: value for name, value in arrays.items() if name != "limit"})
    with pytest.raises(ValueError, match="mean of"):
        Familiarity.from_arrays({**arrays, "mean": arrays["mean"][1:]})


def test_classes_of_few_rows_are_compared_with_what_they_have() -> None:
    X, _ = draw_clusters(90, seed=13)
    y = np.repeat(np.arange(60), np.tile([1, 2], 30))  # classes of one row and of two
    found = learn(X, y)
    scaler = StandardScaler().fit(X)
    rows = scaler.transform(X) / 4
    queries = draw_clusters(30, seed=14)[0]
    to_rows = np.linalg.norm(scaler.transform(queries)[:, None] / 4 - rows, axis=2)
    nearest = np.sort([to_rows[:, y == label].mean(axis=1) for label in range(60)], axis=0)
    expected = nearest[0] - 0.5 * (nearest[1] - nearest[0])
    assert np.abs(found.measure(queries) - expected).max() < 2e-3
    assert np.isfinite(found.limit)


def test_classes_of_one_group_each_are_calibrated_on_the_others() -> None:
    X, y = draw_clusters(120, seed=15)
    found = learn(X, y, groups=y)
    assert found.limit > learn(X, y).limit
    assert found.are_familiar(draw_clusters(200, seed=16)[0]).mean() > 0.95


def test_training_rows_are_known_but_for_rounding(
    learned: Familiarity, rows: tuple[NDArray[np.float32], NDArray[np.intp]]
) -> None:
    X, _ = rows
    rounded = X.astype(np.float16).astype(np.float32)
    assert learned.are_known(rounded).all()
    assert not learned.are_known(X + 0.1 * X.std(axis=0)).any()
    assert not learned.are_known(np.full((1, X.shape[1]), np.nan)).any()
