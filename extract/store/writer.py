"""The one writer of a store: it holds the lock, clears what interrupted writers left, and adds parts."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atomic import sweep
from ...errors import LogDamagedError
from ...models.weights import digest_of_file
from ..engine.batching import AUTOMATIC, RunOptions
from ..graphs.canaries import write_canaries
from .compaction import BLOCKS_FILE, write_compacted
from .content import gathered
from .description import STORE_FILE
from .disk import explained
from .feature_store import FeatureStore
from .index import Index, part_name, require_end_of_log
from .labels import FOLDER as LABELS_FOLDER
from .lock import write_lock
from .log import CHECKPOINT, Entry
from .part import Row, open_matrix, write_part
from .pin import alone
from .segment import NONE, REMOVED, Segment
from .state import Unfinished, state_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..graphs.exported_graph import ExportedGraph
    from ..runtime.session import Session
    from ..sources.item import Item
    from .block_matrix import BlockMatrix
    from .state import State, StoredColumn

LOOKED_UP_AT_ONCE = 4096


class StoreWriter:
    """A store that may be added to; made by :func:`open_writer`.

    Attributes
    ----------
    store : FeatureStore
    index : Index
        Up to date after every part; put on disk at the end.
    """

    def __init__(self, store: FeatureStore, without: Collection[str] = ()) -> None:
        self.store = store
        store.refresh()  # which lets go of its copy of the index
        self.last: Entry = store.entries[-1]
        require_end_of_log(store.path, self.last.number)
        self.state: State = store.state
        self._sweep_unnamed()
        self.index = Index(store.path, store.entries, without)

    def add_part(self, rows: Sequence[Row], matrices: Sequence[NDArray[Any]], options: RunOptions = AUTOMATIC) -> None:
        """Write one part and enter it into the log.

        Parameters
        ----------
        rows : sequence of Row
        matrices : sequence of ndarray
            One for each column of the store, with a row for each item that has features.
        options : RunOptions
            The sizes of the batches in which they were computed.
        """
        name = self.next_part()
        keyed = {stored.key: matrix for stored, matrix in zip(self.state.columns, matrices, strict=True)}
        files = write_part(self.store.path / name, rows, keyed)
        sizes = {"batch_size": options.batch_size, "tokens": options.tokens}
        self.enter("add_part", files, {"part": name, "items": len(rows), **sizes}, rows)

    def enter(
        self,
        action: str,
        files: Sequence[Path],
        details: dict[str, Any],
        rows: Sequence[Row] | None = None,
        known: dict[str, str] | None = None,
    ) -> None:
        """Make files true; see :meth:`topwork.extract.store.log.Log.append`."""
        self.last = self.store.log.append(self.last, action, files, details, known)
        self.state = self.state.after(self.last)
        self.index.apply(self.last, rows)

    def next_part(self) -> str:
        """Return the folder of the part that comes next, within the store."""
        return part_name(self.state.newest_part + 1)

    def forget(self, files: Sequence[str]) -> None:
        """Let the next checkpoint do without files, which are of no use any more."""
        self.state = replace(self.state, files={n: sha for n, sha in self.state.files.items() if n not in files})

    def forget_filled(self, parts: Collection[str]) -> None:
        """Compute again what these parts hold of columns that are being added."""
        filling = self.state.filling
        left = tuple(part for part in filling.parts if part not in parts)
        self.state = replace(self.state, filling=replace(filling, parts=left))

    def prune(self, items: Iterable[Item]) -> int:
        """Remove the items that are not among these, and return their number."""
        known = self.index.settle()
        is_there = np.zeros(len(known), bool)
        ids = (item.id for item in items)
        while some := list(islice(ids, LOOKED_UP_AT_ONCE)):
            places = known.places(some)
            is_there[places[places != NONE]] = True
        gone = known.rows(np.flatnonzero(~is_there))
        if gone:
            name = self.next_part()
            rows = [replace(row, status=REMOVED, reason=None, row=None) for row in gone]
            files = write_part(self.store.path / name, rows, {})
            self.enter("prune", files, {"part": name, "items": len(rows)})
        return len(gone)

    def compact(self, link: bool = True) -> None:
        """Merge all parts into one, with a file for each column in row order; nothing is done if there is but that.

        Parameters
        ----------
        link : bool
            Whether a file that is in order may be used again.
        """
        if self.state.compacted is None and self.state.parts:
            filled = tuple(f"{part}/" for part in self.state.filling.parts)
            kept = {p: sha for p, sha in self.state.files.items() if not p.startswith("parts/") or p.startswith(filled)}
            self._checkpoint(self.state, {}, kept, link)

    def add_columns(
        self, columns: Sequence[StoredColumn], matrices: Mapping[str, BlockMatrix], graph: ExportedGraph
    ) -> None:
        """Enter columns that every row has now.

        Parameters
        ----------
        columns : sequence of StoredColumn
        matrices : dict
            Their features by their keys, in the order of the rows.
        graph : ExportedGraph
            In the store, with its certificate and its canaries; it computes all columns.
        """
        root, name = self.store.path, graph.path.relative_to(self.store.path).as_posix()
        known = [replace(stored, graph=name) for stored in (*self.state.columns, *columns)]
        kept = {p: sha for p, sha in self.state.files.items() if not p.startswith(("parts/", "graphs/"))}
        new = (graph.path, graph.certificate_path, graph.canaries_path)
        kept |= {path.relative_to(root).as_posix(): digest_of_file(path) for path in new}
        self._checkpoint(replace(self.state, columns=tuple(known), filling=Unfinished()), matrices, kept, link=True)

    def _checkpoint(self, state: State, added: Mapping[str, BlockMatrix], files: Mapping[str, str], link: bool) -> None:
        """Write all rows as one part, and enter a state that needs only that and some other files."""
        root, name, items = self.store.path, self.next_part(), self.index.settle()
        matrices = {c.key: gathered(root, c, items) for c in state.columns if c.key not in added}
        whole = self._unchanged(items, list(matrices)) if link else {}
        digests = write_compacted(root / name, items, {**matrices, **added}, whole)
        parts = {f"{name}/{file}": sha for file, sha in digests.items()}
        parts |= {f"{name}/{key}.npy": self._sha(path) for key, path in whole.items()}
        details = {"part": name, "items": len(items), "columns": [c.to_json() for c in state.columns]}
        if state.filling.columns:
            details["filling"] = state.filling.to_json()
        batching = self.batching()
        if batching is not None:
            details |= {"batch_size": batching.batch_size, "tokens": batching.tokens}
        self.enter(CHECKPOINT, [], details, known={**files, **parts})

    def keep_canaries(self, session: Session) -> None:
        """Enter what the store's graph computes from synthetic items, if that is not known yet."""
        graph = self.store.graph
        if graph.canaries_path.relative_to(self.store.path).as_posix() not in self.state.files:
            write_canaries(graph, session)
            self.enter("add_canaries", [graph.canaries_path], {})

    def _unchanged(self, items: Segment, keys: Sequence[str]) -> dict[str, Path]:
        """Return the files of columns that hold all rows in their order already."""
        parts, rows = (items.numbers(name)[items.has_features] for name in ("part", "row"))
        if not len(parts) or (parts != parts[0]).any() or not np.array_equal(rows, np.arange(len(rows))):
            return {}
        folder = self.store.path / part_name(int(parts[0]))
        if not (folder / BLOCKS_FILE).is_file():
            return {}
        paths = {key: folder / f"{key}.npy" for key in keys}
        return {key: path for key, path in paths.items() if len(open_matrix(folder, key)) == len(rows)}

    def _sha(self, path: Path) -> str:
        return self.state.files[path.relative_to(self.store.path).as_posix()]

    def batching(self) -> RunOptions | None:
        """Return the sizes of batches of the last part, None if there is none, or it does not tell."""
        known = [entry.details for entry in (*self.store.entries, self.last) if "batch_size" in entry.details]
        return RunOptions(known[-1]["batch_size"], tokens=known[-1]["tokens"]) if known else None

    def vectors_of(self, item_id: str) -> tuple[NDArray[np.float32], ...] | None:
        """Return an item's row of every column, None if it has none."""
        place = self.index.place(item_id)
        if place is None:
            return None
        folder, row = self.store.path / part_name(place[0]), place[1]
        return tuple(np.array(open_matrix(folder, stored.key)[row]) for stored in self.state.columns)

    def _sweep_unnamed(self) -> None:
        """Remove temporary files, and parts that were finished but never entered into the log."""
        for folder in (self.store.path, self.store.path / "parts", self.store.path / "log"):
            sweep(folder)
        for folder in self._parts():
            if int(folder.name[1:]) > self.state.newest_part:
                shutil.rmtree(folder)

    def sweep_replaced(self) -> None:
        """Remove parts, graphs and labels that nothing names any more, if no reader may still want them."""
        state = state_of(self.store.log.entries())  # an entry may be there though writing it ended in an error
        live = (*state.parts, *state.filling.parts)
        parts = [folder for folder in self._parts() if f"parts/{folder.name}" not in live]
        root, named = self.store.path, state.files
        others = [
            path
            for folder in ("graphs", LABELS_FOLDER)
            for path in root.glob(f"{folder}/*")
            if path.relative_to(root).as_posix() not in named
        ]
        if parts or others:
            with alone(root / STORE_FILE) as is_alone:
                for path in (*parts, *others) if is_alone else ():
                    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)

    def _parts(self) -> list[Path]:
        return [folder for folder in (self.store.path / "parts").glob("p[0-9]*") if folder.name[1:].isdecimal()]


@contextlib.contextmanager
def open_writer(store: FeatureStore, patience: float = 0.0, without: Collection[str] = ()) -> Iterator[StoreWriter]:
    """Hold a store's lock and write to it.

    Parameters
    ----------
    store : FeatureStore
    patience : float
        Seconds to wait for another process that is writing.
    without : collection of str
        Files that cannot be read and are to be done without.

    Raises
    ------
    StoreLockedError
        If another process is writing.
    StoreWriteError
        If the disk is full, or writing is not allowed. What was entered into the log before is there.
    """
    with explained(store.path), write_lock(store.path, patience):
        writer = StoreWriter(store, without)
        try:
            yield writer
            writer.index.save()
        finally:
            store.release()
            with contextlib.suppress(OSError, LogDamagedError):
                writer.sweep_replaced()
            store.refresh()
