"""Nearest neighbours among the rows of a matrix: rows that are nearly equal, and rows that are far from all others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .familiarity import standardise
from .standardisation import MeanVariance

Array = NDArray[Any]

N_NEIGHBORS = 10
MAX_WHITENED_FEATURES = 2048
"""With more features, only their scale is equalised: an eigendecomposition would take minutes."""
VARIANCE_FLOOR = 0.1
"""Variance that is added to that of each component, whose mean is 1, so that noise is not magnified."""
MIN_ROWS_OF_SCALE = 10
"""A class with fewer rows has the scale of all rows."""
ZERO_DISTANCE = 1e-6
MAX_CHANCE_SHARE = 0.002
"""Share of rows that may have a close neighbour by chance."""
MAD_OF_NORMAL = 0.6745
"""Median absolute deviation of a standard normal variable."""
ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class Neighbors:
    """The nearest other rows of each row, the nearest first.

    `positions` and `distances` have shape ``(n_rows, n_neighbors)``; distances are cosine distances, float64.
    """

    positions: NDArray[np.intp]
    distances: NDArray[np.float64]

    @classmethod
    def of(cls, X: Array, n_neighbors: int = N_NEIGHBORS) -> Neighbors:
        """Find the neighbours of each row of features ``(n_rows, n_features)`` among the others.

        Features are whitened first, see :func:`whiten`. Distances are computed in blocks.
        """
        from sklearn.neighbors import NearestNeighbors

        n_neighbors = min(n_neighbors, len(X) - 1)
        if n_neighbors < 1:
            return cls(np.empty((len(X), 0), np.intp), np.empty((len(X), 0)))
        search = NearestNeighbors(n_neighbors=n_neighbors, algorithm="brute").fit(whiten(X))
        chords, positions = search.kneighbors()
        cosine_distances = chords.astype(np.float64) ** 2 / 2
        return cls(positions.astype(np.intp), cosine_distances)

    def measure_scales(self, classes: Array | None = None) -> NDArray[np.float64]:
        """Return the median distance to the nearest neighbour in the class of each row, shape ``(n_rows,)``.

        Rows without a distance to another do not count. Without `classes`, and for small classes, it is that of all
        rows; NaN if there is none.
        """
        nearest = self.distances[:, 0] if self.distances.shape[1] else np.zeros(len(self.distances))
        is_counted = nearest > ZERO_DISTANCE
        overall = float(np.median(nearest[is_counted])) if is_counted.any() else np.nan
        scales = np.full(len(nearest), overall)
        if classes is None:
            return scales
        for code in np.unique(classes):
            own = nearest[(classes == code) & is_counted]
            if len(own) >= MIN_ROWS_OF_SCALE:
                scales[classes == code] = np.median(own)
        return scales

    def find_close_pairs(self, limit: float, classes: Array | None = None) -> tuple[NDArray[np.intp], Array]:
        """Return pairs ``(n_pairs, 2)`` of rows that are closer than usual, and their distances in relation to that.

        A pair is close if its distance is less than `limit` times the median distance to a nearest neighbour in the
        class of each row, see :meth:`measure_scales`, and at most what :meth:`find_chance_limit` returns. The first row
        of a pair precedes the second.
        """
        limit = min(limit, self.find_chance_limit())
        scales = self.measure_scales(classes)
        firsts = np.repeat(np.arange(len(self.positions)), self.positions.shape[1])
        seconds = self.positions.ravel()
        smaller_scale = np.fmin(scales[firsts], scales[seconds])
        distances = self.distances.ravel()
        with np.errstate(invalid="ignore", divide="ignore"):
            ratios = np.where(distances <= ZERO_DISTANCE, 0.0, distances / smaller_scale)
        is_close = ratios < limit
        pairs = np.sort(np.stack([firsts, seconds], axis=1)[is_close], axis=1)
        distinct, first_places = np.unique(pairs, axis=0, return_index=True)
        return distinct, ratios[is_close][first_places]

    def find_chance_limit(self) -> float:
        """Return the distance, in relation to the median nearest one, that few rows are below by chance alone.

        In `d` dimensions the share of rows whose nearest neighbour is closer than a part of the median is that part to
        the power of `d`, so that data of few dimensions have many close pairs. The dimension is estimated from the
        distances to the neighbours (Levina and Bickel 2004). Cosine distances are squares of lengths.
        """
        if self.distances.shape[1] < 2:
            return np.inf
        logarithms = np.log(np.maximum(np.sqrt(self.distances), ZERO_DISTANCE))
        mean_ratio = float(np.median(np.mean(logarithms[:, -1:] - logarithms[:, :-1], axis=1)))
        return float(MAX_CHANCE_SHARE ** (2 * mean_ratio))

    def measure_isolation(self, classes: Array | None = None) -> NDArray[np.float64]:
        """Return how isolated each row is: the mean distance to its neighbours, as a robust score, shape ``(n_rows,)``.

        The score is that of the logarithm of the distance in relation to the row's scale: its deviation from the
        median, in standard deviations as the median absolute deviation estimates them (Iglewicz and Hoaglin 1993).
        """
        n_rows = len(self.distances)
        if not self.distances.shape[1]:
            return np.zeros(n_rows)
        mean_distances = self.distances.mean(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            logarithms = np.log(mean_distances / self.measure_scales(classes))
        is_known = np.isfinite(logarithms)
        if not is_known.any():
            return np.zeros(n_rows)
        return np.where(is_known, score_robustly(logarithms, logarithms[is_known]), 0.0)


def score_robustly(values: Array, reference: Array) -> NDArray[np.float64]:
    """Return the deviation of values from the median of others, in robust standard deviations; 0 if they are equal."""
    median = np.median(reference)
    deviation = np.median(np.abs(reference - median)) / MAD_OF_NORMAL
    if deviation == 0:
        return np.zeros(len(values))
    scores: NDArray[np.float64] = (values - median) / deviation
    return scores


def whiten(X: Array) -> NDArray[np.float32]:
    """Return standardised features as unit vectors, after their principal components were scaled to similar variances.

    Without that, distances would depend on the few directions with the largest variance. What is added to the variance
    of each component grows with the number of features for each row, as small variances of few rows are noise. Of more
    than :data:`MAX_WHITENED_FEATURES` only the variances of the features themselves are equalised.
    """
    n_rows, n_features = X.shape
    moments = MeanVariance.of(X, np.ones(n_rows))
    if n_features > MAX_WHITENED_FEATURES:
        return normalise(standardise(X, moments.mean, moments.scale))
    correlation = compute_correlation(X, moments)
    variances, directions = np.linalg.eigh(correlation)
    floor = VARIANCE_FLOOR + n_features / n_rows
    projection = directions / np.sqrt(np.maximum(variances, 0.0) + floor)
    whitened = np.empty(X.shape, np.float32)
    for start in range(0, n_rows, ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        standardised = standardise(X[part], moments.mean, moments.scale)
        whitened[part] = standardised @ projection.astype(np.float32)
    return normalise(whitened)


def compute_correlation(X: Array, moments: MeanVariance) -> NDArray[np.float64]:
    """Return the correlation ``(n_features, n_features)`` of features, which are read in blocks."""
    total = np.zeros((X.shape[1], X.shape[1]))
    for start in range(0, len(X), ROWS_AT_ONCE):
        block = X[start : start + ROWS_AT_ONCE].astype(np.float64)
        standardised = (block - moments.mean) / moments.scale
        total += standardised.T @ standardised
    correlation: NDArray[np.float64] = total / len(X)
    return correlation


def normalise(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Divide rows by their L2 norm, in place; rows of zeros stay."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    rows /= np.where(norms > 0, norms, 1.0)
    return rows
