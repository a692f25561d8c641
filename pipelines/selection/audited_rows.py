"""The rows of a store that are audited: their features, contents, labels, splits and groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import InputError
from ...extract.sources.path_labels import is_held_out
from ...extract.store.content import EXCLUDED_LABELS
from ...extract.store.feature_store import FeatureStore
from ...heads.targets import encode_labels, is_missing
from ...large_arrays import join_columns, take_rows
from ..estimators.item_labels import check_item_vector, find_originals
from ..estimators.labelled_rows import LabelledRows, select_labelled_rows, take_items
from ..estimators.transfer_regressor import TransferRegressor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

TASKS = ("classification", "regression")
NO_CLASS = -1
"""Code of rows without a label."""


@dataclass(frozen=True)
class AuditedRows:
    """Rows of a store, without views of others and excluded items; each list and array has an entry for each row.

    Parameters
    ----------
    store : FeatureStore
    rows : ndarray of int, shape (n_rows,)
        Positions in the store.
    columns : tuple of str
        The columns of features.
    ids : list of str
    contents : ndarray of int, shape (n_rows,)
        Equal numbers for equal contents.
    splits : list
    groups : list
        None for rows without one.
    labelled : ndarray of int, shape (n_labelled,)
        Places of the rows that have a label.
    labels : ndarray, shape (n_labelled,) or (n_labelled, n_labels)
        Of several labels for each row zeros and ones.
    label_names : list or None
        Names of several labels.
    """

    store: FeatureStore
    rows: NDArray[np.intp]
    columns: tuple[str, ...]
    ids: list[str]
    contents: NDArray[np.intp]
    splits: list[Any]
    groups: list[Any]
    labelled: NDArray[np.intp]
    labels: NDArray[Any]
    label_names: list[Any] | None

    def __len__(self) -> int:
        return len(self.rows)

    def take_features(self, places: NDArray[np.intp]) -> NDArray[Any]:
        """Return the features of some rows; of all rows of a single column they are a memory map."""
        wanted = self.rows[places]
        matrices = [self.store.matrix(name) for name in self.columns]
        parts = [take_rows(matrix, wanted) for matrix in matrices]
        return join_columns(parts, np.result_type(*(part.dtype for part in parts)))

    def encode_classes(self) -> NDArray[np.intp] | None:
        """Return the class of each row, :data:`NO_CLASS` without a label; None if labels are several or none."""
        if not len(self.labelled) or self.labels.ndim != 1:
            return None
        codes = np.full(len(self), NO_CLASS)
        codes[self.labelled] = encode_labels(self.labels)[1]
        return codes

    def is_trained_on(self, place: int) -> bool:
        """Check whether the split of a row is none that is held out."""
        return not is_held_out(self.splits[place])


def select_rows(
    store: FeatureStore,
    columns: Sequence[str] | None,
    labels: Any,
    groups: Any,
    task: str,
) -> AuditedRows:
    """Return the rows to audit.

    Raise an InputError if there are none, a column is unknown, groups are not one for each row, or labels are no
    numbers in a regression.
    """
    if task not in TASKS:
        raise InputError(f"task={task!r} of audit: expected one of {', '.join(TASKS)}")
    is_chosen = find_originals(store) & ~find_excluded(store)
    rows = np.flatnonzero(is_chosen)
    if not len(rows):
        raise InputError(f"{store.path} has no rows to audit; expected items that are not excluded")
    own_labels = select_labelled_rows(store, labels)
    labelled, values = take_labels(own_labels, rows, task)
    return AuditedRows(
        store=store,
        rows=rows,
        columns=choose_columns(store, columns),
        ids=take_items(store.ids, rows),
        contents=number_contents(store, rows),
        splits=take_items(store.splits, rows),
        groups=list_groups(store, groups, rows),
        labelled=labelled,
        labels=values,
        label_names=own_labels.names,
    )


def find_excluded(store: FeatureStore) -> NDArray[np.bool_]:
    """Return a mask of the rows that are excluded."""
    if EXCLUDED_LABELS not in store.label_names:
        return np.zeros(store.n_rows, bool)
    return np.array([not is_missing(reason) for reason in store.get_labels(EXCLUDED_LABELS)], bool)


def choose_columns(store: FeatureStore, columns: Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of the columns, by default all; raise an InputError if one is unknown."""
    known = [column.name for column in store.columns]
    if columns is None:
        return tuple(known)
    names = [columns] if isinstance(columns, str) else list(columns)
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        shown = f"column {unknown[0]!r}" if unknown else "no column"
        raise InputError(f"{shown} to audit {store.path} by; expected some of {', '.join(known)}")
    return tuple(names)


def number_contents(store: FeatureStore, rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return a number for each row that is equal for rows of the same content."""
    chosen = np.array(take_items(store.index.column("digest"), rows))
    numbers: NDArray[np.intp] = np.unique(chosen, return_inverse=True)[1]
    return numbers


def list_groups(store: FeatureStore, groups: Any, rows: NDArray[np.intp]) -> list[Any]:
    """Return the group of each row as it was given, by row or by id; None where there is none.

    The windows of a sound are a group of their own accord.
    """
    sounds = store.sounds
    own: list[Any] = [None] * len(rows) if sounds is None else take_items(sounds, rows)
    if groups is None:
        return own
    if hasattr(groups, "get"):
        ids = take_items(store.ids, rows)
        found = [groups.get(item_id, groups.get(sound)) for item_id, sound in zip(ids, own, strict=True)]
    else:
        given = check_item_vector(list(groups), "groups", store.n_rows)
        assert given is not None
        found = given[rows].tolist()
    return [sound if is_missing(group) else group for group, sound in zip(found, own, strict=True)]


def take_labels(given: LabelledRows, rows: NDArray[np.intp], task: str) -> tuple[NDArray[np.intp], NDArray[Any]]:
    """Return the places among the rows of those with a label, and their labels, as numbers in a regression."""
    is_audited = np.isin(given.rows, rows)
    labelled = np.searchsorted(rows, given.rows[is_audited])
    labels = given.labels[is_audited]
    if task == "regression" and len(labels):
        if given.names is not None:
            raise InputError("the items have lists of labels; expected a number for each in a regression")
        labels = TransferRegressor().as_targets(labels)
    return labelled, labels
