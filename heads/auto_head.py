"""A head that chooses itself: logistic regression and simpler heads are compared in the same folds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data

from .centroid import Centroid
from .closed_form import predict_discriminant, predict_ridge
from .folds import Folds, make_folds, select_learnable_rows
from .linear.linear_probe import LinearProbe, LinearProbeCV
from .metrics import compute_standard_error
from .parameters import BOOLEAN, CLASS_WEIGHT, Constraint, Constraints, check_parameters, is_integer
from .targets import encode_labels, keep_label_types, validate_labels

Array = NDArray[Any]

LINEAR = "linear"
FEATURE_TYPES = [np.float64, np.float32]
"""The types of features that are left as they are; all others become float64."""
PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0)
"""Inverse strengths of the penalty of the logistic regression, for standardised features."""
PENALTY_WITHOUT_FOLDS = 0.1
SHRINKAGES = (0.1, 0.5, 0.9)
RIDGE_PENALTIES = (1.0, 10.0, 100.0, 1000.0, 10000.0)
NEIGHBORS = (1, 5, 15)
MAX_LABELS_FOR_PENALTY_ONLY = 4
"""Up to so many labels a class, differences between heads are smaller than those between penalties, and than chance."""
STANDARD_ERRORS_TO_GIVE_UP = 2.0


@dataclass(frozen=True)
class Challenger:
    """A head that is compared with logistic regression, for each of its settings.

    `predict` returns the codes of held-out rows for each setting, given all rows, codes, and the rows of a fold; `make`
    returns an unfitted estimator of a setting.
    """

    name: str
    parameter: str
    settings: tuple[Any, ...]
    predict: Callable[[Array, Array, Array, Array], list[Array]]
    make: Callable[[Any], Any]
    has_probabilities: bool = True


@dataclass(frozen=True)
class Result:
    """The accuracies of a head in each fold, with its best setting; NaN in folds that it was given up before."""

    name: str
    setting: str
    scores: Array
    estimator: Any
    has_probabilities: bool = True

    @property
    def is_complete(self) -> bool:
        """Whether the head was scored in all folds."""
        return not np.isnan(self.scores).any()

    @property
    def mean(self) -> float:
        """Mean accuracy of the folds that were scored."""
        return float(np.nanmean(self.scores))


def predict_centroids(X: Array, codes: Array, train: Array, held: Array) -> list[Array]:
    """Return the predictions of the nearest centroid."""
    return [make_centroid(None).fit(X[train], codes[train]).predict(X[held])]


def predict_neighbors(X: Array, codes: Array, train: Array, held: Array) -> list[Array]:
    """Return the predictions of the nearest neighbours, for each number of them."""
    return [
        make_neighbors(min(n_neighbors, len(train))).fit(X[train], codes[train]).predict(X[held])
        for n_neighbors in NEIGHBORS
    ]


def make_centroid(_: Any) -> Any:
    """Return a nearest centroid classifier."""
    return make_pipeline(StandardScaler(), Centroid())


def make_neighbors(n_neighbors: int) -> Any:
    """Return a nearest neighbours classifier by cosine."""
    return make_pipeline(Normalizer(), KNeighborsClassifier(n_neighbors=n_neighbors, algorithm="brute"))


def make_discriminant(shrinkage: float) -> Any:
    """Return a linear discriminant analysis."""
    return make_pipeline(StandardScaler(), LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage))


def make_ridge(penalty: float) -> Any:
    """Return a ridge classifier."""
    return make_pipeline(StandardScaler(), RidgeClassifier(alpha=penalty))


CHALLENGERS = (
    Challenger(
        "lda",
        "shrinkage",
        SHRINKAGES,
        lambda X, codes, train, held: predict_discriminant(X, codes, train=train, held=held, shrinkages=SHRINKAGES),
        make_discriminant,
    ),
    Challenger("centroid", "", (None,), predict_centroids, make_centroid),
    Challenger(
        "ridge",
        "alpha",
        RIDGE_PENALTIES,
        lambda X, codes, train, held: predict_ridge(X, codes, train=train, held=held, penalties=RIDGE_PENALTIES),
        make_ridge,
        has_probabilities=False,
    ),
    Challenger("knn", "n_neighbors", NEIGHBORS, predict_neighbors, make_neighbors),
)
"""In the order in which they are preferred: kNN is last, as it keeps all rows to predict."""


def _head_has(method: str) -> Any:
    """Make a method available if the chosen head has it; before the choice, it is."""

    def check(self: AutoHead) -> bool:
        head = getattr(self, "head_", None)
        return head is None or hasattr(head, method)

    return available_if(check)


class AutoHead(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier that chooses among logistic regression, discriminant analysis, ridge, centroids and neighbours.

    All are cross-validated in the same folds, each with several strengths of its penalty. Logistic regression is taken
    unless another head is more accurate by more than one standard error of the paired difference; of several, the most
    accurate, or one within one standard error of it that predicts faster.

    Parameters
    ----------
    n_folds : int, default=5
        At least 2, by class; groups are kept together.
    probabilities : bool, default=False
        Whether only heads with ``predict_proba`` are compared, which leaves ridge out.
    class_weight : None, "balanced" or dict, default=None
        A weight for each class. With weights, only penalties of the logistic regression are compared.

    Attributes
    ----------
    head_ : estimator
        The chosen head, fitted to all rows.
    name_ : str
        Its name, as in ``topwork heads``.
    reason_ : str
        What was chosen, and why, in one sentence.
    comparison_ : list of dict
        For each head its ``name``, ``setting``, ``accuracy`` (the mean of the folds) and ``n_folds``: a head that is
        far behind is not scored in the others.
    fold_scores_ : ndarray of shape (n_folds,)
        Accuracy of the chosen head in each fold.
    classes_ : ndarray of shape (n_classes,)
    n_features_in_ : int

    Notes
    -----
    With up to four labels a class (the median), or several labels for each row, the penalty of the logistic regression
    matters more than the head, and only penalties are compared.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> head = AutoHead().fit(*load_iris(return_X_y=True))
    >>> [each["name"] for each in head.comparison_], head.reason_.startswith(head.name_)
    (['linear', 'lda', 'centroid', 'ridge', 'knn'], True)
    """

    _constraints: ClassVar[Constraints] = {
        "n_folds": Constraint("an integer of at least 2", lambda value: is_integer(value) and value >= 2),
        "probabilities": BOOLEAN,
        "class_weight": CLASS_WEIGHT,
    }

    def __init__(self, n_folds: int = 5, *, probabilities: bool = False, class_weight: Any = None) -> None:
        self.n_folds = n_folds
        self.probabilities = probabilities
        self.class_weight = class_weight

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> AutoHead:
        """Choose a head, and fit it to all rows.

        Parameters
        ----------
        X : array of shape (n_rows, n_features)
        y : array of shape (n_rows,) or (n_rows, n_labels)
            A class for each row, or for each row and label whether it applies, as 0 and 1.
        sample_weight : array of shape (n_rows,), optional
        groups : array of shape (n_rows,), optional
            Rows of a group are held out together.

        Returns
        -------
        AutoHead
            Itself.

        Raises
        ------
        InputError
            If a parameter is not allowed, or there is one class only.
        """
        check_parameters(self, self._constraints)
        self.__dict__.pop("head_", None)
        X, y = validate_data(self, X, keep_label_types(y), dtype=FEATURE_TYPES, multi_output=True)
        y = validate_labels(y)
        reason = self._find_reason_for_linear(y, sample_weight)
        folds = [] if y.ndim == 2 else make_learnable_folds(y, groups, self.n_folds)
        linear = self._fit_linear(X, y, folds, sample_weight=sample_weight, groups=groups)
        results = [linear]
        if not reason and folds:
            results += self._compare(X, y, folds, linear)
        chosen = choose(results)
        self.head_ = chosen.estimator if chosen is linear else chosen.estimator.fit(X, y)
        self.name_ = chosen.name
        self.classes_ = self.head_.classes_
        self.fold_scores_ = chosen.scores
        self.comparison_ = [summarise(result) for result in results]
        self.reason_ = explain(chosen, results, reason)
        return self

    def _find_reason_for_linear(self, y: Array, sample_weight: Any) -> str:
        """Return why only penalties are compared; an empty text if heads are."""
        if y.ndim == 2:
            return "with several labels for each row"
        if sample_weight is not None or self.class_weight is not None:
            return "with weights"
        n_labels = float(np.median(np.unique(y, return_counts=True)[1]))
        if n_labels <= MAX_LABELS_FOR_PENALTY_ONLY:
            return f"with {n_labels:g} labels a class, where it matters more than the head"
        return ""

    def _fit_linear(self, X: Array, y: Array, folds: Folds, *, sample_weight: Any, groups: Any) -> Result:
        """Fit logistic regression, with a penalty that is chosen in the folds if there are any."""
        probe: Any = LinearProbe(PENALTY_WITHOUT_FOLDS, class_weight=self.class_weight)
        if y.ndim == 1 and not folds:
            probe.fit(X, y, sample_weight)
            return Result(LINEAR, f"C={PENALTY_WITHOUT_FOLDS:g}", np.empty(0), probe)
        cv: Any = folds or self.n_folds
        probe = LinearProbeCV(PENALTIES, cv=cv, class_weight=self.class_weight)
        probe.fit(X, y, sample_weight, groups)
        probe.set_params(cv=self.n_folds)  # a number can be saved, rows cannot
        scores = np.empty(0)
        if probe.cv_results_:
            chosen = int(np.flatnonzero(probe.cv_results_["C"] == probe.C_)[0])
            scores = probe.cv_results_["accuracy"][chosen]
        return Result(LINEAR, f"C={probe.C_:g}", scores, probe)

    def _compare(self, X: Array, y: Array, folds: Folds, linear: Result) -> list[Result]:
        """Score the challengers in the folds."""
        codes = encode_labels(y)[1]
        allowed = [each for each in CHALLENGERS if each.has_probabilities or not self.probabilities]
        return [score_challenger(each, X, codes, folds=folds, to_beat=linear.scores) for each in allowed]

    # Prediction.

    def predict(self, X: Any) -> Array:
        """Return the labels that the chosen head predicts.

        Parameters
        ----------
        X : array of shape (n_rows, n_features)

        Returns
        -------
        ndarray of shape (n_rows,) or (n_rows, n_labels)
            Labels as they were given in ``fit``.
        """
        labels: Array = self._find_head(X).predict(X)
        return labels

    @_head_has("predict_proba")  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> Array:
        """Return the probabilities of the chosen head; ridge has none.

        Parameters
        ----------
        X : array of shape (n_rows, n_features)

        Returns
        -------
        ndarray of shape (n_rows, n_classes) or (n_rows, n_labels)
            Columns in the order of ``classes_``.
        """
        probabilities: Array = self._find_head(X).predict_proba(X)
        return probabilities

    @_head_has("decision_function")  # type: ignore[untyped-decorator]
    def decision_function(self, X: Any) -> Array:
        """Return the scores of the chosen head; neighbours have none.

        Parameters
        ----------
        X : array of shape (n_rows, n_features)

        Returns
        -------
        ndarray of shape (n_rows,), (n_rows, n_classes) or (n_rows, n_labels)
            With two classes positive where the second is more probable.
        """
        scores: Array = self._find_head(X).decision_function(X)
        return scores

    def _find_head(self, X: Any) -> Any:
        """Return the chosen head, after a check of the features."""
        check_is_fitted(self, "head_")
        validate_data(self, X, dtype=FEATURE_TYPES, reset=False)
        return self.head_


def find_chosen(head: Any) -> Any:
    """Return the fitted head that a head which chooses itself has chosen; any other head unchanged."""
    return head.head_ if isinstance(head, AutoHead) else head


def make_learnable_folds(y: Array, groups: Any, n_folds: int) -> Folds:
    """Return folds in which at least two classes are trained on, and a row of them is held out."""
    return [
        (train, held)
        for train, held in make_folds(y, groups, n_folds)
        if len(np.unique(y[train])) > 1 and len(select_learnable_rows(y, train, held))
    ]


def score_challenger(challenger: Challenger, X: Array, codes: Array, *, folds: Folds, to_beat: Array) -> Result:
    """Score the settings of a head fold by fold, until it is clearly behind the accuracies `to_beat`."""
    scores = np.full((len(challenger.settings), len(folds)), np.nan)
    n_held = 0
    for number, (train, held) in enumerate(folds):
        judged = select_learnable_rows(codes, train, held)
        predictions = challenger.predict(X, codes, train, judged)
        scores[:, number] = [np.mean(predicted == codes[judged]) for predicted in predictions]
        n_held += len(judged)
        best = float(scores[:, : number + 1].mean(axis=1).max())
        standard_error = np.sqrt(best * (1 - best) / n_held)
        if best + STANDARD_ERRORS_TO_GIVE_UP * standard_error < to_beat[: number + 1].mean():
            break
    chosen = int(np.nanmean(scores, axis=1).argmax())
    setting = challenger.settings[chosen]
    return Result(
        challenger.name,
        f"{challenger.parameter}={setting:g}" if challenger.parameter else "",
        scores[chosen],
        challenger.make(setting),
        has_probabilities=challenger.has_probabilities,
    )


def choose(results: list[Result]) -> Result:
    """Return the first result that is within one standard error of the paired difference to the best."""
    complete = [result for result in results if result.is_complete]
    best = max(complete, key=lambda result: result.mean if len(result.scores) else 0.0)
    for result in complete:
        difference = best.scores - result.scores
        if result is best or difference.mean() <= compute_standard_error(difference):
            return result
    return best


def summarise(result: Result) -> dict[str, Any]:
    """Return a line of the attribute ``comparison_``."""
    n_folds = int((~np.isnan(result.scores)).sum())
    accuracy = result.mean if n_folds else None
    return {"name": result.name, "setting": result.setting, "accuracy": accuracy, "n_folds": n_folds}


def explain(chosen: Result, results: list[Result], reason_for_linear: str) -> str:
    """Return what was chosen and why."""
    found = f"{chosen.name} ({chosen.setting})" if chosen.setting else chosen.name
    if len(results) == 1:
        return f"{found}: only penalties were compared {reason_for_linear or 'as no row can be held out'}"
    best = max((result for result in results if result.is_complete), key=lambda result: result.mean)
    others = ", ".join(f"{result.name} {result.mean:.3f}" for result in results if result is not chosen)
    why = "the most accurate"
    if best is not chosen:
        why = f"within one standard error of {best.name} ({best.mean:.3f}), which costs more or is less well calibrated"
    return f"{found}: {why}, {chosen.mean:.3f} in {len(chosen.scores)} folds; {others}"
