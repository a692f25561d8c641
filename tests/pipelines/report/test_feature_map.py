"""The map is that of principal components, the same every time, of a bounded sample."""

from __future__ import annotations

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
    assert found.shares == pytest.approx(exact.explained_variance_ratio_)


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
