"""Items in memory or mapped from a file: a column for each field, and look-ups by id and by content.

A segment is the state of some items; a newer segment is merged over an older one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..sources.label_sets import split_labels
from .lookup import Lookup, compute_text_hashes, read_digest_prefixes
from .part import ROW_FIELDS, Row

if TYPE_CHECKING:
    import pyarrow
    from numpy.typing import NDArray

DIGEST_BYTES = 32
NO_PLACE = -1
"""In columns of numbers: the item has no part, row or original."""
USER_LABEL_PREFIX = "given:"
"""Prefix of the columns with labels that the user set; they take precedence over those of the source."""
SOURCE_LABELS = ("label", "split")
"""Columns of labels that a source fills."""
LOOKUP_COLUMNS = ("id_hash", "id_place", "digest_head", "digest_place")
ITEMS_AT_ONCE = 2**14
"""Items whose fields are turned into texts of Python at a time, each of which takes several times its length."""
ALL_ITEMS = slice(None)
REMOVED_STATUS = "removed"
"""Status of an item that is dropped when segments are merged."""


class Segment:
    """Some items, each once, in a table as :meth:`from_items` builds it, with or without :data:`LOOKUP_COLUMNS`."""

    def __init__(self, table: pyarrow.Table) -> None:
        self.table = table.combine_chunks()

    @classmethod
    def from_items(cls, items: pyarrow.Table, part: int) -> Segment:
        """Return the items of a part: the fields of :class:`Row`, and columns of labels that the user set."""
        import pyarrow as pa
        from pyarrow import compute

        row = compute.fill_null(items["row"].cast(pa.int32()), NO_PLACE)
        has_features = np.asarray(row) != NO_PLACE
        columns = {name: items[name] for name in (*ROW_FIELDS, *find_user_labels(items))}
        columns["id"] = items["id"].cast(pa.large_string())
        columns["digest"] = digests_to_array(parse_digest_column(items["digest"]))
        columns["row"] = row
        columns["part"] = pa.array(np.where(has_features, part, NO_PLACE).astype(np.int32))
        columns["original"] = pa.array(np.full(len(items), NO_PLACE, np.int32))
        return cls(pa.table(columns))

    @classmethod
    def join(cls, segments: Sequence[Segment]) -> Segment:
        """Return the items of several segments, none of which is in two, one after the other."""
        if len(segments) == 1:
            return segments[0]
        import pyarrow as pa

        names = [name for name in segments[0].table.column_names if not name.startswith(USER_LABEL_PREFIX)]
        return cls(pa.concat_tables([segment.table.select(names) for segment in segments]))

    def to_items(self) -> pyarrow.Table:
        """Return the items of a part that holds this segment, whose rows are numbered anew."""
        import pyarrow as pa

        return pa.concat_tables(self.iterate_items())

    def iterate_items(self) -> Iterator[pyarrow.Table]:
        """Yield what :meth:`to_items` returns, some items at a time; one table without rows if there are none."""
        import pyarrow as pa

        names = [*ROW_FIELDS, *find_user_labels(self.table)]
        n_rows = 0
        for start in range(0, max(len(self), 1), ITEMS_AT_ONCE):
            places = slice(start, start + ITEMS_AT_ONCE)
            has_features = self.has_features[places]
            numbers = n_rows + (np.cumsum(has_features) - 1).astype(np.int32)
            n_rows += int(has_features.sum())
            table = self.table.select(names).slice(start, ITEMS_AT_ONCE)
            replaced = {
                "id": table["id"].cast(pa.string()),
                "digest": pa.array(format_digests(self.digests[places]), pa.string()),
                "row": pa.array(numbers, mask=~has_features),
                "status": pa.array(self.statuses(places), pa.string()),
                "reason": pa.array(self.reasons(places), pa.string()),
            }
            yield set_table_columns(table, replaced)

    def renumber(self, part: int) -> Segment:
        """Return the items as they are in a part that holds this segment alone."""
        import pyarrow as pa

        parts = np.where(self.has_features, part, NO_PLACE).astype(np.int32)
        rows = np.where(self.has_features, np.cumsum(self.has_features) - 1, NO_PLACE).astype(np.int32)
        return Segment(set_table_columns(self.table, {"part": pa.array(parts), "row": pa.array(rows)}))

    def take(self, places: NDArray[np.intp]) -> Segment:
        """Return the items at some places; it is forgotten which of them are duplicates, until they are settled."""
        import pyarrow as pa

        names = [name for name in self.table.column_names if name not in LOOKUP_COLUMNS]
        taken = self.table.select(names).take(pa.array(places))
        no_originals = pa.array(np.full(len(places), NO_PLACE, np.int32))
        return Segment(set_table_columns(taken, {"original": no_originals}))

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def numbers(self, name: str) -> NDArray[Any]:
        """Return a column of numbers without nulls, shape (n,)."""
        column: pyarrow.ChunkedArray = self.table[name]
        if not len(self):
            return np.empty(0, column.type.to_pandas_dtype())
        array: NDArray[Any] = column.chunk(0).to_numpy(zero_copy_only=True)
        return array

    @cached_property
    def digests(self) -> NDArray[np.uint8]:
        """The digests ``(n, 32)``; zeros where the content could not be read."""
        if not len(self):
            return np.empty((0, DIGEST_BYTES), np.uint8)
        chunk = self.table["digest"].chunk(0)
        content = np.frombuffer(chunk.buffers()[1], np.uint8)
        start = chunk.offset * DIGEST_BYTES
        return content[start : start + len(self) * DIGEST_BYTES].reshape(-1, DIGEST_BYTES)

    @cached_property
    def lookup_by_id(self) -> Lookup:
        """Look-up by id."""
        if "id_hash" in self.table.column_names:
            return Lookup(self.numbers("id_hash"), self.numbers("id_place"))
        ids = (item_id for some_ids in self.iterate_ids() for item_id in some_ids)
        return Lookup.build(compute_text_hashes(ids, len(self)))

    def iterate_ids(self) -> Iterator[list[str]]:
        """Yield the ids in their order, some at a time."""
        for start in range(0, len(self), ITEMS_AT_ONCE):
            yield self.table["id"].slice(start, ITEMS_AT_ONCE).to_pylist()

    @cached_property
    def lookup_by_digest(self) -> Lookup:
        """Look-up by content."""
        if "digest_head" in self.table.column_names:
            return Lookup(self.numbers("digest_head"), self.numbers("digest_place"))
        return Lookup.build(read_digest_prefixes(self.digests))

    @cached_property
    def has_features(self) -> NDArray[np.bool_]:
        """Whether each item has features, shape (n,)."""
        has_features: NDArray[np.bool_] = self.numbers("row") != NO_PLACE
        return has_features

    def find_features(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return the number of the part and the row there of each item with features, two arrays (n_rows,)."""
        parts = self.numbers("part")[self.has_features]
        rows = self.numbers("row")[self.has_features]
        return parts, rows

    def find_places(self, ids: Sequence[str]) -> NDArray[np.intp]:
        """Return the place of each id, -1 for those that are not in the segment, shape (len(ids),)."""
        import pyarrow as pa
        from pyarrow import compute

        found = np.full(len(ids), NO_PLACE, np.intp)
        positions, places = self.lookup_by_id.find_candidates(compute_text_hashes(ids, len(ids)))
        if not len(positions):
            return found
        wanted = pa.array(ids, pa.large_string()).take(pa.array(positions))
        candidates = self.table["id"].take(pa.array(places))
        is_same = np.asarray(compute.equal(candidates, wanted).to_numpy(zero_copy_only=False), bool)
        found[positions[is_same]] = places[is_same]
        return found

    def find_digests(self, digests: Sequence[str]) -> Iterator[tuple[str, int]]:
        """Yield pairs of a digest and the place of an item with features of that content, in order of places."""
        known = [digest for digest in digests if digest]
        wanted = parse_digests(known)
        positions, places = self.lookup_by_digest.find_candidates(read_digest_prefixes(wanted))
        is_same = (self.digests[places] == wanted[positions]).all(axis=1) & self.has_features[places]
        for position, place in zip(positions[is_same].tolist(), places[is_same].tolist(), strict=True):
            yield known[position], place

    def rows(self, places: NDArray[np.intp]) -> list[Row]:
        """Return the items at some places."""
        import pyarrow as pa

        taken = Segment(self.table.select([*ROW_FIELDS, "original"]).take(pa.array(places)))
        fields = taken.table.select(ROW_FIELDS).to_pydict()
        fields["digest"] = format_digests(taken.digests)
        originals = self._find_ids(taken.numbers("original"))
        values_of_rows = zip(*(fields[name] for name in ROW_FIELDS), strict=True)
        return [build_row(values, original) for values, original in zip(values_of_rows, originals, strict=True)]

    def _find_ids(self, places: NDArray[np.int32]) -> list[str | None]:
        """Return the ids of the items at some places, None where there is no place."""
        import pyarrow as pa

        ids: list[str | None] = self.table["id"].take(pa.array(places, mask=places == NO_PLACE)).to_pylist()
        return ids

    def reasons(self, places: slice = ALL_ITEMS) -> list[str | None]:
        """Return for each item why it failed, or the id of the item that it is a duplicate of."""
        reasons = self.table["reason"][places].to_pylist()
        originals = self._find_ids(self.numbers("original")[places])
        return [original or reason for original, reason in zip(originals, reasons, strict=True)]

    def statuses(self, places: slice = ALL_ITEMS) -> list[str]:
        """Return the status of each item."""
        statuses: list[str] = self.table["status"][places].to_pylist()
        for place in np.flatnonzero(self.numbers("original")[places] != NO_PLACE).tolist():
            statuses[place] = "duplicate"
        return statuses

    def merge(self, newer: Segment) -> Segment:
        """Return these items, replaced in their places by those of a newer segment, with new items at the end.

        Labels that the user set are kept, whatever the content of the item becomes.
        """
        import pyarrow as pa

        order = self.find_merge_order(newer)
        user_labels = find_user_labels(self.table)
        names = [name for name in self.table.column_names if name not in (*LOOKUP_COLUMNS, *user_labels)]
        tables = [self.table.select(names), newer.table.select(names)]
        table = pa.concat_tables([table for table in tables if len(table)] or tables)  # one table is not copied
        n_new = len(order) - len(self)
        if n_new < len(newer):
            table = table.take(pa.array(order))
        for name in user_labels:
            old_labels = self.table[name]
            no_labels = pa.nulls(n_new, old_labels.type)
            table = table.append_column(name, pa.chunked_array([*old_labels.chunks, no_labels]))
        return Segment(table)

    def find_merge_order(self, newer: Segment) -> NDArray[np.intp]:
        """Return for each item of the merged segment its row in the tables of both, one below the other."""
        places = np.concatenate([*map(self.find_places, newer.iterate_ids()), np.empty(0, np.intp)])
        is_known = places != NO_PLACE
        newer_rows = len(self) + np.arange(len(newer))
        order = np.concatenate([np.arange(len(self)), newer_rows[~is_known]])
        order[places[is_known]] = newer_rows[is_known]
        return order

    def settle(self) -> Segment:
        """Return the items without those that were removed; of equal contents the first is the original."""
        import pyarrow as pa
        from pyarrow import compute

        names = [name for name in self.table.column_names if name not in LOOKUP_COLUMNS]
        table = self.table.select(names)
        is_kept = compute.not_equal(table["status"], REMOVED_STATUS)
        kept = Segment(table if compute.all(is_kept).as_py() in (True, None) else table.filter(is_kept))
        is_ok = pa.array(kept.has_features)
        no_reason = pa.scalar(None, pa.string())
        replaced = {
            "original": pa.array(find_originals(kept.digests, kept.has_features)),
            "status": compute.if_else(is_ok, "ok", kept.table["status"]),
            "reason": compute.if_else(is_ok, no_reason, kept.table["reason"]),
        }
        return Segment(set_table_columns(kept.table, replaced))

    def to_table_with_lookups(self) -> pyarrow.Table:
        """Return the table with both look-ups as columns."""
        import pyarrow as pa

        by_id = self.lookup_by_id
        by_digest = self.lookup_by_digest
        arrays = (by_id.hashes, by_id.places, by_digest.hashes, by_digest.places)
        columns = {name: pa.array(values) for name, values in zip(LOOKUP_COLUMNS, arrays, strict=True)}
        return set_table_columns(self.table, columns)

    def replace_values(self, column: str, ids: pyarrow.ChunkedArray, values: pyarrow.ChunkedArray) -> Segment:
        """Return the items with new values of one column for some of them; unknown ids are ignored.

        Values of another type than before drop all old ones of the column.
        """
        import pyarrow as pa

        if column in self.table.column_names and self.table[column].type == values.type:
            old_values = self.table[column]
        else:
            old_values = pa.chunked_array([pa.nulls(len(self), values.type)])
        joined = pa.chunked_array([*old_values.chunks, *values.chunks], values.type)
        places = self.find_places(ids.to_pylist())
        is_known = places != NO_PLACE
        order = np.arange(len(self))
        order[places[is_known]] = len(self) + np.flatnonzero(is_known)
        return Segment(set_table_columns(self.table, {column: joined.take(pa.array(order))}))

    def labels(self, name: str) -> list[Any]:
        """Return the labels of one name: those that the user set, else those of the source; several as a list."""
        labels: list[Any] = self.table[name].to_pylist() if name in SOURCE_LABELS else [None] * len(self)
        user_column = USER_LABEL_PREFIX + name
        if user_column in self.table.column_names:
            user_labels = self.table[user_column].to_pylist()
            labels = [label if own is None else own for own, label in zip(user_labels, labels, strict=True)]
        return [split_labels(label) for label in labels]

    @property
    def label_names(self) -> list[str]:
        """Names of the columns of labels."""
        user_names = [name.removeprefix(USER_LABEL_PREFIX) for name in find_user_labels(self.table)]
        return list(dict.fromkeys([*SOURCE_LABELS, *user_names]))


def find_user_labels(table: pyarrow.Table) -> list[str]:
    """Return the names of the columns with labels that the user set."""
    return [name for name in table.column_names if name.startswith(USER_LABEL_PREFIX)]


def set_table_columns(table: pyarrow.Table, columns: Mapping[str, Any]) -> pyarrow.Table:
    """Return a table with columns added, or replaced where there are some of that name."""
    for name, values in columns.items():
        if name in table.column_names:
            table = table.set_column(table.column_names.index(name), name, values)
        else:
            table = table.append_column(name, values)
    return table


def parse_digests(texts: Sequence[str]) -> NDArray[np.uint8]:
    """Return hexadecimal digests as bytes ``(n, 32)``; zeros for the empty text."""
    joined = "".join(text or "0" * (2 * DIGEST_BYTES) for text in texts)
    return np.frombuffer(bytes.fromhex(joined), np.uint8).reshape(-1, DIGEST_BYTES)


def parse_digest_column(texts: pyarrow.ChunkedArray) -> NDArray[np.uint8]:
    """Return hexadecimal digests as bytes ``(n, 32)``, see :func:`parse_digests`."""
    starts = range(0, len(texts), ITEMS_AT_ONCE)
    some_digests = [parse_digests(texts.slice(start, ITEMS_AT_ONCE).to_pylist()) for start in starts]
    return np.concatenate([np.empty((0, DIGEST_BYTES), np.uint8), *some_digests])


def digests_to_array(digests: NDArray[np.uint8]) -> pyarrow.FixedSizeBinaryArray:
    """Return digests ``(n, 32)`` as an array of Arrow, without copying them."""
    import pyarrow as pa

    buffers = [None, pa.py_buffer(np.ascontiguousarray(digests))]
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(DIGEST_BYTES), len(digests), buffers)


def format_digests(digests: NDArray[np.uint8]) -> list[str]:
    """Return digests ``(n, 32)`` as hexadecimal text; the empty text for zeros."""
    width = 2 * DIGEST_BYTES
    text = digests.tobytes().hex()
    texts = [text[start : start + width] for start in range(0, len(text), width)]
    for place in np.flatnonzero((digests == 0).all(axis=1)):
        texts[place] = ""
    return texts


def build_row(values: tuple[Any, ...], original: str | None) -> Row:
    """Return the row with these fields; one with an original is a duplicate of it."""
    row = Row(*values)
    if row.row == NO_PLACE:
        row = replace(row, row=None)
    if original is not None:
        row = replace(row, status="duplicate", reason=original)
    return row


def find_originals(digests: NDArray[np.uint8], has_features: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return for each item the place of the first item with the same content, shape (n,).

    -1 for items without features, and for those that are the first of their content.
    """
    originals = np.full(len(digests), NO_PLACE, np.int32)
    places = np.flatnonzero(has_features)
    if not len(places):
        return originals
    chosen = digests if len(places) == len(digests) else digests[places]
    prefixes = np.ascontiguousarray(chosen[:, :8]).view(np.uint64).reshape(-1)  # (n, 8) -> (n,)

    # Sort by the first eight bytes; the sort is stable, so the first of a run is the first item.
    order = np.argsort(prefixes, kind="stable")
    sorted_prefixes = prefixes[order]
    is_first = np.concatenate([[True], sorted_prefixes[1:] != sorted_prefixes[:-1]])
    starts = np.flatnonzero(is_first)
    repeats = np.flatnonzero(~is_first)
    firsts = order[starts[np.searchsorted(starts, repeats) - 1]]
    repeats = order[repeats]

    # Digests with equal prefixes and different ends practically never occur; such items are no duplicates.
    is_same = (chosen[repeats] == chosen[firsts]).all(axis=1)
    originals[places[repeats[is_same]]] = places[firsts[is_same]]
    return originals
