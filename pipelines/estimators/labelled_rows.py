"""The rows of a store that have a label, as the store and the user say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import InputError
from ...extract.store.labels import are_by_id, label_table
from ...heads.targets import are_missing, to_label_array

if TYPE_CHECKING:
    import pyarrow
    from numpy.typing import NDArray

    from ...extract.store.feature_store import FeatureStore

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

    def is_own(self) -> NDArray[np.bool_]:
        """Tell of each row whether it is an item's own and not one of its views."""
        return np.array([group == item_id for group, item_id in zip(self.groups, self.ids, strict=True)], bool)


def labels_for(store: FeatureStore, labels: Any = None, column: str | None = None) -> LabelledRows:
    """Return the rows of a store that have a label; the store stays as it is.

    Parameters
    ----------
    store : FeatureStore
    labels : mapping, path, table, pandas.Series with ids as its index, or sequence, optional
        By id, in addition to the store's own; or one for each row, None for none.
    column : str, optional
        Of a table.

    Raises
    ------
    InputError
        If an id is not in the store, a table does not say which column it is about, there is not one label for each
        row, or labels would be of several types.
    """
    ids, groups, splits = store.ids, store.groups, list(store.splits)
    if column is not None and labels is None:
        raise InputError(f"label_column={column!r} without labels; expected a table that has the column (--labels)")
    if labels is None or are_by_id(labels):
        values = list(store.labels)
        if labels is not None:
            table = label_table(labels, LABEL)
            name = _named(table, column)
            if name is not None:
                _overlay(values, groups, table.select(["id", name]), store)
            if SPLIT in table.column_names:
                _overlay(splits, groups, table.select(["id", SPLIT]), store, keep=True)
        rows = np.array([row for row, label in enumerate(values) if label is not None], np.intp)
        found = _of_one_type([values[row] for row in rows])
    else:
        every = to_label_array(labels)
        if len(every) != len(ids):
            raise InputError(f"{len(every)} labels for {len(ids)} rows; expected one for each row, or labels by id")
        missing = are_missing(every)
        rows = np.flatnonzero(~(missing if missing.ndim == 1 else missing.any(axis=1)))
        found = to_label_array(every[rows])
    return LabelledRows(rows, found, *([each[row] for row in rows] for each in (ids, groups, splits)))


def _named(table: pyarrow.Table, column: str | None) -> str | None:
    """Return the column of labels; None for a table that has splits only."""
    others = [name for name in table.column_names if name not in ("id", SPLIT)]
    if not others and column is None:
        return None
    chosen = column or (LABEL if LABEL in others or len(others) != 1 else others[0])
    if chosen not in others:
        raise InputError(
            f"the labels have no column {chosen!r}; expected one of {', '.join(others) or 'some'} (--label-column)"
        )
    return chosen


def _overlay(
    values: list[Any], groups: list[str], table: pyarrow.Table, store: FeatureStore, keep: bool = False
) -> None:
    """Put what a table says of items in place of what the store says of them and their views; empty cells may count."""
    ids, said = (column.to_pylist() for column in table.columns)
    new = dict(zip(ids, said, strict=True))
    unknown = set(new) - set(store.ids) - {item_id for item_id, _ in store.failures()}
    if unknown:
        raise InputError(f"{len(unknown)} ids are not in {store.path}, such as {min(unknown)!r}; expected ids of items")
    for row, group in enumerate(groups):
        if group in new and not (keep and new[group] is None):
            values[row] = new[group]


def _of_one_type(values: list[Any]) -> NDArray[Any]:
    kinds = sorted({type(value).__name__ for value in values})
    if kinds == ["float", "int"] and all(float(value).is_integer() for value in values):
        return np.array(values, np.int64)  # as pandas has whole numbers beside empty cells
    if len(kinds) > 1 and kinds != ["float", "int"]:
        raise InputError(
            f"labels of several types: {', '.join(kinds)}; the store's and those that were given are to be of one type"
        )
    return to_label_array(values)
