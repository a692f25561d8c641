"""``TransferRegressor``: a backbone's features and a head that predicts values of raw items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import RegressorMixin, is_regressor

from ...errors import InputError
from ...heads.metrics import R2
from ...heads.registry import learn_several_values
from ..fused.parity import FittedPipeline
from .training_set import TrainingSet
from .transfer_estimator import TransferEstimator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...heads.label_formats import GivenLabels
    from ..bundle.bundle_files import BundleContents


class TransferRegressor(RegressorMixin, TransferEstimator):  # type: ignore[misc]
    """A frozen backbone with a head that predicts values.

    Parameters
    ----------
    backbone, layer, pool
        As for :class:`topwork.Extractor`. With the layer "auto", ``fit`` compares layers at the ends of the backbone's
        blocks (of an existing store, all of its columns) on at most 3,000 items, then, where `pool` is "auto",
        poolings of the best three, and their concatenations, and takes the cheapest that is as good as the best within
        one standard error, and one point; see ``search_``.
    head : str or estimator
        A name from ``topwork heads`` that predicts values (``linear`` is a ridge regression whose penalty is chosen by
        leave-one-out), or any scikit-learn regressor.
    store, normalize, precision, provider, batch_size, on_error, max_pixels, views, cv, head_params, progress, fidelity
        As for :class:`topwork.TransferClassifier`.

    Attributes
    ----------
    extractor_ : Extractor
    head_ : estimator
        Fitted on the features.
    n_targets_ : int or None
        Number of values for each item; None if `y` was a vector.
    n_rows_ : int
        Number of items that the head was trained on.
    fit_report_ : FitReport or None
        R2 on the training rows and on held-out rows.
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
    >>> grey = [np.full((40, 40, 3), level, np.uint8) for level in range(0, 250, 10)]
    >>> regressor = TransferRegressor("topwork:tiny").fit(grey, range(0, 250, 10))
    >>> bool(abs(regressor.predict([np.full((40, 40, 3), 105, np.uint8)])[0] - 105) < 20)
    True
    """

    metric = R2

    def unfitted_head(self, y: Any) -> Any:
        """Return the head, unfitted; an unsuitable one is reported before features are computed."""
        head = super().unfitted_head(y)
        if y is not None and np.ndim(y) > 1:
            head = learn_several_values(head)
        if not is_regressor(head):
            raise InputError(
                f"head is a {type(head).__name__}, which is no regressor; expected one that predicts values"
            )
        return head

    def find_task(self, y: Any) -> str:
        """Return "regression"."""
        return "regression"

    def n_outputs(self) -> int | None:
        """Return the number of values of each item, or None if values are a vector."""
        return self.n_targets_

    def as_targets(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Return labels as finite numbers."""
        try:
            numbers = labels.astype(np.float64)
        except (TypeError, ValueError) as error:
            value = find_non_number(labels)
            raise InputError(
                f"the value to predict {value!r} is no number; expected a number for each item, or a classification "
                "(--task classification, TransferClassifier)"
            ) from error
        if not np.isfinite(numbers).all():
            raise InputError("values to predict are not all finite; expected a number for each item")
        return numbers

    def require_own_labels(self, labels: GivenLabels) -> None:
        """Raise an InputError for lists of labels."""
        if labels.names is not None:
            raise InputError("the items have lists of labels; expected a number for each item, or values as y")

    def _record_targets(self, rows: TrainingSet) -> None:
        self.n_targets_ = None if rows.y.ndim == 1 else rows.y.shape[1]

    def predict_features(self, matrix: NDArray[np.float32]) -> NDArray[Any]:
        """Predict the values of features ``(n_items, n_features)``."""
        shape: tuple[int, ...] = (len(matrix),)
        if self.n_targets_ is not None:
            shape = (len(matrix), self.n_targets_)
        if not len(matrix):
            return np.empty(shape)
        return np.asarray(self.head_.predict(matrix), np.float64).reshape(shape)

    def score(
        self, X: Any, y: Any = None, sample_weight: Any = None, split: str | Sequence[str] | None = None
    ) -> float:
        """Return the R2 on items without their views; without `y`, on the source's own labels."""
        return self._score(X, y, sample_weight, split)

    def _bundle_properties(self) -> dict[str, Any]:
        return {"task": "regression", "classes": None, "n_targets": self.n_targets_}

    def restore(self, contents: BundleContents) -> None:
        """Set the fitted attributes from the contents of a bundle."""
        super().restore(contents)
        self.n_targets_ = contents.properties["n_targets"]

    def _fitted_pipeline(self) -> FittedPipeline:
        return FittedPipeline(self.extractor_.graph, self.extractor_.columns, self.head_, familiarity=self.familiarity_)


def find_non_number(labels: NDArray[Any]) -> Any:
    """Return the first label that is no number; None if that cannot be told."""
    for label in labels.ravel().tolist():
        try:
            float(label)
        except (TypeError, ValueError):
            return label
    return None
