"""The one writer of a store: it holds the lock, removes what interrupted writers left, and adds entries to the log."""

from __future__ import annotations

import contextlib
import errno
import shutil
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import compress, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atomic import FULL_DISK_ERRORS, sweep, sweep_after_dead_processes, write_file
from ...errors import InputError, LogDamagedError, StoreWriteError, warn_caller
from ...identity import digest_of_file
from ..engine.batching import DEFAULT_BATCH_SIZES, BatchSizes
from ..sources.windows import find_start, name_sound
from .block_matrix import gather_columns
from .compaction import ROWS_PER_CHECKSUM, find_unchanged_files, write_compacted
from .content import StoreContent
from .delta import SourceDelta
from .index import Index
from .index_file import check_log_is_complete, read_indexed_number
from .labels import BY_USER, LABELS_FOLDER, label_columns
from .lock import try_exclude_readers, write_lock
from .log import Action, LogEntry
from .part import Row, WrittenPart, format_part_name, open_matrix, parse_part_number, write_part, write_table
from .remote_copy import STORE_FILE, find_copy
from .segment import NO_PLACE, USER_LABEL_PREFIX, Segment
from .state import StoredColumn, StoreState, replay

if TYPE_CHECKING:
    import pyarrow
    from numpy.typing import NDArray

    from ..graphs.exported_graph import ExportedGraph
    from ..runtime.session import Session
    from ..sources.item import Item
    from .block_matrix import BlockMatrix

IDS_PER_LOOKUP = 4096
DISK_ERRORS = {
    **FULL_DISK_ERRORS,
    errno.EACCES: "writing is not allowed; change the permissions of the folder",
    errno.EPERM: "writing is not allowed; change the permissions of the folder",
    errno.EROFS: "its file system is read-only",
    errno.EIO: "the disk reports an error",
}
"""Cause and remedy of errors of a disk that cannot be written."""


class StoreWriter:
    """A store that may be added to; made by :func:`open_writer`.

    `last` is the newest entry of the log; `state` and `index` are the columns, parts, files and items after it. The
    index is written to disk at the end.
    """

    def __init__(self, store: StoreContent, without: Collection[str] = ()) -> None:
        self.store = store
        store.refresh()  # which drops its own copy of the index
        self.last: LogEntry = store.entries[-1]
        check_log_is_complete(store.path, self.last.number, read_indexed_number(store.path))
        self.state: StoreState = store.state
        copy = find_copy(store.path)
        if copy is not None:
            copy.warn_if_unconditional()
        remove_unnamed_files(store.path, self.state.newest_part)
        self.index = Index(store.path, store.entries, without)
        self._reserved_part = 0

    def append(
        self,
        action: Action,
        files: Sequence[Path],
        details: Mapping[str, Any],
        delta: SourceDelta | None = None,
    ) -> None:
        """Append an entry to the log, and apply it to the state and the index.

        `files` must be on disk already; `delta` must be what :meth:`SourceDelta.read` reads from them.
        """
        self._append(action, files, details)
        self.index.apply(self.last, delta)

    def _append(
        self,
        action: Action,
        files: Sequence[Path],
        details: Mapping[str, Any],
        known_files: Mapping[str, str] | None = None,
    ) -> None:
        """Append an entry to the log, and apply it to the state.

        `known_files` are others than `files` that are on disk, with their SHA-256, by path within the store.
        """
        self.last = self.store.log.append(
            last=self.last, action=action, files=files, details=details, known_files=known_files
        )
        self.state = self.state.apply(self.last)

    def next_part(self, after: int = 0) -> str:
        """Return the folder, within the store, of a part that no other process writes; its number is above `after`."""
        number = max(self.state.newest_part, self._reserved_part, after) + 1
        copy = find_copy(self.store.path)
        if copy is None:
            while (self.store.path / format_part_name(number)).exists():  # of a process that was thought lost
                number += 1
        else:
            while not copy.reserve_part(format_part_name(number)):
                number += 1
        return format_part_name(number)

    def reserve_parts(self, newest: int) -> None:
        """Leave the numbers of parts up to one to other processes, some of which may still write them."""
        self._reserved_part = newest

    def add_part(
        self, rows: Sequence[Row], matrices: Sequence[NDArray[Any]], sizes: BatchSizes = DEFAULT_BATCH_SIZES
    ) -> None:
        """Write one part and add it to the log, with the sizes of the batches in which it was computed.

        `matrices` are one for each column of the store, with a row for each item that has features.
        """
        matrices_by_key = {stored.key: matrix for stored, matrix in zip(self.state.columns, matrices, strict=True)}
        self._write_items(SourceDelta.add(self.next_part(), rows), matrices_by_key, asdict(sizes))

    def add_parts(self, parts: Sequence[WrittenPart], sizes: BatchSizes | None = None) -> None:
        """Add parts that are on disk to the log, in one entry and in this order; no item may be in two of them.

        Their items are not read before they are needed. The sizes are those of the batches in which they were computed.
        """
        if not parts:
            return
        details = {"parts": [part.folder for part in parts], "items": sum(part.n_items for part in parts)}
        details |= {} if sizes is None else asdict(sizes)
        known_files = {path: sha for part in parts for path, sha in part.files.items()}
        self._append(action=Action.ADD_PARTS, files=[], details=details, known_files=known_files)
        self.index.postpone(self.last)

    def prune(self, items: Iterable[Item]) -> int:
        """Remove the items of the store that are not among these, and return their number.

        The windows of a sound that cannot be read stay, as it is an item itself while that lasts.
        """
        known = self.index.settle()
        is_in_source = np.zeros(len(known), bool)
        ids = (item.id for item in items)
        has_windows = self.store.has_windows
        undivided: set[str] = set()
        while some_ids := list(islice(ids, IDS_PER_LOOKUP)):
            places = known.find_places(some_ids)
            is_in_source[places[places != NO_PLACE]] = True
            if has_windows:
                undivided.update(item_id for item_id in some_ids if find_start(item_id) is None)
        gone = [
            row
            for row in known.rows(np.flatnonzero(~is_in_source))
            if row.status == "failed" or name_sound(row.group or row.id) not in undivided
        ]
        if gone:
            self._write_items(SourceDelta.prune(self.next_part(), gone))
        return len(gone)

    def mark_pending(self, rows: Sequence[Row], damaged_files: Sequence[str]) -> None:
        """Remove the features of items, so that the next job over their source computes them again.

        The log keeps the reason: the damaged files.
        """
        self._write_items(SourceDelta.repair(self.next_part(), rows), {}, {"damaged": list(damaged_files)})

    def _write_items(
        self,
        delta: SourceDelta,
        matrices: Mapping[str, NDArray[Any]] | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the part of a change of items and add it to the log."""
        files = write_part(self.store.path / str(delta.part), delta.items, matrices or {})
        all_details = {**delta.details, **(details or {})}
        self.append(action=delta.action, files=files, details=all_details, delta=delta)

    def set_labels(self, table: pyarrow.Table, by: str = BY_USER) -> None:
        """Set the labels of a :func:`label_table`, without touching features.

        Raise an InputError if the user names an unknown id, or labels of one column would be of several types.
        """
        names = label_columns(table)
        if by == BY_USER:
            items = self.index.settle()
            require_known_ids(items, table["id"].to_pylist(), self.store.path)
            for name in names:
                require_one_type(items, table, name)
        # Another process may have written to object storage meanwhile, or have left a file when it was interrupted.
        suffix = "" if find_copy(self.store.path) is None else f"-{uuid.uuid4().hex}"
        path = self.store.path / LABELS_FOLDER / f"l{self.last.number + 1:06d}{suffix}.parquet"
        path.parent.mkdir(exist_ok=True)
        write_table(path, table)
        details = {"file": f"{LABELS_FOLDER}/{path.name}", "columns": names, "items": len(table), "by": by}
        delta = SourceDelta.set_labels(table, by)
        self.append(action=Action.SET_LABELS, files=[path], details=details, delta=delta)

    def forget_files(self, files: Collection[str]) -> None:
        """Leave damaged files out of the next checkpoint."""
        kept = {path: sha for path, sha in self.state.files.items() if path not in files}
        self.state = replace(self.state, files=kept)

    def forget_filled_parts(self, parts: Collection[str]) -> None:
        """Discard the features of unfinished columns in some parts, so that they are computed again."""
        fillings = []
        for filling in self.state.fillings:
            kept = tuple(part for part in filling.parts if part not in parts)
            fillings.append(replace(filling, parts=kept))
        self.state = replace(self.state, fillings=tuple(fillings))

    def compact(self, link: bool = True, rows_per_checksum: int = ROWS_PER_CHECKSUM) -> None:
        """Merge all parts into one, with a file for each column in row order; a compacted store is left as it is.

        With `link`, files that are already in row order are linked instead of written again.
        """
        if self.state.compacted is not None or not self.state.parts:
            return
        other_files = {path: sha for path, sha in self.state.files.items() if not path.startswith("parts/")}
        kept_files = {**other_files, **self.state.find_filled_files()}
        self._write_checkpoint(
            state=self.state, new_matrices={}, kept_files=kept_files, link=link, rows_per_checksum=rows_per_checksum
        )

    def compact_if_possible(self) -> None:
        """Merge the parts; warn if the disk has no room for that, as the features are in the store anyway.

        Parts in object storage are left alone, as they would have to be fetched and sent again.
        """
        if find_copy(self.store.path) is not None:
            return
        try:
            self.compact()
        except OSError as error:
            if error.errno not in FULL_DISK_ERRORS:
                raise
            warn_caller(
                f"the disk is too full to merge the parts of {self.store.place}; its rows are read from where they "
                "are. Make room, then run `topwork store compact`.",
            )

    def add_columns(
        self, columns: Sequence[StoredColumn], matrices: Mapping[str, BlockMatrix], graph: ExportedGraph
    ) -> None:
        """Add columns that are complete: their features by key, in the order of the rows.

        `graph` computes all columns; it is in the store, with its certificate and perhaps canaries.
        """
        root = self.store.path
        graph_name = graph.path.relative_to(root).as_posix()
        all_columns = tuple(replace(stored, graph=graph_name) for stored in (*self.state.columns, *columns))
        others = tuple(filling for filling in self.state.fillings if filling.columns != tuple(columns))
        state = replace(self.state, columns=all_columns, fillings=others)
        files = {path: sha for path, sha in self.state.files.items() if not path.startswith(("parts/", "graphs/"))}
        files |= state.find_filled_files()
        for path in graph.list_files():
            files[path.relative_to(root).as_posix()] = digest_of_file(path)
        self._write_checkpoint(state=state, new_matrices=matrices, kept_files=files)

    def _write_checkpoint(
        self,
        *,
        state: StoreState,
        new_matrices: Mapping[str, BlockMatrix],
        kept_files: Mapping[str, str],
        link: bool = True,
        rows_per_checksum: int = ROWS_PER_CHECKSUM,
    ) -> None:
        """Write all rows as one part, and add an entry after which only that part and the kept files are needed."""
        # Write the part.
        items = self.index.settle()
        part = self.next_part()
        own_matrices = self.gather_matrices(stored for stored in state.columns if stored.key not in new_matrices)
        unchanged_files: dict[str, Path] = {}
        if link:
            unchanged_files = find_unchanged_files(self.store.path, items, own_matrices)
        digests = write_compacted(
            folder=self.store.path / part,
            items=items,
            matrices={**own_matrices, **new_matrices},
            unchanged_files=unchanged_files,
            rows_per_checksum=rows_per_checksum,
        )

        # Add it to the log.
        files = dict(kept_files)
        for name, sha in digests.items():
            files[f"{part}/{name}"] = sha
        for key, path in unchanged_files.items():
            files[f"{part}/{key}.npy"] = self.state.files[path.relative_to(self.store.path).as_posix()]
        details = {"part": part, "items": len(items), **self.describe_checkpoint(state)}
        self._append(action=Action.CHECKPOINT, files=[], details=details, known_files=files)
        self.index.apply_checkpoint(self.last, parse_part_number(part))

    def gather_matrices(self, columns: Iterable[StoredColumn]) -> dict[str, BlockMatrix]:
        """Return all rows of some of the columns by their keys."""
        parts, rows = self.index.settle().find_features()
        return gather_columns(root=self.store.path, columns=columns, parts=parts, rows=rows)

    def describe_checkpoint(self, state: StoreState) -> dict[str, Any]:
        """Return the fields of a checkpoint that replace those of all earlier entries of the log."""
        details = state.describe_columns()
        sizes = self.batching()
        if sizes is not None:
            details.update(asdict(sizes))
        return details

    def keep_evidence(self, session: Session) -> None:
        """Store what is known of the session's provider; and canaries for a graph that has none, computed by it."""
        graph = self.store.graph
        new_files = []
        if graph.canaries is None:
            graph.write_session_canaries(session)
            new_files.append(graph.canaries_path)
        if not self._has_measurements:
            graph.write_measurements()
            new_files.append(graph.measurements_path)
        if new_files:
            self._keep_files(new_files)

    def keep_measurements(self, content: bytes) -> None:
        """Store what another process knows of its provider, unless something is known."""
        if not self._has_measurements:
            path = self.store.graph.measurements_path
            write_file(path, content)
            self._keep_files([path])

    def _keep_files(self, files: Sequence[Path]) -> None:
        """Store evidence, unless another process is storing its own in object storage."""
        copy = find_copy(self.store.path)
        if copy is not None and any(copy.exists(path.relative_to(self.store.path).as_posix()) for path in files):
            return
        self.append(Action.ADD_CANARIES, files, {})

    @property
    def _has_measurements(self) -> bool:
        return self.store.graph.measurements_path.relative_to(self.store.path).as_posix() in self.state.files

    def batching(self) -> BatchSizes | None:
        """Return the batch sizes of the last part, None if there is none or they were not recorded."""
        for entry in (self.last, *reversed(self.store.entries)):
            if "batch_size" in entry.details:
                return BatchSizes(entry.details["batch_size"], tokens=entry.details["tokens"])
        return None

    def vectors_of(self, item_id: str) -> tuple[NDArray[np.float32], ...] | None:
        """Return an item's row of every column, None if it has no features."""
        place = self.index.find_row(item_id)
        if place is None:
            return None
        part, row = place
        folder = self.store.path / format_part_name(part)
        return tuple(np.array(open_matrix(folder, stored.key)[row]) for stored in self.state.columns)


def remove_unnamed_files(root: Path, newest_part: int) -> None:
    """Remove temporary files, and parts that were written but never added to the log."""
    is_shared = find_copy(root) is not None  # the local copies of a machine are read by other processes, too
    for folder in (root, root / "parts", root / "log"):
        (sweep_after_dead_processes if is_shared else sweep)(folder)
    for folder in list_parts(root):
        if int(folder.name[1:]) > newest_part:
            shutil.rmtree(folder)


def remove_replaced_files(root: Path, state: StoreState) -> None:
    """Remove parts, graphs and labels that a state does not need, unless a reader has the store open."""
    used_parts = (*state.parts, *state.filled_parts)
    unused_parts = [folder for folder in list_parts(root) if f"parts/{folder.name}" not in used_parts]
    other_files = [*root.glob("graphs/*"), *root.glob(f"{LABELS_FOLDER}/*")]
    unused_files = [path for path in other_files if path.relative_to(root).as_posix() not in state.files]
    if not unused_parts and not unused_files:
        return
    with try_exclude_readers(root / STORE_FILE) as has_no_readers:
        if not has_no_readers:
            return
        for folder in unused_parts:
            shutil.rmtree(folder, ignore_errors=True)
        for path in unused_files:
            path.unlink(missing_ok=True)


def list_parts(root: Path) -> list[Path]:
    """Return the folders of all parts on disk, in use or not."""
    return [folder for folder in (root / "parts").glob("p[0-9]*") if folder.name[1:].isdecimal()]


def require_known_ids(items: Segment, ids: Sequence[str], path: Path) -> None:
    """Raise an error if labels name an item that the store at `path` does not have."""
    unknown = np.flatnonzero(items.find_places(ids) == NO_PLACE)
    if len(unknown):
        raise InputError(
            f"{len(unknown)} of {len(ids)} ids of the labels are not in {path}, the first is "
            f"{ids[unknown[0]]!r}; `ids` lists those that are. No label was changed."
        )


def require_one_type(items: Segment, table: pyarrow.Table, name: str) -> None:
    """Raise an error if labels of one name would be of several types after the user set those of a table."""
    labelled = items.replace_values(USER_LABEL_PREFIX + name, table["id"], table[name])
    is_other = np.ones(len(items), bool)
    is_other[items.find_places(table["id"].to_pylist())] = False
    labels = [*labelled.labels(name), *compress(items.labels(name), is_other)]
    types = {type(label).__name__ for label in labels if label is not None}
    if len(types) > 1:
        raise InputError(
            f"labels {name!r} would be {' and '.join(sorted(types))}, together with those of other items; give all "
            "items labels of one type (one label among lists is a list as well), or use another name. No label was "
            "changed."
        )


@contextlib.contextmanager
def open_writer(store: StoreContent, patience: float = 0.0, without: Collection[str] = ()) -> Iterator[StoreWriter]:
    """Hold a store's lock, after waiting `patience` seconds for another process, and write to it.

    The damaged files `without` are not read. Raise a StoreWriteError if the disk is full, or writing is not allowed;
    what was added to the log before is kept.
    """
    with explain_disk_errors(store.path), write_lock(store.path, patience):
        writer = StoreWriter(store, without)
        try:
            yield writer
            writer.index.save()
        finally:
            store.release()
            with contextlib.suppress(OSError, LogDamagedError):
                # The log is read again: an entry can be on disk though writing it raised an error.
                remove_replaced_files(store.path, replay(store.log.entries()))
            store.refresh()


@contextlib.contextmanager
def explain_disk_errors(path: Path) -> Iterator[None]:
    """Raise a StoreWriteError with cause and remedy instead of an error of a disk that cannot be written."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRORS or isinstance(error, StoreWriteError):
            raise
        cause = DISK_ERRORS[error.errno]
        message = f"{path} cannot be written: {cause}, and run the command again. Nothing is lost"
        raise StoreWriteError(error.errno, message) from error
