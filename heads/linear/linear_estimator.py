"""The common part of linear probes: parameters, validation, warm starts, and scores."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted, validate_data

from ...errors import InputError
from ..folds import NO_FOLD
from ..parameters import (
    BOOLEAN,
    CLASS_WEIGHT,
    DEVICE,
    NUMBER_BETWEEN_0_AND_1,
    POSITIVE_INTEGER,
    Constraints,
    check_parameters,
    select_torch_device,
)
from ..scored_classifier import ScoredClassifier
from ..standardisation import ROWS_AT_ONCE
from ..targets import check_row_weights, encode_with_classes, keep_label_types, validate_labels, weigh_rows
from .lbfgs import Solution
from .penalty_path import LogisticProblem
from .stacked_loss import RowTargets

Array = NDArray[Any]

FEATURE_TYPES = [np.float64, np.float32, np.float16]
"""The types of features that are left as they are; all others become float64."""


@dataclass(frozen=True)
class LinearWarmStart:
    """The weights of a fitted probe, from which the next fit starts.

    Parameters
    ----------
    outputs : list
        Names of the classes or labels.
    coefficients : ndarray of shape (n_outputs, n_features)
        With two classes for each of them.
    intercepts : ndarray of shape (n_outputs,)
    """

    outputs: list[Any]
    coefficients: Array
    intercepts: Array

    def find_similar_output(self, X: Array) -> int:
        """Return the number of the class that most rows are predicted as.

        Parameters
        ----------
        X : ndarray of shape (n_rows, n_features)
        """
        scores = X.astype(np.float64) @ self.coefficients.T + self.intercepts  # (n_rows, n_outputs)
        return int(np.bincount(scores.argmax(axis=1)).argmax())


class LinearEstimator(ScoredClassifier, BaseEstimator):  # type: ignore[misc]
    """The common part of linear probes: parameters, validation, warm starts, and scores."""

    _constraints: ClassVar[Constraints] = {
        "standardize": BOOLEAN,
        "fit_intercept": BOOLEAN,
        "class_weight": CLASS_WEIGHT,
        "tol": NUMBER_BETWEEN_0_AND_1,
        "max_iter": POSITIVE_INTEGER,
        "warm_start": BOOLEAN,
        "device": DEVICE,
    }

    def _validate(self, X: Any, y: Any, sample_weight: Any) -> tuple[Array, RowTargets]:
        """Return features as they are, and encoded targets; whether features are finite is checked when they are read.

        The weights of a former fit are dropped: if this fit fails, they must not meet its classes.
        """
        check_parameters(self, self._constraints)
        self.__dict__.pop("coef_", None)
        X, y = validate_data(
            self, X, keep_label_types(y), dtype=FEATURE_TYPES, multi_output=True, ensure_all_finite=False
        )
        y = validate_labels(y)
        return X, self._encode_targets(y, check_row_weights(sample_weight, X))

    def _encode_targets(self, y: Array, weights: Array) -> RowTargets:
        """Note the classes of rows with a weight, and return targets without folds."""
        folds = np.full(len(y), NO_FOLD, np.int16)
        if y.ndim == 2:
            if self.class_weight is not None:
                raise InputError(f"class_weight is {self.class_weight!r}; expected None, as y has several labels")
            n_labels = y.shape[1]
            self._note_labels(y, classes=np.arange(n_labels))
            return RowTargets(targets=y.astype(bool), n_outputs=n_labels, weights=weights, folds=folds)

        is_present = weights > 0
        self._note_labels(y, classes=np.unique(y[is_present]))
        if len(self.classes_) < 2:
            raise ValueError(f"y has one class, {self.classes_.tolist()[0]!r}; expected at least two classes")
        codes = np.zeros(len(y), np.int64)
        codes[is_present] = encode_with_classes(y[is_present], self.classes_)
        weights = weigh_rows(self.class_weight, self.classes_, codes=codes, weights=weights)
        if self._is_binary():
            is_second = codes[:, None] == 1  # (n_rows, 1)
            return RowTargets(targets=is_second, n_outputs=1, weights=weights, folds=folds)
        return RowTargets(targets=codes, n_outputs=len(self.classes_), weights=weights, folds=folds)

    def _make_problem(self, X: Array, rows: RowTargets) -> LogisticProblem:
        return LogisticProblem(
            X,
            rows,
            standardize=self.standardize,
            has_intercept=self.fit_intercept,
            device=select_torch_device(self.device),
            tolerance=self.tol,
            max_iter=self.max_iter,
        )

    def _find_warm_start(self) -> LinearWarmStart | None:
        """Return the present weights of each output, or None for a fresh start."""
        if not (self.warm_start and hasattr(self, "coef_")):
            return None
        coefficients = self.coef_
        intercepts = self.intercept_
        if self._is_binary():
            coefficients = np.concatenate([-coefficients / 2, coefficients / 2])
            intercepts = np.concatenate([-intercepts / 2, intercepts / 2])
        return LinearWarmStart(self._name_outputs(), coefficients, intercepts)

    def _choose_start(
        self, problem: LogisticProblem, warm_start: LinearWarmStart | None, X: Array, rows: RowTargets
    ) -> Solution:
        """Start from the weights of a former fit, if the loss is lower there than at zero; else at zero."""
        if warm_start is None or warm_start.coefficients.shape[1] != self.n_features_in_:
            return Solution(problem.loss.zeros())

        # Find the former output of each output; a new class starts as the one that most of its rows are predicted as.
        outputs = self._name_outputs()
        former = np.array([warm_start.outputs.index(name) if name in warm_start.outputs else -1 for name in outputs])
        if not self.multilabel_:
            for new_class in np.flatnonzero(former < 0):
                of_class = np.flatnonzero((rows.codes == new_class) & (rows.weights > 0))
                former[new_class] = warm_start.find_similar_output(X[of_class[:ROWS_AT_ONCE]])

        # Take their weights; a new label has zeros, which are appended here and found as [-1].
        coefficients = np.vstack([warm_start.coefficients, np.zeros(self.n_features_in_)])[former]
        intercepts = np.append(warm_start.intercepts, 0.0)[former]
        if self._is_binary():
            coefficients = coefficients[1:] - coefficients[:1]
            intercepts = intercepts[1:] - intercepts[:1]
        return problem.choose_start(problem.to_point(coefficients, intercepts * self.fit_intercept))

    def _keep_solution(self, problem: LogisticProblem, solution: Solution) -> None:
        self.coef_, self.intercept_ = problem.to_coefficients(solution.point)
        if not self.fit_intercept:
            self.intercept_ = np.zeros_like(self.intercept_)
        self.n_iter_ = solution.n_evaluations
        self.objective_ = solution.value
        if not solution.converged:
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
        X = validate_data(self, X, dtype=FEATURE_TYPES, ensure_all_finite=False, reset=False)
        scores = np.empty((len(X), len(self.coef_)))
        for first in range(0, len(X), ROWS_AT_ONCE):
            part = X[first : first + ROWS_AT_ONCE].astype(np.float64)
            with np.errstate(invalid="ignore"):
                scores[first : first + len(part)] = part @ self.coef_.T + self.intercept_
        if not np.isfinite(scores).all():
            raise ValueError("Input X contains NaN or infinity; expected finite numbers in every row and column")
        return scores[:, 0] if self._is_binary() else scores
