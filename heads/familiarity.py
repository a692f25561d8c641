"""Familiarity of features: their distance to the rows that a head was trained on, and a limit for it.

Distances are those to the nearest training rows, which find out-of-distribution inputs without any assumption about
them (Sun et al. 2022, https://arxiv.org/abs/2204.06507). Where there are classes, features that are about as far from
two classes are less familiar than others at the same distance from one, as in the ratio of the two distances by which
Mendes Júnior et al. (2017, https://doi.org/10.1007/s10994-016-5610-8) recognise unknown classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from .standardisation import MeanVariance

Array = NDArray[Any]

N_NEIGHBORS = 3
LEAD_WEIGHT = 0.5
FAMILIAR_SHARE = 0.95
"""Share of rows like those of the training that the limit lets pass."""
MAX_REFERENCE_ROWS = 10_000
MIN_REFERENCE_ROWS = 50
"""With fewer different rows, the limit would follow chance."""
MAX_CALIBRATION_ROWS = 1_000
"""Rows by which the limit is chosen: with so many, the share is uncertain by 0.7 percentage points."""
EQUAL_DISTANCE = 0.02
"""Rows of which features differ by less, in standard deviations, are equal but for rounding."""
LARGEST_DEVIATION = 1e4
"""Largest deviation of a feature, in standard deviations: float16 holds it, and float32 sums of its squares."""
ROWS_AT_ONCE = 1024
MAX_DISTANCES_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Familiarity:
    """Training rows to compare features with, and the largest unfamiliarity of features that are familiar.

    `rows` are float16 of shape ``(n_rows, n_features)``, standardised by `mean` and `scale`, float64 of shape
    ``(n_features,)``, and ordered by class: `starts` has the position of the first row of each.
    """

    rows: NDArray[np.float16]
    starts: NDArray[np.int64]
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    limit: float
    n_neighbors: int = N_NEIGHBORS
    lead_weight: float = LEAD_WEIGHT

    def measure(self, X: Array) -> NDArray[np.float32]:
        """Return how unfamiliar features ``(n_rows, n_features)`` are.

        This is their distance to the nearest class, which is the mean distance to its k nearest rows, less
        `lead_weight` times what the second nearest class is farther away. Features that are not all finite are
        infinitely far away.
        """
        measured = np.full(len(X), np.inf, np.float32)
        is_finite = np.isfinite(X).all(axis=1)
        standardised = standardise(X[is_finite], self.mean, self.scale)
        nearest = self.find_nearest_classes(standardised)
        measured[is_finite] = subtract_lead(nearest, self.lead_weight)
        return measured

    def find_nearest_classes(
        self, queries: NDArray[np.float32], own_groups: Array | None = None, groups: Array | None = None
    ) -> NDArray[np.float32]:
        """Return the distances ``(n_queries, 2)`` of standardised features to the two nearest classes.

        With groups, rows of the query's own group do not count; distances are infinite if none are left. If there is no
        second class, both distances are that to the first.
        """
        distances = np.empty((len(queries), 2), np.float32)
        for part, to_rows in self._iterate_distances(queries):
            if own_groups is not None:
                to_rows[own_groups[part, None] == groups] = np.inf
            distances[part] = find_two_smallest(measure_class_distances(to_rows, self.starts, self.n_neighbors))
        return distances

    def _iterate_distances(self, queries: NDArray[np.float32]) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Yield parts of standardised features, and their distances ``(n_queries, n_rows)`` to all rows."""
        rows, squares = self._comparison
        n_at_once = max(1, MAX_DISTANCES_AT_ONCE // len(rows))
        for start in range(0, len(queries), n_at_once):
            part = slice(start, start + n_at_once)
            block = queries[part]
            squared = squares - 2 * (block @ rows.T)
            squared += (block**2).sum(axis=1, keepdims=True)
            yield part, np.sqrt(np.maximum(squared, 0.0) / rows.shape[1])

    @cached_property
    def _comparison(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The rows in float32, and the sums of their squares."""
        rows = self.rows.astype(np.float32)
        return rows, (rows**2).sum(axis=1)

    def are_familiar(self, X: Array) -> NDArray[np.bool_]:
        """Check which features ``(n_rows, n_features)`` are as near to the training rows as such rows usually are."""
        is_familiar: NDArray[np.bool_] = self.measure(X) <= self.limit
        return is_familiar

    def are_known(self, X: Array) -> NDArray[np.bool_]:
        """Check which features ``(n_rows, n_features)`` are those of a training row, but for rounding."""
        is_known = np.zeros(len(X), bool)
        is_finite = np.isfinite(X).all(axis=1)
        queries = standardise(X[is_finite], self.mean, self.scale)
        nearest = np.empty(len(queries), np.float32)
        for part, to_rows in self._iterate_distances(queries):
            nearest[part] = to_rows.min(axis=1)
        is_known[is_finite] = nearest <= EQUAL_DISTANCE
        return is_known

    def to_arrays(self) -> dict[str, Any]:
        """Return the fields by name, as a file can hold them."""
        return {name: np.asarray(value) for name, value in asdict(self).items()}

    @classmethod
    def from_arrays(cls, arrays: Any) -> Self:
        """Return what :meth:`to_arrays` described; raise a KeyError or ValueError if something is missing or wrong."""
        found = cls(
            rows=arrays["rows"].astype(np.float16, copy=False),
            starts=arrays["starts"].astype(np.int64, copy=False),
            mean=arrays["mean"].astype(np.float64, copy=False),
            scale=arrays["scale"].astype(np.float64, copy=False),
            limit=float(arrays["limit"]),
            n_neighbors=int(arrays["n_neighbors"]),
            lead_weight=float(arrays["lead_weight"]),
        )
        width = found.rows.shape[1:]
        if len(width) != 1 or found.mean.shape != width or found.scale.shape != width:
            raise ValueError(f"rows of shape {found.rows.shape}, but a mean of {found.mean.shape}")
        return found


def learn_familiarity(
    X: Array,
    y: Array,
    groups: Array | None = None,
    candidates: NDArray[np.intp] | None = None,
    *,
    by_class: bool = True,
) -> Familiarity | None:
    """Choose the rows to compare with, and the limit; return None if there are too few rows for one.

    At most :data:`MAX_REFERENCE_ROWS` of the candidates (by default all rows) are kept, a fixed sample with each class
    of `y` in its share (or, for values, evenly along them). Equal rows count once; rows that are not all finite are
    ignored. Classes are told apart if `by_class`; it is not for values and several labels.

    The limit is what :data:`FAMILIAR_SHARE` of the rows do not exceed if each is compared with the others, where those
    of its own group do not count.
    """
    chosen = choose_rows(X, y, candidates)
    if len(chosen) < MIN_REFERENCE_ROWS:
        return None
    classes = np.zeros(len(chosen), np.intp)
    if by_class:
        classes = np.unique(y[chosen], return_inverse=True)[1]
    order = np.argsort(classes, kind="stable")
    reference, distinct = build_reference(X[chosen[order]], classes[order])
    kept = chosen[order[distinct]]
    row_groups = kept if groups is None else groups[kept]
    measured = compare_with_others(reference, X, kept, row_groups)
    if len(measured) < MIN_REFERENCE_ROWS:
        return None
    return replace(reference, limit=find_limit(measured, FAMILIAR_SHARE))


def choose_rows(X: Array, y: Array, candidates: NDArray[np.intp] | None) -> NDArray[np.intp]:
    """Return the positions of finite rows, at most :data:`MAX_REFERENCE_ROWS`, in ascending order."""
    chosen = np.arange(len(X)) if candidates is None else candidates
    if len(chosen) > MAX_REFERENCE_ROWS:
        chosen = chosen[draw_in_shares(y[chosen], MAX_REFERENCE_ROWS, np.random.default_rng(0))]
    is_finite = np.isfinite(X[chosen]).all(axis=1)
    return chosen[is_finite]


def build_reference(values: Array, classes: Array) -> tuple[Familiarity, NDArray[np.intp]]:
    """Return rows to compare with, without a limit, and their positions; values are ordered by class.

    Rows that equal one before them are left out.
    """
    moments = MeanVariance.of(values, np.ones(len(values)))
    rows = standardise(values, moments.mean, moments.scale).astype(np.float16)
    distinct = find_distinct_rows(rows)
    starts = np.unique(classes[distinct], return_index=True)[1]
    return Familiarity(rows[distinct], starts, moments.mean, moments.scale, limit=math.inf), distinct


def compare_with_others(reference: Familiarity, X: Array, kept: NDArray[np.intp], groups: Array) -> Array:
    """Return how unfamiliar some of the reference rows would be if those of their own group were not known.

    `kept` are the positions in `X` of the reference rows, which have the groups. At most :data:`MAX_CALIBRATION_ROWS`
    are compared; rows without others are left out.
    """
    order = np.random.default_rng(0).permutation(len(kept))
    rows = np.sort(order[:MAX_CALIBRATION_ROWS])
    standardised = standardise(X[kept[rows]], reference.mean, reference.scale)
    nearest = reference.find_nearest_classes(standardised, own_groups=groups[rows], groups=groups)
    has_others = np.isfinite(nearest[:, 0])
    return subtract_lead(nearest[has_others], reference.lead_weight)


def draw_in_shares(y: Array, n_rows: int, generator: np.random.Generator) -> NDArray[np.intp]:
    """Draw rows without replacement, ascending; classes (or values) have the share that they have among all rows."""
    is_ordered = y.ndim == 1
    strata = np.unique(y, return_inverse=True)[1] if is_ordered else np.zeros(len(y), np.intp)
    order = np.lexsort((generator.random(len(y)), strata))
    positions = (np.arange(n_rows) + generator.random()) * len(y) / n_rows
    return np.sort(order[positions.astype(np.intp)])


def standardise(X: Array, mean: Array, scale: Array) -> NDArray[np.float32]:
    """Return the deviation of features from the mean in standard deviations, at most :data:`LARGEST_DEVIATION`."""
    standardised = np.empty(X.shape, np.float32)
    for start in range(0, len(X), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        deviations = (X[part].astype(np.float64) - mean) / scale
        standardised[part] = np.clip(deviations, -LARGEST_DEVIATION, LARGEST_DEVIATION)
    return standardised


def find_distinct_rows(rows: Array) -> NDArray[np.intp]:
    """Return the positions of the rows that equal none before them."""
    first_positions: dict[bytes, int] = {}
    for position, row in enumerate(rows):
        first_positions.setdefault(row.tobytes(), position)
    return np.array(list(first_positions.values()), np.intp)


def measure_class_distances(to_rows: Array, starts: Array, n_neighbors: int) -> Array:
    """Return the mean distance to the k nearest rows of each class, as ``(n_queries, n_classes)``.

    `to_rows` has the distance of each query to each row, ordered by class; of fewer finite ones the mean is that of
    those, and infinite if there are none.
    """
    distances = np.empty((len(to_rows), len(starts)), np.float32)
    n_rows_of_class = np.diff(starts, append=to_rows.shape[1])
    for n_rows in np.unique(n_rows_of_class).tolist():
        classes = np.flatnonzero(n_rows_of_class == n_rows)
        columns = starts[classes, None] + np.arange(n_rows)
        nearest = to_rows[:, columns]  # (n_queries, n_classes, n_rows)
        if n_rows > n_neighbors:
            nearest = np.partition(nearest, n_neighbors - 1, axis=2)[:, :, :n_neighbors]
        distances[:, classes] = average_finite(nearest)
    return distances


def average_finite(values: Array) -> Array:
    """Return the mean of the finite values along the last axis, infinite if there are none."""
    is_finite = np.isfinite(values)
    count = is_finite.sum(axis=-1)
    total = np.where(is_finite, values, 0.0).sum(axis=-1)
    return np.where(count > 0, total / np.maximum(count, 1), np.inf)


def find_two_smallest(distances: Array) -> Array:
    """Return the two smallest distances of each row, ascending; the smallest twice if there is no other finite one."""
    if distances.shape[1] == 1:
        return np.repeat(distances, 2, axis=1)
    smallest = np.partition(distances, 1, axis=1)[:, :2]
    smallest[:, 1] = np.where(np.isfinite(smallest[:, 1]), smallest[:, 1], smallest[:, 0])
    return smallest


def subtract_lead(nearest: Array, weight: float) -> Array:
    """Return the distance to the nearest class, less a part of what the second nearest class is farther away."""
    lead = nearest[:, 1] - nearest[:, 0]
    return nearest[:, 0] - weight * lead


def find_limit(distances: Array, share: float) -> float:
    """Return the distance that a share of new rows like these are expected not to exceed (Vovk et al. 2005)."""
    rank = math.ceil((len(distances) + 1) * share)
    return float(np.sort(distances)[min(rank, len(distances)) - 1])
