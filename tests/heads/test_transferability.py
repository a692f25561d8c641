"""Transferability scores: the figures of published implementations, definitions, and data that are awkward."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine
from sklearn.metrics import r2_score
from sklearn.neighbors import NearestNeighbors
from topwork.errors import InputError
from topwork.heads.transferability import (
    effective_rank,
    h_score,
    logme,
    measure_transferability,
    nearest_neighbor_score,
    regularised_h_score,
    transrate,
)

Array = NDArray[Any]
TOLERANCE = 1e-6
LOADERS = {"iris": load_iris, "wine": load_wine, "digits": load_digits, "breast cancer": load_breast_cancer}


def load(name: str) -> tuple[Array, Array]:
    X, y = LOADERS[name](return_X_y=True)
    return X, y


# Published figures.


@pytest.mark.parametrize(
    ("name", "expected"),
    [("iris", -0.160060244), ("wine", -0.004461018), ("digits", 0.270277455), ("breast cancer", -0.185024357)],
)
def test_logme_equals_the_authors_implementation(name: str, expected: float) -> None:
    assert logme(*load(name)) == pytest.approx(expected, abs=TOLERANCE, rel=0)


def test_logme_of_values_equals_the_authors_implementation() -> None:
    X, y = load_diabetes(return_X_y=True, scaled=False)
    assert logme(X, y, task="regression") == pytest.approx(-5.497850937, abs=TOLERANCE, rel=0)


@pytest.mark.parametrize(
    ("name", "h", "regularised", "rate"),
    [
        ("iris", 1.191898825, 1.177842499, 0.589405),
        ("wine", 1.705820802, 0.766097565, 2.655669),
        ("digits", 5.917909337, 5.851432998, 50.279312),
    ],
)
def test_h_scores_and_transrate_equal_published_implementations(
    name: str, h: float, regularised: float, rate: float
) -> None:
    X, y = load(name)
    assert h_score(X, y) == pytest.approx(h, abs=TOLERANCE, rel=0)
    assert regularised_h_score(X, y) == pytest.approx(regularised, abs=TOLERANCE, rel=0)
    assert transrate(X, y) == pytest.approx(rate, abs=TOLERANCE, rel=0)


# Definitions.


@pytest.fixture(params=["more rows", "more features"])
def features(request: pytest.FixtureRequest) -> tuple[Array, Array]:
    """Digits with constant columns; of 40 rows, a class has one row only."""
    X, y = load("digits")
    if request.param == "more rows":
        return X[:400], y[:400]
    rows = np.r_[np.flatnonzero(y[:100] < 4), np.flatnonzero(y == 7)[:1]]
    return X[rows], y[rows]


def test_scores_equal_their_definitions(features: tuple[Array, Array]) -> None:
    X, y = features
    means = np.stack([X[y == label].mean(axis=0) for label in y])
    between = np.cov(means, rowvar=False)
    covariance = np.cov(X, rowvar=False)
    shrunk = LedoitWolf().fit(X)
    assert h_score(X, y) == pytest.approx(np.trace(np.linalg.pinv(covariance, rcond=1e-12, hermitian=True) @ between))
    shrunk_score = np.trace(np.linalg.inv(shrunk.covariance_) @ between) * (1 - shrunk.shrinkage_)
    assert regularised_h_score(X, y) == pytest.approx(shrunk_score)
    centred = X - X.mean(axis=0)
    rates = [measure_rate(centred[y == label]) for label in np.unique(y)]
    assert transrate(X, y) == pytest.approx(measure_rate(centred) - np.mean(rates))
    singular_values = np.linalg.svd(centred, compute_uv=False)
    shares = singular_values[singular_values > 1e-9] / singular_values.sum()
    assert effective_rank(X) == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))


def measure_rate(rows: Array) -> float:
    n_rows, n_features = rows.shape
    return np.linalg.slogdet(np.eye(n_features) + rows.T @ rows / (n_rows * 1e-4))[1] / 2


def test_neighbor_score_is_that_of_leaving_one_out(features: tuple[Array, Array]) -> None:
    X, y = features
    noisy = X + 1e-3 * np.random.default_rng(0).standard_normal(X.shape)  # so that no two distances are equal
    nearest = NearestNeighbors(n_neighbors=1).fit(noisy).kneighbors(return_distance=False)[:, 0]
    assert nearest_neighbor_score(noisy, y) == pytest.approx((y[nearest] == y).mean())
    values = X @ np.arange(X.shape[1])
    assert nearest_neighbor_score(noisy, values, task="regression") == pytest.approx(r2_score(values, values[nearest]))


def test_neighbors_are_found_in_blocks_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = load("digits")
    whole = nearest_neighbor_score(X, y)
    monkeypatch.setattr("topwork.heads.nearest_rows.MAX_DISTANCES_AT_ONCE", 50_000)
    assert nearest_neighbor_score(X, y) == whole


def test_rows_of_a_group_are_no_neighbors() -> None:
    X = np.random.default_rng(0).standard_normal((60, 8)).repeat(3, axis=0)
    y = (np.arange(60) % 2).repeat(3)
    groups = np.arange(60).repeat(3)
    assert nearest_neighbor_score(X, y) == 1
    assert 0.2 < nearest_neighbor_score(X, y, groups=groups) < 0.8
    with pytest.raises(InputError, match="of one group"):
        nearest_neighbor_score(X, y, groups=np.zeros(180))


@pytest.mark.parametrize("name", LOADERS)
def test_all_at_once_are_the_same_as_one_by_one(name: str) -> None:
    X, y = load(name)
    scores = measure_transferability(X, y)
    assert scores.to_dict() == {
        "logme": logme(X, y),
        "h_score": h_score(X, y),
        "regularised_h_score": regularised_h_score(X, y),
        "transrate": transrate(X, y),
        "neighbor_score": nearest_neighbor_score(X, y),
        "effective_rank": effective_rank(X),
    }


def test_several_labels_are_scored_column_by_column() -> None:
    X, y = load("digits")
    indicators = (y[:, None] == np.arange(10)).astype(int)
    never = np.zeros((len(y), 1), int)
    scores = measure_transferability(X, np.hstack([indicators, never]))
    assert scores.logme == pytest.approx(logme(X, y))
    assert scores.neighbor_score == nearest_neighbor_score(X, y)
    assert scores.to_dict()["h_score"] is None
    with pytest.raises(InputError, match="one class for each row"):
        h_score(X, indicators)


def test_several_values_are_scored_as_their_mean() -> None:
    X, y = load_diabetes(return_X_y=True, scaled=False)
    both = logme(X, np.column_stack([y, X[:, 0]]), task="regression")
    apart = [logme(X, each, task="regression") for each in (y, X[:, 0])]
    assert both == pytest.approx(np.mean(apart))


# Awkward data.


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.uint8])
def test_other_types_of_numbers_have_the_same_scores(dtype: type) -> None:
    X, y = load("digits")
    expected = measure_transferability(X, y).to_dict()
    found = measure_transferability(X.astype(dtype), [f"digit {label}" for label in y]).to_dict()
    assert found == pytest.approx(expected)


def test_constant_and_repeated_features_add_nothing() -> None:
    X, y = load("wine")
    widened = np.hstack([X, np.full((len(X), 3), 0.1), X[:, :2]])
    assert h_score(widened, y) == pytest.approx(h_score(X, y))
    assert effective_rank(np.full((5, 3), 0.1)) == 0
    nothing = measure_transferability(np.zeros((6, 4)), list("aabbcc"))
    assert nothing.h_score == nothing.regularised_h_score == nothing.transrate == 0
    assert np.isfinite(nothing.logme)


def test_a_large_offset_costs_no_accuracy() -> None:
    X, y = load("iris")
    assert h_score(X + 1e4, y) == pytest.approx(h_score(X, y), abs=TOLERANCE)
    assert effective_rank(X + 1e4) == pytest.approx(effective_rank(X), abs=TOLERANCE)
    assert nearest_neighbor_score(X + 1e4, y) == pytest.approx(nearest_neighbor_score(X, y), abs=0.01)


def test_single_rows_of_classes_are_scored() -> None:
    X = np.random.default_rng(0).standard_normal((12, 40))
    scores = measure_transferability(X, np.arange(12))
    assert all(np.isfinite(value) for value in scores.to_dict().values())
    assert scores.h_score == pytest.approx(11)
    assert scores.neighbor_score == 0


@pytest.mark.parametrize(
    ("X", "y", "options", "message"),
    [
        (np.ones(4), list("abab"), {}, "shape (4,)"),
        (np.ones((1, 4)), ["a"], {}, "shape (1, 4)"),
        (np.ones((4, 2), str), list("abab"), {}, "<U1"),
        ([[1.0, 2.0], [3.0, np.nan]], ["a", "b"], {}, "feature 1"),
        ([[1.0, np.inf], [3.0, 4.0]], ["a", "b"], {}, "feature 1"),
        (np.eye(4), list("aba"), {}, "4 rows but targets of shape (3,)"),
        (np.eye(4), list("aaaa"), {}, "label 'a'"),
        (np.eye(4), ["a", "b", None, "b"], {}, "missing"),
        (np.eye(4), list("abab"), {"task": "regression"}, "<U1"),
        (np.eye(4), [1.0, 1.0, 1.0, 1.0], {"task": "regression"}, "same target"),
        (np.eye(4), list("abab"), {"task": "multilabel"}, "shape (4,)"),
        (np.eye(4), list("abab"), {"task": "ranking"}, "'ranking'"),
        (np.eye(4), list("abab"), {"groups": [1, 2]}, "groups of shape (2,)"),
    ],
)
def test_what_cannot_be_scored_is_named(X: Any, y: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        measure_transferability(X, y, **options)
    assert message in str(caught.value)
