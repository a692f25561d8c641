"""A nearest centroid classifier that one label for each class is enough for."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.neighbors import NearestCentroid


class Centroid(NearestCentroid):  # type: ignore[misc]
    """scikit-learn's nearest centroid classifier, with probabilities even where each class has one item.

    The spread within the classes, by which probabilities divide, is then not a number; it is taken as one.
    """

    def fit(self, X: Any, y: Any) -> Centroid:
        """Compute a centroid for each class.

        Parameters
        ----------
        X : array of shape (n_rows, n_features)
        y : array of shape (n_rows,)

        Returns
        -------
        Centroid
            Itself.
        """
        with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
            warnings.filterwarnings("ignore", message=".*zero standard deviation")
            super().fit(X, y)
        spread: Any = getattr(self, "within_class_std_dev_")  # noqa: B009 - set by scikit-learn, which has no types
        self.within_class_std_dev_ = np.where(np.isfinite(spread), spread, 1.0)
        return self
