"""Labels, ids and groups of items, or of the rows of a store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import InputError
from ...extract.sources.item import Source
from ...extract.sources.label_sets import split_labels
from ...extract.sources.windows import WindowedSource
from ...extract.store.feature_store import FeatureStore
from ...heads.label_formats import GivenLabels, read_own_labels
from ...heads.targets import is_missing

if TYPE_CHECKING:
    from numpy.typing import NDArray


def count_items(X: Source | FeatureStore) -> int:
    """Return the number of items, or of the rows of a store."""
    return len(X.ids) if isinstance(X, FeatureStore) else len(X)


def collect_labels(X: Source | FeatureStore, given: GivenLabels | None, positions: NDArray[np.intp]) -> GivenLabels:
    """Return the given labels (or values), or else those of the source or store, of the items at some positions.

    Raise an InputError if there is not one for each item, or all are missing.
    """
    if given is None:
        own = list_labels(X)
        labels = read_own_labels([own[position] for position in positions])
    else:
        n_items = count_items(X)
        positions_of_values = match_sounds(given.values, X)
        if positions_of_values is not None:
            given = given.take(positions_of_values)
        if given.values.ndim not in (1, 2) or len(given.values) != n_items:
            shape = given.values.shape
            raise InputError(f"{n_items} items but labels of shape {shape}; expected one label for each item")
        labels = given.take(positions)
    if not len(positions):
        raise InputError("no item is given; expected at least one with a label")
    if not labels.is_labelled.any():
        n_items = len(positions)
        raise InputError(
            f"{n_items} of {n_items} items have no label; pass y, put the items into folders named after their "
            "labels, or name a table's column of labels (--label-column)"
        )
    return labels


def list_labels(X: Source | FeatureStore) -> list[Any]:
    """Return the label of each item, or of each row of a store, several as a list; None where there is none."""
    if isinstance(X, FeatureStore):
        return X.labels
    return [split_labels(item.label) for item in X]


def list_groups(X: Source | FeatureStore) -> Sequence[str | None] | None:
    """Return the group of each item as its source states it, None where there is none; None without groups.

    In a store of windows of sounds, each sound is a group.
    """
    if isinstance(X, FeatureStore):
        return X.sounds
    groups = [item.held_out_with for item in X]
    return None if all(group is None for group in groups) else groups


def read_weights_and_groups(
    X: Source | FeatureStore, weights: Any, groups: Any
) -> tuple[NDArray[Any] | None, NDArray[Any] | None]:
    """Return the given weights and groups ``(n_items,)``, or else those of the source; None where there are none."""
    n_items = count_items(X)
    groups = list_groups(X) if groups is None else spread_over_windows(groups, X)
    weights = list_weights(X) if weights is None else spread_over_windows(weights, X)
    item_groups = check_item_vector(groups, "groups", n_items)
    if item_groups is not None:
        sounds = X.sounds if isinstance(X, FeatureStore | WindowedSource) else None
        item_groups = separate_missing_groups(item_groups, sounds)
    return check_item_weights(weights, n_items), item_groups


def match_sounds(values: Any, X: Source | FeatureStore) -> NDArray[np.intp] | None:
    """Return the position of each window's value where there is one for each sound; None where they need no match."""
    return X.sounds if isinstance(X, WindowedSource) and len(values) == X.n_sounds else None


def spread_over_windows(values: Any, X: Source | FeatureStore) -> Any:
    """Return what is given for each sound for each of its windows; values for other items unchanged."""
    positions = None if values is None else match_sounds(values, X)
    return values if positions is None else np.asarray(values)[positions]


def check_item_weights(weights: Any, n_items: int) -> NDArray[Any] | None:
    """Return weights as float64 ``(n_items,)``, or None; raise an InputError for what is no number of at least 0."""
    given = check_item_vector(weights, "sample_weight", n_items)
    if given is None:
        return None
    try:
        array = given.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"sample_weight: {error}; expected a number of at least 0 for each item") from error
    is_wrong = ~((array >= 0) & np.isfinite(array))
    if is_wrong.any():
        value = given[is_wrong].tolist()[0]
        raise InputError(f"sample_weight holds {value!r}; expected a number of at least 0 for each item")
    return array


def separate_missing_groups(groups: NDArray[Any], sounds: Sequence[Any] | NDArray[Any] | None) -> NDArray[np.intp]:
    """Return groups as numbers ``(n_items,)``; windows without one are that of their sound, other items their own."""
    values = groups.tolist()
    number_of: dict[Any, int] = {}
    numbers = []
    for position, value in enumerate(values):
        key: tuple[str, Any] = ("group", value)
        if is_missing(value):
            key = ("item", position if sounds is None else sounds[position])
        numbers.append(number_of.setdefault(key, len(number_of)))
    return np.array(numbers, np.intp)


def check_item_vector(values: Any, name: str, n_items: int) -> NDArray[Any] | None:
    """Return weights or groups as an array ``(n_items,)``, or None if none were given.

    Raise an InputError, which names the parameter, if there are more or fewer values than items.
    """
    if values is None:
        return None
    array = np.asarray(values)
    if array.shape != (n_items,):
        raise InputError(f"{n_items} items but {name} of shape {array.shape}; expected one for each item")
    return array


def list_weights(X: Source | FeatureStore) -> list[float] | None:
    """Return the weight of each item as its source states it; None without weights.

    Raise an InputError if one is missing or no number of at least 0.
    """
    if isinstance(X, FeatureStore):
        return None
    cells = [item.weight for item in X]
    if all(cell is None for cell in cells):
        return None
    weights = []
    for item in X:
        try:
            weight = float(item.weight or "")
        except ValueError as error:
            raise InputError(f"the weight of {item.id} is {item.weight!r}; expected a number of at least 0") from error
        if not 0 <= weight < float("inf"):
            raise InputError(f"the weight of {item.id} is {item.weight!r}; expected a number of at least 0")
        weights.append(weight)
    return weights


def find_originals(X: Source | FeatureStore) -> NDArray[np.bool_]:
    """Return a mask of the items, or rows of a store, that are not augmented versions of others."""
    if isinstance(X, FeatureStore):
        return np.array([group == item_id for group, item_id in zip(X.groups, X.ids, strict=True)], bool)
    return np.array([item.group is None for item in X], bool)


def find_unaltered(X: Source | FeatureStore, kept: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Return a mask of the rows that are no views, given the position of the item of each row."""
    is_first = np.zeros(len(kept), bool)
    is_first[np.unique(kept, return_index=True)[1]] = True  # views have the position of their item, and follow it
    return find_originals(X)[kept] & is_first


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
