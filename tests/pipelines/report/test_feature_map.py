"""The map is that of UMAP if installed, else of principal components, the same every time, of a bounded sample."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import PCA
from topwork.pipelines.report.feature_map import MAX_POINTS, map_features


def test_map_is_that_of_all_principal_components() -> None:
    features = np.random.default_rng(0).standard_normal((80, 12)).astype(np.float32) * np.arange(12, 0, -1)
    found = map_features(features)
    assert found is not None
    exact = PCA(n_components=2, svd_solver="full").fit(features.astype(np.float64))
    np.testing.assert_allclose(np.abs(found.places), np.abs(exact.transform(features)), atol=1e-5)
    first, second = exact.explained_variance_ratio_
    assert found.axis_names == (f"first component ({first:.0%} of the variance)", f"second component ({second:.0%})")


def test_sample_is_bounded_and_seeded() -> None:
    features = np.random.default_rng(0).standard_normal((MAX_POINTS + 50, 3)).astype(np.float32)
    first = map_features(features)
    second = map_features(features)
    assert first is not None
    assert second is not None
    assert len(first.rows) == MAX_POINTS
    assert len(np.unique(first.rows)) == MAX_POINTS
    np.testing.assert_array_equal(first.places, second.places)


@pytest.mark.parametrize("features", [np.ones((9, 4)), np.ones((2, 4)), np.arange(9.0)[:, None]])
def test_no_map_of_too_little(features: np.ndarray) -> None:
    assert map_features(features) is None


def test_map_is_that_of_umap_if_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Projection:
        def __init__(self, **options: Any) -> None:
            assert options["random_state"] == 0

        def fit_transform(self, features: np.ndarray) -> np.ndarray:
            return features[:, :2]

    module = ModuleType("umap")
    module.UMAP = Projection  # type: ignore[attr-defined]
    module.__spec__ = ModuleSpec("umap", None)
    monkeypatch.setitem(sys.modules, "umap", module)
    features = np.random.default_rng(0).standard_normal((40, 5)).astype(np.float32)
    found = map_features(features)
    assert found is not None
    np.testing.assert_array_equal(found.places, features[:, :2])
    assert found.axis_names == ("UMAP 1", "UMAP 2")
    assert found.method.startswith("UMAP")
    few = map_features(features[:20])
    assert few is not None
    assert few.method.startswith("the first two")
