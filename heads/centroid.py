"""A nearest centroid classifier that can be fitted to one row of each class."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.neighbors import NearestCentroid


class Centroid(NearestCentroid):  # type: ignore[misc]
    """scikit-learn's nearest centroid classifier, with probabilities even where each class has one row.

    The deviation within classes, which scales distances for probabilities, is then not a number; it is set to 1.
    """

    def fit(self, X: Any, y: Any) -> Centroid:
        """Compute a centroid for each class."""
        with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
            warnings.filterwarnings("ignore", message=".*zero standard deviation")
            super().fit(X, y)
        deviation: Any = getattr(self, "within_class_std_dev_")  # noqa: B009 - set by scikit-learn, which has no types
        self.within_class_std_dev_ = np.where(np.isfinite(deviation), deviation, 1.0)
        return self
