"""Probabilities that mean what they say: a head with its scores scaled by one temperature."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .folds import folds_of
from .registry import within_rows

Array = NDArray[Any]


def fit_calibrated(
    head: Any,
    X: Array,
    y: Array,
    sample_weight: Any = None,
    groups: Any = None,
    weight_names: Sequence[str] = (),
    takes_groups: bool = False,
) -> Any:
    """Fit a head, and a temperature to the scores of rows that were held out.

    The temperature (Guo et al. 2017) changes no order of a row's scores, so labels stay as they are; a head that has
    scores only gets probabilities by it.

    Parameters
    ----------
    head : estimator
        Unfitted.
    X : ndarray of shape (n_rows, n_features)
    y : ndarray of shape (n_rows,)
    sample_weight : ndarray of shape (n_rows,), optional
    groups : ndarray of shape (n_rows,), optional
        Rows of a group are held out together.
    weight_names : sequence of str
        Under which the head's ``fit`` takes weights.
    takes_groups : bool
        Whether it takes groups.

    Returns
    -------
    sklearn.calibration.CalibratedClassifierCV
        Fitted. Its head learned from all rows.

    Raises
    ------
    InputError
        If there are several labels for each row, or a class has one row (or one group of rows) only.
    """
    from sklearn.calibration import CalibratedClassifierCV

    if y.ndim != 1:
        raise InputError("calibrate=True for several labels; expected one column of classes")
    if sample_weight is not None:
        present = np.flatnonzero(sample_weight)
        X, y, sample_weight = X[present], y[present], np.asarray(sample_weight)[present]
        groups = None if groups is None else np.asarray(groups)[present]
    _require_two(y, groups)
    folds = folds_of(y, groups, 5)
    more = {} if sample_weight is None else dict.fromkeys(weight_names, sample_weight)
    if takes_groups and groups is not None:
        more["groups"] = groups
    head = within_rows(head, min(len(train) for train, _ in folds))
    calibrated = CalibratedClassifierCV(head, method="temperature", cv=folds, ensemble=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Since .* does not appear to accept sample_weight")  # `more` has them
        return calibrated.fit(X, y, **{"sample_weight": sample_weight, **more}).set_params(cv=len(folds))


def _require_two(y: Array, groups: Any) -> None:
    units = np.arange(len(y)) if groups is None else np.asarray(groups)
    for name in np.unique(y).tolist():
        if len(np.unique(units[y == name])) < 2:
            raise InputError(
                f"calibrate=True, but the class {name!r} has one row (or group) only; expected two of each class or "
                "more: one to learn from, one to calibrate by"
            )
