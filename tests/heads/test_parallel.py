"""Pieces of work on the workers of joblib: the same results, in the same order, and no copy of a memory map."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.datasets import make_classification
from topwork.heads.feature_comparison import compare_features
from topwork.heads.folds import make_folds
from topwork.heads.label_quality import (
    predict_labels_out_of_fold,
    predict_out_of_fold,
    predict_values_out_of_fold,
)
from topwork.heads.linear.linear_probe import LinearProbeCV
from topwork.heads.linear.penalty_path import LogisticProblem
from topwork.heads.parallel import MappedFile, run_all, shrink


@pytest.fixture(scope="module")
def rows() -> tuple[np.ndarray, np.ndarray]:
    X, y = make_classification(400, 12, n_informative=6, n_classes=3, random_state=0)
    return X.astype(np.float32), y


@pytest.fixture(scope="module")
def backend(request: pytest.FixtureRequest) -> Any:
    """Return the name of a back end of joblib, which is ready."""
    if request.param == "ray":
        ray = pytest.importorskip("ray")
        from ray.util.joblib import register_ray

        ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
        register_ray()
        yield "ray"
        ray.shutdown()
    else:
        yield request.param


def find_process(number: int) -> tuple[int, int]:
    return number, os.getpid()


def test_without_a_back_end_nothing_is_sent() -> None:
    assert run_all(find_process, [(1,), (2,)]) == [(1, os.getpid()), (2, os.getpid())]


@pytest.mark.parametrize("backend", ["loky", "ray"], indirect=True, scope="module")
def test_results_are_those_of_one_process(backend: str, rows: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    X, y = rows
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    folds = make_folds(y, None, 3)
    marks = np.stack([y == 0, y != 1], axis=1).astype(int)

    def compute() -> list[np.ndarray]:
        compared = compare_features({"all": mapped, "few": X[:, :4]}, y, "classification")
        return [
            predict_out_of_fold(mapped, y, 3, folds),
            predict_labels_out_of_fold(X, marks, folds),
            predict_values_out_of_fold(X, y.astype(float), folds),
            *(scores.sums for scores in compared.values()),
        ]

    expected = compute()
    with joblib.parallel_config(backend, n_jobs=2):
        assert {process for _, process in run_all(find_process, [(1,), (2,)])} != {os.getpid()}
        found = compute()
    for own, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-5, atol=1e-6)


def test_a_memory_map_is_sent_by_name(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.float32).reshape(6, 4)
    np.save(tmp_path / "X.npy", values)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    sent = shrink(mapped)
    assert isinstance(sent, MappedFile)
    np.testing.assert_array_equal(sent.open(), values)
    part = mapped[2:4]
    assert shrink(part) is part
    assert shrink(values) is values


def test_a_view_of_a_whole_memory_map_is_sent_by_name_too(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.float32).reshape(6, 4)
    np.save(tmp_path / "X.npy", values)
    view = np.asarray(np.load(tmp_path / "X.npy", mmap_mode="r"))  # as scikit-learn's validation returns it
    sent = shrink(view)
    assert isinstance(sent, MappedFile)
    np.testing.assert_array_equal(sent.open(), values)
    for part in (view[2:4], view.T, view.reshape(4, 6), view.view(np.int32)):
        assert shrink(part) is part


@pytest.mark.parametrize(
    "backend", ["loky", pytest.param("ray", marks=pytest.mark.coverage)], indirect=True, scope="module"
)
@pytest.mark.parametrize("scoring", [None, "balanced_accuracy"])
@pytest.mark.parametrize("labels", ["classes", "two classes", "several labels"])
def test_folds_of_a_probe_are_fitted_by_workers(
    backend: str,
    rows: tuple[np.ndarray, np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    labels: str,
    scoring: str | None,
) -> None:
    X, y = rows
    y = {"classes": y, "two classes": y == 0, "several labels": np.stack([y == 0, y != 1], axis=1).astype(int)}[labels]
    if y.ndim == 2 and scoring is not None:
        scoring = "f1_macro"
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    expected = LinearProbeCV(scoring=scoring).fit(mapped, y)
    monkeypatch.delattr(LogisticProblem, "cross_validate")  # of this process
    with joblib.parallel_config(backend, n_jobs=2):
        found = LinearProbeCV(scoring=scoring).fit(mapped, y)
    assert found.C_ == expected.C_
    np.testing.assert_allclose(found.coef_, expected.coef_, rtol=0.02, atol=0.02 * np.abs(expected.coef_).max())
    for name in ("mean_loss", "mean_score"):
        np.testing.assert_allclose(found.cv_results_[name], expected.cv_results_[name], rtol=0.02, atol=0.01)
