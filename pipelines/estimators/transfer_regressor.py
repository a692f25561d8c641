"""``TransferRegressor``: values of raw items, from a backbone's features and a head."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import RegressorMixin, is_regressor

from ...errors import InputError
from ...heads.metrics import compute_r2
from .training_rows import TrainingRows
from .transfer_estimator import TransferEstimator

if TYPE_CHECKING:
    from numpy.typing import NDArray


class TransferRegressor(RegressorMixin, TransferEstimator):  # type: ignore[misc]
    """A frozen backbone with a head that predicts values.

    Parameters
    ----------
    backbone, layer, pool
        As for :class:`topwork.Extractor`.
    head : str or estimator
        A name from ``topwork heads`` that is made for values (``linear`` is a ridge regression whose penalty is chosen
        by leave-one-out), or any scikit-learn regressor.
    store, normalize, precision, provider, batch_size, on_error, max_pixels, views, cv
        As for :class:`topwork.TransferClassifier`.

    Attributes
    ----------
    extractor_ : Extractor
    head_ : estimator
        Fitted on the features.
    n_targets_ : int or None
        Values for each item; None where `y` was a vector.
    n_rows_ : int
        Number of items that the head was trained on.
    fit_report_ : FitReport or None
        R2 in training beside that of held-out rows.
    failures_ : list of (str, str)
        Id and reason of items that could not be used.

    Examples
    --------
    >>> grey = [np.full((40, 40, 3), level, np.uint8) for level in range(0, 250, 10)]
    >>> regressor = TransferRegressor("topwork:tiny").fit(grey, range(0, 250, 10))
    >>> bool(abs(regressor.predict([np.full((40, 40, 3), 105, np.uint8)])[0] - 105) < 20)
    True
    """

    metric = "R2"

    def _task(self, y: Any) -> str:
        return "regression"

    def unfitted_head(self, y: Any) -> Any:
        """Return the head, unfitted; what is wrong with it is found before features are computed."""
        head = super().unfitted_head(y)
        if not is_regressor(head):
            raise InputError(
                f"head is a {type(head).__name__}, which is no regressor; expected one that predicts values"
            )
        return head

    def n_columns(self) -> int | None:
        """Return the number of values of each item, or None for one."""
        return self.n_targets_

    def as_targets(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Return labels as numbers."""
        try:
            numbers = labels.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(f"values to predict: {error}; expected a number for each item") from error
        if not np.isfinite(numbers).all():
            raise InputError("values to predict are not all finite; expected a number for each item")
        return numbers

    def _note_head(self, rows: TrainingRows) -> None:
        self.n_targets_ = None if rows.y.ndim == 1 else rows.y.shape[1]

    def predictions(self, matrix: NDArray[np.float32]) -> NDArray[Any]:
        """Return values for features ``(n_items, n_features)``."""
        shape = (len(matrix),) if self.n_targets_ is None else (len(matrix), self.n_targets_)
        found = self.head_.predict(matrix) if len(matrix) else np.empty(shape)
        return np.asarray(found, np.float64).reshape(shape)

    def facts(self) -> dict[str, Any]:
        """Return what a bundle keeps beside graph and head."""
        return {"task": "regression", "classes": None, "n_targets": self.n_targets_}

    def restore(self, facts: dict[str, Any], head: Any) -> None:
        """Take over a head and the :meth:`facts` that were kept of it."""
        self.head_, self.n_targets_ = head, facts["n_targets"]

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return the R2 on items, views left out; without `y`, on the source's own labels."""
        return self._score(X, y, sample_weight)

    def score_of(self, targets: NDArray[Any], predicted: NDArray[Any], weights: NDArray[Any] | None = None) -> float:
        """Return R2, the mean over targets."""
        return compute_r2(targets, predicted, weights)
