"""Which rows are held out, by class and by group."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

Array = NDArray[Any]
Folds = list[tuple[Array, Array]]


def folds_of(y: Array, groups: Any, n_folds: int, by_class: bool = True) -> Folds:
    """Divide rows into folds by class, in the order of the rows; rows of a group stay together.

    Rows of a class that has one row, and of a group that has all of a class, are held out like others; who judges by
    them leaves them out, see :func:`learnable`.

    Parameters
    ----------
    y : ndarray of shape (n_rows,) or (n_rows, n_targets)
    groups : array of shape (n_rows,) or None
    n_folds : int
        At most; as many as the largest class has rows, or as there are groups.
    by_class : bool
        Whether each fold gets its share of each class; not for values and several labels.

    Returns
    -------
    list of (ndarray, ndarray)
        Rows to train on and rows to hold out; empty if none can be held out.
    """
    most = int(np.unique(y, return_counts=True)[1].max()) if by_class else len(y)
    n_folds = min(n_folds, most, len(y) if groups is None else len(np.unique(groups)))
    if n_folds < 2:
        return []
    if groups is None:
        splitter: Any = StratifiedKFold(n_folds) if by_class else KFold(n_folds, shuffle=True, random_state=0)
    else:
        splitter = StratifiedGroupKFold(n_folds) if by_class else GroupKFold(n_folds)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")
        return list(splitter.split(np.zeros((len(y), 1)), y, groups))


def learnable(y: Array, train: Array, held: Array) -> Array:
    """Return the held-out rows whose class is among those that are trained on.

    Parameters
    ----------
    y : ndarray of shape (n_rows,)
    train, held : ndarray of int
        Rows.
    """
    rows: Array = held[np.isin(y[held], y[train])]
    return rows
