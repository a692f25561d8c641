"""A multilayer perceptron for values."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from ...errors import InputError
from .mlp_estimator import FLOATS, MLPEstimator, State
from .perceptron import Array, Spread
from .weighted_rows import Rows


class MLPHeadRegressor(RegressorMixin, MLPEstimator):  # type: ignore[misc]
    """A regressor with one or two hidden layers, for one or several targets.

    Its loss is the squared error of standardised targets. All else is as in :class:`MLPHead`, which describes the
    parameters and the attributes of the same names.

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
        X, y = validate_data(self, X, y, dtype=FLOATS, multi_output=True, y_numeric=True)
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
        before = self._state() if hasattr(self, "weights_") else None
        X, y = validate_data(self, X, y, dtype=FLOATS, multi_output=True, y_numeric=True, reset=before is None)
        if before is not None and (np.ndim(y) != self.target_ndim_ or y[:1].size != len(self.target_mean_)):
            raise InputError(f"y has shape {y.shape}; expected {len(self.target_mean_)} targets, as in the first call")
        self._partial_fit(X, y, sample_weight, before)
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
        check_is_fitted(self)
        outputs = self._network().outputs(validate_data(self, X, dtype=FLOATS, reset=False)).astype(np.float64)
        values: Array = outputs * self.target_scale_ + self.target_mean_
        return values.reshape(-1) if self.target_ndim_ == 1 else values

    def _loss(self) -> str:
        return "values"

    def _labels(self) -> list[Any]:
        return [(len(self.target_mean_), number) for number in range(len(self.target_mean_))]

    def _target_spread(self) -> Spread:
        return Spread(self.target_mean_, self.target_var_, self.weight_sum_)

    def _encoded(self, rows: Rows, partial: bool) -> Rows:
        self.target_ndim_ = rows.target.ndim
        return Rows(rows.X, rows.target.reshape(len(rows), -1).astype(np.float64), rows.weight)

    def _prepared(self, rows: Rows, before: State | None) -> Rows:
        spread = Spread.of(rows.target, rows.weight)
        if before is not None and before.targets is not None:
            spread = before.targets.merged(spread)
        self.target_mean_, self.target_var_, self.target_scale_ = spread.mean, spread.variance, spread.scale
        target = ((rows.target - spread.mean) / spread.scale).astype(np.float32)
        return Rows(rows.X, target, np.broadcast_to(rows.weight[:, None], target.shape))
