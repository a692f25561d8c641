"""What linear probes share: parameters, the problem to solve, and scores."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from ...errors import InputError
from ..folds import NO_FOLD
from ..mlp.recipe import torch_device
from ..scored_classifier import ScoredClassifier
from ..targets import encode_with_classes, keep_label_types, validate_labels, weigh_rows
from .lbfgs import Minimum
from .penalty_path import Problem
from .stacked_loss import Labelled

Array = NDArray[Any]

FLOATS = [np.float64, np.float32, np.float16]
ROWS_AT_ONCE = 8192


@dataclass(frozen=True)
class Before:
    """What another fit goes on from.

    Parameters
    ----------
    labels : list
        Of the classes.
    coefficients : ndarray of shape (n_classes, n_features)
    intercepts : ndarray of shape (n_classes,)
    """

    labels: list[Any]
    coefficients: Array
    intercepts: Array

    def taken_for(self, X: Array, rows: Array) -> int:
        """Return the place of the class that most rows of a new one are taken for: it starts as that one."""
        some = X[rows[:ROWS_AT_ONCE]].astype(np.float64)
        winners = (some @ self.coefficients.T + self.intercepts).argmax(axis=1)
        return int(np.bincount(winners).argmax())


class LinearEstimator(ScoredClassifier, BaseEstimator):  # type: ignore[misc]
    """What linear probes share: parameters, the problem to solve, and scores."""

    @abstractmethod
    def _check_parameters(self) -> None:
        """Raise an InputError if a parameter is not allowed."""

    def _check_common(self) -> None:
        for name in ("standardize", "fit_intercept", "warm_start"):
            if not isinstance(getattr(self, name), bool | np.bool_):
                raise InputError(f"{type(self).__name__}: {name} is {getattr(self, name)!r}; expected True or False")
        if not (is_number(self.tol) and 0 < self.tol < 1):
            raise InputError(f"{type(self).__name__}: tol is {self.tol!r}; expected a number between 0 and 1")
        if not (isinstance(self.max_iter, int | np.integer) and self.max_iter >= 1):
            raise InputError(f"{type(self).__name__}: max_iter is {self.max_iter!r}; expected a positive integer")

    def _validated(self, X: Any, y: Any, sample_weight: Any) -> tuple[Array, Labelled]:
        """Return features as they are, and labels as numbers; whether features are finite is seen later."""
        self._check_parameters()
        self.__dict__.pop("coef_", None)  # if this fit fails, the weights of another must not meet its classes
        X, y = validate_data(self, X, keep_label_types(y), dtype=FLOATS, multi_output=True, ensure_all_finite=False)
        y = validate_labels(y)
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        if not weights.any():
            raise InputError("sample_weight is zero for every row; expected at least one positive weight")
        return X, self._labelled(y, weights)

    def _labelled(self, y: Array, weights: Array) -> Labelled:
        folds = np.full(len(y), NO_FOLD, np.int16)
        self.multilabel_, self.label_dtype_ = y.ndim == 2, y.dtype.str
        if self.multilabel_:
            if self.class_weight is not None:
                raise InputError(f"class_weight is {self.class_weight!r}; expected None, as y has several labels")
            self.classes_ = np.arange(y.shape[1])
            return Labelled(y.astype(bool), y.shape[1], weights, folds)
        self.classes_ = np.unique(y[weights > 0])
        if len(self.classes_) < 2:
            raise ValueError(f"y has one class, {self.classes_.tolist()[0]!r}; expected at least two to tell apart")
        places = np.zeros(len(y), np.int64)
        places[weights > 0] = encode_with_classes(y[weights > 0], self.classes_)
        weights = weigh_rows(self.class_weight, self.classes_, places, weights)
        two = len(self.classes_) == 2
        return Labelled(places[:, None] == 1 if two else places, 1 if two else len(self.classes_), weights, folds)

    def _problem(self, X: Array, rows: Labelled) -> Problem:
        return Problem(
            X,
            rows,
            standardize=self.standardize,
            intercept=self.fit_intercept,
            device=torch_device(self.device),
            tolerance=self.tol,
            max_iter=self.max_iter,
        )

    def _before(self) -> Before | None:
        """Return the present weights of each class, or None for a fresh start."""
        if not (self.warm_start and hasattr(self, "coef_")):
            return None
        coefficients, intercepts = self.coef_, self.intercept_
        if not self.multilabel_ and len(self.classes_) == 2:
            coefficients, intercepts = (np.concatenate([-each / 2, each / 2]) for each in (coefficients, intercepts))
        return Before([(self.multilabel_, label) for label in self.classes_.tolist()], coefficients, intercepts)

    def _start(self, problem: Problem, before: Before | None, X: Array, rows: Labelled) -> Minimum:
        """Return where to start: from the weights of classes that were known, if that is better than from nothing."""
        if before is None or before.coefficients.shape[1] != self.n_features_in_:
            return Minimum(problem.loss.zeros())
        labels = [(self.multilabel_, label) for label in self.classes_.tolist()]
        places = np.array([before.labels.index(label) if label in before.labels else -1 for label in labels])
        if not self.multilabel_:
            of_rows = rows.targets if rows.targets.ndim == 1 else rows.targets[:, 0].astype(int)
            for new in np.flatnonzero(places < 0):
                places[new] = before.taken_for(X, np.flatnonzero((of_rows == new) & (rows.weights > 0)))
        coefficients = np.vstack([before.coefficients, np.zeros(self.n_features_in_)])[places]
        intercepts = np.append(before.intercepts, 0.0)[places]
        if not self.multilabel_ and len(places) == 2:
            coefficients, intercepts = coefficients[1:] - coefficients[:1], intercepts[1:] - intercepts[:1]
        return problem.better_start(problem.point(coefficients, intercepts * self.fit_intercept))

    def _keep(self, problem: Problem, found: Minimum) -> None:
        self.coef_, self.intercept_ = problem.coefficients(found.point)
        if not self.fit_intercept:
            self.intercept_ = np.zeros_like(self.intercept_)
        self.n_iter_ = found.n_evaluations
        self.objective_ = found.value
        if not found.converged:
            warnings.warn(
                f"the probe did not converge in {self.max_iter} iterations; raise max_iter, or strengthen the penalty "
                "(lower C)",
                ConvergenceWarning,
                stacklevel=3,
            )

    def decision_function(self, X: Any) -> Array:
        """Return scores before softmax or sigmoid.

        Parameters
        ----------
        X : array of shape (n_rows, n_features)

        Returns
        -------
        ndarray of float64, shape (n_rows, n_classes), (n_rows, n_labels), or with two classes (n_rows,)
            With two classes positive where the second is more probable.

        Raises
        ------
        ValueError
            If a feature is not a number, or infinite.
        """
        check_is_fitted(self, "coef_")
        X = validate_data(self, X, dtype=FLOATS, ensure_all_finite=False, reset=False)
        scores = np.empty((len(X), len(self.coef_)))
        for first in range(0, len(X), ROWS_AT_ONCE):
            part = X[first : first + ROWS_AT_ONCE].astype(np.float64)
            with np.errstate(invalid="ignore"):
                scores[first : first + len(part)] = part @ self.coef_.T + self.intercept_
        if not np.isfinite(scores).all():
            raise ValueError("Input X contains NaN or infinity; expected finite numbers in every row and column")
        return scores[:, 0] if not self.multilabel_ and len(self.classes_) == 2 else scores


def is_number(value: Any) -> bool:
    """Tell whether a parameter is a number."""
    return isinstance(value, Real) and not isinstance(value, bool)
