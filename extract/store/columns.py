"""Add columns to a store: only their features are computed, for all items that have rows."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...errors import IdentityError, InputError, StoppedError
from ...hardware import available_cores
from ...identity import require_same
from ..engine.batching import DEFAULT_BATCH_SIZES
from ..engine.engine import compute_features
from ..engine.ledger import Ledger
from ..engine.result import Result
from ..graphs.editing import merge_graphs, select_columns
from ..graphs.same_model import require_same_computation
from ..preprocess.by_kind import preprocessor_for
from ..runtime.providers import is_found_on_items, parse_family
from .block_matrix import BlockMatrix
from .content import StoreContent
from .filled_rows import FilledRows
from .log import Action
from .part import Row, rows_to_table, write_part
from .pending import group_items
from .segment import NO_PLACE, parse_digests
from .state import UnfinishedColumns, assign_keys
from .writer import StoreWriter

if TYPE_CHECKING:
    from ..engine.run_config import RunConfig
    from ..graphs.exported_graph import ExportedGraph
    from ..runtime.session import Session
    from ..sources.item import Item, Source
    from .description import FeatureExtractor


def find_new_columns(store: StoreContent, extractor: FeatureExtractor) -> list[str]:
    """Return the extractor's columns that a store lacks, by name; the extractor adopts the store's precision.

    Raise an IdentityError if they cannot be computed as the store's are: with another backbone, or in another
    precision.
    """
    require_same(extractor.identity, store.identity, f"the backbone is not that of {store.place}")
    precision = require_addable_precision(store, extractor.precision)
    extractor.precision_ = precision
    require_same_computation(extractor.graph, store.graph, f"the backbone is not that of {store.place}")
    own_names = {column.name for column in store.columns}
    store.require_columns(extractor.identity, [column for column in extractor.columns if column.name in own_names])
    extractor_precision = extractor.graph.metadata.precision
    if parse_family(extractor_precision) != precision:
        raise IdentityError(f"the extractor's graph is in {extractor_precision}; expected {precision}")
    return [column.name for column in extractor.columns if column.name not in own_names]


def require_addable_precision(store: StoreContent, wanted: str) -> str:
    """Return the precision of a store's graph after checking that columns of the wanted one can be added."""
    metadata = store.graph.metadata
    is_mixed = bool(metadata.float32_until) or is_found_on_items(metadata.precision)
    if is_mixed or wanted not in ("auto", metadata.precision):
        raise IdentityError(
            f"the features of {store.place} are computed in {metadata.precision}; a column can be added in fp32, bf16 "
            f"or fp16, and in the same precision. The extractor's is {wanted!r}: create another store for it."
        )
    return metadata.precision


def fill_columns(
    *,
    writer: StoreWriter,
    graph: ExportedGraph,
    names: list[str],
    source: Source,
    config: RunConfig,
    is_partial: bool = False,
) -> Ledger:
    """Compute the named columns for all rows of a store, and add them when every row has them.

    An item that fails stops the run, whatever its error policy; what was computed is kept. `graph` may compute other
    columns, too; items of the source that the store does not know are ignored. With `is_partial`, rows may be missing
    in the source, and other unfinished columns are kept beside these.
    """
    with tempfile.TemporaryDirectory() as folder:
        new_graph = select_columns(graph, names, Path(folder) / "graph.onnx")
        session = new_graph.open(config.provider, available_cores())
        filling = Filling(writer, new_graph, keeps_others=is_partial)
        ledger = filling.compute(source, session, config)
        if is_partial and len(filling.filled.find_missing()):
            return ledger
        filling.check_every_row_is_computed()
        merged = extend_store_graph(writer=writer, filling=filling, new_graph=new_graph, provider=config.provider)
        writer.add_columns(filling.columns, filling.matrices(), merged)
    return ledger


def start_filling(writer: StoreWriter, graph: ExportedGraph, *, keeps_others: bool) -> UnfinishedColumns:
    """Return the columns to fill: those of an interrupted run, or new ones, which are added to the log."""
    state = writer.state
    dtype = state.columns[0].column.dtype
    wanted = [replace(column, dtype=dtype) for column in graph.metadata.columns]
    for filling in state.fillings:
        if [stored.column for stored in filling.columns] == wanted:
            return filling
    known_columns = [*state.columns, *(stored for filling in state.fillings for stored in filling.columns)]
    newest_key = max(int(stored.key[1:]) for stored in known_columns)
    columns = assign_keys(wanted, first=newest_key + 1)
    details = {
        "graph": "",
        "columns": [stored.to_json() for stored in columns],
        "keeps_unfinished": keeps_others,
    }
    writer.append(Action.ADD_COLUMNS, [], details)
    return writer.state.fillings[-1]


class Filling:
    """Columns that are being added; `graph` computes them alone."""

    def __init__(self, writer: StoreWriter, graph: ExportedGraph, *, keeps_others: bool) -> None:
        self.writer = writer
        unfinished = start_filling(writer, graph, keeps_others=keeps_others)
        self.key = unfinished.key
        self.columns = unfinished.columns
        self.items = writer.index.settle()
        self.filled = FilledRows(writer.store.path, self.items, unfinished)

    def compute(self, source: Source, session: Session, config: RunConfig) -> Ledger:
        """Compute what is missing, a part at a time."""
        store = self.writer.store
        sizes = self.writer.batching() or DEFAULT_BATCH_SIZES
        preprocessor = preprocessor_for(store.graph.input_spec, config.max_pixels)
        ledger = Ledger(fingerprint=store.fingerprint)
        ledger.provider = session.provider
        ledger.runs = session.runs
        ledger.cores = available_cores()
        missing = self.find_missing(source)
        computing = compute_features(
            missing, session, preprocessor, sizes=sizes, stages=ledger.stages, workers=config.workers
        )
        with closing(computing) as results:
            while window := list(islice(results, sizes.window)):
                self.write_window(window)
                ledger.computed += len(window)
        n_rows = int(self.items.has_features.sum())
        ledger.items = n_rows
        ledger.ok = n_rows
        return ledger

    def find_missing(self, source: Source) -> Iterator[Item]:
        """Yield the first item of each content whose features are missing."""
        is_original = self.items.has_features & (self.items.numbers("original") == NO_PLACE)
        for some_items in group_items(source):
            places = self.items.find_places([item.id for item in some_items])
            for item, place in zip(some_items, places.tolist(), strict=True):
                if place != NO_PLACE and is_original[place] and self.filled.parts[place] == NO_PLACE:
                    yield item

    def write_window(self, results: list[Result]) -> None:
        """Write the features of a window as a part."""
        for result in results:
            self.check_same_content(result)
        part = self.writer.next_part()
        rows = [Row(result.item.id, result.digest, "ok", row=number) for number, result in enumerate(results)]
        vectors_by_item = [result.vectors for result in results if result.vectors]
        vectors_by_column = zip(*vectors_by_item, strict=True)
        matrices = {}
        for stored, vectors in zip(self.columns, vectors_by_column, strict=True):
            matrices[stored.key] = np.stack(vectors).astype(stored.column.dtype)
        files = write_part(self.writer.store.path / part, rows_to_table(rows), matrices)
        self.writer.append(Action.FILL_COLUMNS, files, {"part": part, "items": len(rows), "filling": self.key})
        self.filled.note(part, [row.digest for row in rows])

    def check_same_content(self, result: Result) -> None:
        """Raise an error if an item failed, or has other content than its row in the store."""
        if result.vectors is None:
            raise StoppedError(
                f"{result.item.id} failed: {result.reason}. The new columns need every row of the store."
            )
        (place,) = self.items.find_places([result.item.id])
        if parse_digests([result.digest])[0].tobytes() != self.items.digests[place].tobytes():
            raise InputError(
                f"{result.item.id!r} has other content than the row in {self.writer.store.path}: bring the store up to "
                "date with `topwork extract` first, then add the columns"
            )

    def check_every_row_is_computed(self) -> None:
        """Raise an error if a row of the store lacks the new features."""
        missing = self.filled.find_missing()
        if len(missing):
            raise InputError(
                f"{len(missing)} items of {self.writer.store.path} are not in this source, the first is "
                f"{self.items.table['id'][int(missing[0])].as_py()!r}: the new columns need every row. Nothing is "
                "lost; pass a source that has them, or remove them with `topwork extract --prune`."
            )

    def matrices(self) -> dict[str, BlockMatrix]:
        """Return the features of the new columns by key, in the order of the rows."""
        return self.filled.gather(self.items.has_features)


def extend_store_graph(
    *, writer: StoreWriter, filling: Filling, new_graph: ExportedGraph, provider: str
) -> ExportedGraph:
    """Return a graph that computes old and new columns, after checking it."""
    store = writer.store
    merged = merge_graphs(store.graph, new_graph, store.path / "graphs" / f"{filling.columns[0].key}.onnx")
    session = merged.open(provider)  # which compares it with the model, unless a graph is of an earlier version
    if merged.canaries is None:
        merged.write_session_canaries(session)
    return merged
