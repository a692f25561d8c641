"""Standardisation: mean and variance are those of all rows, in whatever parts they come."""

from __future__ import annotations

import numpy as np
import pytest
from topwork.heads.standardisation import MeanVariance, compute_scale

VALUES = np.random.default_rng(0).normal(5, 3, (20_000, 3)).astype(np.float32)
WEIGHT = np.random.default_rng(1).integers(1, 4, 20_000).astype(float)


def test_mean_and_variance_are_those_of_repeated_rows() -> None:
    repeated = np.repeat(VALUES.astype(np.float64), WEIGHT.astype(int), axis=0)
    found = MeanVariance.of(VALUES, WEIGHT)
    np.testing.assert_allclose(found.mean, repeated.mean(axis=0))
    np.testing.assert_allclose(found.variance, repeated.var(axis=0))
    np.testing.assert_allclose(found.scale, repeated.std(axis=0))
    assert found.weight == WEIGHT.sum()


def test_parts_are_merged() -> None:
    whole = MeanVariance.of(VALUES, WEIGHT)
    merged = MeanVariance.of(VALUES[:700], WEIGHT[:700]).merged(MeanVariance.of(VALUES[700:], WEIGHT[700:]))
    np.testing.assert_allclose(merged.mean, whole.mean)
    np.testing.assert_allclose(merged.variance, whole.variance)
    assert merged.weight == pytest.approx(whole.weight)


def test_constant_feature_has_scale_one() -> None:
    found = MeanVariance.of(np.array([[1e9 / 3, 1.0], [1e9 / 3, 2.0], [1e9 / 3, 3.0]]), np.ones(3))
    assert found.is_constant.tolist() == [True, False]
    assert found.scale[0] == 1
    assert compute_scale(np.array([4.0, 1e-9]), np.array([1e-8, 1e-8])).tolist() == [2, 1]
