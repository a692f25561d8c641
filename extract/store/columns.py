"""Add columns to a store: only their features are computed, for the items that have rows, and filled in at the end."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...errors import DriftError, IdentityError, InputError, StoppedError
from ...hardware import available_cores
from ...identity import require_same
from ..engine.batching import AUTOMATIC, RunOptions
from ..engine.engine import Result, run
from ..engine.ledger import Ledger
from ..graphs.canaries import drift, tolerance, write_canaries
from ..graphs.merging import merge
from ..graphs.subgraph import select_columns
from ..runtime.precisions import family, is_found_on_items
from .block_matrix import BlockMatrix
from .content import part_opener
from .index import number_of
from .part import Row, read_items, write_part
from .pending import taken_together
from .segment import NONE, digests_of
from .state import StoredColumn

if TYPE_CHECKING:
    from ..graphs.exported_graph import ExportedGraph
    from ..runtime.session import Session
    from ..sources.item import Item
    from ..sources.opening import Source
    from .description import FeatureExtractor
    from .feature_store import FeatureStore
    from .writer import StoreWriter

FILL, START = "fill", "add_columns"


def new_columns(store: FeatureStore, extractor: FeatureExtractor) -> list[str]:
    """Return the names of an extractor's columns that a store lacks, in whose precision it computes from then on.

    Raises
    ------
    IdentityError
        If they cannot be computed as the store's are: with another backbone, or in another precision.
    """
    graph = store.graph.metadata
    require_same(extractor.identity, store.identity, f"the backbone is not that of {store.path}")
    own = "" if graph.float32_until or is_found_on_items(graph.precision) else graph.precision
    if not own or extractor.precision not in ("auto", own):
        raise IdentityError(
            f"the features of {store.path} are computed in {graph.precision}; a column can be added in fp32, bf16 or "
            f"fp16, and in the same precision. The extractor's is {extractor.precision!r}: make a store of its own."
        )
    extractor.precision_ = own
    ours = {column.name for column in store.columns}
    store.require_columns(extractor.identity, [column for column in extractor.columns if column.name in ours])
    if family(extractor.graph.metadata.precision) != own:
        raise IdentityError(f"the extractor's graph is in {extractor.graph.metadata.precision}; expected {own}")
    return [column.name for column in extractor.columns if column.name not in ours]


def fill(writer: StoreWriter, graph: ExportedGraph, names: list[str], source: Source, provider: str) -> Ledger:
    """Compute columns for all rows of a store, and make them true when every row has them.

    Parameters
    ----------
    writer : StoreWriter
    graph : ExportedGraph
        It computes the columns, and perhaps others.
    names : list of str
        Which columns.
    source : Source
        With the items of the store; others are passed over.
    provider : str

    Raises
    ------
    InputError
        If an item is not in the source, or has other content there. What was computed is kept.
    """
    with tempfile.TemporaryDirectory() as folder:
        alone = select_columns(graph, names, Path(folder) / "graph.onnx")
        session = alone.open(provider, available_cores())
        filling = Filling(writer, alone)
        ledger = filling.compute(source, session)
        filling.require_all()
        _finish(writer, filling, alone, session, provider)
    return ledger


class Filling:
    """Columns on their way: where the new features of each item lie."""

    def __init__(self, writer: StoreWriter, graph: ExportedGraph) -> None:
        self.writer = writer
        self.columns = self._columns(graph)
        self.items = writer.index.settle()
        self.parts = np.full(len(self.items), NONE, np.int32)
        self.rows = self.parts.copy()
        for part in writer.state.filling.parts:
            digests = read_items(writer.store.path / part)["digest"].to_pylist()
            self._note(part, digests)

    def _columns(self, graph: ExportedGraph) -> tuple[StoredColumn, ...]:
        """Return the columns that are filled; those of an interrupted run go on."""
        state, dtype = self.writer.state, self.writer.state.columns[0].column.dtype
        wanted = [replace(column, dtype=dtype) for column in graph.metadata.columns]
        if [stored.column for stored in state.filling.columns] != wanted:
            used = [int(stored.key[1:]) for stored in (*state.columns, *state.filling.columns)]
            keys = [f"c{max(used) + number:04d}" for number in range(1, len(wanted) + 1)]
            stored = [StoredColumn(key, "", column) for key, column in zip(keys, wanted, strict=True)]
            self.writer.enter(START, [], {"graph": "", "columns": [column.to_json() for column in stored]})
        return self.writer.state.filling.columns

    def _note(self, part: str, digests: list[str]) -> None:
        """Enter where the features of contents lie."""
        rows = {digest: row for row, digest in enumerate(digests)}
        for digest, place in self.items.places_of_digests(digests):
            self.parts[place], self.rows[place] = number_of(part), rows[digest]

    def compute(self, source: Source, session: Session) -> Ledger:
        """Compute what is missing, a part at a time."""
        from ..preprocess.preprocessor import preprocessor_for

        store, ledger = self.writer.store, Ledger(fingerprint=self.writer.store.fingerprint)
        options = self.writer.batching() or AUTOMATIC
        ledger.provider, ledger.runs, ledger.cores = session.provider, session.runs, available_cores()
        preprocessor = preprocessor_for(store.graph.input_spec)
        with closing(run(self._missing(source), session, preprocessor, options, ledger.stages)) as results:
            while some := list(islice(results, options.window)):
                self._commit(some, options)
                ledger.computed += len(some)
        ledger.items = ledger.ok = int(self.items.has_features.sum())
        return ledger

    def _missing(self, source: Source) -> Iterator[Item]:
        """Yield the first item of each content whose features are missing."""
        is_wanted = self.items.has_features & (self.items.numbers("original") == NONE)
        for some in taken_together(source):
            places = self.items.places([item.id for item in some])
            for item, place in zip(some, places.tolist(), strict=True):
                if place != NONE and is_wanted[place] and self.parts[place] == NONE:
                    yield item

    def _commit(self, results: list[Result], options: RunOptions) -> None:
        """Write the features of a window as a part."""
        for result in results:
            self._require_same_content(result)
        name, root = self.writer.next_part(), self.writer.store.path
        rows = [Row(result.item.id, result.digest, "ok", row=row) for row, result in enumerate(results)]
        vectors = [result.vectors for result in results if result.vectors]
        matrices = {
            stored.key: np.stack(features).astype(stored.column.dtype)
            for stored, features in zip(self.columns, zip(*vectors, strict=True), strict=True)
        }
        files = write_part(root / name, rows, matrices)
        self.writer.enter(FILL, files, {"part": name, "items": len(rows)})
        self._note(name, [row.digest for row in rows])

    def _require_same_content(self, result: Result) -> None:
        if result.vectors is None:
            raise StoppedError(
                f"{result.item.id} failed: {result.reason}. The new columns need every row of the store."
            )
        (place,) = self.items.places([result.item.id])
        if digests_of([result.digest])[0].tobytes() != self.items.digests[place].tobytes():
            raise InputError(
                f"{result.item.id!r} has other content than the row in {self.writer.store.path}: bring the store up to "
                "date with `topwork extract` first, then add the columns"
            )

    def require_all(self) -> None:
        """Raise an error if a row lacks features."""
        missing = np.flatnonzero(self.items.has_features & (self.parts == NONE))
        if len(missing):
            raise InputError(
                f"{len(missing)} items of {self.writer.store.path} are not in this source, the first is "
                f"{self.items.table['id'][int(missing[0])].as_py()!r}: the new columns need every row. Nothing is "
                "lost; give a source that has them, or remove them with `topwork extract --prune`."
            )

    def matrices(self) -> dict[str, BlockMatrix]:
        """Return the new columns' features in the order of the rows."""
        parts, rows = (numbers[self.items.has_features] for numbers in (self.parts, self.rows))
        root = self.writer.store.path
        return {
            c.key: BlockMatrix(part_opener(root, c.key), parts, rows, c.column.width, c.column.dtype)
            for c in self.columns
        }


def _finish(writer: StoreWriter, filling: Filling, alone: ExportedGraph, session: Session, provider: str) -> None:
    """Merge the graphs, check that the result computes what both did, and enter the columns."""
    before, root = writer.store.graph, writer.store.path
    merged = merge(before, alone, root / "graphs" / f"{filling.columns[0].key}.onnx")
    opened = merged.open(provider)
    write_canaries(alone, session)
    for original in (before, alone):
        if original.canaries_path.is_file():
            worst = max(drift(merged, opened, original).values())
            if not worst <= tolerance(merged):
                raise DriftError(
                    f"the joined graph differs from its halves by {worst:.2g}; the store was left as it is"
                )
    write_canaries(merged, opened)
    writer.add_columns(filling.columns, filling.matrices(), merged)
