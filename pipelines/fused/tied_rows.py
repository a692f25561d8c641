"""Rows of features where classes tie, or nearly so, on which a converted head is compared."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]

N_BISECTIONS = 12
N_INTEGER_ROWS = 120
MAX_REMEMBERED_ROWS = 120
MAX_AXES = 64
"""Number of features along which there is a row in each direction."""


def approach_boundaries(head: Any, rows: Rows) -> list[Rows]:
    """Bisect between each row and one of another class, and return the midpoints of each step."""
    labels = number_labels(head.predict(rows))
    if labels.max() == 0:
        return []
    partners = [np.flatnonzero(labels != label)[0] for label in labels]
    near = rows
    far = rows[partners]
    midpoints = []
    for _ in range(N_BISECTIONS):
        middle = ((near + far) / 2).astype(np.float32)
        midpoints.append(middle)
        is_equal = (head.predict(middle) == head.predict(near)).reshape(len(middle), -1)
        is_near_class = is_equal.all(axis=1)[:, None]
        near = np.where(is_near_class, middle, near)
        far = np.where(is_near_class, far, middle)
    return midpoints


def number_labels(labels: NDArray[Any]) -> NDArray[np.int64]:
    """Return a number for each row; rows with the same label, or the same set of labels, have the same number."""
    axis = 0 if labels.ndim > 1 else None
    numbers: NDArray[np.int64] = np.unique(labels, axis=axis, return_inverse=True)[1].reshape(-1)
    return numbers


def make_tied_rows(head: Any, n_features: int) -> Rows:
    """Return rows that are zero, lie on an axis, consist of small integers, or were fitted.

    They are centred where the head centres them. The fitted ones are those that a head remembers.
    """
    generator = np.random.default_rng(0)
    axes = np.eye(n_features)[:MAX_AXES]
    centred = [
        np.zeros((1, n_features)),
        axes,
        -axes,
        generator.integers(-1, 2, (N_INTEGER_ROWS, n_features)),
        generator.integers(-3, 6, (N_INTEGER_ROWS, n_features)),
    ]
    plain = np.concatenate(centred).astype(np.float32)
    remembered = find_fitted_rows(head, n_features)
    rows = np.concatenate([plain, remembered])
    return np.concatenate([rows, undo_scaling(head, rows)]).astype(np.float32)


def find_fitted_rows(head: Any, n_features: int) -> Rows:
    """Return some of the rows that a head compares others with: neighbours, support vectors, centroids."""
    last = head.steps[-1][1] if hasattr(head, "steps") else head
    for name in ("_fit_X", "support_vectors_", "centroids_"):
        rows = getattr(last, name, None)
        if isinstance(rows, np.ndarray) and rows.ndim == 2 and rows.shape[1] == n_features:
            spread = np.linspace(0, len(rows) - 1, min(len(rows), MAX_REMEMBERED_ROWS)).astype(int)
            chosen: Rows = rows[spread].astype(np.float32)
            return chosen
    return np.empty((0, n_features), np.float32)


def undo_scaling(head: Any, rows: Rows) -> Rows:
    """Return the features that a head standardises to rows; none if it does anything else to them."""
    from sklearn.preprocessing import StandardScaler

    steps = [step for _, step in getattr(head, "steps", [])[:-1]]
    if len(steps) != 1 or type(steps[0]) is not StandardScaler:
        return rows[:0]
    features: Rows = steps[0].inverse_transform(rows)
    return features
