"""Linear probes at the edges: folds that tell nothing, fits that fail, files that are read in order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, ShuffleSplit, TimeSeriesSplit
from sklearn.preprocessing import StandardScaler
from topwork.errors import InputError
from topwork.heads.linear.feature_blocks import FeatureBlocks, compute_eigenbasis
from topwork.heads.linear.linear_probe import LinearProbe, LinearProbeCV
from topwork.heads.linear.penalty_path import LogisticProblem
from topwork.heads.linear.stacked_loss import RowTargets


@pytest.mark.parametrize("shape", [(120, 320), (300, 5)])
def test_constant_column_without_intercept_hides_no_other(shape: tuple[int, int]) -> None:
    generator = np.random.default_rng(0)
    X, y = np.c_[generator.standard_normal(shape), np.full(shape[0], 100.0)], generator.integers(3, size=shape[0])
    ours = LinearProbe(1.0, fit_intercept=False, tol=1e-8).fit(X, y)
    scale = StandardScaler(with_mean=False).fit(X).scale_
    peer = LogisticRegression(C=1.0, fit_intercept=False, tol=1e-10, max_iter=100_000).fit(X / scale, y)
    np.testing.assert_allclose(ours.coef_ * scale, peer.coef_, atol=1e-4)


def test_folds_with_one_class_tell_nothing_and_are_left_out() -> None:
    generator = np.random.default_rng(0)
    X = generator.standard_normal((200, 5))
    for names in (["a", "b", "c", "d"], ["a", "b", "b", "b"]):
        y = np.repeat(names, 50)
        if len(set(names)) == 4:
            with pytest.warns(UserWarning, match="no class has rows in two folds"):
                assert LinearProbeCV().fit(X, y, groups=y).cv_results_ == {}
        else:
            found = LinearProbeCV().fit(X, y, groups=np.repeat([0, 1, 2, 3], 50)).cv_results_
            assert np.isfinite(found["mean_loss"]).all()
            assert found["n_iter"].max() < 50


@pytest.mark.parametrize(
    "cv",
    [
        [(range(100), range(100, 200))] * 2,
        [(range(50), range(100, 200))],
        TimeSeriesSplit(3),
        ShuffleSplit(3, random_state=0),
        1,
        True,
    ],
)
def test_folds_that_are_no_partition_are_refused(cv: Any) -> None:
    X, y = np.random.default_rng(0).standard_normal((200, 5)), np.arange(200) % 3
    with pytest.raises(InputError, match="cv"):
        LinearProbeCV(cv=cv).fit(X, y)


def test_fold_with_all_the_weight_is_refused_and_one_without_any_is_left_out() -> None:
    X, y = np.random.default_rng(0).standard_normal((200, 5)), np.arange(200) % 3
    with pytest.raises(InputError, match="all rows that have a weight"):
        LinearProbeCV(cv=KFold(2)).fit(X, y, sample_weight=np.repeat([0.0, 1.0], 100))
    found = LinearProbeCV(cv=KFold(4)).fit(X, y, sample_weight=np.repeat([0.0, 1.0], [50, 150]))
    assert found.cv_results_["loss"].shape == (10, 3)
    one = LinearProbeCV(cv=[(np.arange(100), np.arange(100, 200))], selection="one_standard_error").fit(X, y)
    assert one.C_ in one.cv_results_["C"]


def test_fit_that_fails_leaves_no_weights_with_other_classes() -> None:
    X = np.random.default_rng(0).standard_normal((90, 5))
    probe = LinearProbe().fit(X, np.arange(90) % 3)
    with pytest.raises(ValueError, match="NaN"):
        probe.fit(np.full_like(X, np.nan), np.repeat(["p", "q", "r"], 30))
    with pytest.raises(NotFittedError):
        probe.predict(X)


def test_search_that_ends_early_warns_once() -> None:
    generator = np.random.default_rng(0)
    X, y = generator.standard_normal((300, 40)), generator.integers(9, size=300)
    for probe in (LinearProbe(1e4, max_iter=8), LinearProbeCV([1e4, 1e5], max_iter=8)):
        with pytest.warns(ConvergenceWarning) as caught:
            probe.fit(X, y)
        assert len(caught) == 1


def test_map_is_read_from_start_to_end(tmp_path: Path) -> None:
    X = np.random.default_rng(0).standard_normal((300, 20)).astype(np.float16)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    y = np.arange(300) % 3
    folds = KFold(3, shuffle=True, random_state=0)
    fold_of_row = np.empty(300, int)
    for number, (_, held) in enumerate(folds.split(X)):
        fold_of_row[held] = number
    rows = RowTargets(targets=y, n_outputs=3, weights=np.ones(300), folds=fold_of_row)
    options = {"standardize": True, "has_intercept": True, "device": "cpu", "tolerance": 1e-5, "max_iter": 10}
    assert (np.diff(LogisticProblem(mapped, rows, **options).loss.blocks.order) == 1).all()
    assert (np.diff(LogisticProblem(X, rows, **options).loss.blocks.order.astype(int)) < 0).any()

    from_map = LinearProbeCV(cv=folds).fit(mapped, y)
    np.testing.assert_allclose(from_map.coef_, LinearProbeCV(cv=folds).fit(X, y).coef_, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("standardize", [True, False])
def test_tiny_column_neither_harms_nor_slows(standardize: bool) -> None:
    generator = np.random.default_rng(0)
    X, y = generator.standard_normal((40_000, 30)).astype(np.float32), np.arange(40_000) % 3
    X[:, 0] += y
    X[:, 7] *= np.float32(1e-35)  # as of a unit that is nearly dead: products with it would be tiny and slow
    probe = LinearProbe(1e-3, standardize=standardize).fit(X, y)
    other = X.copy()
    other[:, 7] = X[:, 7] * np.float32(1e35) if standardize else 0
    expected = LinearProbe(1e-3, standardize=standardize).fit(other, y)
    blocks = FeatureBlocks(X, np.arange(len(X)), "cpu")
    compute_eigenbasis(blocks, np.ones(len(X)), standardize=standardize, centre=True)
    numbers = np.abs(next(iter(blocks))[1].numpy()[:, 7])
    assert (0.01 < numbers.mean() < 100) if standardize else not numbers.any()
    assert np.isfinite(probe.coef_).all()
    np.testing.assert_allclose(probe.predict_proba(X), expected.predict_proba(other), atol=1e-4)


def test_blocks_end_where_folds_end() -> None:
    X = np.zeros((10_003, 200), np.float32)
    sizes = [rows.stop - rows.start for rows, _ in FeatureBlocks(X, np.arange(len(X)), "cpu", [2001, 4002, 6003, 8003])]
    assert sizes == [2001, 2001, 2001, 2000, 2000]
    assert [rows.stop for rows, _ in FeatureBlocks(X, np.arange(len(X)), "cpu", range(50, 10_000, 50))][:2] == [
        1050,
        2100,
    ]


def test_row_without_weight_makes_no_class_one_of_two_folds() -> None:
    X, y = np.random.default_rng(0).standard_normal((200, 5)), np.repeat(["a", "b", "c", "d"], 50)
    weights = np.ones(200)
    weights[60] = 0
    with pytest.warns(UserWarning, match="no class has rows in two folds"):
        assert LinearProbeCV(selection="one_standard_error").fit(X, y, weights, groups=y).cv_results_ == {}
