"""Heads by name, each a scikit-learn estimator for cached features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..errors import InputError


@dataclass(frozen=True)
class HeadEntry:
    """A head that can be asked for by name.

    Parameters
    ----------
    name : str
    good_for : str
        When to take it, in a few words.
    makers : dict
        For each task that the head can be made for, what returns a new, unfitted estimator.
    """

    name: str
    good_for: str
    makers: dict[str, Callable[[], Any]]

    @property
    def tasks(self) -> tuple[str, ...]:
        """What the head can be made for, of :data:`TASKS`."""
        return tuple(self.makers)


TASKS = "classification", "multilabel", "regression"
"""One class for each row, several labels for each row, values."""


def _scaled(estimator: Any) -> Any:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), estimator)


def _one_by_one(make: Callable[[], Any]) -> Any:
    from sklearn.multiclass import OneVsRestClassifier

    return OneVsRestClassifier(make())


def _linear() -> Any:
    from .linear.linear_probe import LinearProbeCV

    return LinearProbeCV()


def _logreg() -> Any:
    from sklearn.linear_model import LogisticRegression

    return _scaled(LogisticRegression(C=0.1, max_iter=1000))


def _ridge() -> Any:
    from numpy import logspace
    from sklearn.linear_model import RidgeClassifierCV

    return _scaled(RidgeClassifierCV(alphas=logspace(-1, 5, 13)))


def _ridge_regressor() -> Any:
    from numpy import logspace
    from sklearn.linear_model import RidgeCV

    return _scaled(RidgeCV(alphas=logspace(-1, 5, 13)))


def _lda() -> Any:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    return _scaled(LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"))


def _normalised(estimator: Any) -> Any:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer

    return make_pipeline(Normalizer(), estimator)


def _knn() -> Any:
    from sklearn.neighbors import KNeighborsClassifier

    return _normalised(KNeighborsClassifier(n_neighbors=5, algorithm="brute"))


def _knn_regressor() -> Any:
    from sklearn.neighbors import KNeighborsRegressor

    return _normalised(KNeighborsRegressor(n_neighbors=5, algorithm="brute"))


def _centroid() -> Any:
    from .centroid import Centroid

    return _scaled(Centroid())


def _svm() -> Any:
    from sklearn.svm import SVC

    return _scaled(SVC())


def _svm_regressor() -> Any:
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVR

    return _scaled(TransformedTargetRegressor(SVR(), transformer=StandardScaler()))


def _gp() -> Any:
    from sklearn.gaussian_process.kernels import RBF

    from .gaussian_process import SmallGaussianProcessClassifier

    return _normalised(SmallGaussianProcessClassifier(1.0 * RBF(), random_state=0))


def _gp_regressor() -> Any:
    from sklearn.gaussian_process.kernels import RBF, WhiteKernel

    from .gaussian_process import SmallGaussianProcessRegressor

    return _normalised(SmallGaussianProcessRegressor(1.0 * RBF() + WhiteKernel(), normalize_y=True, random_state=0))


def _hgb() -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(min_samples_leaf=5, random_state=0)


def _hgb_regressor() -> Any:
    from sklearn.ensemble import HistGradientBoostingRegressor

    return HistGradientBoostingRegressor(min_samples_leaf=5, random_state=0)


def _mlp() -> Any:
    from .mlp.mlp_head import MLPHead

    return MLPHead(random_state=0)


def _mlp_regressor() -> Any:
    from .mlp.mlp_regressor import MLPHeadRegressor

    return MLPHeadRegressor(random_state=0)


DEFAULT = "linear"


def _entry(
    name: str, good_for: str, classifier: Any, regressor: Any = None, several: Any = None
) -> tuple[str, HeadEntry]:
    """Return a head's entry; labels that its method cannot learn together are learned one by one."""
    makers = {"classification": classifier, "multilabel": several or partial(_one_by_one, classifier)}
    if regressor is not None:
        makers["regression"] = regressor
    return name, HeadEntry(name, good_for, makers)


HEADS = dict(
    (
        _entry("linear", "the default: its penalty is cross-validated", _linear, _ridge_regressor, _linear),
        _entry("logreg", "a plain logistic regression, C=0.1", _logreg),
        _entry("ridge", "very fast; leave-one-out; no probabilities", _ridge, _ridge_regressor, _ridge),
        _entry("lda", "few labels a class; Ledoit-Wolf covariance", _lda),
        _entry("knn", "no training; the five nearest by cosine", _knn, _knn_regressor, _knn),
        _entry("centroid", "one or two labels for each class", _centroid),
        _entry("svm", "curved borders, some 10,000 rows at most", _svm, _svm_regressor),
        _entry("gp", "up to 1,000 rows; knows what it cannot know", _gp, _gp_regressor),
        _entry("hgb", "features of mixed kinds; boosted trees", _hgb, _hgb_regressor),
        _entry("mlp", "tens of thousands of rows; a hidden layer", _mlp, _mlp_regressor, _mlp),
    )
)


def within_rows(head: Any, n_rows: int) -> Any:
    """Return an unfitted head that asks for no more neighbours than there are rows.

    Parameters
    ----------
    head : estimator
    n_rows : int
    """
    asked = {name: value for name, value in head.get_params().items() if name.rpartition("__")[2] == "n_neighbors"}
    return head.set_params(
        **{name: n_rows for name, value in asked.items() if isinstance(value, int) and value > n_rows > 0}
    )


def resolve_head(head: Any, task: str = "classification") -> Any:
    """Return an unfitted estimator for a head's name, or a clone of the caller's own estimator.

    Parameters
    ----------
    head : str or estimator
        A name from :data:`HEADS`, or any scikit-learn classifier or regressor.
    task : {"classification", "multilabel", "regression"}

    Raises
    ------
    InputError
        If the name is unknown or not made for the task, or the object is no estimator.

    Examples
    --------
    >>> resolve_head("logreg").steps[-1]
    ('logisticregression', LogisticRegression(C=0.1, max_iter=1000))
    """
    from sklearn.base import clone

    able = {name: entry for name, entry in HEADS.items() if task in entry.tasks}
    if isinstance(head, str):
        if head not in able:
            what = f"is not made for {task}" if head in HEADS else "does not exist"
            raise InputError(f"head {head!r} {what}; known: {', '.join(able)}, or any scikit-learn estimator")
        return able[head].makers[task]()
    if isinstance(head, type) or not (
        hasattr(head, "fit") and hasattr(head, "predict") and hasattr(head, "get_params")
    ):
        raise InputError(
            f"head is a {type(head).__name__}; expected one of {', '.join(able)}, or a scikit-learn estimator"
        )
    return clone(head)
