"""Heads by name, each a scikit-learn estimator for cached features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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
    make : callable
        Returns a new, unfitted estimator.
    """

    name: str
    good_for: str
    make: Callable[[], Any]


def _scaled(estimator: Any) -> Any:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), estimator)


def _logreg() -> Any:
    from sklearn.linear_model import LogisticRegression

    return _scaled(LogisticRegression(C=0.1, max_iter=1000))


def _ridge() -> Any:
    from numpy import logspace
    from sklearn.linear_model import RidgeClassifierCV

    return _scaled(RidgeClassifierCV(alphas=logspace(-1, 5, 13)))


def _lda() -> Any:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    return _scaled(LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"))


def _knn() -> Any:
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer

    return make_pipeline(Normalizer(), KNeighborsClassifier(n_neighbors=5, algorithm="brute"))


def _centroid() -> Any:
    from .centroid import Centroid

    return _scaled(Centroid())


def _svm() -> Any:
    from sklearn.svm import SVC

    return _scaled(SVC())


OWN_TYPES = ("topwork.heads.centroid.Centroid",)
"""Types of ours that a saved head may hold."""

HEADS = {
    entry.name: entry
    for entry in (
        HeadEntry("logreg", "a strong linear default with probabilities (standardised, L2, C=0.1)", _logreg),
        HeadEntry("ridge", "many labels, very fast; its penalty is chosen by leave-one-out; no probabilities", _ridge),
        HeadEntry("lda", "few labels for each class; a shrunk covariance (Ledoit-Wolf), no parameter to choose", _lda),
        HeadEntry("knn", "no training; classes of any shape; the five nearest by cosine", _knn),
        HeadEntry("centroid", "one or two labels for each class (standardised)", _centroid),
        HeadEntry("svm", "classes that no plane divides; up to some ten thousand rows; no probabilities", _svm),
    )
}


def resolve_head(head: Any) -> Any:
    """Return an unfitted estimator for a head's name, or a clone of the caller's own estimator.

    Parameters
    ----------
    head : str or estimator
        A name from :data:`HEADS`, or any scikit-learn classifier.

    Raises
    ------
    InputError
        If the name is unknown, or the object is no estimator.

    Examples
    --------
    >>> resolve_head("logreg").steps[-1]
    ('logisticregression', LogisticRegression(C=0.1, max_iter=1000))
    """
    from sklearn.base import clone

    if isinstance(head, str):
        if head not in HEADS:
            raise InputError(f"head {head!r} does not exist; known: {', '.join(HEADS)}, or any scikit-learn estimator")
        return HEADS[head].make()
    if isinstance(head, type) or not (
        hasattr(head, "fit") and hasattr(head, "predict") and hasattr(head, "get_params")
    ):
        raise InputError(
            f"head is a {type(head).__name__}; expected one of {', '.join(HEADS)}, or a scikit-learn estimator"
        )
    return clone(head)
