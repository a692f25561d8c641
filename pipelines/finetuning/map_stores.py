"""The store that the maps of cuts are in: which it has, what they take, and computing those that it lacks."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import InputError
from ...extract.extractor.extractor import Extractor, ItemFeatures
from ...extract.graphs.pooling import UNPOOLED, satisfies
from ...extract.jobs.job import extract_features
from ...extract.store.description import is_store
from ...extract.store.feature_store import FeatureStore
from ..estimators.item_features import LOCK_PATIENCE_SECONDS, match_rows, warn_of_pending
from .cuts import keep_within_disk
from .stored_maps import MapsOfCuts, StoredMaps

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...extract.graphs.cut import Column
    from ...extract.graphs.layer import Layer
    from ...extract.sources.item import Source

MAP_DTYPE = "float16"
"""Of maps in a new store: half the bytes, and an error of 1 in 2,000."""


@contextlib.contextmanager
def choose_map_folder(store: str | Path | None) -> Iterator[Path]:
    """Yield the folder of a store of maps: the one that is named, or else a temporary one."""
    if store is not None:
        yield Path(store)
        return
    with tempfile.TemporaryDirectory(prefix="topwork-maps-") as folder:
        yield Path(folder) / "maps"


def list_stored_cuts(store: FeatureStore, end: str) -> list[str]:
    """Return the layers, other than the last one that is kept, of which a store has whole maps."""
    names = [column.layer for column in store.columns if is_whole(column) and column.layer != end]
    if not names:
        raise InputError(
            f"{store.path} has no whole maps, which layers are trained from; expected a store made with --pool none"
        )
    return names


def find_affordable_cuts(
    columns: Sequence[Column], source: Source, folder: Path, views: int, max_disk: float | None
) -> list[str]:
    """Return the cuts whose maps of some items, and of their views, fit into `max_disk` bytes in a folder.

    If the folder has maps of all these items at some cuts already, these are the cuts. Raise an InputError if none
    fits.
    """
    dtype = MAP_DTYPE
    if is_store(folder):
        store = FeatureStore.open(folder)
        views, dtype = views or store.n_views, store.columns[0].dtype
        if max_disk is not None and len(np.unique(match_rows(source, store.groups)[0])) == len(source):
            stored = [column.layer for column in columns if find_column(store, column.layer) is not None]
            if stored:
                return stored
    return keep_within_disk(columns, len(source) * (1 + views), max_disk, dtype)


def compute_maps(
    source: Source, extractor: Extractor, folder: Path, layers: Mapping[str, Layer], views: int
) -> ItemFeatures:
    """Return the maps of items, and of their views, at some cuts as :class:`MapsOfCuts`; missing ones are computed."""
    store = FeatureStore.open_or_create(folder, extractor, MAP_DTYPE, adds_columns=True)
    config = extractor.run_config
    ledger = extract_features(source, store, config=config, patience=LOCK_PATIENCE_SECONDS, views=views or None)
    if any(find_column(store, cut) is None for cut in layers):
        store.add_columns(extractor, source, config=config, patience=LOCK_PATIENCE_SECONDS, partial=True)
    warn_of_pending(store)
    kept, rows = match_rows(source, store.groups)
    maps: Any = open_maps(store, rows, extractor.columns, layers)
    return ItemFeatures(maps, kept, ledger.failures)


def open_maps(
    store: FeatureStore, rows: NDArray[np.intp], columns: Sequence[Column], layers: Mapping[str, Layer]
) -> MapsOfCuts:
    """Return the maps of some rows of a store at some cuts; the columns are what an extractor of them computes."""
    maps = {}
    for cut, layer in layers.items():
        column = find_column(store, cut)
        if column is not None:
            maps[cut] = StoredMaps(store.matrix(column), rows, layer)
            continue
        # A column that some rows of the store lack is none of its matrices.
        wanted = next(column for column in columns if column.layer == cut)
        ids = store.ids
        maps[cut] = StoredMaps(store.take([ids[row] for row in rows], wanted), np.arange(len(rows)), layer)
    return MapsOfCuts(maps)


def find_column(store: FeatureStore, cut: str) -> Column | None:
    """Return the column of the maps of a cut in a store, None if it has none."""
    return next((column for column in store.columns if column.layer == cut and is_whole(column)), None)


def is_whole(column: Column) -> bool:
    """Return whether a column holds whole values of its layer."""
    return satisfies(column.pool, UNPOOLED) and not column.normalize
