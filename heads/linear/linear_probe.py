"""Linear probes: logistic regression for cached features, with one penalty or many, in memory or from a file."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from joblib import effective_n_jobs
from sklearn.metrics import get_scorer, get_scorer_names

from ...errors import InputError, warn_caller
from ..folds import NO_FOLD, find_held_out_rows
from ..parallel import run_all
from ..parameters import BOOLEAN, POSITIVE_NUMBER, Constraint, Constraints, is_integer, one_of
from .lbfgs import Solution
from .linear_estimator import Array, LinearEstimator
from .path_display import PenaltyPathDisplay
from .penalty_choice import choose_penalty
from .penalty_path import FoldJudgement, FoldScoring, LogisticProblem, PenaltyPath
from .stacked_loss import RowTargets

SMALLEST_EXPONENT_OF_C = -6
LARGEST_EXPONENT_OF_C = 0
C_OF_SINGLE_PENALTY = 1e-3
"""The middle of the grid, on a logarithmic scale."""

ACCURACY = "accuracy"
LOG_LOSS = "neg_log_loss"
"""The scorings that are computed in passes over blocks of rows."""


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
        Whether ``fit`` starts from the present weights. A new class starts with those of the class that most of its
        rows are predicted as; classes without rows are dropped.
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

    _constraints: ClassVar[Constraints] = {**LinearEstimator._constraints, "C": POSITIVE_NUMBER}

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
        warm_start = self._find_warm_start()
        X, rows = self._validate(X, y, sample_weight)
        problem, solution = self._solve(self.C, X, rows, warm_start)
        self._keep_solution(problem, solution)
        return self


class LinearProbeCV(LinearEstimator):
    """A linear probe that chooses its penalty by cross-validation.

    Penalties go from strong to weak, all folds side by side: each starts on the line through its last two solutions,
    with what was learned about the curvature. These fits have a tolerance of at least 5e-3; the chosen penalty is then
    fitted on all rows with `tol`. Parameters and attributes that are not described here are those of
    :class:`LinearProbe`.

    Parameters
    ----------
    Cs : int or sequence of float, default=10
        Inverse strengths of the penalty; a number of them from 1e-6 to 1, evenly on a logarithmic scale.
    cv : int, splitter or iterable of (train, test), default=5
        As scikit-learn has it: an integer divides each class by its share, in the order of the rows, and keeps
        ``groups`` together. A row may be held out once at most, and a fold trains on all that it does not hold out.
    scoring : str or callable, optional
        What the penalty is chosen by: a scorer of scikit-learn, by its name or as ``scorer(estimator, X, y)``. By
        default "accuracy" for classes, and "neg_log_loss" for several labels. Of scores within one standard error of
        their difference to the best, the one with the lowest log loss is taken. Rows have the weights that they have in
        ``fit``, by class too. With other scorings than these two, the held-out rows of a fold are read into memory.
    race : bool, default=True
        Whether the search ends after two penalties in a row whose scores were beyond one standard error of the best;
        ``cv_results_`` is NaN for those that were not fitted. If not, all are fitted.
    selection : {"best", "one_standard_error"}, default="best"
        Take the best mean score of held-out rows, or the strongest penalty within a standard error of it (Breiman et
        al. 1984).
    standardize : bool, default=True
    fit_intercept : bool, default=True
    class_weight : None, "balanced" or dict, default=None
    tol : float, default=1e-5
    max_iter : int, default=1000
        For each fit.
    warm_start : bool, default=False
        Whether ``fit`` keeps the present ``C_`` and ``cv_results_``, and starts from the present weights.
    device : str, default="auto"

    Attributes
    ----------
    C_ : float
        The chosen one.
    cv_results_ : dict of ndarray
        For each of ``Cs``, ascending: ``C``; ``score``, ``loss`` and ``accuracy`` of held-out rows, of shape
        (n_penalties, n_folds), NaN in a fold whose rows are all of classes that no other fold has; their means and
        standard deviations over folds, as ``mean_score`` and ``std_score``; ``n_iter``. A fold that leaves one class to
        train on is left out. Empty where nothing can be held out, or there is one penalty.
    """

    _constraints: ClassVar[Constraints] = {
        **LinearEstimator._constraints,
        "Cs": Constraint("a positive integer, or positive numbers", lambda value: bool(expand_penalties(value))),
        "cv": Constraint(
            "an integer of at least 2, or a splitter",
            lambda value: not isinstance(value, int | np.integer) or (is_integer(value) and int(value) >= 2),
        ),
        "scoring": Constraint(
            "None, the name of a scorer of scikit-learn, or a callable",
            lambda value: value is None or callable(value) or value in get_scorer_names(),
        ),
        "race": BOOLEAN,
        "selection": one_of("best", "one_standard_error"),
    }

    def __init__(
        self,
        Cs: Any = 10,
        *,
        cv: Any = 5,
        scoring: Any = None,
        race: bool = True,
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
        self.scoring = scoring
        self.race = race
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
        warm_start = self._find_warm_start()
        X, rows = self._validate(X, y, sample_weight)
        if warm_start is None:
            problem, solution = self._search(X, rows, groups)
        else:
            problem, solution = self._solve(self.C_, X, rows, warm_start)
        self._keep_solution(problem, solution)
        return self

    def _search(self, X: Array, rows: RowTargets, groups: Any) -> tuple[LogisticProblem, Solution]:
        """Cross-validate, choose a penalty, and return its solution for all rows."""
        Cs = expand_penalties(self.Cs)
        if len(Cs) > 1:
            rows = self._assign_folds(rows, groups)
        if rows.n_folds == 0:
            self.C_ = find_middle(Cs)
            self.cv_results_ = {}
            return self._solve(self.C_, X, rows, None)
        folds = range(rows.n_folds)
        if effective_n_jobs(None) > 1 and len(folds) > 1:
            paths = run_all(self._cross_validate_fold, [(X, rows, Cs, fold) for fold in folds])
            path = PenaltyPath.join(paths)
            path = path.end_race() if self.race else path
            problem = self._make_problem(X, rows)
        else:
            problem = self._make_problem(X, rows)
            path = problem.cross_validate(Cs, folds, self._make_scoring(problem, X, rows, folds), race=self.race)
        is_judged = path.is_judged
        if not is_judged.any():
            raise InputError(
                f"{type(self).__name__}: scoring={self.scoring!r} gave no number in any fold; expected some"
            )
        chosen = choose_penalty(path.scores[:, is_judged], path.losses[:, is_judged], self.selection)
        self.C_ = Cs[chosen]
        self.cv_results_ = summarise_path(Cs, path)
        fit = path.fits[chosen]
        solution = problem.solve(self.C_, Solution(problem.to_point(fit.mean_coefficients, fit.mean_intercepts)))
        return problem, replace(solution, converged=solution.converged and path.converged)

    def _cross_validate_fold(self, X: Array, rows: RowTargets, Cs: Sequence[float], fold: int) -> PenaltyPath:
        """Fit all penalties on the rows that a fold does not hold out, as a worker does."""
        problem = self._make_problem(X, rows)
        return problem.cross_validate(Cs, [fold], self._make_scoring(problem, X, rows, [fold]), race=False)

    def plot_path(self, ax: Any = None) -> PenaltyPathDisplay:
        """Draw the scores of held-out rows over the inverse strength of the penalty.

        Parameters
        ----------
        ax : matplotlib axes, optional
            Where to draw; a new figure by default.

        Returns
        -------
        PenaltyPathDisplay
            With the scores, and what was drawn: ``ax_`` and ``figure_``.

        Raises
        ------
        InputError
            If no penalties were compared: there is one, or no row could be held out.
        MissingPackageError
            If matplotlib is not installed (``pip install 'topwork[plots]'``).
        """
        return PenaltyPathDisplay.from_estimator(self, ax=ax)

    def _find_scoring(self) -> Any:
        """Return what the penalty is chosen by."""
        if self.scoring is not None:
            return self.scoring
        return LOG_LOSS if self.multilabel_ else ACCURACY

    def _make_scoring(self, problem: LogisticProblem, X: Array, rows: RowTargets, folds: Sequence[int]) -> FoldScoring:
        """Return what scores the held-out rows of some folds."""
        scoring = self._find_scoring()
        if scoring == ACCURACY:
            return lambda _, judgement: judgement.accuracies
        if scoring == LOG_LOSS:
            return lambda _, judgement: -judgement.losses
        scorer = get_scorer(scoring)
        labels = rows.codes.astype(np.dtype(self.label_dtype_)) if self.multilabel_ else self.classes_[rows.codes]
        is_judged = rows.can_be_judged() & (rows.weights > 0)
        is_weighted = len(np.unique(rows.weights[is_judged])) > 1
        head = copy(self)

        def score(solutions: Sequence[Solution], _: FoldJudgement) -> Array:
            scores = []
            for fold, solution in zip(folds, solutions, strict=True):
                held = np.flatnonzero(is_judged & (rows.folds == fold))
                head.coef_, head.intercept_ = problem.to_coefficients(solution.point)
                weights = {"sample_weight": rows.weights[held]} if is_weighted else {}
                scores.append(scorer(head, X[held], labels[held], **weights) if len(held) else np.nan)
            return np.array(scores)

        return score

    def _assign_folds(self, rows: RowTargets, groups: Any) -> RowTargets:
        """Return the rows with their folds; a fold that trains on one class is left out.

        Warns and assigns no folds where no held-out row could be judged.
        """
        held_rows = find_held_out_rows(
            self.cv,
            rows.codes,
            groups,
            weights=rows.weights,
            by_class=not self.multilabel_,
            owner=type(self).__name__,
        )
        divided = rows.with_folds(held_rows)
        can_be_judged = divided.can_be_judged() & (rows.weights > 0) & (divided.folds != NO_FOLD)
        if can_be_judged.any():
            return divided
        warn_caller(
            "no class has rows in two folds or more, so none can be held out to choose C by; "
            f"C={find_middle(expand_penalties(self.Cs)):.2g}, the middle of the grid, is taken",
        )
        return rows


def expand_penalties(Cs: Any) -> list[float]:
    """Return the inverse strengths that a parameter ``Cs`` stands for, ascending; none if it is not allowed."""
    if is_integer(Cs):
        if Cs == 1:
            return [C_OF_SINGLE_PENALTY]
        grid = np.logspace(SMALLEST_EXPONENT_OF_C, LARGEST_EXPONENT_OF_C, max(int(Cs), 0))
        return [float(C) for C in grid]
    if isinstance(Cs, str) or not isinstance(Cs, Sequence | np.ndarray):
        return []
    if not all(POSITIVE_NUMBER.is_met(C) for C in Cs):
        return []
    return sorted(float(C) for C in Cs)


def find_middle(Cs: Sequence[float]) -> float:
    """Return the middle of ascending numbers."""
    return Cs[len(Cs) // 2]


def summarise_path(Cs: Sequence[float], path: PenaltyPath) -> dict[str, Array]:
    """Return the attribute ``cv_results_`` of :class:`LinearProbeCV`."""
    n_unfitted = len(Cs) - len(path.fits)
    results = {"C": np.array(Cs)}
    by_fold = {"score": path.scores, "loss": path.losses, "accuracy": path.accuracies}
    for name, found in by_fold.items():
        values = np.pad(found, ((0, n_unfitted), (0, 0)), constant_values=np.nan)  # (n_penalties, n_folds)
        judged = values[:, path.is_judged]
        results[name] = values
        results[f"mean_{name}"] = judged.mean(axis=1)
        results[f"std_{name}"] = judged.std(axis=1)
    results["n_iter"] = np.pad(path.n_iter, ((0, n_unfitted), (0, 0)))
    return results
