"""Weights of items, handed to heads that take some."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn import config_context
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import has_fit_parameter

from ..errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def weights_of(sample_weight: Any, count: int) -> NDArray[np.floating[Any]]:
    """Return one weight for each item.

    Raises
    ------
    InputError
        If there are more or fewer.
    """
    weights = np.asarray(sample_weight, float)
    if weights.shape != (count,):
        raise InputError(f"{count} items but sample_weight of shape {weights.shape}; expected one for each item")
    return weights


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


def fit_weighted(head: Any, matrix: NDArray[Any], labels: NDArray[Any], weights: NDArray[Any]) -> Any:
    """Fit a head on weighted rows, whether or not scikit-learn routes metadata."""
    with config_context(enable_metadata_routing=False):
        return head.fit(matrix, labels, **dict.fromkeys(weight_arguments(head), weights))
