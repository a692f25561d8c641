"""Linear probes: logistic regression for cached features, with one penalty or many, in memory or from a file."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...errors import InputError
from ..folds import NO_FOLD, find_held_out_rows
from .lbfgs import Minimum
from .linear_estimator import Array, LinearEstimator, is_number
from .penalty_path import Path, Problem
from .stacked_loss import Labelled


class LinearProbe(LinearEstimator):
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
        Whether ``fit`` goes on from the present weights. A new class starts with those of the class that its rows are
        taken for, those that are gone are dropped.
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
        self._keep(problem, problem.solve(self.C, self._start(problem, before, X, rows)))
        return self

    def _check_parameters(self) -> None:
        self._check_common()
        if not (is_number(self.C) and 0 < self.C < np.inf):
            raise InputError(f"{type(self).__name__}: C is {self.C!r}; expected a positive number")


class LinearProbeCV(LinearEstimator):
    """A linear probe that chooses its penalty by cross-validation.

    Penalties go from strong to weak: all rows start on the line through their last two solutions, and then all folds,
    side by side, from the solution for all rows, with what was learned about the curvature. Parameters and attributes
    that are not described here are those of :class:`LinearProbe`.

    Parameters
    ----------
    Cs : int or sequence of float, default=10
        Inverse strengths of the penalty; a number of them from 1e-6 to 1, evenly on a logarithmic scale.
    cv : int, splitter or iterable of (train, test), default=5
        As scikit-learn has it: an integer divides each class by its share, in the order of the rows, and keeps
        ``groups`` together. A row may be held out once at most, and a fold trains on all that it does not hold out.
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
        folds; ``loss`` and ``accuracy`` of shape (n_penalties, n_folds), NaN in a fold whose rows are all of classes
        that no other fold has; ``n_iter``. A fold that leaves one class to train on is left out. Empty where nothing
        can be held out, or there is one penalty.
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
            found = problem.solve(self.C_, self._start(problem, before, X, rows))
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
        if isinstance(self.cv, int | np.integer) and (isinstance(self.cv, bool) or self.cv < 2):
            raise InputError(f"{type(self).__name__}: cv is {self.cv!r}; expected two folds or more, or a splitter")
        self._penalties()

    def _penalties(self) -> list[float]:
        if isinstance(self.Cs, int | np.integer) and not isinstance(self.Cs, bool) and self.Cs >= 1:
            return [float(C) for C in np.logspace(-6, 0, int(self.Cs))] if self.Cs > 1 else [1e-3]
        given = sorted(self.Cs) if isinstance(self.Cs, Sequence | np.ndarray) and not isinstance(self.Cs, str) else []
        if not given or not all(is_number(C) and 0 < C < np.inf for C in given):
            raise InputError(
                f"{type(self).__name__}: Cs is {self.Cs!r}; expected a positive integer, or positive numbers"
            )
        return [float(C) for C in given]

    def _swept(self, X: Array, rows: Labelled, groups: Any) -> tuple[Problem, Minimum]:
        """Cross-validate, choose, and return the solution for all rows."""
        Cs, n_folds = self._penalties(), 0
        if len(Cs) > 1:
            rows, n_folds = self._folded(rows, groups)
        problem = self._problem(X, rows)
        if n_folds == 0:
            self.C_, self.cv_results_ = _middle(Cs), {}
            return problem, problem.solve(self.C_, Minimum(problem.loss.zeros()))
        path = problem.cross_validate(Cs, n_folds)
        chosen = self._chosen(path)
        self.C_, self.cv_results_ = Cs[chosen], _results(Cs, path)
        return problem, replace(path.wholes[chosen], converged=path.converged)

    def _folded(self, rows: Labelled, groups: Any) -> tuple[Labelled, int]:
        """Return the rows with their folds, and the number of folds."""
        places = rows.targets if rows.targets.ndim == 1 or self.multilabel_ else rows.targets[:, 0].astype(int)
        held_rows = find_held_out_rows(
            self.cv,
            places,
            groups,
            rows.weights,
            by_class=not self.multilabel_,
            owner=type(self).__name__,
        )
        found = [
            held
            for held in held_rows
            if self.multilabel_ or _are_several(np.delete(places, held), np.delete(rows.weights, held))
        ]
        folds = np.full(len(places), NO_FOLD, np.int16)
        for number, held in enumerate(found):
            folds[held] = number
        folded = Labelled(rows.targets, rows.n_outputs, rows.weights, folds)
        if (folded.learnable() & (rows.weights > 0) & (folds != NO_FOLD)).any():
            return folded, len(found)
        warnings.warn(
            "no class has rows in two folds or more, so none can be held out to choose C by; "
            f"C={_middle(self._penalties()):.2g}, the middle of the grid, is taken",
            stacklevel=4,
        )
        return rows, 0

    def _chosen(self, path: Path) -> int:
        """Return the place of the penalty to take."""
        losses = path.losses[:, path.telling]
        mean = losses.mean(axis=1)
        best = int(mean.argmin())
        if self.selection == "best" or losses.shape[1] == 1:
            return best
        error = losses[best].std(ddof=1) / np.sqrt(losses.shape[1])
        return int(np.flatnonzero(mean <= mean[best] + error)[0])


def _are_several(places: Array, weights: Array) -> bool:
    """Tell whether rows with a weight are of several classes; of one there is nothing to learn."""
    return len(np.unique(places[weights > 0])) > 1


def _middle(Cs: Sequence[float]) -> float:
    return Cs[len(Cs) // 2]


def _results(Cs: Sequence[float], path: Path) -> dict[str, Array]:
    losses, accuracies = (each[:, path.telling] for each in (path.losses, path.accuracies))
    return {
        "C": np.array(Cs),
        "mean_loss": losses.mean(axis=1),
        "std_loss": losses.std(axis=1),
        "mean_accuracy": accuracies.mean(axis=1),
        "loss": path.losses,
        "accuracy": path.accuracies,
        "n_iter": path.n_iter,
    }
