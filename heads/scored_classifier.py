"""The part of topwork's own classifiers that follows from their scores: labels, probabilities, names of outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax
from sklearn.base import ClassifierMixin

Array = NDArray[Any]


class ScoredClassifier(ClassifierMixin):  # type: ignore[misc]
    """Probabilities and labels from ``decision_function``, for classes or for several labels of each row.

    The estimator calls :meth:`_note_labels` in ``fit``. With two classes a row has one score.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        With several labels, the numbers of their columns.
    label_dtype_ : str
        The type of the labels in ``fit``.
    """

    classes_: Array
    multilabel_: bool
    label_dtype_: str

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        tags.target_tags.multi_output = True
        return tags

    def _note_labels(self, y: Array, classes: Array) -> None:
        """Set the attributes that describe labels."""
        self.multilabel_ = y.ndim == 2
        self.label_dtype_ = y.dtype.str
        self.classes_ = classes

    def _is_binary(self) -> bool:
        """Check whether there are two classes, so that a row has one score."""
        return not self.multilabel_ and len(self.classes_) == 2

    def _name_outputs(self) -> list[Any]:
        """Return names of the outputs, by which a warm start finds them again."""
        return [(self.multilabel_, label) for label in self.classes_.tolist()]

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
        elif scores.ndim == 1:
            labels = self.classes_[(scores > 0).astype(int)]
        else:
            labels = self.classes_[scores.argmax(axis=1)]
        return labels
