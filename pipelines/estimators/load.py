"""Load a bundle as the estimator that saved it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sklearn.base import clone

from ...errors import BundleError
from ..bundle.bundle_files import BundleContents, read_bundle
from ..bundle.manifest import MANIFEST
from .transfer_classifier import TransferClassifier
from .transfer_regressor import TransferRegressor


def load(path: str | Path, trusted: Sequence[str] = ()) -> TransferClassifier | TransferRegressor:
    """Load a bundle; nothing in it is unpickled, and torch is not needed.

    Parameters
    ----------
    path : path
        A folder that :meth:`TransferClassifier.save` wrote.
    trusted : sequence of str
        Types that the head may hold beyond those of scikit-learn, numpy and scipy that are known to be safe.

    Returns
    -------
    TransferClassifier or TransferRegressor
        Fitted.

    Raises
    ------
    BundleError
        If the folder is not a bundle, a file is missing or changed, or the head holds a type that is not trusted.
    """
    contents = read_bundle(Path(path), trusted)
    try:
        return restore_estimator(contents)
    except BundleError as error:
        raise BundleError(f"{Path(path) / MANIFEST}: {error}") from error


def restore_estimator(contents: BundleContents) -> TransferClassifier | TransferRegressor:
    """Return the estimator that was saved; raise a BundleError if the bundle's classes are not those of its head."""
    is_regression = contents.properties.get("task") == "regression"
    kind = TransferRegressor if is_regression else TransferClassifier
    estimator = kind.from_graph(contents.graph, head=unfitted_head(contents))
    estimator.restore(contents)
    return estimator


def unfitted_head(contents: BundleContents) -> object:
    """Return the parameter ``head`` of the estimator: a name, or an estimator without its calibration."""
    if contents.head_name is not None:
        return contents.head_name
    if contents.properties.get("calibrate", False):
        return clone(contents.head.estimator)
    return clone(contents.head)
