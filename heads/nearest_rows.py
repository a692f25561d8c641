"""The nearest other row of each row, in blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

MAX_DISTANCES_AT_ONCE = 4_000_000


def find_nearest_rows(rows: Array, groups: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """Return the position of the row that is nearest to each other row, of other groups; -1 if there is none."""
    n_rows = len(rows)
    squares = np.einsum("ij,ij->i", rows, rows)
    # A squared distance, less the square of the row's own length, is one product: (row, 1) @ (-2 other, its square).
    others = np.hstack([-2 * rows, squares[:, None]]).T  # (n_features + 1, n_rows)
    nearest = np.empty(n_rows, np.int64)
    n_at_once = max(1, MAX_DISTANCES_AT_ONCE // n_rows)
    for start in range(0, n_rows, n_at_once):
        block = rows[start : start + n_at_once]
        numbers = np.arange(start, start + len(block))
        ones = np.ones((len(block), 1), rows.dtype)
        distances = np.hstack([block, ones]) @ others  # (n_at_once, n_rows)
        if groups is None:
            distances[np.arange(len(block)), numbers] = np.inf
        else:
            distances[groups[numbers, None] == groups] = np.inf
        found = distances.argmin(axis=1)
        is_found = np.isfinite(distances[np.arange(len(block)), found])
        nearest[numbers] = np.where(is_found, found, -1)
    return nearest
