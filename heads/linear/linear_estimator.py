"""The common part of linear probes: parameters, validation, warm starts, and scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted, validate_data

from ...errors import InputError, warn_caller
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
    """The weights of a fitted probe, from which the next fit starts: of each class or label, also of two classes."""

    outputs: list[Any]
    coefficients: Array  # (n_outputs, n_features)
    intercepts: Array  # (n_outputs,)

    def find_outputs(self, names: list[Any]) -> Array:
        """Return the numbers of outputs with names, -1 for new ones."""
        number_of_name = {name: number for number, name in enumerate(self.outputs)}
        return np.array([number_of_name.get(name, -1) for name in names])

    def take(self, numbers: Array) -> tuple[Array, Array]:
        """Return the coefficients and intercepts of outputs, zeros for -1."""
        coefficients = np.vstack([self.coefficients, np.zeros(self.coefficients.shape[1])])
        intercepts = np.append(self.intercepts, 0.0)
        return coefficients[numbers], intercepts[numbers]

    def find_similar_output(self, X: Array) -> int:
        """Return the number of the class that most rows are predicted as."""
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
        weights = check_row_weights(sample_weight, X)
        if y.ndim == 1:
            self._note_labels(y, classes=np.unique(y[weights > 0]))
            return X, encode_classes(y, self.classes_, class_weight=self.class_weight, weights=weights)
        if self.class_weight is not None:
            raise InputError(f"class_weight is {self.class_weight!r}; expected None, as y has several labels")
        self._note_labels(y, classes=np.arange(y.shape[1]))
        return X, RowTargets.without_folds(y.astype(bool), n_outputs=y.shape[1], weights=weights)

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

    def _solve(
        self, C: float, X: Array, rows: RowTargets, warm_start: LinearWarmStart | None
    ) -> tuple[LogisticProblem, Solution]:
        """Fit a penalty on all rows."""
        problem = self._make_problem(X, rows)
        return problem, problem.solve(C, self._choose_start(problem, warm_start, X, rows=rows))

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

        # A new class starts as the one that most of its rows are predicted as, a new label with zeros.
        former = warm_start.find_outputs(self._name_outputs())
        if not self.multilabel_:
            for new_class in np.flatnonzero(former < 0):
                of_class = np.flatnonzero((rows.codes == new_class) & (rows.weights > 0))
                former[new_class] = warm_start.find_similar_output(X[of_class[:ROWS_AT_ONCE]])

        coefficients, intercepts = warm_start.take(former)
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
            warn_caller(
                f"the probe did not converge in {self.max_iter} iterations; raise max_iter, or strengthen the penalty "
                "(lower C)",
                ConvergenceWarning,
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


def encode_classes(y: Array, classes: Array, *, class_weight: Any, weights: Array) -> RowTargets:
    """Return targets without folds; `classes` are those of the rows with a weight, others have the first one's code."""
    if len(classes) < 2:
        raise ValueError(f"y has one class, {classes.tolist()[0]!r}; expected at least two classes")
    is_present = weights > 0
    codes = np.zeros(len(y), np.int64)
    codes[is_present] = encode_with_classes(y[is_present], classes)
    weights = weigh_rows(class_weight, classes, codes=codes, weights=weights)
    if len(classes) == 2:
        is_second = codes[:, None] == 1  # (n_rows, 1)
        return RowTargets.without_folds(is_second, n_outputs=1, weights=weights)
    return RowTargets.without_folds(codes, n_outputs=len(classes), weights=weights)
