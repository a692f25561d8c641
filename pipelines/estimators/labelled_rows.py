"""The rows of a store that have a label: the store's own labels, overridden by those of the user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import InputError
from ...extract.sources.label_sets import split_labels
from ...extract.store.labels import are_by_id, divide_cells, label_table, name_windows
from ...heads.label_formats import read_own_labels
from ...heads.targets import are_missing, to_label_array

if TYPE_CHECKING:
    import pyarrow
    from numpy.typing import NDArray

    from ...extract.store.feature_store import FeatureStore

LABEL_COLUMN = "label"
SPLIT_COLUMN = "split"


@dataclass(frozen=True)
class LabelledRows:
    """Rows of a store that have a label, by their positions in the store.

    Labels have shape ``(n_rows,)`` or ``(n_rows, n_targets)``, with `names` of the columns if they have some; the
    lists have one entry for each row. The group of a view is the id of its item; a window is held out with its sound,
    any other row with its group.
    """

    rows: NDArray[np.intp]
    labels: NDArray[Any]
    ids: list[str]
    groups: list[str]
    splits: list[Any]
    held_out_with: list[str]
    names: list[Any] | None = None

    def find_originals(self) -> NDArray[np.bool_]:
        """Return a mask of the rows that are not augmented versions of others."""
        return np.array([group == item_id for group, item_id in zip(self.groups, self.ids, strict=True)], bool)


def select_labelled_rows(
    store: FeatureStore, labels: Any = None, column: str | None = None, separator: str | None = None
) -> LabelledRows:
    """Return the rows of a store that have a label; the store is not changed.

    Labels are given by id (mapping, path, table, pandas.Series), in addition to the store's own, or as a sequence with
    one for each row, None for none. A `separator` divides the texts of a table into several labels each. Raise an
    InputError if an id is not in the store, the `column` of a table is ambiguous, the number of labels is wrong, or
    labels would be of several types.
    """
    if column is not None and labels is None:
        raise InputError(f"label_column={column!r} without labels; expected a table that has the column (--labels)")
    if separator is not None and not are_by_id(labels):
        raise InputError(f"label_separator={separator!r} without a table of labels; expected one (--labels)")
    splits = list(store.splits)
    if labels is None or are_by_id(labels):
        values = list(store.labels)
        if labels is not None:
            table = name_windows(label_table(labels, LABEL_COLUMN), store.ids, store.sounds)
            name = find_label_column(table, column)
            if name is not None and separator is not None:
                table = divide_cells(table, name, separator)
            apply_table(table, name, values=values, splits=splits, store=store)
            values = [split_labels(label) for label in values]
        rows = np.flatnonzero([label is not None for label in values])
        found, names = unify_labels(take_items(values, rows))
    else:
        names = None
        rows, found = select_by_position(to_label_array(labels), len(store.ids))
    groups = store.groups
    return LabelledRows(
        rows=rows,
        labels=found,
        ids=take_items(store.ids, rows),
        groups=take_items(groups, rows),
        splits=take_items(splits, rows),
        held_out_with=take_items(store.sounds or groups, rows),
        names=names,
    )


def take_items(values: Sequence[Any], rows: NDArray[np.intp]) -> list[Any]:
    """Return the values at some positions."""
    return [values[row] for row in rows]


def select_by_position(labels: NDArray[Any], n_rows: int) -> tuple[NDArray[np.intp], NDArray[Any]]:
    """Return the positions of the labels that are not missing, and these labels."""
    if len(labels) != n_rows:
        raise InputError(f"{len(labels)} labels for {n_rows} rows; expected one for each row, or labels by id")
    is_missing = are_missing(labels).reshape(n_rows, -1).any(axis=1)
    rows = np.flatnonzero(~is_missing)
    return rows, to_label_array(labels[rows])


def apply_table(
    table: pyarrow.Table, name: str | None, values: list[Any], splits: list[Any], store: FeatureStore
) -> None:
    """Override the store's labels and splits, in place, by those of a table of ids; an empty label removes one.

    The labels are in the column `name`, if there is one.
    """
    ids = table["id"].to_pylist()
    require_known_ids(ids, store)
    if name is not None:
        new_labels = dict(zip(ids, table[name].to_pylist(), strict=True))
        _override(values, new_labels, store.groups)
    if SPLIT_COLUMN in table.column_names:
        given_splits = zip(ids, table[SPLIT_COLUMN].to_pylist(), strict=True)
        new_splits = {item_id: split for item_id, split in given_splits if split is not None}
        _override(splits, new_splits, store.groups)


def require_known_ids(ids: Sequence[str], store: FeatureStore) -> None:
    """Raise an InputError if an id is neither that of a row nor that of a failed item."""
    failed = {item_id for item_id, _ in store.failures()}
    unknown = set(ids) - set(store.ids) - failed
    if unknown:
        raise InputError(f"{len(unknown)} ids are not in {store.path}, such as {min(unknown)!r}; expected ids of items")


def find_label_column(table: pyarrow.Table, column: str | None) -> str | None:
    """Return the name of the column of labels; None for a table that has splits only."""
    others = [name for name in table.column_names if name not in ("id", SPLIT_COLUMN)]
    if column is None and not others:
        return None
    default = others[0] if len(others) == 1 else LABEL_COLUMN
    chosen = default if column is None else column
    if chosen not in others:
        raise InputError(
            f"the labels have no column {chosen!r}; expected one of {', '.join(others) or 'some'} (--label-column)"
        )
    return chosen


def _override(values: list[Any], new_values: dict[str, Any], groups: list[str]) -> None:
    """Replace the values of items and their views, in place."""
    for row, group in enumerate(groups):
        if group in new_values:
            values[row] = new_values[group]


def unify_labels(values: list[Any]) -> tuple[NDArray[Any], list[Any] | None]:
    """Return labels as an array of one type, lists of them as zeros and ones with the names of the columns."""
    if any(isinstance(label, list) for label in values):
        given = read_own_labels(values)
        return given.values, given.names
    return unify_types(values), None


def unify_types(values: list[Any]) -> NDArray[Any]:
    """Return labels as an array of one type."""
    type_names = sorted({type(value).__name__ for value in values})
    if type_names == ["float", "int"]:
        if all(float(value).is_integer() for value in values):
            return np.array(values, np.int64)  # pandas converts whole numbers next to empty cells to floats
    elif len(type_names) > 1:
        raise InputError(
            f"labels of several types: {', '.join(type_names)}; expected those of the store and those given to be of "
            "one type"
        )
    return to_label_array(values)
