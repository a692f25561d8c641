"""The rows that a head is trained on, and the fit itself, with weights and groups for heads that accept them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn import config_context
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import has_fit_parameter

from ...errors import InputError, TopworkError, reason
from ...heads.auto_head import AutoHead, find_chosen
from ...heads.calibration import fit_calibrated
from ...heads.registry import within_rows
from ...large_arrays import take_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class TrainingSet:
    """Features ``(n_rows, n_features)`` and targets ``(n_rows,)`` or ``(n_rows, n_targets)``, with what else is known.

    The optional arrays have shape ``(n_rows,)``. Rows of a group, such as the views of an item, are held out together;
    ids are those of the items. The columns of several labels may have names. Rows that are not original are views.
    """

    X: NDArray[Any]
    y: NDArray[Any]
    sample_weight: NDArray[Any] | None = None
    groups: NDArray[Any] | None = None
    ids: NDArray[Any] | None = None
    label_names: list[Any] | None = None
    is_original: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: NDArray[np.intp]) -> TrainingSet:
        """Return the rows at some positions."""
        return TrainingSet(
            X=take_rows(self.X, rows),
            y=self.y[rows],
            sample_weight=take_values(self.sample_weight, rows),
            groups=take_values(self.groups, rows),
            ids=take_values(self.ids, rows),
            label_names=self.label_names,
            is_original=take_values(self.is_original, rows),
        )

    def find_rows_with_weight(self) -> NDArray[np.intp]:
        """Return the positions of the rows that are no views, and whose weight is positive."""
        is_chosen = self.find_originals()
        if self.sample_weight is not None:
            is_chosen &= self.sample_weight > 0
        return np.flatnonzero(is_chosen)

    def find_originals(self) -> NDArray[np.bool_]:
        """Return which rows are no views, as an array of its own."""
        return np.ones(len(self), bool) if self.is_original is None else self.is_original.copy()


def take_values(values: NDArray[Any] | None, rows: NDArray[np.intp]) -> NDArray[Any] | None:
    """Return the values at some positions, or None if there are no values."""
    return None if values is None else values[rows]


def find_last_step(head: Any) -> Any:
    """Return the last step of a pipeline, or else the head itself."""
    return head.steps[-1][1] if isinstance(head, Pipeline) else head


def weight_arguments(head: Any) -> list[str]:
    """Return the arguments by which ``head.fit`` accepts sample weights; in a pipeline one for each step that does.

    Raise an InputError if the head, or the last step of a pipeline, does not accept weights.
    """
    last = find_last_step(head)
    if not has_fit_parameter(last, "sample_weight"):
        raise InputError(f"sample_weight for a head that takes none, {type(last).__name__}; leave it out")
    if last is head:
        return ["sample_weight"]
    weighted = [name for name, step in head.steps if hasattr(step, "fit") and has_fit_parameter(step, "sample_weight")]
    return [f"{name}__sample_weight" for name in weighted]


def fit_head(head: Any, rows: TrainingSet, calibrate: bool = False) -> Any:
    """Fit an unfitted head, if asked for with calibrated probabilities (see :mod:`topwork.heads.calibration`).

    Groups are passed to heads whose ``fit`` accepts them. Metadata routing of scikit-learn is switched off meanwhile.
    Raise an InputError if the head cannot learn from the rows.
    """
    try:
        return _fit_head(within_rows(head, len(rows)), rows, calibrate=calibrate)
    except TopworkError:
        raise
    except ValueError as error:
        name = type(find_last_step(head)).__name__
        raise InputError(f"the head ({name}) cannot be fitted to {len(rows)} rows: {reason(error)}") from error


def choose_head(head: Any, rows: TrainingSet) -> Any:
    """Return the head that one which chooses itself would take, unfitted; any other head unchanged.

    What is calibrated is the chosen head: in each fold of the calibration another one might be chosen.
    """
    if not isinstance(head, AutoHead):
        return head
    return clone(find_chosen(head.fit(rows.X, rows.y, rows.sample_weight, rows.groups)))


def _fit_head(head: Any, rows: TrainingSet, calibrate: bool) -> Any:
    weight_names = [] if rows.sample_weight is None else weight_arguments(head)
    takes_groups = has_fit_parameter(head, "groups")
    with config_context(enable_metadata_routing=False):
        if calibrate:
            head = choose_head(head, rows)
            takes_groups = has_fit_parameter(head, "groups")
            return fit_calibrated(
                head,
                X=rows.X,
                y=rows.y,
                sample_weight=rows.sample_weight,
                groups=rows.groups,
                weight_names=weight_names,
                takes_groups=takes_groups,
            )
        fit_parameters: dict[str, Any] = dict.fromkeys(weight_names, rows.sample_weight)
        if takes_groups and rows.groups is not None:
            fit_parameters["groups"] = rows.groups
        return head.fit(rows.X, rows.y, **fit_parameters)
