"""``TransferClassifier``: a backbone's features and a head behind ``fit`` and ``predict`` on raw items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from sklearn.base import ClassifierMixin, is_classifier
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from ...errors import BundleError, ExportError, InputError
from ...extract.graphs.pooling import AUTO
from ...extract.preprocess.decode import MAX_PIXELS
from ...heads.auto_head import AutoHead
from ...heads.label_formats import (
    GivenLabels,
    align_columns,
    encode_label_sets,
    name_columns,
    require_known_labels,
    stack_label_probabilities,
)
from ...heads.metrics import ACCURACY
from ...heads.parameters import CLASS_WEIGHT, is_integer
from ...heads.registry import DEFAULT, resolve_head, set_class_weight
from ...heads.targets import encode_labels, to_label_array, validate_labels
from ...plotting import load_pyplot
from ..fused.parity import FittedPipeline
from .precision_scores import FEATURES
from .prediction_displays import draw_calibration, draw_confusion
from .training_set import TrainingSet, fit_head
from .transfer_estimator import TransferEstimator

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from sklearn.calibration import CalibrationDisplay
    from sklearn.metrics import ConfusionMatrixDisplay

    from ...extract.graphs.exported_graph import ExportedGraph
    from ...models.backbone import Backbone
    from ...models.loading import BackboneSpec
    from ..bundle.bundle_files import BundleContents
    from .foreign_extractor import ForeignBackbone

NORMALIZATIONS = (None, "true", "pred", "all")
"""What the numbers of a confusion matrix may be divided by, as scikit-learn has it."""


def _head_has(method: str) -> Any:
    """Make a method available if the head, fitted or not, has it."""

    def check(self: TransferClassifier) -> bool:
        head = getattr(self, "head_", None)
        if head is not None:
            return hasattr(head, method)
        is_calibrated = method == "predict_proba" and bool(self.calibrate)
        return hasattr(resolve_head(self.head), method) or is_calibrated

    return available_if(check)


class TransferClassifier(ClassifierMixin, TransferEstimator):  # type: ignore[misc]
    """A frozen backbone with a trained head.

    Parameters
    ----------
    backbone, layer, pool
        As for :class:`topwork.Extractor`. With the layer "auto", ``fit`` compares layers at the ends of the backbone's
        blocks (of an existing store, all of its columns) on at most 3,000 items, then, where `pool` is "auto",
        poolings of the best three, and their concatenations, and takes the cheapest that is as good as the best within
        one standard error, and one point; see ``search_``.
    head : str or estimator
        A name from ``topwork heads``, or any scikit-learn classifier.
    store : path, optional
        A feature store that is created or added to, so that the backbone runs once for each item and layer: it gets
        the items of ``fit`` with their labels, and those of ``predict`` and ``score`` without. With the precision
        "auto" a new store is in float32, to which other layers can be added, unless `fidelity` is "score".
    normalize, precision, provider, batch_size, on_error, max_pixels
        As for :class:`topwork.Extractor`.
    views : int
        Number of augmented versions of each image that the head is trained on in addition (random crops, flips,
        colours); with a store they are computed once. Only images that may be trained on have views, see
        :class:`topwork.extract.sources.views.ViewedSource`.
    cv : int
        Number of folds in which the head is evaluated after it was fitted, see ``fit_report_``; 0 saves the time, as
        inside a search. From 5,000 rows on one fifth is held out once.
    calibrate : bool
        Whether to scale probabilities by a temperature that is fitted to held-out rows; predicted labels do not change.
    abstain_below : float, optional
        Predict None instead of a label where the highest probability is lower.
    head_params : dict, optional
        Parameters of the head, such as ``{"C": 0.1}``; in a pipeline those of its steps, by their own names.
    class_weight : "balanced", dict or None
        Weights of the classes by label, or by their frequency, for heads that have this parameter.
    progress : bool
        Whether a line on a terminal or in a notebook shows what is being done.
    fidelity : {"features", "score"}
        What lets a lower precision pass: "features", that these are close to those in float32; or "score", that a
        linear head on at most 3,000 labelled items is as good on held-out ones as in float32, within one standard error
        of the paired difference and one point, see ``precisions_``. With "score" a precision that is named, and does
        not pass, is an error.

    Attributes
    ----------
    extractor_ : Extractor
    head_ : estimator
        Fitted on the features.
    classes_ : ndarray
        The distinct labels, as they were given; with several labels for each item the names of the columns that
        ``predict`` returns: those of lists of labels or of a table, else their positions.
    n_rows_ : int
        Number of items that the head was trained on.
    fit_report_ : FitReport or None
        Accuracy on the training rows and on held-out rows.
    search_ : CutSearch or None
        What was compared, if the layer is "auto"; its ``score`` is that of rows that took no part in the choice.
    precisions_ : PrecisionScores or None
        What was measured of each precision, if `fidelity` is "score".
    failures_ : list of (str, str)
        Id and reason of items that could not be used.
    familiarity_ : Familiarity or None
        Training rows that ``familiar`` compares items with, and the limit of the distance; None if there are too few.

    Examples
    --------
    >>> red, blue = (np.full((40, 40, 3), colour, np.uint8) for colour in ((200, 0, 0), (0, 0, 200)))
    >>> TransferClassifier("topwork:tiny", head="centroid").fit([red, blue], ["red", "blue"]).predict([blue]).tolist()
    ['blue']
    """

    metric = ACCURACY

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
        head_params: Mapping[str, Any] | None = None,
        class_weight: Any = None,
        progress: bool = False,
        fidelity: str = FEATURES,
    ) -> None:
        super().__init__(
            backbone=backbone,
            layer=layer,
            pool=pool,
            head=head,
            store=store,
            normalize=normalize,
            precision=precision,
            provider=provider,
            batch_size=batch_size,
            on_error=on_error,
            max_pixels=max_pixels,
            views=views,
            cv=cv,
            head_params=head_params,
            fidelity=fidelity,
            progress=progress,
        )
        self.calibrate = calibrate
        self.abstain_below = abstain_below
        self.class_weight = class_weight

    # Fitting.

    def check_parameters(self) -> None:
        """Raise an InputError if a parameter that does not concern the features is wrong."""
        super().check_parameters()
        if not isinstance(self.calibrate, bool | np.bool_):
            raise InputError(f"calibrate={self.calibrate!r} of TransferClassifier: expected True or False")
        if not CLASS_WEIGHT.is_met(self.class_weight):
            raise InputError(
                f"class_weight={self.class_weight!r} of {type(self).__name__}: expected {CLASS_WEIGHT.description}"
            )
        if self.abstain_below is not None and not is_probability(self.abstain_below):
            raise InputError(
                f"abstain_below={self.abstain_below!r} of TransferClassifier: expected a probability, or None"
            )

    def unfitted_head(self, y: Any) -> Any:
        """Return the head, unfitted; an unsuitable one is reported before features are computed."""
        head = set_class_weight(super().unfitted_head(y), self.class_weight)
        if not is_classifier(head):
            raise InputError(
                f"head is a {type(head).__name__}, which is no classifier; expected one that predicts labels"
            )
        abstains = self.abstain_below is not None
        if self.find_task(y) == "multilabel" and (self.calibrate or abstains):
            raise InputError("calibrate and abstain_below are for one label for each item; y has several")
        if abstains and not self.calibrate and not hasattr(head, "predict_proba"):
            raise InputError(
                f"abstain_below={self.abstain_below} with head {self.head!r}, which has no probabilities; expected one "
                "that has, or calibrate=True"
            )
        if abstains and isinstance(head, AutoHead):
            head.set_params(probabilities=True)
        return head

    def _fit_head(self, head: Any, rows: TrainingSet) -> Any:
        return fit_head(head, rows, calibrate=bool(self.calibrate))

    # Targets.

    def find_task(self, y: Any) -> str:
        """Return "multilabel" for a matrix of targets, else "classification"."""
        return "multilabel" if y is not None and np.ndim(y) == 2 else "classification"

    def n_outputs(self) -> int | None:
        """Return the number of labels of each item, or None if each item has one class."""
        return len(self.classes_) if self.multilabel_ else None

    def as_targets(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Return one label for each item unchanged; several as a matrix of zeros and ones."""
        return validate_labels(labels) if labels.ndim == 2 else labels

    def _require_learnable(self, targets: NDArray[Any]) -> None:
        if targets.ndim == 1 and len(targets) and len(set(targets.tolist())) < 2:
            raise InputError(
                f"all {len(targets)} items have the label {targets.tolist()[0]!r}; expected at least two classes: add "
                "items with another label"
            )

    def as_known_targets(self, labels: GivenLabels) -> NDArray[Any]:
        """Return the targets of labelled items, with several labels in the order of ``classes_``.

        Raise an InputError if the head has learned no labels of their type or spelling.
        """
        targets = super().as_known_targets(labels)
        if not self.multilabel_:
            if targets.ndim != 1:
                raise InputError(f"labels of shape {targets.shape}, but the head predicts one label for each item")
            require_known_labels(targets, self.classes_)
            return targets
        if targets.ndim != 2:
            if self.classes_.dtype.kind not in "UO" or targets.dtype.kind not in "UO":
                raise InputError("one label for each item, but the head predicts several; expected lists of names")
            labels = encode_label_sets([[label] for label in targets.tolist()])
            targets = labels.values
        if labels.names is not None:
            return align_columns(targets, labels.names, self.classes_.tolist())
        if targets.shape[1] != len(self.classes_):
            raise InputError(f"labels of shape {targets.shape}; expected {len(self.classes_)} columns")
        return targets

    def _encode_labels(self, rows: TrainingSet) -> TrainingSet:
        """Replace labels of several types, which estimators cannot sort, by their positions among the classes."""
        labels = rows.y
        if labels.ndim == 2:
            self.classes_ = name_columns(labels, rows.label_names)
            return rows
        self._require_learnable(labels)
        has_several_types = labels.dtype == object and to_label_array(labels).dtype == object
        if has_several_types:
            self.classes_, codes = encode_labels(labels)
            return replace(rows, y=codes)
        self.classes_ = labels[:0]  # the head finds the classes
        return rows

    def _record_targets(self, rows: TrainingSet) -> None:
        self.multilabel_ = rows.y.ndim == 2
        self.label_dtype_ = rows.y.dtype.str
        if not self.multilabel_ and not len(self.classes_):
            self.classes_ = self.head_.classes_

    def has_coded_labels(self) -> bool:
        """Return whether the head predicts positions among the classes, as labels are of several types."""
        return not self.multilabel_ and self.classes_.dtype == object and self.head_.classes_.dtype != object

    # Prediction.

    def predict_features(self, matrix: NDArray[np.float32]) -> NDArray[Any]:
        """Predict the labels of features ``(n_items, n_features)``; None where the classifier abstains."""
        if not len(matrix):
            no_labels = np.empty((0, len(self.classes_)), np.dtype(self.label_dtype_))
            return no_labels if self.multilabel_ else self.classes_[:0]
        labels = self._decode_labels(np.asarray(self.head_.predict(matrix)))
        if self.abstain_below is None:
            return labels
        confidence = self.head_.predict_proba(matrix).max(axis=1)
        answers = labels.astype(object)
        answers[confidence < self.abstain_below] = None
        return answers

    def _decode_labels(self, predicted: NDArray[Any]) -> NDArray[Any]:
        """Return predictions of the head as labels of the type that was given to ``fit``."""
        if self.multilabel_:
            return predicted.astype(np.dtype(self.label_dtype_))
        if self.has_coded_labels():
            labels: NDArray[Any] = self.classes_[predicted]
            return labels
        return predicted

    @_head_has("predict_proba")  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> NDArray[np.floating[Any]]:
        """Return probabilities ``(n_items, n_classes)``, in the order of ``classes_``."""
        return self.predict_proba_features(self._compute_features(X).matrix)

    def predict_proba_features(self, matrix: NDArray[np.float32]) -> NDArray[np.floating[Any]]:
        """Return probabilities for features ``(n_items, n_features)``."""
        if not len(matrix):
            return np.empty((0, len(self.classes_)))
        return stack_label_probabilities(self.head_.predict_proba(matrix), self.head_)

    @_head_has("decision_function")  # type: ignore[untyped-decorator]
    def decision_function(self, X: Any) -> NDArray[np.floating[Any]]:
        """Return the head's scores for each item."""
        matrix = self._compute_features(X).matrix
        if len(matrix):
            return np.asarray(self.head_.decision_function(matrix))
        placeholder = np.zeros((1, matrix.shape[1]), matrix.dtype)  # shows the number of scores
        return np.asarray(self.head_.decision_function(placeholder))[:0]

    def score(
        self, X: Any, y: Any = None, sample_weight: Any = None, split: str | Sequence[str] | None = None
    ) -> float:
        """Return the accuracy on items without their views; without `y`, on the source's own labels.

        An item for which no label is predicted counts as wrong.
        """
        return self._score(X, y, sample_weight, split)

    # Pictures.

    def plot_confusion(
        self,
        X: Any,
        y: Any = None,
        split: str | Sequence[str] | None = None,
        *,
        normalize: str | None = None,
        ax: Any = None,
    ) -> ConfusionMatrixDisplay:
        """Predict labelled items, and draw how often each label is predicted as which.

        Parameters
        ----------
        X, y, split
            As for :meth:`score`.
        normalize : {"true", "pred", "all"}, optional
            Whether to show shares of the true labels, of the predicted ones, or of all, in place of numbers of items.
        ax : matplotlib axes, optional
            Where to draw; a new figure by default.

        Returns
        -------
        sklearn.metrics.ConfusionMatrixDisplay
            With ``confusion_matrix``, ``ax_`` and ``figure_``. Items for which no label is predicted are left out, and
            counted in the title.

        Raises
        ------
        InputError
            If no item has a label, or items have several; or if none has an answer.
        MissingPackageError
            If matplotlib is not installed (``pip install 'topwork[plots]'``).
        """
        self._prepare_picture("a confusion matrix")
        if normalize not in NORMALIZATIONS:
            raise InputError(f'normalize={normalize!r}: expected "true", "pred", "all", or None for numbers of items')
        labelled = self._compute_labelled(X, y, split)
        predicted = self.predict_features(labelled.matrix)
        classes = self.classes_.tolist()
        return draw_confusion(labelled.targets, predicted, classes, normalize=normalize, ax=ax)

    @_head_has("predict_proba")  # type: ignore[untyped-decorator]
    def plot_calibration(
        self,
        X: Any,
        y: Any = None,
        split: str | Sequence[str] | None = None,
        *,
        label: Any = None,
        n_bins: int = 10,
        ax: Any = None,
    ) -> CalibrationDisplay:
        """Compute probabilities of labelled items, and draw how often they are right.

        Parameters
        ----------
        X, y, split
            As for :meth:`score`.
        label : label, optional
            Draw the probability of this label. By default that of the likeliest label of each item, for any number of
            classes (the confidence of Guo et al. 2017, https://arxiv.org/abs/1706.04599).
        n_bins : int
            Number of bins of equal width, of which those without items are left out.
        ax : matplotlib axes, optional
            Where to draw; a new figure by default.

        Returns
        -------
        sklearn.calibration.CalibrationDisplay
            With ``prob_true``, ``prob_pred``, ``ax_`` and ``figure_``.

        Raises
        ------
        InputError
            If no item has a label, or items have several; or if there is no such label.
        MissingPackageError
            If matplotlib is not installed (``pip install 'topwork[plots]'``).
        """
        self._prepare_picture("a calibration curve")
        classes = self.classes_.tolist()
        if label is not None and label not in classes:
            raise InputError(f"label={label!r} is no class; expected one of {', '.join(map(repr, classes))}")
        if not is_integer(n_bins) or n_bins < 1:
            raise InputError(f"n_bins={n_bins!r}: expected a positive number of bins")
        labelled = self._compute_labelled(X, y, split)
        probabilities = self.predict_proba_features(labelled.matrix)  # (n_items, n_classes)
        if label is None:
            columns = probabilities.argmax(axis=1)
        else:
            columns = np.full(len(probabilities), classes.index(label))
        own = probabilities[np.arange(len(columns)), columns]
        pairs = zip(labelled.targets.tolist(), columns.tolist(), strict=True)
        is_true = np.array([truth == classes[column] for truth, column in pairs], bool)
        return draw_calibration(is_true, own, label, n_bins=n_bins, ax=ax)

    def _prepare_picture(self, name: str) -> None:
        """Raise an error if a picture of labels cannot be drawn, before anything is computed."""
        load_pyplot()
        check_is_fitted(self, "head_")
        if self.multilabel_:
            raise InputError(f"{name} is of one label for each item, but the head predicts several")

    # Saving.

    def _head_name(self) -> str | None:
        return super()._head_name() if self.class_weight is None else None

    def _bundle_properties(self) -> dict[str, Any]:
        classes = self.classes_.tolist()
        for label in classes:
            if not isinstance(label, str | int | float):
                raise BundleError(
                    f"the label {label!r} is a {type(label).__name__}, which a bundle cannot hold; expected strings, "
                    "numbers or booleans"
                )
        reason = getattr(self.head_, "reason_", None)
        choice = {} if reason is None else {"head_choice": reason}
        return {
            **choice,
            "task": "multilabel" if self.multilabel_ else "classification",
            "classes": classes,
            "label_dtype": self.label_dtype_,
            "coded": self.has_coded_labels(),
            "calibrate": bool(self.calibrate),
            "abstain_below": None if self.abstain_below is None else float(self.abstain_below),
        }

    def restore(self, contents: BundleContents) -> None:
        """Set the fitted attributes; raise a BundleError if the classes of the bundle are not those of its head."""
        super().restore(contents)
        properties = contents.properties
        self.calibrate = properties.get("calibrate", False)
        self.abstain_below = properties.get("abstain_below")
        self.multilabel_ = properties.get("task") == "multilabel"
        self.classes_ = self._restore_classes(properties)
        self.label_dtype_ = properties.get("label_dtype", self.classes_.dtype.str)

    def _restore_classes(self, properties: dict[str, Any]) -> NDArray[Any]:
        classes = properties["classes"]
        if properties.get("coded"):
            restored = np.empty(len(classes), dtype=object)
            restored[:] = classes
            return restored
        if self.multilabel_:
            return np.array(classes)
        own: NDArray[Any] = self.head_.classes_
        if own.tolist() != classes:
            raise BundleError("the manifest names classes that are not the head's. Save the bundle again.")
        return own

    def _fitted_pipeline(self) -> FittedPipeline:
        if self.has_coded_labels():
            raise ExportError("labels of several types cannot be written as ONNX; expected labels of one type")
        return FittedPipeline(
            graph=self.extractor_.graph,
            columns=self.extractor_.columns,
            head=self.head_,
            classes=self.classes_,
            abstain_below=self.abstain_below,
            is_multilabel=self.multilabel_,
            familiarity=self.familiarity_,
        )


def is_probability(value: Any) -> bool:
    """Return whether a parameter is a number from 0 to 1."""
    return isinstance(value, Real) and not isinstance(value, bool) and 0 <= float(value) <= 1
