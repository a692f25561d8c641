"""Calibrated probabilities: a head whose scores are divided by one fitted temperature."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .folds import make_folds
from .registry import within_rows

Array = NDArray[Any]

N_FOLDS = 5


def fit_calibrated(
    head: Any,
    X: Array,
    y: Array,
    *,
    sample_weight: Any = None,
    groups: Any = None,
    weight_names: Sequence[str] = (),
    takes_groups: bool = False,
) -> Any:
    """Fit a head, and a temperature to the scores of held-out rows (Guo et al. 2017).

    The temperature does not change the order of a row's scores, so labels stay the same. A head that has scores only
    gets probabilities. The head of the ``CalibratedClassifierCV`` that is returned is fitted on all rows but those of
    weight zero; rows of a group are held out together.

    `weight_names` are the parameters of the head's ``fit`` that take weights, `takes_groups` says whether it takes
    groups. There must be one label for each row, and two rows (of two groups) of each class.
    """
    from sklearn.calibration import CalibratedClassifierCV

    # Validate, and leave out rows of weight zero.
    if y.ndim != 1:
        raise InputError("calibrate=True for several labels; expected one column of classes")
    if sample_weight is not None:
        present = np.flatnonzero(sample_weight)
        X = X[present]
        y = y[present]
        sample_weight = np.asarray(sample_weight)[present]
        groups = None if groups is None else np.asarray(groups)[present]
    check_class_units(y, groups)

    # Fit: the head on all rows, the temperature on held-out scores.
    folds = make_folds(y, groups, n_folds=N_FOLDS)
    fewest_rows = min(len(train) for train, _ in folds)
    calibrated = CalibratedClassifierCV(within_rows(head, fewest_rows), method="temperature", cv=folds, ensemble=False)
    fit_arguments = {"sample_weight": sample_weight}
    if sample_weight is not None:
        fit_arguments |= dict.fromkeys(weight_names, sample_weight)
    if takes_groups and groups is not None:
        fit_arguments["groups"] = groups
    with warnings.catch_warnings():  # weights reach a pipeline under `weight_names`
        warnings.filterwarnings("ignore", "Since .* does not appear to accept sample_weight")
        calibrated.fit(X, y, **fit_arguments)
    return calibrated.set_params(cv=len(folds))  # a number can be saved, rows cannot


def check_class_units(y: Array, groups: Any) -> None:
    """Check that each class has two rows, in two groups."""
    units = np.arange(len(y)) if groups is None else np.asarray(groups)
    for name in np.unique(y).tolist():
        n_units = len(np.unique(units[y == name]))
        if n_units < 2:
            raise InputError(
                f"calibrate=True, but the class {name!r} has one row (or group) only; expected at least two of each "
                "class: one to train on, one to calibrate on"
            )
