"""A map of the features in two dimensions: the first two principal components of a sample of the items."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...extract.store.feature_map import find_components

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_POINTS = 2000
SEED = 0


@dataclass(frozen=True)
class FeatureMap:
    """Where some items lie.

    Parameters
    ----------
    rows : ndarray of int, shape (n_points,)
        Positions of the items, ascending.
    places : ndarray of float, shape (n_points, 2)
    shares : tuple of float
        Share of the variance of the features that each of the two components has.
    """

    rows: NDArray[np.intp]
    places: NDArray[np.float64]
    shares: tuple[float, float]


def map_features(features: NDArray[np.floating[Any]]) -> FeatureMap | None:
    """Return a map of at most :data:`MAX_POINTS` rows; None for fewer than three, of one column, or all equal."""
    rows = draw_rows(len(features))
    sample = features[rows]
    if len(sample) < 3 or sample.shape[1] < 2 or not sample.std(axis=0).any():
        return None
    places, shares = find_components(sample)
    return FeatureMap(rows, places, shares)


def draw_rows(n_rows: int) -> NDArray[np.intp]:
    """Return the positions of a seeded sample of rows, ascending; all of them where they are few."""
    if n_rows <= MAX_POINTS:
        return np.arange(n_rows)
    drawn = np.random.default_rng(SEED).choice(n_rows, MAX_POINTS, replace=False)
    return np.sort(drawn)
