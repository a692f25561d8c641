"""Features of items, of a source, or of a store, for an estimator's extractor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import StoreLockedError, StoreWriteError, reason, warn_caller
from ...extract.extractor.extractor import Extractor, ItemFeatures
from ...extract.jobs.job import extract_features
from ...extract.sources.item import Source
from ...extract.sources.selected import UnlabelledSource
from ...extract.sources.views import ViewedSource
from ...extract.store.feature_store import FeatureStore
from ...extract.store.pending import Pending
from ...large_arrays import join_columns, take_rows
from .foreign_extractor import ForeignExtractor

if TYPE_CHECKING:
    from numpy.typing import NDArray

LOCK_PATIENCE_SECONDS = 600.0
"""Time for which a fit waits for another that fills the same store, as in a parallel search."""


def compute_features(extractor: Extractor, X: Any) -> ItemFeatures:
    """Compute the features of items, or read those of a store.

    Raise an IdentityError if the features of a store are of another backbone, or a column is missing.
    """
    if not isinstance(X, FeatureStore):
        return extractor.compute(X)
    require_same_features(X, extractor)
    warn_of_pending(X)
    matrix = join_columns([X.matrix(column.name) for column in extractor.columns], np.float32)
    return ItemFeatures(matrix, np.arange(len(matrix)), X.failures())


def warn_of_pending(store: FeatureStore) -> None:
    """Warn of items of a store that have to be computed again."""
    n_pending = count_pending(store)
    if n_pending:
        warn_caller(
            f"{n_pending} items of {store.path} are pending and were left out, as after a repair: compute them again "
            "with extract_features (`topwork extract`) and their source",
        )


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
    store = FeatureStore.open_or_create(path, extractor, adds_columns=True)
    ledger = extract_features(
        source,
        store,
        config=extractor.run_config,
        patience=LOCK_PATIENCE_SECONDS,
        views=views,
    )
    warn_of_pending(store)
    return take_features(extractor, source, store, ids_of_rows=store.groups, failures=ledger.failures)


def compute_kept_features(extractor: Extractor, source: Source, path: Path) -> ItemFeatures:
    """Return the features of items to predict, from the store at `path`, to which those are added that it lacks.

    Neither labels nor views are added, and no row is replaced: an item whose id has other content in the store is
    computed and not kept. If the store cannot be written, nothing is kept.
    """
    store = FeatureStore.open(path)
    store.admit(extractor, adds_columns=True)
    pending = Pending(store.index)
    pending.find_changed(source, store.index)
    is_kept = np.fromiter((item.id not in pending.changed for item in source), bool, len(source))
    if not is_kept.all():
        return compute_features(extractor, source)
    unlabelled = UnlabelledSource(source)
    try:
        ledger = extract_features(
            unlabelled,
            store,
            config=extractor.run_config,
            patience=LOCK_PATIENCE_SECONDS,
            views=0,
            compact=False,
        )
        features = take_features(extractor, unlabelled, store, ids_of_rows=store.ids, failures=ledger.failures)
    except (StoreLockedError, StoreWriteError) as error:
        warn_caller(f"features of new items are not kept in {path}: {reason(error)}")
        return compute_features(extractor, source)
    if features.failures:
        warn_caller(f"{len(features.failures)} of {len(source)} items failed and have no row")
    return features


def take_features(
    extractor: Extractor,
    source: Source,
    store: FeatureStore,
    *,
    ids_of_rows: Sequence[str],
    failures: list[tuple[str, str]],
) -> ItemFeatures:
    """Return the features of a source's items from a store that has their rows, adding the columns that it lacks.

    `ids_of_rows` are the items that the rows belong to. The features are in the order of the source.
    """
    kept, rows = match_rows(source, ids_of_rows)
    own_ids = store.ids
    ids = [own_ids[row] for row in rows]
    found = [store.find_features(ids, column) for column in extractor.columns]
    matrices = [matrix for matrix in found if matrix is not None]
    if len(matrices) < len(found):
        config = extractor.run_config
        store.add_columns(extractor, source, config=config, patience=LOCK_PATIENCE_SECONDS, partial=True)
        matrices = [store.take(ids, column) for column in extractor.columns]
    matrix = join_columns(matrices, np.float32)
    return ItemFeatures(matrix, kept, failures)


def match_rows(source: Source, ids_of_rows: Sequence[str]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the position of the item of each row that is of a source, and the row, in the order of the source."""
    positions = {item.id: position for position, item in enumerate(source)}
    pairs = sorted((positions[item_id], row) for row, item_id in enumerate(ids_of_rows) if item_id in positions)
    kept, rows = np.array(pairs, np.intp).reshape(-1, 2).T
    return kept, rows


def compute_viewed_features(extractor: Extractor, source: Source, views: int) -> ItemFeatures:
    """Compute the features of items, and of some augmented versions of each image."""
    viewed = ViewedSource(source, views, extractor.graph.input_spec.kind)
    features = compute_features(extractor, viewed)
    originals = np.cumsum([item.group is None for item in viewed]) - 1  # each original precedes its views
    return features._replace(kept=originals[features.kept])


def select_items(features: ItemFeatures, is_selected: NDArray[np.bool_]) -> ItemFeatures:
    """Return the rows of some of the items; `kept` then holds places among these."""
    is_kept = is_selected[features.kept]
    if is_selected.all():
        return features
    place_of_item = np.cumsum(is_selected) - 1
    matrix = take_rows(features.matrix, np.flatnonzero(is_kept))
    return features._replace(matrix=matrix, kept=place_of_item[features.kept[is_kept]])
