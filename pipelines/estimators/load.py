"""Load a bundle as the estimator that saved it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.base import clone

from ...errors import MALFORMED, BundleError, InputError
from ..bundle.bundle_files import BundleContents, read_bundle
from ..bundle.manifest import MANIFEST
from .transfer_classifier import TransferClassifier
from .transfer_regressor import TransferRegressor

TRIAL_ROWS = 2


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
        If the folder is not a bundle, a file is missing or changed, the head holds a type that is not trusted, or it
        cannot predict.
    """
    contents = read_bundle(Path(path), trusted)
    try:
        estimator = restore_estimator(contents)
    except BundleError as error:
        raise BundleError(f"{Path(path) / MANIFEST}: {error}") from error
    except InputError:
        raise
    except MALFORMED as error:
        raise BundleError(f"{Path(path) / MANIFEST} is damaged: {error!r}. Save the bundle again.") from error
    check_predicts(estimator, Path(path))
    return estimator


def check_predicts(estimator: TransferClassifier | TransferRegressor, path: Path) -> None:
    """Raise a BundleError if the head cannot predict features of the graph's width; its file may be damaged."""
    width = sum(column.width for column in estimator.extractor_.columns)
    features = np.random.default_rng(0).normal(size=(TRIAL_ROWS, width)).astype(np.float32)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            n_predictions = len(estimator.predict_features(features))
    except Exception as error:  # of a damaged head, of any kind
        raise BundleError(
            f"the head of {path} cannot predict {width} features: {error!r}. Save the bundle again."
        ) from error
    if n_predictions != TRIAL_ROWS:
        raise BundleError(f"the head of {path} predicts {n_predictions} labels for {TRIAL_ROWS} items. Save it again.")


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
