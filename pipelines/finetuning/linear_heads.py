"""Linear heads as weights of a layer, and weights as heads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from sklearn.linear_model import LinearRegression

from ...heads.linear.linear_probe import LinearProbe, LinearProbeCV
from ...heads.registry import CLASSIFICATION, MULTILABEL, resolve_head
from ..estimators.training_set import TrainingSet, fit_head

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Standardisation(NamedTuple):
    """What is subtracted from numbers, and what they are divided by."""

    center: Any
    scale: Any

    @classmethod
    def of(cls, values: NDArray[Any]) -> Standardisation:
        """Return that by which the columns of values have mean 0 and deviation 1, if they are not constant."""
        deviation = values.std(axis=0, dtype=np.float64)
        return cls(values.mean(axis=0, dtype=np.float64), np.where(deviation > 0, deviation, 1.0))


def fit_probe(rows: TrainingSet, task: str) -> Any:
    """Return a linear head for features, whose penalty is chosen."""
    head = fit_head(resolve_head("linear", task), rows)
    if not isinstance(head, LinearProbeCV):
        return head
    probe = LinearProbe(C=head.C_)
    for name, value in vars(head).items():
        if name.endswith("_") and name not in ("C_", "cv_results_"):
            setattr(probe, name, value)
    return probe


def read_weights(head: Any, n_features: int, task: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the weights ``(n_outputs, n_features)`` and biases of a linear head; two classes have two outputs."""
    if task != CLASSIFICATION and task != MULTILABEL:
        bias = np.atleast_1d(head.predict(np.zeros((1, n_features)))[0])
        weight = head.predict(np.eye(n_features)).reshape(n_features, -1) - bias
        return weight.T.copy(), bias
    if task == CLASSIFICATION and len(head.classes_) == 2:
        return np.concatenate([-head.coef_, head.coef_]) / 2, np.concatenate([-head.intercept_, head.intercept_]) / 2
    return head.coef_, head.intercept_


def write_weights(head: Any, weight: NDArray[Any], bias: NDArray[Any], task: str) -> Any:
    """Return a head with the weights of a layer; `head` is the one that training started from."""
    if task != CLASSIFICATION and task != MULTILABEL:
        return make_linear_regression(weight, bias)
    if task == CLASSIFICATION and len(head.classes_) == 2:
        weight, bias = weight[1:] - weight[:1], bias[1:] - bias[:1]
    head.coef_ = weight.astype(np.float64)
    head.intercept_ = bias.astype(np.float64)
    return head


def make_linear_regression(weight: NDArray[Any], bias: NDArray[Any]) -> LinearRegression:
    """Return scikit-learn's linear regression with given weights; of a single value as for a vector of targets."""
    n_outputs, n_features = weight.shape
    head = LinearRegression().fit(np.zeros((2, n_features)), np.zeros(2 if n_outputs == 1 else (2, n_outputs)))
    head.coef_ = weight[0].astype(np.float64) if n_outputs == 1 else weight.astype(np.float64)
    head.intercept_ = float(bias[0]) if n_outputs == 1 else bias.astype(np.float64)
    return head
