"""Labels, ids and groups of items, or of the rows of a store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import InputError
from ...extract.sources.item import Source
from ...extract.store.feature_store import FeatureStore
from ...heads.targets import are_missing, to_label_array

if TYPE_CHECKING:
    from numpy.typing import NDArray


def count_items(X: Source | FeatureStore) -> int:
    """Return the number of items, or of the rows of a store."""
    return len(X.ids) if isinstance(X, FeatureStore) else len(X)


def collect_labels(X: Source | FeatureStore, y: Any = None, positions: NDArray[np.intp] | None = None) -> NDArray[Any]:
    """Return the given labels (or values), or else those of the source or store, one for each item at some positions.

    The array has shape ``(n_items,)`` or ``(n_items, n_targets)`` and the type of the labels, object where there are
    several. Raise an InputError if a label is missing, or there is not one for each item.
    """
    given = list_labels(X) if y is None else y
    if y is None and positions is not None:
        given = [given[position] for position in positions]
    array = to_label_array(given)
    if array.dtype.kind == "U" and not isinstance(given, (list, tuple)):
        array = np.asarray(given)  # strings may stay objects: estimators can sort them
    n_items = count_items(X) if y is not None or positions is None else len(positions)
    if array.ndim not in (1, 2) or len(array) != n_items:
        raise InputError(f"{n_items} items but labels of shape {array.shape}; expected one label for each item")
    if y is not None and positions is not None:
        array = array[positions]
    require_labels(array)
    return array


def require_labels(array: NDArray[Any]) -> None:
    """Raise an InputError if some of the labels are missing."""
    n_missing = int(are_missing(array).sum())
    if n_missing:
        raise InputError(
            f"{n_missing} of {len(array)} items have no label; pass y, or put the items into folders named after their "
            "labels"
        )


def list_labels(X: Source | FeatureStore) -> list[Any]:
    """Return the label of each item, or of each row of a store; None where there is none."""
    if isinstance(X, FeatureStore):
        return X.labels
    return [item.label for item in X]


def count_axes(y: Any) -> int:
    """Return 1 for one target for each item, 2 for several; a tuple among other objects is one label."""
    try:
        return int(np.ndim(y))
    except ValueError:
        return 1


def find_originals(X: Source | FeatureStore) -> NDArray[np.bool_]:
    """Return a mask of the items, or rows of a store, that are not augmented versions of others."""
    if isinstance(X, FeatureStore):
        return np.array([group == item_id for group, item_id in zip(X.groups, X.ids, strict=True)], bool)
    return np.array([item.group is None for item in X], bool)


def list_ids(X: Source | FeatureStore) -> NDArray[Any]:
    """Return the ids of items, or of the rows of a store, as an array of objects."""
    ids = X.ids if isinstance(X, FeatureStore) else [item.id for item in X]
    return np.array(ids, dtype=object)


def number_groups(
    X: Source | FeatureStore, kept: NDArray[np.intp], groups: NDArray[Any] | None
) -> NDArray[np.intp] | None:
    """Return the number of the group of each kept row; None if every row is a group of its own.

    `kept` holds the position of the item of each row; views have that of their item. `groups` has one entry for each
    item, as the user gave them; by default the views of an item are a group.
    """
    if groups is None and isinstance(X, FeatureStore) and X.n_views:
        groups = np.array(X.groups)
    if groups is not None:
        row_groups = groups[kept]
    elif len(np.unique(kept)) < len(kept):
        row_groups = kept
    else:
        return None
    numbers: NDArray[np.intp] = np.unique(row_groups, return_inverse=True)[1]
    return numbers
