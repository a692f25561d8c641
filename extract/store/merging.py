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
from .part import ITEMS_FILE, WrittenPart, parse_part_number, write_part
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


def merge_store(writer: StoreWriter, other: StoreContent, prefer: Preference | None, merge: Merge) -> None:
    """Add the items of another store to a store, see :meth:`FeatureStore.merge`, and count them."""
    keys = require_mergeable(writer.store, other)
    items = other.index.settle()
    known = writer.index.settle()
    places = known.find_places(items.table["id"].to_pylist())
    is_new = places == NO_PLACE
    is_taken = is_new | find_better(writer.store, known, items, places, prefer)
    if is_new.all() and other.state.compacted is not None:
        writer.add_parts([link_part(writer, other, keys)] if len(items) else [])
    else:
        writer.add_parts([*write_parts(writer, other, keys, np.flatnonzero(is_taken))])
    merge.added += int(is_new.sum())
    merge.replaced += int((is_taken & ~is_new).sum())
    merge.kept += int((~is_taken).sum())
    merge.labelled += merge_labels(writer, items)


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


def link_part(writer: StoreWriter, other: StoreContent, columns: dict[str, StoredColumn]) -> WrittenPart:
    """Make the only part of another store, all of whose items are new, a part of a store as well."""
    part = writer.next_part()
    source = str(other.state.compacted)
    names = {ITEMS_FILE: ITEMS_FILE, **{f"{key}.npy": f"{stored.key}.npy" for key, stored in columns.items()}}
    with new_folder(writer.store.path / part) as folder:
        for own, name in names.items():
            link_or_copy(provide(other.path / source / name), folder / own)
    files = {f"{part}/{own}": other.state.files[f"{source}/{name}"] for own, name in names.items()}
    return WrittenPart(part, len(other.index.settle()), files)


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
        files = write_part(writer.store.path / part, table, values)
        digests = {path.relative_to(writer.store.path).as_posix(): digest_of_file(path) for path in files}
        yield WrittenPart(part, len(chosen), digests)


def merge_labels(writer: StoreWriter, items: Segment) -> int:
    """Set those labels of items that a store lacks, and return their number."""
    import pyarrow as pa

    n_set = 0
    ids = items.table["id"].cast(pa.string())
    for column in (*SOURCE_LABELS, *find_user_labels(items.table)):
        known = writer.index.settle()
        values = items.table[column]
        is_wanted = np.asarray(values.is_valid())
        if column in known.table.column_names:
            has_label = np.asarray(known.table[column].is_valid())
            is_wanted = is_wanted & ~has_label[known.find_places(ids.to_pylist())]
        if not is_wanted.any():
            continue
        by = BY_SOURCE if column in SOURCE_LABELS else BY_USER
        table = pa.table({"id": ids, column.removeprefix(USER_LABEL_PREFIX): values}).filter(pa.array(is_wanted))
        writer.set_labels(table, by)
        n_set += len(table)
    return n_set
