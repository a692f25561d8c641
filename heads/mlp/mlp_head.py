"""A multilayer perceptron for labels: trained with torch, kept as numpy arrays, predicting without torch."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from sklearn.utils.validation import validate_data

from ...errors import InputError
from ..parameters import CLASS_WEIGHT, Constraints
from ..scored_classifier import ScoredClassifier
from ..targets import encode_with_classes, keep_label_types, validate_labels, weigh_labels, weigh_rows
from .mlp_estimator import FEATURE_TYPES, MLPEstimator, MLPWarmStart
from .perceptron import Array
from .training import WeightedRows


class MLPHead(ScoredClassifier, MLPEstimator):
    """A classifier with one or two hidden layers, for classes or for several labels at once.

    ReLU between the layers, AdamW (Loshchilov and Hutter 2019) with a learning rate that falls to zero along a half
    cosine. Features are standardised inside. Of at most 4,096 rows, equal ones are merged, so integer weights give
    exactly what repeated rows give.

    Parameters
    ----------
    hidden : tuple of int, default=(256,)
        Units of one or two hidden layers.
    dropout : float, default=0.0
        Share of hidden units that are set to zero at random in each step.
    epochs : int, default=100
        Maximum number of passes over the rows.
    batch_size : int, default=128
    learning_rate : float, default=3e-3
    weight_decay : float, default=0.01
        As in AdamW; biases do not decay.
    early_stopping : bool, default=True
        Whether to hold rows out, stop when their loss no longer falls, and return to the best weights. If that would be
        fewer than ten rows, none are held out and all epochs are run.
    validation_fraction : float, default=0.1
        Share of rows that are held out, by classes; up to 0.5.
    patience : int, default=10
        Training stops after so many epochs in a row that are not the best.
    mixup : float, default=0.0
        If positive, rows are mixed in pairs with shares from a Beta(mixup, mixup) distribution (Zhang et al. 2018).
    class_weight : None, "balanced" or dict, default=None
        A weight for each class; those that a dict does not name have 1. With several labels a dict has a weight for the
        ones of a column, and "balanced" gives ones and zeros of each column the same sum.
    warm_start : bool, default=False
        Whether ``fit`` starts from the present weights. Classes keep their outputs, new classes get new ones, and those
        of classes without rows are dropped. With other hidden layers or another number of features ``fit`` starts anew.
    random_state : int, RandomState or None, default=None
        With an int the same data give the same weights, bit for bit, on the same machine. Global generators are neither
        read nor moved.
    device : str, default="auto"
        Where to train: "auto" (CUDA if there is any), "cpu", "cuda", "cuda:1".

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        With several labels, the numbers of their columns.
    multilabel_ : bool
    label_dtype_ : str
        The type of the labels in ``fit``.
    weights_ : list of ndarray of shape (n_inputs, n_outputs), float32
    biases_ : list of ndarray of shape (n_outputs,), float32
    mean_, var_, scale_ : ndarray of shape (n_features,), float64
        Of the features; ``scale_`` is 1 for a constant feature.
    weight_sum_ : float
        Sum of the weights of the rows.
    n_features_in_ : int
    n_iter_ : int
        Epochs that were run.
    loss_curve_ : list of float
        Mean loss of each epoch.
    validation_scores_ : list of float
        The loss of the rows held out, times -1, after each epoch; empty if none were.
    moments_, steps_ : list of ndarray, int
        AdamW's state, only after ``partial_fit``.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]] * 10, dtype=np.float32)
    >>> y = np.array(["same", "other", "other", "same"] * 10)
    >>> head = MLPHead(hidden=(16,), learning_rate=0.03, random_state=0).fit(X, y)
    >>> head.predict(X[:4]).tolist()
    ['same', 'other', 'other', 'same']
    """

    _constraints: ClassVar[Constraints] = {**MLPEstimator._constraints, "class_weight": CLASS_WEIGHT}

    def __init__(
        self,
        hidden: tuple[int, ...] = (256,),
        *,
        dropout: float = 0.0,
        epochs: int = 100,
        batch_size: int = 128,
        learning_rate: float = 3e-3,
        weight_decay: float = 0.01,
        early_stopping: bool = True,
        validation_fraction: float = 0.1,
        patience: int = 10,
        mixup: float = 0.0,
        class_weight: Any = None,
        warm_start: bool = False,
        random_state: Any = None,
        device: str = "auto",
    ) -> None:
        super().__init__(
            hidden,
            dropout=dropout,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            patience=patience,
            mixup=mixup,
            warm_start=warm_start,
            random_state=random_state,
            device=device,
        )
        self.class_weight = class_weight

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPHead:
        """Train on labelled features.

        Parameters
        ----------
        X : array of shape (n_rows, n_features)
        y : array of shape (n_rows,) or (n_rows, n_labels)
            A class for each row, or for each row and label whether it applies, as 0 and 1.
        sample_weight : array of shape (n_rows,), optional
            Rows of weight zero count as absent.

        Returns
        -------
        MLPHead
            Itself.

        Raises
        ------
        InputError
            If a parameter is not allowed, the labels cannot be used, or the loss becomes infinite.
        MissingPackageError
            If torch is not installed.
        """
        self._check_parameters()
        X, y = validate_data(self, X, keep_label_types(y), dtype=FEATURE_TYPES, multi_output=True)
        self._fit(X, validate_labels(y), sample_weight)
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> MLPHead:
        """Train for one epoch on a part of the data, at a learning rate that does not fall.

        Mean and scale of the features are those of all parts so far.

        Parameters
        ----------
        X : array of shape (n_rows, n_features)
        y : array of shape (n_rows,) or (n_rows, n_labels)
        classes : array of shape (n_classes,), optional
            All classes that will ever come; needed in the first call, unless ``y`` has a column for each label.
        sample_weight : array of shape (n_rows,), optional

        Returns
        -------
        MLPHead
            Itself.

        Raises
        ------
        InputError
            As in ``fit``, and if classes are missing, or others than in the first call.
        """
        self._check_parameters()
        if isinstance(self.class_weight, str):
            raise InputError(
                "class_weight is 'balanced', which partial_fit cannot know before it has seen all rows; "
                "expected None or a dict: compute the weights and give those"
            )
        is_first = not hasattr(self, "weights_")
        warm_start = None if is_first else self._make_warm_start()
        X, y = validate_data(self, X, keep_label_types(y), dtype=FEATURE_TYPES, multi_output=True, reset=is_first)
        y = validate_labels(y)
        self._check_classes(y, classes, is_first=is_first)
        self._partial_fit(X, y, sample_weight, warm_start=warm_start)
        return self

    def decision_function(self, X: Any) -> Array:
        """Return scores before softmax or sigmoid.

        Parameters
        ----------
        X : array of shape (n_rows, n_features)

        Returns
        -------
        ndarray of shape (n_rows, n_classes), (n_rows, n_labels), or with two classes (n_rows,)
            With two classes positive where the second is more probable. float32 if ``X`` is, else float64.
        """
        outputs = self._compute_outputs(X)
        return outputs[:, 1] - outputs[:, 0] if self._is_binary() else outputs

    def _loss(self) -> str:
        return "labels" if self.multilabel_ else "classes"

    def _check_classes(self, y: Array, classes: Any, is_first: bool) -> None:
        """Note the classes of the first partial_fit, or check that those of another are the same."""
        given = None if classes is None else np.unique(np.asarray(classes))
        if is_first:
            if y.ndim == 1 and given is None:
                raise InputError("classes is missing; the first call of partial_fit expects all classes that will come")
            self._note_labels(y, classes=np.arange(y.shape[1]) if given is None else given)
        if given is not None and not np.array_equal(given, self.classes_):
            raise InputError(f"classes is {classes!r}; expected those of the first call, {self.classes_.tolist()}")
        expected_shape = (len(y), len(self.classes_)) if self.multilabel_ else (len(y),)
        if y.shape != expected_shape:
            raise InputError(f"y has shape {y.shape}, which does not fit the {len(self.classes_)} classes or labels")

    def _encode_targets(self, rows: WeightedRows, *, is_partial: bool) -> WeightedRows:
        y = rows.target
        if not is_partial:
            classes = np.unique(y) if y.ndim == 1 else np.arange(y.shape[1])
            self._note_labels(y, classes)
        target = encode_with_classes(y, self.classes_) if y.ndim == 1 else y.astype(np.float32)
        return WeightedRows(rows.X, target, rows.weight)

    def _prepare_targets(self, rows: WeightedRows, warm_start: MLPWarmStart | None) -> WeightedRows:
        if self.multilabel_:
            weight = weigh_labels(self.class_weight, self.classes_, targets=rows.target, weights=rows.weight)
        else:
            weight = weigh_rows(self.class_weight, self.classes_, codes=rows.target, weights=rows.weight)
        return WeightedRows(rows.X, rows.target, weight)
