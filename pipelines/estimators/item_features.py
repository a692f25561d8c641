"""Features of items, of a source, or of a store, for an estimator's extractor."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...extract.extractor.extractor import Extractor
from ...extract.jobs.job import extract_features
from ...extract.sources.item import Source
from ...extract.sources.views import ViewedSource
from ...extract.store.feature_store import FeatureStore
from .foreign_extractor import ForeignExtractor

if TYPE_CHECKING:
    from numpy.typing import NDArray

LOCK_PATIENCE_SECONDS = 600.0
"""Time for which a fit waits for another that fills the same store, as in a parallel search."""


class ItemFeatures(NamedTuple):
    """Features ``(n_rows, n_features)`` of the items that could be used, and the failures of the others.

    `kept` holds the position of the item of each row among all items, `failures` the id and reason of each item that
    could not be used.
    """

    matrix: NDArray[np.float32]
    kept: NDArray[np.intp]
    failures: list[tuple[str, str]]


def compute_features(extractor: Extractor, X: Any) -> ItemFeatures:
    """Compute the features of items, or read those of a store.

    Raise an IdentityError if the features of a store are of another backbone, or a column is missing.
    """
    if not isinstance(X, FeatureStore):
        return ItemFeatures(extractor.transform(X), extractor.kept_, extractor.failures_)
    require_same_features(X, extractor)
    n_pending = count_pending(X)
    if n_pending:
        warnings.warn(
            f"{n_pending} items of {X.path} are pending and were left out, as after a repair: compute them again with "
            "extract_features (`topwork extract`) and their source",
            stacklevel=2,
        )
    matrices = [np.asarray(X.matrix(column.name), np.float32) for column in extractor.columns]
    matrix = matrices[0] if len(matrices) == 1 else np.concatenate(matrices, axis=1)
    return ItemFeatures(matrix, np.arange(len(matrix)), X.failures())


def count_pending(store: FeatureStore) -> int:
    """Return the number of items of a store that have to be computed again."""
    return store.index.counts().get("pending", 0)


def require_same_features(store: FeatureStore, extractor: Extractor) -> None:
    """Raise an IdentityError if the features of a store are of another backbone, or a column is missing.

    The extractor adopts the precision of the store; a :class:`ForeignExtractor` is only compared.
    """
    if isinstance(extractor, ForeignExtractor):
        store.require_columns(extractor.identity, extractor.columns)
    else:
        store.admit(extractor)


def compute_stored_features(extractor: Extractor, source: Source, path: Path, views: int | None = None) -> ItemFeatures:
    """Return the features of items and of their views, computing only those that a store lacks.

    The store at `path` is created or added to. `views` is the number of augmented versions of each image, by default as
    many as the store has.
    """
    store = FeatureStore.open_or_create(path, extractor)
    ledger = extract_features(
        source,
        store,
        config=extractor.run_config,
        patience=LOCK_PATIENCE_SECONDS,
        views=views,
    )
    # Select the rows of the source's items, in the order of the source.
    positions = {item.id: position for position, item in enumerate(source)}
    pairs = sorted((positions[item_id], row) for row, item_id in enumerate(store.groups) if item_id in positions)
    kept, rows = np.array(pairs, np.intp).reshape(-1, 2).T
    return ItemFeatures(compute_features(extractor, store).matrix[rows], kept, ledger.failures)


def compute_viewed_features(extractor: Extractor, source: Source, views: int) -> ItemFeatures:
    """Compute the features of items, and of some augmented versions of each image."""
    viewed = ViewedSource(source, views, extractor.graph.input_spec.kind)
    features = compute_features(extractor, viewed)
    originals = np.cumsum([item.group is None for item in viewed]) - 1  # each original precedes its views
    return features._replace(kept=originals[features.kept])
