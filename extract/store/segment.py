"""Items in memory or mapped from a file: a column for each field, and look-ups by id and by content.

A segment is a state of some items; a newer one is merged over an older one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from .lookup import Lookup, hashes_of, heads_of
from .part import FIELDS, Row

if TYPE_CHECKING:
    import pyarrow
    from numpy.typing import NDArray

DIGEST_BYTES = 32
NONE = -1
"""Of parts, rows and originals: there is none."""
GIVEN = "given:"
"""Before the name of a column of labels that the user set, which go before those of the source."""
SOURCE_LABELS = ("label", "split")
"""Columns that a source fills."""
LOOKUPS = ("id_hash", "id_place", "digest_head", "digest_place")
REMOVED = "removed"
"""Status of an item that is to be left out when segments are merged."""


class Segment:
    """Some items, each once.

    Parameters
    ----------
    table : pyarrow.Table
        As :func:`segment_of` makes it, in one chunk; with the columns of :data:`LOOKUPS`, or without.
    """

    def __init__(self, table: pyarrow.Table) -> None:
        self.table = table.combine_chunks()

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def numbers(self, name: str) -> NDArray[Any]:
        """Return a column of numbers without nulls."""
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
        found = np.frombuffer(chunk.buffers()[1], np.uint8)
        start = chunk.offset * DIGEST_BYTES
        return found[start : start + len(self) * DIGEST_BYTES].reshape(-1, DIGEST_BYTES)

    @cached_property
    def by_id(self) -> Lookup:
        """Look-up by id."""
        if "id_hash" in self.table.column_names:
            return Lookup(self.numbers("id_hash"), self.numbers("id_place"))
        return Lookup.of(hashes_of(self.table["id"].to_pylist(), len(self)))

    @cached_property
    def by_digest(self) -> Lookup:
        """Look-up by content."""
        if "digest_head" in self.table.column_names:
            return Lookup(self.numbers("digest_head"), self.numbers("digest_place"))
        return Lookup.of(heads_of(self.digests))

    @cached_property
    def has_features(self) -> NDArray[np.bool_]:
        """Which items have features."""
        has_features: NDArray[np.bool_] = self.numbers("row") != NONE
        return has_features

    def places(self, ids: Sequence[str]) -> NDArray[np.intp]:
        """Return where items stand, -1 for those that are not here."""
        import pyarrow as pa
        from pyarrow import compute

        found = np.full(len(ids), NONE, np.intp)
        which, places = self.by_id.candidates(hashes_of(ids, len(ids)))
        wanted = pa.array(ids, pa.large_string()).take(pa.array(which))
        equal = compute.equal(self.table["id"].take(pa.array(places)), wanted)
        is_same = np.asarray(equal.to_numpy(zero_copy_only=False), bool) if len(which) else np.zeros(0, bool)
        found[which[is_same]] = places[is_same]
        return found

    def places_of_digests(self, digests: Sequence[str]) -> Iterator[tuple[str, int]]:
        """Yield pairs of a digest and the place of an item with features of that content, in order of places."""
        known = [digest for digest in digests if digest]
        wanted = digests_of(known)
        which, places = self.by_digest.candidates(heads_of(wanted))
        is_same = (self.digests[places] == wanted[which]).all(1) & (self.numbers("row")[places] != NONE)
        for number, place in zip(which[is_same].tolist(), places[is_same].tolist(), strict=True):
            yield known[number], place

    def rows(self, places: NDArray[np.intp]) -> list[Row]:
        """Return items by their places."""
        import pyarrow as pa

        taken = Segment(self.table.select([*FIELDS, "original"]).take(pa.array(places)))
        digests = [bytes(digest).hex() if digest.any() else "" for digest in taken.digests]
        fields = {**taken.table.to_pydict(), "digest": digests}
        originals = self._originals(taken.numbers("original"))
        columns = zip(*(fields[name] for name in FIELDS), strict=True)
        return [_row(values, original) for values, original in zip(columns, originals, strict=True)]

    def _originals(self, places: NDArray[np.int32]) -> list[str | None]:
        """Return the ids of the items that these are duplicates of."""
        import pyarrow as pa

        ids: list[str | None] = self.table["id"].take(pa.array(places, mask=places == NONE)).to_pylist()
        return ids

    def reasons(self) -> list[str | None]:
        """Return of each item why it failed, or what it is a duplicate of."""
        own, originals = self.table["reason"].to_pylist(), self._originals(self.numbers("original"))
        return [original or reason for original, reason in zip(originals, own, strict=True)]

    def statuses(self) -> list[str]:
        """Return the status of each item."""
        is_copy = (self.numbers("original") != NONE).tolist()
        return [
            "duplicate" if copy else status
            for copy, status in zip(is_copy, self.table["status"].to_pylist(), strict=True)
        ]

    def merged(self, newer: Segment) -> Segment:
        """Return these items with a newer state of some, which keep their place, and new ones behind them."""
        import pyarrow as pa

        found = self.places(newer.table["id"].to_pylist())
        later, is_known = len(self) + np.arange(len(newer)), found != NONE
        order = np.concatenate([np.arange(len(self)), later[~is_known]])
        order[found[is_known]] = later[is_known]
        given = [name for name in self.table.column_names if name.startswith(GIVEN)]
        plain = [name for name in self.table.column_names if name not in (*LOOKUPS, *given)]
        table = pa.concat_tables([self.table.select(plain), newer.table.select(plain)]).take(pa.array(order))
        for name in given:  # what the user set stays, whatever becomes of the content
            missing = pa.nulls(len(order) - len(self), self.table[name].type)
            table = table.append_column(name, pa.chunked_array([*self.table[name].chunks, missing]))
        return Segment(table)

    def settled(self) -> Segment:
        """Return the items without those that were removed; of equal contents the first is the original."""
        import pyarrow as pa
        from pyarrow import compute

        names = [name for name in self.table.column_names if name not in LOOKUPS]
        table = self.table.select(names)
        kept = Segment(table.filter(compute.not_equal(table["status"], REMOVED)))
        originals = _originals_of(kept.digests, kept.has_features)
        is_fine = pa.array(kept.has_features)
        table = kept.table
        table = with_column(table, "original", pa.array(originals))
        table = with_column(table, "status", compute.if_else(is_fine, "ok", table["status"]))
        return Segment(
            with_column(table, "reason", compute.if_else(is_fine, pa.scalar(None, pa.string()), table["reason"]))
        )

    def with_lookups(self) -> pyarrow.Table:
        """Return the table with the look-ups as columns."""
        import pyarrow as pa

        found = (self.by_id.hashes, self.by_id.places, self.by_digest.hashes, self.by_digest.places)
        table = self.table
        for name, values in zip(LOOKUPS, found, strict=True):
            table = with_column(table, name, pa.array(values))
        return table

    def with_values(self, column: str, ids: pyarrow.ChunkedArray, values: pyarrow.ChunkedArray) -> Segment:
        """Return the items with other values in one column for some of them; new types replace all values."""
        import pyarrow as pa

        places = self.places(ids.to_pylist())
        order = np.arange(len(self))
        order[places[places != NONE]] = len(self) + np.flatnonzero(places != NONE)
        is_same = column in self.table.column_names and self.table[column].type == values.type
        old = self.table[column] if is_same else pa.chunked_array([pa.nulls(len(self), values.type)])
        joined = pa.chunked_array([*old.chunks, *values.chunks], values.type)
        return Segment(with_column(self.table, column, joined.take(pa.array(order))))

    def labels(self, name: str) -> list[Any]:
        """Return of each item what the user set, or else what its source says."""
        names, nothing = self.table.column_names, [None] * len(self)
        own = self.table[name].to_pylist() if name in SOURCE_LABELS else nothing
        given = self.table[GIVEN + name].to_pylist() if GIVEN + name in names else nothing
        return [theirs if label is None else label for label, theirs in zip(given, own, strict=True)]

    @property
    def label_names(self) -> list[str]:
        """Names of the columns of labels."""
        given = [name.removeprefix(GIVEN) for name in self.table.column_names if name.startswith(GIVEN)]
        return list(dict.fromkeys([*SOURCE_LABELS, *given]))


def _row(values: tuple[Any, ...], original: str | None) -> Row:
    row = Row(*values)
    row = replace(row, row=None) if row.row == NONE else row
    return row if original is None else replace(row, status="duplicate", reason=original)


def with_column(table: pyarrow.Table, name: str, values: Any) -> pyarrow.Table:
    """Return a table with a column, in place of the one of its name."""
    if name in table.column_names:
        return table.set_column(table.column_names.index(name), name, values)
    return table.append_column(name, values)


def digests_of(texts: Sequence[str]) -> NDArray[np.uint8]:
    """Return digests as bytes ``(n, 32)``; zeros for the empty one."""
    joined = "".join(text or "0" * (2 * DIGEST_BYTES) for text in texts)
    return np.frombuffer(bytes.fromhex(joined), np.uint8).reshape(-1, DIGEST_BYTES)


def _originals_of(digests: NDArray[np.uint8], has_features: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return for each item the place of the first with the same content, -1 if it is that itself."""
    originals = np.full(len(digests), NONE, np.int32)
    places = np.flatnonzero(has_features)
    if not len(places):
        return originals
    keys = np.ascontiguousarray(digests[places]).view(f"V{DIGEST_BYTES}").reshape(-1)
    heads = np.ascontiguousarray(digests[places, :8]).view(np.uint64).reshape(-1)
    order = np.argsort(heads, kind="stable")
    is_first = np.concatenate([[True], heads[order][1:] != heads[order][:-1]])
    first = np.maximum.accumulate(np.where(is_first, np.arange(len(order)), 0))
    found = places[order[first]]
    same = keys[order] == keys[order[first]]  # the same 8 bytes, and not the same 32: as good as never
    originals[places[order]] = np.where(is_first | ~same, NONE, found)
    return originals
