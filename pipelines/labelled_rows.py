"""The rows of a store that have a label, as the store and the user say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..extract.store.labels import label_table
from ..heads.labels import typed_labels

if TYPE_CHECKING:
    import pyarrow
    from numpy.typing import NDArray

    from ..extract.store.feature_store import FeatureStore

LABEL, SPLIT = "label", "split"


@dataclass(frozen=True)
class LabelledRows:
    """Rows of a store, with what is said of them.

    Parameters
    ----------
    rows : ndarray of int
        Their places in the store.
    labels : ndarray
        One for each of `rows`; or several.
    ids, groups, splits : list
        One for each of `rows`; a view's group is its item.
    """

    rows: NDArray[np.intp]
    labels: NDArray[Any]
    ids: list[str]
    groups: list[str]
    splits: list[Any]


def labels_for(store: FeatureStore, labels: Any = None, column: str | None = None) -> LabelledRows:
    """Return the rows of a store that have a label; the store stays as it is.

    Parameters
    ----------
    store : FeatureStore
    labels : mapping, path, pyarrow.Table or sequence, optional
        By id, in addition to the store's own; or one for each row.
    column : str, optional
        Of a table.

    Raises
    ------
    InputError
        If an id is not in the store, a table does not say which column it is about, there is not one label for each
        row, or labels would be of several types.
    """
    ids, groups, splits = store.ids, store.groups, list(store.splits)
    if labels is None or isinstance(labels, (Mapping, str, Path)) or hasattr(labels, "column_names"):
        values = list(store.labels)
        if labels is not None:
            table = label_table(labels, LABEL)
            _overlay(values, groups, _named(table, column), store)
            if SPLIT in table.column_names:
                _overlay(splits, groups, table.select(["id", SPLIT]), store)
        rows = np.array([row for row, label in enumerate(values) if label is not None], np.intp)
        found = _of_one_type([values[row] for row in rows])
    else:
        found, rows = typed_labels(labels), np.arange(len(ids))
        if len(found) != len(ids):
            raise InputError(f"{len(found)} labels for {len(ids)} rows; expected one for each row, or labels by id")
    return LabelledRows(rows, found, *([each[row] for row in rows] for each in (ids, groups, splits)))


def _named(table: pyarrow.Table, column: str | None) -> pyarrow.Table:
    """Return ids and labels of a table."""
    others = [name for name in table.column_names if name not in ("id", SPLIT)]
    chosen = column or (LABEL if LABEL in others or len(others) != 1 else others[0])
    if chosen not in others:
        raise InputError(
            f"the labels have no column {chosen!r}; expected one of {', '.join(others) or 'some'} (--label-column)"
        )
    return table.select(["id", chosen])


def _overlay(values: list[Any], groups: list[str], table: pyarrow.Table, store: FeatureStore) -> None:
    """Put what a table says of items in place of what the store says of them and their views."""
    ids, said = (column.to_pylist() for column in table.columns)
    new = dict(zip(ids, said, strict=True))
    unknown = set(new) - set(store.ids) - {item_id for item_id, _ in store.failures()}
    if unknown:
        raise InputError(f"{len(unknown)} ids are not in {store.path}, such as {min(unknown)!r}; expected ids of items")
    for row, group in enumerate(groups):
        if new.get(group) is not None:
            values[row] = new[group]


def _of_one_type(values: list[Any]) -> NDArray[Any]:
    found = typed_labels(values)
    if found.dtype == object and len(found):
        kinds = sorted({type(value).__name__ for value in values})
        raise InputError(
            f"labels of several types: {', '.join(kinds)}; the store's and those that were given are to be of one type"
        )
    return found
