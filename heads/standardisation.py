"""Standardisation of features and targets: weighted means and variances, in parts, and the scales that follow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

ROWS_AT_ONCE = 8192
SMALLEST_RELATIVE_DEVIATION = 1e-13
"""A feature that deviates by less than this part of its mean is taken as constant: that much is rounding."""


@dataclass(frozen=True)
class MeanVariance:
    """The weighted mean and variance of each feature (or target) over rows; `weight` is the sum of theirs."""

    mean: Array
    variance: Array
    weight: float

    @classmethod
    def of(cls, values: Array, weight: Array) -> MeanVariance:
        """Compute mean and variance in float64, in parts that need little memory; weights are positive."""
        n_features = values.shape[1]
        total = cls(np.zeros(n_features), np.zeros(n_features), 0.0)
        for start in range(0, len(values), ROWS_AT_ONCE):
            part = values[start : start + ROWS_AT_ONCE].astype(np.float64)
            part_weight = weight[start : start + ROWS_AT_ONCE].astype(np.float64)
            share = part_weight / part_weight.sum()
            mean = share @ part
            variance = share @ (part - mean) ** 2
            total = total.merged(cls(mean, variance, float(part_weight.sum())))
        return total

    def merged(self, other: MeanVariance) -> MeanVariance:
        """Return mean and variance over the rows of both (Chan, Golub and LeVeque 1979)."""
        weight = self.weight + other.weight
        share = other.weight / weight
        shift = other.mean - self.mean
        between = share * (1 - share) * shift**2
        variance = (1 - share) * self.variance + share * other.variance + between
        return MeanVariance(self.mean + share * shift, variance, weight)

    @property
    def smallest_variance(self) -> Array:
        """The variance up to which a feature counts as constant; float64 of shape (n_features,)."""
        smallest_deviation = np.maximum(SMALLEST_RELATIVE_DEVIATION * np.abs(self.mean), np.finfo(np.float32).tiny)
        smallest: Array = smallest_deviation**2
        return smallest

    @property
    def is_constant(self) -> Array:
        """Which features do not vary, as booleans of shape (n_features,)."""
        is_constant: Array = self.variance <= self.smallest_variance
        return is_constant

    @property
    def scale(self) -> Array:
        """The standard deviation of each feature, 1 where it does not vary; float64 of shape (n_features,)."""
        return compute_scale(self.variance, self.smallest_variance)


def compute_scale(variance: Array, smallest_variance: Array) -> Array:
    """Return the standard deviation of each feature, 1 for those that vary no more than a constant."""
    scale: Array = np.sqrt(np.where(variance > smallest_variance, variance, 1.0))
    return scale
