"""Gaussian processes for few rows, which refuse more rows instead of taking hours."""

from __future__ import annotations

from typing import Any

from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor

from ..errors import InputError

MAX_ROWS = 1000


def check_number_of_rows(X: Any) -> None:
    """Check that there are not too many rows for a Gaussian process."""
    count = len(X) if hasattr(X, "__len__") else 0
    if count > MAX_ROWS:
        raise InputError(
            f"a Gaussian process for {count:,} rows: its time grows with the cube of their number, its memory with the "
            f"square; expected at most {MAX_ROWS:,} rows. Use another head (linear, svm, mlp), or fewer rows"
        )


class SmallGaussianProcessClassifier(GaussianProcessClassifier):  # type: ignore[misc]
    """scikit-learn's Gaussian process classifier, for at most 1,000 rows."""

    def fit(self, X: Any, y: Any) -> SmallGaussianProcessClassifier:
        """Fit to labelled features; more than 1,000 rows are an error."""
        check_number_of_rows(X)
        super().fit(X, y)
        return self


class SmallGaussianProcessRegressor(GaussianProcessRegressor):  # type: ignore[misc]
    """scikit-learn's Gaussian process regressor, for at most 1,000 rows."""

    def fit(self, X: Any, y: Any) -> SmallGaussianProcessRegressor:
        """Fit to features with values; more than 1,000 rows are an error."""
        check_number_of_rows(X)
        super().fit(X, y)
        return self
