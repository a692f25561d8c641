"""Features and labels of whatever the user has: items, a source, a store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...errors import InputError
from ...extract.extractor.extractor import Extractor
from ...extract.jobs.job import extract_features
from ...extract.sources.item import Source
from ...extract.sources.views import ViewedSource
from ...extract.store.feature_store import FeatureStore
from ...heads.targets import are_missing, to_label_array
from .foreign_extractor import ForeignExtractor

if TYPE_CHECKING:
    from numpy.typing import NDArray

PATIENCE = 600.0
"""Seconds for which a fit waits for another that fills the same store, as in a parallel search."""


class Features(NamedTuple):
    """Features of the items that could be used, and what became of the others.

    ``kept`` are the positions of the used ones among all items, ``failures`` id and reason of the others.
    """

    matrix: NDArray[np.float32]
    kept: NDArray[np.intp]
    failures: list[tuple[str, str]]


def features_of(extractor: Extractor, X: Any) -> Features:
    """Return the features of items, or those of a store if they are of the same backbone and columns.

    Parameters
    ----------
    extractor : Extractor
    X : sequence, path or FeatureStore

    Raises
    ------
    IdentityError
        If a store's features are those of another backbone or lack a column.
    """
    if not isinstance(X, FeatureStore):
        return Features(extractor.transform(X), extractor.kept_, extractor.failures_)
    admit(X, extractor)
    matrices = [np.asarray(X.matrix(column.name), np.float32) for column in extractor.columns]
    matrix = matrices[0] if len(matrices) == 1 else np.concatenate(matrices, axis=1)
    return Features(matrix, np.arange(len(matrix)), X.failures())


def admit(store: FeatureStore, extractor: Extractor) -> None:
    """Check that an extractor's features are those of a store.

    Parameters
    ----------
    store : FeatureStore
    extractor : Extractor
        One of foreign features is compared, and computes nothing.

    Raises
    ------
    IdentityError
        If they are of another backbone, or the store lacks a column.
    """
    if isinstance(extractor, ForeignExtractor):
        store.require_columns(extractor.identity, extractor.columns)
    else:
        store.admit(extractor)


def stored_features_of(extractor: Extractor, source: Source, path: Path, views: int | None = None) -> Features:
    """Return the features of items, and of their views, by way of a store, which is made or added to.

    Parameters
    ----------
    extractor : Extractor
    source : Source
    path : Path
        The store.
    views : int, optional
        How many augmented versions of each image; by default as many as the store has.
    """
    store = FeatureStore.open_or_create(path, extractor)
    ledger = extract_features(
        source,
        store,
        config=extractor.run_config,
        patience=PATIENCE,
        views=views,
    )
    positions = {item.id: position for position, item in enumerate(source)}
    places = [(positions[item_id], row) for row, item_id in enumerate(store.groups) if item_id in positions]
    kept, wanted = np.array(sorted(places), np.intp).reshape(-1, 2).T
    return Features(features_of(extractor, store).matrix[wanted], kept, ledger.failures)


def viewed_features_of(extractor: Extractor, source: Source, views: int) -> Features:
    """Return the features of items, and of some augmented versions of each image."""
    viewed = ViewedSource(source, views, extractor.graph.input_spec.kind)
    features = features_of(extractor, viewed)
    originals = np.cumsum([item.group is None for item in viewed]) - 1
    return features._replace(kept=originals[features.kept])


def is_no_view(X: Source | FeatureStore) -> NDArray[np.bool_]:
    """Tell which of the items, or of a store's rows, are no augmented versions of others."""
    if isinstance(X, FeatureStore):
        return np.array([group == item_id for group, item_id in zip(X.groups, X.ids, strict=True)], bool)
    return np.array([item.group is None for item in X], bool)


def ids_of(X: Source | FeatureStore) -> NDArray[Any]:
    """Return the ids of items, or of a store's rows, as an array of objects."""
    return np.array(X.ids if isinstance(X, FeatureStore) else [item.id for item in X], dtype=object)


def groups_of(X: Source | FeatureStore, kept: NDArray[np.intp], groups: NDArray[Any] | None) -> NDArray[np.intp] | None:
    """Return a number for each kept row that it shares with what belongs to it; None if all are on their own.

    Parameters
    ----------
    X : Source or FeatureStore
    kept : ndarray of int
        Positions of rows among the items; views have that of their item.
    groups : ndarray of shape (n_items,), optional
        The user's.
    """
    if groups is None and isinstance(X, FeatureStore) and X.n_views:
        groups = np.array(X.groups)
    if groups is None and len(np.unique(kept)) == len(kept):
        return None
    places: NDArray[np.intp] = np.unique((kept if groups is None else groups[kept]), return_inverse=True)[1]
    return places


def n_axes(y: Any) -> int:
    """Return 1 for one target for each item, 2 for several; tuples beside other things are labels."""
    try:
        return int(np.ndim(y))
    except ValueError:
        return 1


def labels_of(X: Source | FeatureStore, y: Any = None) -> NDArray[Any]:
    """Return the user's labels (or values), or the source's own, for each item.

    Parameters
    ----------
    X : Source or FeatureStore
    y : array-like of shape (n_items,) or (n_items, n_targets), optional

    Returns
    -------
    ndarray
        Of the shape of `y`, and of its type; of objects where there are several types.

    Raises
    ------
    InputError
        If a label is missing.
    """
    if isinstance(X, FeatureStore):
        own, count = X.labels, len(X.ids)
    else:
        own, count = [item.label for item in X] if y is None else [], len(X)
    given = own if y is None else y
    array = to_label_array(given)
    if array.dtype.kind == "U" and not isinstance(given, (list, tuple)):
        array = np.asarray(given)  # texts may stay objects: estimators can sort them
    if array.ndim not in (1, 2) or len(array) != count:
        raise InputError(f"{count} items but labels of shape {array.shape}; expected one label for each item")
    missing = int(are_missing(array).sum())
    if missing:
        raise InputError(
            f"{missing} of {count} items have no label; pass y, or put the items into folders named after their labels"
        )
    return array
