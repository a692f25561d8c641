"""What a head is trained on, and how: rows with their weights and groups, handed to heads that take some."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn import config_context
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import has_fit_parameter

from ...errors import InputError
from ...heads.registry import within_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class TrainingRows:
    """Features, targets, and what else is known of the rows.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features)
    y : ndarray of shape (n_rows,) or (n_rows, n_targets)
    weights : ndarray of shape (n_rows,), optional
    groups : ndarray of shape (n_rows,), optional
        Rows of a group, such as views of an item, are held out together.
    ids : ndarray of shape (n_rows,), optional
        Of the items.
    """

    X: NDArray[Any]
    y: NDArray[Any]
    weights: NDArray[Any] | None = None
    groups: NDArray[Any] | None = None
    ids: NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: NDArray[np.intp]) -> TrainingRows:
        """Return some rows."""
        more = (None if each is None else each[rows] for each in (self.weights, self.groups, self.ids))
        return TrainingRows(self.X[rows], self.y[rows], *more)


def one_for_each(values: Any, name: str, count: int, dtype: Any = None) -> NDArray[Any]:
    """Return weights or groups as an array, one for each item.

    Raises
    ------
    InputError
        If there are more or fewer.
    """
    array = np.asarray(values, dtype)
    if array.shape != (count,):
        raise InputError(f"{count} items but {name} of shape {array.shape}; expected one for each item")
    return array


def weight_arguments(head: Any) -> list[str]:
    """Return the names under which a head's ``fit`` takes weights: in a pipeline every step that can has some.

    Raises
    ------
    InputError
        If it, or a pipeline's last step, takes none.
    """
    last = head.steps[-1][1] if isinstance(head, Pipeline) else head
    if not has_fit_parameter(last, "sample_weight"):
        raise InputError(f"sample_weight for a head that takes none, {type(last).__name__}; leave it out")
    if last is head:
        return ["sample_weight"]
    able = (name for name, step in head.steps if hasattr(step, "fit") and has_fit_parameter(step, "sample_weight"))
    return [f"{name}__sample_weight" for name in able]


def fit_head(head: Any, rows: TrainingRows, calibrate: bool = False) -> Any:
    """Fit a head on rows, whether or not scikit-learn routes metadata.

    Parameters
    ----------
    head : estimator
        Unfitted.
    rows : TrainingRows
        Groups go to heads whose ``fit`` takes some.
    calibrate : bool
        Whether its probabilities are made to mean what they say; see :mod:`topwork.heads.calibration`.
    """
    from ...heads.calibration import fit_calibrated

    head = within_rows(head, len(rows))
    names = [] if rows.weights is None else weight_arguments(head)
    takes_groups = has_fit_parameter(head, "groups")
    with config_context(enable_metadata_routing=False):
        if calibrate:
            return fit_calibrated(
                head,
                rows.X,
                rows.y,
                sample_weight=rows.weights,
                groups=rows.groups,
                weight_names=names,
                takes_groups=takes_groups,
            )
        more: dict[str, Any] = dict.fromkeys(names, rows.weights)
        if rows.groups is not None and takes_groups:
            more["groups"] = rows.groups
        return head.fit(rows.X, rows.y, **more)
