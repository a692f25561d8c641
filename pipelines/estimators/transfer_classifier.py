"""``TransferClassifier``: a backbone's features and a head behind ``fit`` and ``predict`` on raw items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from sklearn.base import ClassifierMixin, is_classifier
from sklearn.utils.metaestimators import available_if

from ...errors import BundleError, InputError
from ...extract.graphs.pooling import AUTO
from ...extract.preprocess.decode import MAX_PIXELS
from ...heads.metrics import compute_accuracy
from ...heads.registry import DEFAULT, resolve_head
from ...heads.targets import encode_labels, to_label_array, validate_labels
from .features import n_axes
from .training_rows import TrainingRows, fit_head
from .transfer_estimator import TransferEstimator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...extract.graphs.exported_graph import ExportedGraph
    from ...models.backbone import Backbone
    from ...models.loading import BackboneSpec
    from .foreign_extractor import ForeignBackbone


def _head_has(method: str) -> Any:
    """Tell scikit-learn whether the head offers a method."""

    def check(self: TransferClassifier) -> bool:
        head = getattr(self, "head_", None)
        if head is None:
            return hasattr(resolve_head(self.head), method) or (method == "predict_proba" and bool(self.calibrate))
        return hasattr(head, method)

    return available_if(check)


class TransferClassifier(ClassifierMixin, TransferEstimator):  # type: ignore[misc]
    """A frozen backbone with a trained head.

    Parameters
    ----------
    backbone, layer, pool
        As for :class:`topwork.Extractor`.
    head : str or estimator
        A name from ``topwork heads``, or any scikit-learn classifier.
    store : path, optional
        A feature store that is made, or added to, by ``fit``: what is in it is not computed again.
    normalize, precision, provider, batch_size, on_error, max_pixels
        As for :class:`topwork.Extractor`.
    views : int
        How many augmented versions of each image the head is trained on beside it (random crops, flips, colours); with
        a store they are computed once. Only images that may be trained on have some, see
        :class:`topwork.extract.sources.views.ViewedSource`.
    cv : int
        In so many folds the head is judged after it was fitted, see ``fit_report_``; 0 saves the time, as inside a
        search. From 5,000 rows on one fifth is held out once.
    calibrate : bool
        Whether probabilities are scaled by a temperature that is fitted to held-out rows; labels stay as they are.
    abstain_below : float, optional
        No label is predicted (None) where no probability is as high.

    Attributes
    ----------
    extractor_ : Extractor
    head_ : estimator
        Fitted on the features.
    classes_ : ndarray
        The labels, as they were given; with several labels for each item the numbers of their columns.
    n_rows_ : int
        Number of items that the head was trained on.
    fit_report_ : FitReport or None
        Accuracy in training beside that of held-out rows.
    failures_ : list of (str, str)
        Id and reason of items that could not be used.

    Examples
    --------
    >>> red, blue = (np.full((40, 40, 3), colour, np.uint8) for colour in ((200, 0, 0), (0, 0, 200)))
    >>> TransferClassifier("topwork:tiny", head="centroid").fit([red, blue], ["red", "blue"]).predict([blue]).tolist()
    ['blue']
    """

    metric = "accuracy"

    def __init__(
        self,
        backbone: str | BackboneSpec | Backbone | ExportedGraph | ForeignBackbone = "topwork:tiny",
        layer: str | Sequence[str] = "last",
        pool: str | Sequence[str] = AUTO,
        head: Any = DEFAULT,
        store: str | Path | None = None,
        normalize: bool = False,
        precision: str = "auto",
        provider: str = "auto",
        batch_size: int | Literal["auto"] = "auto",
        on_error: str = "raise",
        max_pixels: int = MAX_PIXELS,
        views: int = 0,
        cv: int = 5,
        calibrate: bool = False,
        abstain_below: float | None = None,
    ) -> None:
        super().__init__(
            backbone,
            layer,
            pool,
            head,
            store,
            normalize,
            precision,
            provider,
            batch_size,
            on_error,
            max_pixels,
            views,
            cv,
        )
        self.calibrate = calibrate
        self.abstain_below = abstain_below

    def _task(self, y: Any) -> str:
        return "multilabel" if y is not None and n_axes(y) == 2 else "classification"

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if not isinstance(self.calibrate, bool | np.bool_):
            raise InputError(f"calibrate={self.calibrate!r} of TransferClassifier: expected True or False")
        limit = self.abstain_below
        if limit is not None and not (isinstance(limit, Real) and not isinstance(limit, bool) and 0 <= limit <= 1):
            raise InputError(f"abstain_below={limit!r} of TransferClassifier: expected a probability, or None")

    def unfitted_head(self, y: Any) -> Any:
        """Return the head, unfitted; what is wrong with it is found before features are computed."""
        head, task = super().unfitted_head(y), self._task(y)
        if not is_classifier(head):
            raise InputError(
                f"head is a {type(head).__name__}, which is no classifier; expected one that predicts labels"
            )
        if task == "multilabel" and (self.calibrate or self.abstain_below is not None):
            raise InputError("calibrate and abstain_below are for one label for each item; y has several")
        if self.abstain_below is not None and not self.calibrate and not hasattr(head, "predict_proba"):
            raise InputError(
                f"abstain_below={self.abstain_below} with head {self.head!r}, which has no probabilities; expected one "
                "that has, or calibrate=True"
            )
        return head

    def n_columns(self) -> int | None:
        """Return the number of labels of each item, or None for one class."""
        return len(self.classes_) if self.multilabel_ else None

    def as_targets(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Return labels as they are, several for each item as zeros and ones."""
        return validate_labels(labels) if labels.ndim == 2 else labels

    def _require_learnable(self, targets: NDArray[Any]) -> None:
        if targets.ndim == 1 and len(targets) and len(set(targets.tolist())) < 2:
            raise InputError(
                f"all {len(targets)} items have the label {targets.tolist()[0]!r}; expected at least two classes"
            )

    def _encoded(self, rows: TrainingRows) -> TrainingRows:
        """Note the classes; labels of several types become codes, which estimators can sort."""
        labels = rows.y
        if labels.ndim == 2:
            self.classes_ = np.arange(labels.shape[1])
            return rows
        self._require_learnable(labels)
        if labels.dtype != object or to_label_array(labels).dtype != object:
            self.classes_ = labels[:0]
            return rows
        self.classes_, codes = encode_labels(labels)
        return replace(rows, y=codes)

    def _fitted(self, head: Any, rows: TrainingRows) -> Any:
        return fit_head(head, rows, bool(self.calibrate))

    def _note_head(self, rows: TrainingRows) -> None:
        self.multilabel_, self.label_dtype_ = rows.y.ndim == 2, rows.y.dtype.str
        if not self.multilabel_ and not len(self.classes_):
            self.classes_ = self.head_.classes_

    def _labels(self, predicted: Any) -> NDArray[Any]:
        """Return what the head predicted as the labels that were given."""
        found = np.asarray(predicted)
        if self.multilabel_:
            return found.astype(np.dtype(self.label_dtype_))
        labels: NDArray[Any] = self.classes_[found] if self.are_coded() else found
        return labels

    def are_coded(self) -> bool:
        """Tell whether the head knows labels of several types by their places among the classes."""
        return not self.multilabel_ and self.classes_.dtype == object and self.head_.classes_.dtype != object

    def predictions(self, matrix: NDArray[np.float32]) -> NDArray[Any]:
        """Return labels for features ``(n_items, n_features)``, None where a classifier abstains."""
        if not len(matrix):
            none = np.empty((0, len(self.classes_)), np.dtype(self.label_dtype_))
            return none if self.multilabel_ else self.classes_[:0]
        labels = self._labels(self.head_.predict(matrix))
        if self.abstain_below is None:
            return labels
        answers = labels.astype(object)
        answers[self.head_.predict_proba(matrix).max(axis=1) < self.abstain_below] = None
        return answers

    @_head_has("predict_proba")  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> NDArray[np.floating[Any]]:
        """Return probabilities ``(n_items, n_classes)``, in the order of ``classes_``."""
        return self.probabilities(self._features(X).matrix)

    def probabilities(self, matrix: NDArray[np.float32]) -> NDArray[np.floating[Any]]:
        """Return probabilities for features ``(n_items, n_features)``."""
        if not len(matrix):
            return np.empty((0, len(self.classes_)))
        found = self.head_.predict_proba(matrix)
        if isinstance(found, list):  # of each label those of not and of yes, as nearest neighbours have them
            yes = [np.asarray(names) == 1 for names in self.head_.classes_]
            return np.column_stack([of_label[:, one].sum(axis=1) for of_label, one in zip(found, yes, strict=True)])
        return np.asarray(found)

    @_head_has("decision_function")  # type: ignore[untyped-decorator]
    def decision_function(self, X: Any) -> NDArray[np.floating[Any]]:
        """Return the head's scores for each item."""
        matrix = self._features(X).matrix
        if not len(matrix):  # a row of zeros tells how many columns there are
            return np.asarray(self.head_.decision_function(np.zeros((1, matrix.shape[1]), matrix.dtype)))[:0]
        return np.asarray(self.head_.decision_function(matrix))

    def facts(self) -> dict[str, Any]:
        """Return what a bundle keeps beside graph and head: classes, and how labels follow from what the head says."""
        classes = self.classes_.tolist()
        strange = [label for label in classes if not isinstance(label, str | int | float)]
        if strange:
            raise BundleError(
                f"the label {strange[0]!r} is a {type(strange[0]).__name__}, which a bundle cannot hold; expected "
                "texts, numbers or truth values"
            )
        return {
            "task": "multilabel" if self.multilabel_ else "classification",
            "classes": classes,
            "label_dtype": self.label_dtype_,
            "coded": self.are_coded(),
            "calibrate": bool(self.calibrate),
            "abstain_below": None if self.abstain_below is None else float(self.abstain_below),
        }

    def restore(self, facts: dict[str, Any], head: Any) -> None:
        """Take over a head and the :meth:`facts` that were kept of it."""
        self.head_, self.multilabel_ = head, facts.get("task") == "multilabel"
        self.calibrate, self.abstain_below = facts.get("calibrate", False), facts.get("abstain_below")
        if facts.get("coded"):
            self.classes_ = np.empty(len(facts["classes"]), dtype=object)
            self.classes_[:] = facts["classes"]
        elif self.multilabel_:
            self.classes_ = np.array(facts["classes"])
        elif head.classes_.tolist() != facts["classes"]:
            raise BundleError("the manifest names classes that are not the head's. Save the bundle again.")
        else:
            self.classes_ = head.classes_
        self.label_dtype_ = facts.get("label_dtype", self.classes_.dtype.str)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return the accuracy on items, views left out; without `y`, on the source's own labels.

        Where no label is predicted, it counts as wrong.
        """
        return self._score(X, y, sample_weight)

    def score_of(self, targets: NDArray[Any], predicted: NDArray[Any], weights: NDArray[Any] | None = None) -> float:
        """Return the share of items that are right, with all their labels; where there is no answer it is not."""
        return compute_accuracy(targets, predicted, weights)
