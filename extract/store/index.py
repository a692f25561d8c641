"""A disposable index of the log: id -> place, label, status. Deleted, stale or damaged, it is rebuilt."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...atomic import TEMPORARY, write_file
from ...errors import LogDamagedError
from ...models.weights import digest_of_file
from .conversion import segment_of
from .labels import with_labels
from .log import CHECKPOINT, Entry
from .part import ITEMS_FILE, Row, read_items, table_of
from .segment import NONE, Segment

if TYPE_CHECKING:
    import pyarrow

INDEX_FILE = "index.arrow"
DIGEST_FILE = "index.sha256"
INDEX_FORMAT = 2
HEAD = b"topwork"
SETTLED_ACTIONS = ("set_labels", "prune", "repair")
"""Of entries that say something of items that were there before them."""


class Index:
    """The state of a store: every item once, at the position of its first addition, as its latest part left it.

    What an earlier writer found lies in a file, with a digest beside it: nothing would notice a changed value else. It
    is mapped into memory. What has been entered into the log since is kept in memory, in segments.

    Parameters
    ----------
    root : Path
        The store's folder.
    entries : sequence of Entry
        The log from its last checkpoint on, which the index is brought up to.
    without : collection of str
        Files that cannot be read; what only they tell is left out.

    Attributes
    ----------
    left_out : set of str
        Those of the files that would have been needed.
    """

    def __init__(self, root: Path, entries: Sequence[Entry], without: Collection[str] = ()) -> None:
        self.root, self.without = root, without
        self.left_out: set[str] = set()
        found = _trusted(root, entries)
        self.base, self.number = found or (_empty(), 0)
        self.is_saved = found is not None
        self.tail: list[Segment] = []
        self.last: Entry | None = None
        for entry in entries:
            if entry.number > self.number:
                self.apply(entry)
            self.last = entry

    def save(self) -> None:
        """Put the index on disk, for those who come later."""
        self.settle()
        if self.is_saved or self.last is None:
            return
        temporary = self.root / f"{TEMPORARY}{INDEX_FILE}"
        try:
            _write(self.base, self.last, temporary)
            digests = [digest_of_file(temporary), *_digests(self.root)[:1]]  # the old file's too: it is there until
            write_file(self.root / DIGEST_FILE, "\n".join(digests).encode())  # the new one takes its place
            temporary.replace(self.root / INDEX_FILE)
        finally:
            temporary.unlink(missing_ok=True)
        self.is_saved = True

    def apply(self, entry: Entry, rows: Sequence[Row] | None = None) -> None:
        """Take in a new entry of the log; the rows of its part, if they are at hand."""
        self.last, self.number, self.is_saved = entry, entry.number, False
        if rows is None and self._is_left_out(entry):
            return
        if entry.action == CHECKPOINT:
            self.base, self.tail = _of_part(self.root, entry).settled(), []
        elif entry.action == "add_part":
            self._add(_of_part(self.root, entry, rows))
        elif entry.action in SETTLED_ACTIONS:
            self.settle()
            self._change(entry)

    def _is_left_out(self, entry: Entry) -> bool:
        """Tell whether what describes an entry's items cannot be read, and note it."""
        details = entry.details
        needed = f"{details['part']}/{ITEMS_FILE}" if "part" in details else details.get("file", "")
        is_left_out = needed in self.without
        self.left_out.update([needed] if is_left_out else [])
        return is_left_out

    def _change(self, entry: Entry) -> None:
        """Take in what an entry says of items that are there."""
        if entry.action == "set_labels":
            self.base = with_labels(self.base, self.root, entry.details)
        else:
            self.base = self.base.merged(_of_part(self.root, entry)).settled()

    def _add(self, newer: Segment) -> None:
        """Keep a segment; as few as can be, each longer than those after it together."""
        while self.tail and len(self.tail[-1]) <= 2 * len(newer):
            newer = self.tail.pop().merged(newer)
        self.tail.append(newer)

    def settle(self) -> Segment:
        """Return the state of all items."""
        if self.tail:
            for newer in self.tail:
                self.base = self.base.merged(newer)
            self.base, self.tail = self.base.settled(), []
        return self.base

    @property
    def _newest_first(self) -> Iterator[Segment]:
        yield from reversed(self.tail)
        yield self.base

    def find(self, ids: Sequence[str]) -> dict[str, Row]:
        """Return the state of those items that the store knows, by id."""
        found: dict[str, Row] = {}
        for segment in self._newest_first:
            places = segment.places([item_id for item_id in ids if item_id not in found])
            found.update((row.id, row) for row in segment.rows(places[places != NONE]))
        return found

    def ids_of_digests(self, digests: Sequence[str]) -> dict[str, list[str]]:
        """Return for each content the items with features that have it, in order of first addition."""
        found: dict[str, list[str]] = {digest: [] for digest in digests}
        for number, segment in enumerate((self.base, *self.tail)):
            for digest, place in segment.places_of_digests(digests):
                item_id = segment.table["id"][place].as_py()
                if not any(later.places([item_id])[0] != NONE for later in self.tail[number:]):
                    found[digest].append(item_id)
        return found

    def place(self, item_id: str) -> tuple[int, int] | None:
        """Return part and row of an item's features, None if it has none."""
        for segment in self._newest_first:
            (place,) = segment.places([item_id])
            if place != NONE:
                part, row = int(segment.numbers("part")[place]), int(segment.numbers("row")[place])
                return None if row == NONE else (part, row)
        return None

    def column(self, name: str) -> list[Any]:
        """Return one field of all items that have features, in the order of the matrices' rows."""
        segment = self.settle()
        if name == "digest":
            values: list[Any] = [bytes(digest).hex() for digest in segment.digests]
        elif name in ("status", "reason"):
            values = segment.statuses() if name == "status" else segment.reasons()
        else:
            values = segment.table[name].to_pylist()
        return [value for value, is_row in zip(values, segment.has_features.tolist(), strict=True) if is_row]

    def labels(self, name: str) -> list[Any]:
        """Return one column of labels of all items that have features, in the order of the matrices' rows."""
        segment = self.settle()
        return [
            value for value, is_row in zip(segment.labels(name), segment.has_features.tolist(), strict=True) if is_row
        ]

    def failures(self) -> list[tuple[str, str]]:
        """Return id and reason of each failed item, in order of first addition."""
        return self._of_status("failed")

    def _of_status(self, status: str) -> list[tuple[str, str]]:
        from pyarrow import compute

        table = self.settle().table
        found = table.filter(compute.equal(table["status"], status)).select(["id", "reason"]).to_pydict()
        return [(item_id, reason or "") for item_id, reason in zip(found["id"], found["reason"], strict=True)]

    def counts(self) -> dict[str, int]:
        """Return the number of items by status."""
        from pyarrow import compute

        segment = self.settle()
        counted = compute.value_counts(segment.table["status"].combine_chunks()).to_pylist()
        counts = {entry["values"]: entry["counts"] for entry in counted}
        copies = int((segment.numbers("original") != NONE).sum())
        counts = {**counts, "ok": counts.get("ok", 0) - copies, "duplicate": copies}
        return {status: count for status, count in counts.items() if count}


def _empty() -> Segment:
    return segment_of(table_of([]), NONE)


def _of_part(root: Path, entry: Entry, rows: Sequence[Row] | None = None) -> Segment:
    folder = entry.details["part"]
    return segment_of(table_of(rows) if rows is not None else read_items(root / folder), number_of(folder))


def number_of(part: str) -> int:
    """Return the number in a part's name."""
    return int(part.rpartition("/p")[2])


def part_name(number: int) -> str:
    """Return a part's folder within the store."""
    return f"parts/p{number:06d}"


def _write(segment: Segment, last: Entry, path: Path) -> None:
    import pyarrow as pa

    head = {"format": INDEX_FORMAT, "number": last.number, "digest": last.digest}
    table = segment.with_lookups().replace_schema_metadata({HEAD: json.dumps(head)})
    with pa.OSFile(str(path), "wb") as stream, pa.ipc.new_file(stream, table.schema) as writer:
        writer.write_table(table)


def _digests(root: Path) -> list[str]:
    """Return the digests that the index file may have."""
    try:
        return (root / DIGEST_FILE).read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return []


def damaged_index(root: Path) -> list[str]:
    """Return the name of the index file if it has a digest, and that is another one."""
    path = root / INDEX_FILE
    try:
        is_there = path.exists() and (root / DIGEST_FILE).exists()
        return [INDEX_FILE] if is_there and digest_of_file(path) not in _digests(root) else []
    except OSError:
        return [INDEX_FILE]


def _trusted(root: Path, entries: Sequence[Entry]) -> tuple[Segment, int] | None:
    """Return the content of the index file and up to which entry it tells; None if it cannot be used."""
    saved = _saved(root)
    if saved is None:
        return None
    head, table = saved
    known = {entry.number: entry.digest for entry in entries}
    return (Segment(table), head["number"]) if known.get(head["number"]) == head["digest"] else None


def _saved(root: Path) -> tuple[Mapping[str, Any], pyarrow.Table] | None:
    """Return the head and the content of the index file, None if it cannot be used."""
    import pyarrow as pa

    try:
        if digest_of_file(root / INDEX_FILE) not in _digests(root):
            return None
        table = pa.ipc.open_file(pa.memory_map(str(root / INDEX_FILE))).read_all()
        head: Mapping[str, Any] = json.loads(table.schema.metadata[HEAD])
        return (head, table) if head["format"] == INDEX_FORMAT else None
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
        return None


def saved_number(root: Path) -> int:
    """Return the number of the last entry that the index file tells of, 0 if it cannot be used."""
    saved = _saved(root)
    return int(saved[0]["number"]) if saved else 0


def require_end_of_log(root: Path, number: int, told: int | None = None) -> None:
    """Raise an error if the index tells of entries that the log does not have.

    Parameters
    ----------
    root : Path
        The store's folder.
    number : int
        Of the last entry of the log.
    told : int, optional
        What :func:`saved_number` said before the log was read; by default it is asked now, which is right for a writer.

    Raises
    ------
    LogDamagedError
    """
    if (saved_number(root) if told is None else told) > number:
        raise LogDamagedError(
            f"{root / 'log'} ends with entry {number}, but the index tells of later ones: entries are missing. Restore "
            f"the folder log/ from a copy, or remove {INDEX_FILE} to go on without them."
        )
