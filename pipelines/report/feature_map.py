"""A map of the features of a sample of the items in two dimensions.

It is that of UMAP where the package is installed, else of the first two principal components.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from ...extract.store.feature_map import UMAP, find_components, project_by_umap

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_POINTS = 2000
MIN_ROWS_FOR_UMAP = 30
"""UMAP looks at 15 neighbours of each row."""
SEED = 0


@dataclass(frozen=True)
class FeatureMap:
    """Where some items lie.

    Parameters
    ----------
    rows : ndarray of int, shape (n_points,)
        Positions of the items, ascending.
    places : ndarray of float, shape (n_points, 2)
    axis_names : tuple of str
    method : str
        What the places are, to follow "by".
    """

    rows: NDArray[np.intp]
    places: NDArray[np.float64]
    axis_names: tuple[str, str]
    method: str


def map_features(features: NDArray[np.floating[Any]]) -> FeatureMap | None:
    """Return a map of at most :data:`MAX_POINTS` rows; None for fewer than three, of one column, or all equal."""
    rows = draw_rows(len(features))
    sample = features[rows]
    if len(sample) < 3 or sample.shape[1] < 2 or not sample.std(axis=0).any():
        return None
    if find_spec(UMAP) is not None and len(sample) >= MIN_ROWS_FOR_UMAP:
        places, axis_names = project_by_umap(sample, SEED)
        return FeatureMap(rows, places, axis_names, "UMAP, which keeps neighbours together, of their features")
    places, (first, second) = find_components(sample)
    axis_names = (f"first component ({first:.0%} of the variance)", f"second component ({second:.0%})")
    return FeatureMap(rows, places, axis_names, "the first two principal components of their features")


def draw_rows(n_rows: int) -> NDArray[np.intp]:
    """Return the positions of a seeded sample of rows, ascending; all of them where they are few."""
    if n_rows <= MAX_POINTS:
        return np.arange(n_rows)
    drawn = np.random.default_rng(SEED).choice(n_rows, MAX_POINTS, replace=False)
    return np.sort(drawn)
