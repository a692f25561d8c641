"""Classifiers of ours whose answers are all told by their scores."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax
from sklearn.base import ClassifierMixin

Array = NDArray[Any]


class ScoredClassifier(ClassifierMixin):  # type: ignore[misc]
    """Probabilities and labels from ``decision_function``, for classes or for several labels at once.

    The estimator sets ``classes_``, ``multilabel_`` and ``label_dtype_``; with two classes a row has one score.
    """

    classes_: Array
    multilabel_: bool
    label_dtype_: str

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        tags.target_tags.multi_output = True
        return tags

    def predict_proba(self, X: Any) -> Array:
        """Return probabilities.

        Parameters
        ----------
        X : array of shape (n_rows, n_features)

        Returns
        -------
        ndarray of shape (n_rows, n_classes) or (n_rows, n_labels)
            Rows sum to one, unless there are several labels.
        """
        scores = self.decision_function(X)
        if scores.ndim == 1:
            return np.column_stack([expit(-scores), expit(scores)])
        probabilities: Array = expit(scores) if self.multilabel_ else softmax(scores, axis=1)
        return probabilities

    def predict(self, X: Any) -> Array:
        """Return the most probable class, or the labels that are more probable than not.

        Parameters
        ----------
        X : array of shape (n_rows, n_features)

        Returns
        -------
        ndarray of shape (n_rows,) or (n_rows, n_labels)
            Labels as they were given in ``fit``.
        """
        scores = self.decision_function(X)
        labels: Array
        if self.multilabel_:
            labels = (scores > 0).astype(np.dtype(self.label_dtype_))
        else:
            labels = self.classes_[(scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)]
        return labels
