"""Probabilities that mean what they say: a head with its scores scaled by one temperature."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .folds import folds_of

Array = NDArray[Any]


def fit_calibrated(head: Any, X: Array, y: Array, sample_weight: Any = None, groups: Any = None) -> Any:
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

    Returns
    -------
    sklearn.calibration.CalibratedClassifierCV
        Fitted. Its head learned from all rows.

    Raises
    ------
    InputError
        If there are several labels for each row, or a class has one row only.
    """
    from sklearn.calibration import CalibratedClassifierCV

    if y.ndim != 1:
        raise InputError("calibrate=True for several labels; expected one column of classes")
    names, counts = np.unique(y, return_counts=True)
    if counts.min() < 2:
        raise InputError(
            f"calibrate=True, but the class {names[counts.argmin()].item()!r} has one row only; expected two of each "
            "class or more: one to learn from, one to calibrate by"
        )
    folds = folds_of(y, groups, 5)
    calibrated = CalibratedClassifierCV(head, method="temperature", cv=folds, ensemble=False)
    weights = {} if sample_weight is None else {"sample_weight": sample_weight}
    return calibrated.fit(X, y, **weights).set_params(cv=len(folds))
