"""Merge stores of one identity: the items of another store become items of this one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from ...atomic import link_or_copy, new_folder
from ...errors import IdentityError, InputError
from ...identity import digest_of_file, require_same
from ..graphs.same_model import require_same_computation
from .content import StoreContent
from .labels import BY_SOURCE, BY_USER
from .part import ITEMS_FILE, WrittenPart, parse_part_number, write_tables, write_unnamed_part
from .remote_copy import provide
from .segment import NO_PLACE, SOURCE_LABELS, USER_LABEL_PREFIX, Segment, find_user_labels
from .writer import StoreWriter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .state import StoredColumn

Preference: TypeAlias = Literal["this", "other"]
"""Which store's features are kept where both have an item with different contents."""
BYTES_PER_PART = 2**26


@dataclass
class Merge:
    """What a merge did.

    Parameters
    ----------
    added : int
        Items that were new.
    replaced : int
        Known items whose features came from the other store: they had failed here, or had other content.
    kept : int
        Known items that stayed as they were.
    labelled : int
        Labels of items that had none.
    merged : list of str
        Shards whose items are all in the store, such as ``"3/64"``.
    unfinished : list of str
        Shards whose job is running or was interrupted: what they have so far is in the store.
    missing : list of str
        Shards that no job has begun.
    """

    added: int = 0
    replaced: int = 0
    kept: int = 0
    labelled: int = 0
    merged: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def merge_store(
    writer: StoreWriter, other: StoreContent, prefer: Preference | Literal["newer"] | None, merge: Merge, known: Segment
) -> None:
    """Add the items of another store to a store, see :meth:`FeatureStore.merge`, and count them.

    `known` are the items of the store, as it was before stores that have no item of this one were merged. ``"newer"``
    takes the results of a shard, failures too, unless the file was computed here in a later version.
    """
    keys = require_mergeable(writer.store, other)
    items = other.index.settle()
    require_types_of_labels(writer.store, known, items)
    places = np.concatenate([*map(known.find_places, items.iterate_ids()), np.empty(0, np.intp)])
    is_new = places == NO_PLACE
    if prefer == "newer":
        is_taken = is_new | find_newer(known, items, places)
    else:
        is_taken = is_new | find_better(writer.store, known, items, places, prefer)
    if is_new.all() and other.state.compacted is not None:
        writer.add_parts([link_part(writer, other, keys)] if len(items) else [])
    else:
        writer.add_parts([*write_parts(writer, other, keys, np.flatnonzero(is_taken))])
    merge.added += int(is_new.sum())
    merge.replaced += int((is_taken & ~is_new).sum())
    merge.kept += int((~is_taken).sum())
    merge.labelled += merge_labels(writer, known, items, places, is_taken)


def require_types_of_labels(store: StoreContent, known: Segment, items: Segment) -> None:
    """Raise an InputError if labels of a name are of one type in a store, and of another in the other."""
    for column in find_user_labels(items.table):
        if column in known.table.column_names and known.table[column].type != items.table[column].type:
            raise InputError(
                f"labels {column.removeprefix(USER_LABEL_PREFIX)!r} of {store.place} are of type "
                f"{known.table[column].type}, those of the other store of type {items.table[column].type}; set them "
                "anew in one of the stores. Nothing was merged."
            )


def require_mergeable(store: StoreContent, other: StoreContent) -> dict[str, StoredColumn]:
    """Return the other store's column for the key of each column of a store.

    Raise an IdentityError that names the first difference if its features do not belong here.
    """
    require_same(other.identity, store.identity, f"the backbone of {other.path} is not that of {store.place}")
    if store.is_foreign or other.is_foreign:
        raise IdentityError(
            f"{(store if store.is_foreign else other).path} holds foreign features, whose backbone is unknown: stores "
            "are merged if one backbone computed both"
        )
    require_same_computation(other.graph, store.graph, f"the backbone of {other.path} is not that of {store.place}")
    others = {stored.column.name: stored for stored in other.stored_columns}
    found = {}
    for stored in store.stored_columns:
        name = stored.column.name
        if name not in others:
            raise IdentityError(
                f"{other.path} has no column {name!r}; it has {', '.join(others)}. Add it with add_columns (`topwork "
                "extract --add-columns`)."
            )
        what = f"column {name!r} of {other.path} is not that of {store.place}"
        require_same(others[name].column.to_json(), stored.column.to_json(), what)
        found[stored.key] = others[name]
    return found


def find_better(
    store: StoreContent, known: Segment, items: Segment, places: NDArray[np.intp], prefer: Preference | None
) -> NDArray[np.bool_]:
    """Return which items are known and taken from the other store, shape (n_items,).

    `places` are those of the items in `known`. Features replace none, and those of other content as preferred; an
    InputError is raised if nothing is preferred.
    """
    is_known = places != NO_PLACE
    own_features = np.zeros(len(items), bool)
    own_features[is_known] = known.has_features[places[is_known]]
    is_better: NDArray[np.bool_] = is_known & items.has_features & ~own_features
    both = np.flatnonzero(own_features & items.has_features)
    is_other = (known.digests[places[both]] != items.digests[both]).any(axis=1)
    differing = both[is_other]
    if len(differing) and prefer is None:
        raise InputError(
            f"{len(differing)} items of {store.place} have other content in the other store, the first is "
            f"{items.table['id'][differing[0]].as_py()!r}: prefer='this' or 'other' (--prefer) says which to keep. "
            "Nothing was merged."
        )
    is_better[differing] = prefer == "other"
    return is_better


def find_newer(known: Segment, items: Segment, places: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Return which known items a shard computed anew, and not in an older version than they have, shape (n_items,)."""
    is_newer = np.zeros(len(items), bool)
    common = np.flatnonzero(places != NO_PLACE)
    own = places[common]
    has_other_content = (known.digests[own] != items.digests[common]).any(axis=1)
    statuses = np.array(known.statuses(), object)[own]
    is_unsettled = (statuses == "pending") | ((statuses == "failed") & items.has_features[common])
    is_older = read_times(items)[common] < read_times(known)[own]
    is_newer[common] = (has_other_content | is_unsettled) & ~is_older
    return is_newer


def read_times(items: Segment) -> NDArray[np.int64]:
    """Return the modification times of items, 0 where there is none, shape (n,)."""
    from pyarrow import compute

    times: NDArray[np.int64] = np.asarray(compute.fill_null(items.table["mtime_ns"], 0), np.int64)
    return times


def link_part(writer: StoreWriter, other: StoreContent, columns: dict[str, StoredColumn]) -> WrittenPart:
    """Make the features of another store, all of whose items are new, a part of a store, without copying them."""
    part = writer.next_part()
    source = str(other.state.compacted)
    items = other.index.settle()  # with labels that were set since the features were merged
    files = {f"{part}/{key}.npy": other.state.files[f"{source}/{stored.key}.npy"] for key, stored in columns.items()}
    with new_folder(writer.store.path / part) as folder:
        write_tables(folder / ITEMS_FILE, items.iterate_items())
        files[f"{part}/{ITEMS_FILE}"] = digest_of_file(folder / ITEMS_FILE)
        for key, stored in columns.items():
            link_or_copy(provide(other.path / source / f"{stored.key}.npy"), folder / f"{key}.npy")
    return WrittenPart(part, len(items), files)


def write_parts(
    writer: StoreWriter, other: StoreContent, columns: dict[str, StoredColumn], places: NDArray[np.intp]
) -> Iterator[WrittenPart]:
    """Write the items at some places of another store as parts of a store that are not in its log yet."""
    items = other.index.settle()
    matrices = {key: other.matrix(stored.column) for key, stored in columns.items()}
    row_numbers = np.cumsum(items.has_features) - 1
    row_bytes = sum(stored.column.width * np.dtype(stored.column.dtype).itemsize for stored in columns.values())
    size = max(1, BYTES_PER_PART // row_bytes)
    number = 0
    for start in range(0, len(places), size):
        chosen = places[start : start + size]
        rows = row_numbers[chosen[items.has_features[chosen]]]
        part = writer.next_part(after=number)
        number = parse_part_number(part)
        table = items.take(chosen).to_items()
        values = {key: np.asarray(matrix[rows]) for key, matrix in matrices.items()}
        yield write_unnamed_part(writer.store.path, part, table, values)


def merge_labels(
    writer: StoreWriter, known: Segment, items: Segment, places: NDArray[np.intp], is_taken: NDArray[np.bool_]
) -> int:
    """Set those labels of items that a store lacks, and return their number.

    What the source says of items that are taken is in their part already.
    """
    import pyarrow as pa

    n_set = 0
    ids = items.table["id"].cast(pa.string())
    is_known = places != NO_PLACE
    for column in (*SOURCE_LABELS, *find_user_labels(items.table)):
        values = items.table[column]
        is_wanted = np.asarray(values.is_valid())
        if column in SOURCE_LABELS:
            is_wanted = is_wanted & ~is_taken
        if column in known.table.column_names:
            has_label = np.asarray(known.table[column].is_valid())
            is_wanted[is_known] &= ~has_label[places[is_known]]
        if not is_wanted.any():
            continue
        by = BY_SOURCE if column in SOURCE_LABELS else BY_USER
        table = pa.table({"id": ids, column.removeprefix(USER_LABEL_PREFIX): values}).filter(pa.array(is_wanted))
        writer.set_labels(table, by)
        n_set += len(table)
    return n_set
