"""Linear probes: logistic regression for cached features, with one penalty or many, in memory or from a file."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import check_cv
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from ..errors import InputError
from .folds import folds_of
from .labels import class_weights, classes_or_labels, places_of
from .lbfgs import Minimum
from .mlp_recipe import torch_device
from .penalty_path import Path, Problem
from .scored import ScoredClassifier
from .stacked_loss import NO_FOLD, Labelled

Array = NDArray[Any]

FLOATS = [np.float64, np.float32, np.float16]
ROWS_AT_ONCE = 8192


class _Linear(ScoredClassifier, BaseEstimator):  # type: ignore[misc]
    """What linear probes share: parameters, the problem to solve, and scores."""

    @abstractmethod
    def _check_parameters(self) -> None:
        """Raise an InputError if a parameter is not allowed."""

    def _check_common(self) -> None:
        for name in ("standardize", "fit_intercept", "warm_start"):
            if not isinstance(getattr(self, name), bool | np.bool_):
                raise InputError(f"{type(self).__name__}: {name} is {getattr(self, name)!r}; expected True or False")
        if not (_is_number(self.tol) and 0 < self.tol < 1):
            raise InputError(f"{type(self).__name__}: tol is {self.tol!r}; expected a number between 0 and 1")
        if not (isinstance(self.max_iter, int | np.integer) and self.max_iter >= 1):
            raise InputError(f"{type(self).__name__}: max_iter is {self.max_iter!r}; expected a positive integer")

    def _validated(self, X: Any, y: Any, sample_weight: Any) -> tuple[Array, Labelled]:
        """Return features as they are, and labels as numbers; whether features are finite is seen later."""
        self._check_parameters()
        X, y = validate_data(self, X, y, dtype=FLOATS, multi_output=True, ensure_all_finite=False)
        y = classes_or_labels(y)
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
            raise ValueError(f"y has one class, {self.classes_[0]!r}; expected at least two to tell apart")
        places = np.zeros(len(y), np.int64)
        places[weights > 0] = places_of(y[weights > 0], self.classes_)
        weights = class_weights(self.class_weight, self.classes_, places, weights)
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

    def _before(self) -> tuple[dict[Any, int], Array, Array] | None:
        """Return the present weights of each class and their places, or None for a fresh start."""
        if not (self.warm_start and hasattr(self, "coef_")):
            return None
        coefficients, intercepts = self.coef_, self.intercept_
        if not self.multilabel_ and len(self.classes_) == 2:
            coefficients, intercepts = (np.concatenate([-each / 2, each / 2]) for each in (coefficients, intercepts))
        labels = [(self.multilabel_, label) for label in self.classes_.tolist()]
        return dict(zip(labels, range(len(labels)), strict=True)), coefficients, intercepts

    def _start(self, problem: Problem, before: tuple[dict[Any, int], Array, Array] | None) -> Minimum:
        """Return where to start: from the weights of classes that were known, and zeros for new ones."""
        if before is None or before[1].shape[1] != self.n_features_in_:
            return Minimum(problem.loss.zeros())
        places, coefficients, intercepts = before
        known = [places.get((self.multilabel_, label), -1) for label in self.classes_.tolist()]
        coefficients = np.vstack([coefficients, np.zeros(self.n_features_in_)])[known]
        intercepts = np.append(intercepts, intercepts.min())[known]
        if not self.multilabel_ and len(known) == 2:
            coefficients, intercepts = coefficients[1:] - coefficients[:1], intercepts[1:] - intercepts[:1]
        return Minimum(problem.point(coefficients, intercepts * self.fit_intercept))

    def _keep(self, problem: Problem, found: Minimum) -> None:
        self.coef_, self.intercept_ = problem.coefficients(found.point)
        if not self.fit_intercept:
            self.intercept_ = np.zeros_like(self.intercept_)
        self.n_iter_ = found.n_evaluations
        self.objective_ = found.value
        if not found.converged and found.n_evaluations > self.max_iter:
            _warn_of_end(self.max_iter)

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
        check_is_fitted(self)
        X = validate_data(self, X, dtype=FLOATS, ensure_all_finite=False, reset=False)
        scores = np.empty((len(X), len(self.coef_)))
        for first in range(0, len(X), ROWS_AT_ONCE):
            part = X[first : first + ROWS_AT_ONCE].astype(np.float64)
            with np.errstate(invalid="ignore"):
                scores[first : first + len(part)] = part @ self.coef_.T + self.intercept_
        if not np.isfinite(scores).all():
            raise ValueError("Input X contains NaN or infinity; expected finite numbers in every row and column")
        return scores[:, 0] if not self.multilabel_ and len(self.classes_) == 2 else scores


class LinearProbe(_Linear):
    """Logistic regression with an L2 penalty, for features that may be larger than memory.

    The optimum is that of scikit-learn's ``LogisticRegression`` on standardised features, found by L-BFGS in the
    eigenbasis of the features' Gram matrix, where the Hessian is nearly diagonal (compare Böhning 1992). Features in
    float16 and float32 are computed with in float32 and summed in float64; a memory map is read in blocks.

    Parameters
    ----------
    C : float, default=0.1
        Inverse strength of the penalty, relative to the sum of the losses, as in scikit-learn.
    standardize : bool, default=True
        Whether the penalty is that of features with mean zero and variance one; the scale is folded into the weights.
    fit_intercept : bool, default=True
        Without it features are not centred, either.
    class_weight : None, "balanced" or dict, default=None
        A weight for each class; those that a dict does not name have 1. Not for several labels.
    tol : float, default=1e-5
        The objective is estimated to be above its minimum by no more than this share of it.
    max_iter : int, default=1000
    warm_start : bool, default=False
        Whether ``fit`` goes on from the present weights. New classes start with weights of zero, those that are
        gone are dropped.
    device : str, default="auto"
        Where to train: "auto" (CUDA if there is any), "cpu", "cuda", "cuda:1".

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        With several labels, the numbers of their columns.
    coef_ : ndarray of float64, shape (n_classes, n_features), (n_labels, n_features), or with two classes (1, ...)
        Of features as they were given.
    intercept_ : ndarray of float64, shape (n_classes,), (n_labels,) or (1,)
    objective_ : float
        Mean loss and penalty at the end.
    n_iter_ : int
        How often the objective was evaluated.
    multilabel_ : bool
    label_dtype_ : str
        The type of the labels in ``fit``.
    n_features_in_ : int

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> LinearProbe().fit(X, ["a", "a", "b", "b"]).predict([[0.5], [2.5]]).tolist()
    ['a', 'b']
    """

    def __init__(
        self,
        C: float = 0.1,
        *,
        standardize: bool = True,
        fit_intercept: bool = True,
        class_weight: Any = None,
        tol: float = 1e-5,
        max_iter: int = 1000,
        warm_start: bool = False,
        device: str = "auto",
    ) -> None:
        self.C = C
        self.standardize = standardize
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.tol = tol
        self.max_iter = max_iter
        self.warm_start = warm_start
        self.device = device

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> LinearProbe:
        """Train on labelled features.

        Parameters
        ----------
        X : array or memmap of shape (n_rows, n_features)
        y : array of shape (n_rows,) or (n_rows, n_labels)
            A class for each row, or for each row and label whether it applies, as 0 and 1.
        sample_weight : array of shape (n_rows,), optional
            Rows of weight zero count as absent.

        Returns
        -------
        LinearProbe
            Itself.

        Raises
        ------
        InputError
            If a parameter is not allowed, or there is one class only.
        """
        before = self._before()
        X, rows = self._validated(X, y, sample_weight)
        problem = self._problem(X, rows)
        self._keep(problem, problem.solve(self.C, self._start(problem, before)))
        return self

    def _check_parameters(self) -> None:
        self._check_common()
        if not (_is_number(self.C) and 0 < self.C < np.inf):
            raise InputError(f"{type(self).__name__}: C is {self.C!r}; expected a positive number")


class LinearProbeCV(_Linear):
    """A linear probe that chooses its penalty by cross-validation.

    All folds are trained side by side, from strong penalties to weak ones: each starts on the line through the last two
    solutions, with what was learned about the curvature. Parameters and attributes that are not described here are
    those of :class:`LinearProbe`.

    Parameters
    ----------
    Cs : int or sequence of float, default=10
        Inverse strengths of the penalty; a number of them from 1e-6 to 1, evenly on a logarithmic scale.
    cv : int, splitter or iterable of (train, test), default=5
        As scikit-learn has it: an integer divides each class by its share, in the order of the rows, and keeps
        ``groups`` together. Rows may be held out once at most.
    selection : {"best", "one_standard_error"}, default="best"
        Take the lowest mean loss of held-out rows, or the strongest penalty within a standard error of it (Breiman et
        al. 1984).
    standardize : bool, default=True
    fit_intercept : bool, default=True
    class_weight : None, "balanced" or dict, default=None
    tol : float, default=1e-5
    max_iter : int, default=1000
        For each fit.
    warm_start : bool, default=False
        Whether ``fit`` keeps the present ``C_`` and ``cv_results_`` and goes on from the present weights.
    device : str, default="auto"

    Attributes
    ----------
    C_ : float
        The chosen one.
    cv_results_ : dict of ndarray
        For each of ``Cs``, ascending: ``C``; ``mean_loss``, ``std_loss``, ``mean_accuracy`` of the held-out rows over
        folds; ``loss`` and ``accuracy`` of shape (n_penalties, n_folds); ``n_iter``. Empty where no class has two rows.
    """

    def __init__(
        self,
        Cs: Any = 10,
        *,
        cv: Any = 5,
        selection: str = "best",
        standardize: bool = True,
        fit_intercept: bool = True,
        class_weight: Any = None,
        tol: float = 1e-5,
        max_iter: int = 1000,
        warm_start: bool = False,
        device: str = "auto",
    ) -> None:
        self.Cs = Cs
        self.cv = cv
        self.selection = selection
        self.standardize = standardize
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.tol = tol
        self.max_iter = max_iter
        self.warm_start = warm_start
        self.device = device

    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> LinearProbeCV:
        """Choose a penalty, and train with it on all rows.

        Parameters
        ----------
        X : array or memmap of shape (n_rows, n_features)
        y : array of shape (n_rows,) or (n_rows, n_labels)
        sample_weight : array of shape (n_rows,), optional
        groups : array of shape (n_rows,), optional
            Rows of a group are held out together.

        Returns
        -------
        LinearProbeCV
            Itself.

        Raises
        ------
        InputError
            If a parameter is not allowed, or there is one class only.
        """
        before = self._before()
        X, rows = self._validated(X, y, sample_weight)
        if before is not None:
            problem = self._problem(X, rows)
            found = problem.solve(self.C_, self._start(problem, before))
        else:
            problem, found = self._swept(X, rows, groups)
        self._keep(problem, found)
        return self

    def _check_parameters(self) -> None:
        self._check_common()
        if self.selection not in ("best", "one_standard_error"):
            raise InputError(
                f"{type(self).__name__}: selection is {self.selection!r}; expected 'best' or 'one_standard_error'"
            )
        self._penalties()

    def _penalties(self) -> list[float]:
        if isinstance(self.Cs, int | np.integer) and not isinstance(self.Cs, bool) and self.Cs >= 1:
            return [float(C) for C in np.logspace(-6, 0, int(self.Cs))] if self.Cs > 1 else [1e-3]
        given = sorted(self.Cs) if isinstance(self.Cs, Sequence | np.ndarray) and not isinstance(self.Cs, str) else []
        if not given or not all(_is_number(C) and 0 < C < np.inf for C in given):
            raise InputError(
                f"{type(self).__name__}: Cs is {self.Cs!r}; expected a positive integer, or positive numbers"
            )
        return [float(C) for C in given]

    def _swept(self, X: Array, rows: Labelled, groups: Any) -> tuple[Problem, Minimum]:
        """Cross-validate, choose, and return the solution for all rows."""
        Cs, n_folds = self._penalties(), 0
        if len(Cs) > 1:
            rows, n_folds = self._folded(X, rows, groups)
        problem = self._problem(X, rows)
        if n_folds == 0:
            self.C_, self.cv_results_ = Cs[len(Cs) // 2], {}
            return problem, problem.solve(self.C_, Minimum(problem.loss.zeros()))
        path = problem.cross_validate(Cs, n_folds)
        chosen = self._chosen(path)
        self.C_, self.cv_results_ = Cs[chosen], _results(Cs, path)
        if not path.converged:
            _warn_of_end(self.max_iter)
        return problem, path.wholes[chosen]

    def _folded(self, X: Array, rows: Labelled, groups: Any) -> tuple[Labelled, int]:
        """Return the rows with their folds, and the number of folds."""
        places = rows.targets if rows.targets.ndim == 1 or self.multilabel_ else rows.targets[:, 0].astype(int)
        found = self._held_out(places, rows.weights, groups)
        folds = np.full(len(places), NO_FOLD, np.int16)
        for number, held in enumerate(found):
            folds[held] = number
        return Labelled(rows.targets, rows.n_outputs, rows.weights, folds), len(found)

    def _held_out(self, places: Array, weights: Array, groups: Any) -> list[Array]:
        """Return the rows of each fold; rows without weight are in none."""
        if not isinstance(self.cv, int | np.integer):
            splitter = check_cv(self.cv, places, classifier=True)
            return [held for _, held in splitter.split(np.zeros((len(places), 1)), places, groups)]
        present = np.flatnonzero(weights)
        groups = None if groups is None else np.asarray(groups)[present]
        folds = folds_of(places[present], groups, int(self.cv), by_class=not self.multilabel_)
        if not folds:
            warnings.warn(
                "no class has two rows (or all are of one group), so none can be held out to choose C by; "
                f"C={self._penalties()[len(self._penalties()) // 2]:.2g}, the middle of the grid, is taken",
                stacklevel=5,
            )
        return [present[held] for _, held in folds]

    def _chosen(self, path: Path) -> int:
        mean = path.losses.mean(axis=1)
        best = int(np.nanargmin(mean))
        if self.selection == "best":
            return best
        error = path.losses[best].std(ddof=1) / np.sqrt(path.losses.shape[1])
        return int(np.flatnonzero(mean <= mean[best] + error)[0])


def _results(Cs: Sequence[float], path: Path) -> dict[str, Array]:
    return {
        "C": np.array(Cs),
        "mean_loss": path.losses.mean(axis=1),
        "std_loss": path.losses.std(axis=1),
        "mean_accuracy": path.accuracies.mean(axis=1),
        "loss": path.losses,
        "accuracy": path.accuracies,
        "n_iter": path.n_iter,
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _warn_of_end(max_iter: int) -> None:
    warnings.warn(
        f"the probe did not converge in {max_iter} iterations; raise max_iter, or strengthen the penalty (lower C)",
        ConvergenceWarning,
        stacklevel=3,
    )
