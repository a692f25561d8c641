"""A multilayer perceptron for values."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils.validation import validate_data

from ...errors import InputError
from ..standardisation import MeanVariance
from .mlp_estimator import FEATURE_TYPES, MLPEstimator, MLPWarmStart
from .perceptron import Array
from .training import WeightedRows


class MLPHeadRegressor(RegressorMixin, MLPEstimator):  # type: ignore[misc]
    """A regressor with one or two hidden layers, for one or several targets.

    Its loss is the squared error of standardised targets. Parameters and attributes that are not described here are
    those of :class:`MLPHead`.

    Parameters
    ----------
    hidden : tuple of int, default=(256,)
    dropout : float, default=0.0
    epochs : int, default=100
    batch_size : int, default=128
    learning_rate : float, default=3e-3
    weight_decay : float, default=0.01
    early_stopping : bool, default=True
    validation_fraction : float, default=0.1
    patience : int, default=10
    mixup : float, default=0.0
    warm_start : bool, default=False
        With another number of targets, only the hidden layers are kept.
    random_state : int, RandomState or None, default=None
    device : str, default="auto"

    Attributes
    ----------
    target_mean_, target_var_, target_scale_ : ndarray of shape (n_targets,), float64
    target_ndim_ : int
        1 if targets came as one vector, 2 as a matrix.
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPHeadRegressor:
        """Train on features and values.

        Parameters
        ----------
        X : array of shape (n_rows, n_features)
        y : array of shape (n_rows,) or (n_rows, n_targets)
        sample_weight : array of shape (n_rows,), optional
            Rows of weight zero count as absent.

        Returns
        -------
        MLPHeadRegressor
            Itself.

        Raises
        ------
        InputError
            If a parameter is not allowed, or the loss becomes infinite.
        MissingPackageError
            If torch is not installed.
        """
        self._check_parameters()
        X, y = validate_data(self, X, y, dtype=FEATURE_TYPES, multi_output=True, y_numeric=True)
        self._fit(X, y, sample_weight)
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPHeadRegressor:
        """Train for one epoch on a part of the data, at a learning rate that does not fall.

        Mean and scale of features and targets are those of all parts so far.

        Parameters
        ----------
        X : array of shape (n_rows, n_features)
        y : array of shape (n_rows,) or (n_rows, n_targets)
        sample_weight : array of shape (n_rows,), optional

        Returns
        -------
        MLPHeadRegressor
            Itself.
        """
        self._check_parameters()
        is_first = not hasattr(self, "weights_")
        warm_start = None if is_first else self._make_warm_start()
        X, y = validate_data(self, X, y, dtype=FEATURE_TYPES, multi_output=True, y_numeric=True, reset=is_first)
        if not is_first:
            self._check_targets(y)
        self._partial_fit(X, y, sample_weight, warm_start=warm_start)
        return self

    def predict(self, X: Any) -> Array:
        """Return values.

        Parameters
        ----------
        X : array of shape (n_rows, n_features)

        Returns
        -------
        ndarray of shape (n_rows,) or (n_rows, n_targets), float64
            Shaped as the targets were.
        """
        outputs = self._compute_outputs(X).astype(np.float64)  # (n_rows, n_targets)
        values: Array = outputs * self.target_scale_ + self.target_mean_
        return values[:, 0] if self.target_ndim_ == 1 else values

    def _check_targets(self, y: Array) -> None:
        """Check that the targets have the shape of those in the first partial_fit."""
        n_targets = len(self.target_mean_)
        expected = (len(y),) if self.target_ndim_ == 1 else (len(y), n_targets)
        if y.shape != expected:
            raise InputError(f"y has shape {y.shape}; expected {n_targets} targets, as in the first call")

    def _loss(self) -> str:
        return "values"

    def _name_outputs(self) -> list[Any]:
        n_targets = len(self.target_mean_)
        return [(n_targets, number) for number in range(n_targets)]

    def _target_statistics(self) -> MeanVariance:
        return MeanVariance(self.target_mean_, self.target_var_, self.weight_sum_)

    def _encode_targets(self, rows: WeightedRows, *, is_partial: bool) -> WeightedRows:
        self.target_ndim_ = rows.target.ndim
        target = rows.target.reshape(len(rows), -1).astype(np.float64)  # (n_rows, n_targets)
        return WeightedRows(rows.X, target, rows.weight)

    def _prepare_targets(self, rows: WeightedRows, warm_start: MLPWarmStart | None) -> WeightedRows:
        targets = MeanVariance.of(rows.target, rows.weight)
        if warm_start is not None and warm_start.targets is not None:
            targets = warm_start.targets.merged(targets)
        self.target_mean_ = targets.mean
        self.target_var_ = targets.variance
        self.target_scale_ = targets.scale
        standardised = ((rows.target - targets.mean) / targets.scale).astype(np.float32)
        weight = np.broadcast_to(rows.weight[:, None], standardised.shape)
        return WeightedRows(rows.X, standardised, weight)
