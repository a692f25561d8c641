"""Which items of a source, or rows of a store, are trained on, and which are scored, by their splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...extract.sources.item import Source
from ...extract.sources.path_labels import is_held_out
from ...extract.sources.selected import find_rows
from ...extract.store.feature_store import FeatureStore

Items: TypeAlias = Source | FeatureStore
SplitNames: TypeAlias = str | Sequence[str]


def list_splits(items: Items) -> list[str | None]:
    """Return the split of each item or row, None where there is none."""
    if isinstance(items, FeatureStore):
        return list(items.splits)
    return [item.split for item in items]


def select_for_training(items: Items, splits: SplitNames | None = None) -> NDArray[np.intp]:
    """Return the positions of the items of some splits, by default of all that are not held out.

    Raise an InputError if there are none.
    """
    known = list_splits(items)
    if splits is not None:
        return np.array(find_rows(known, splits), np.intp)
    positions = np.flatnonzero([not is_held_out(split) for split in known])
    if known and not len(positions):
        raise InputError(
            f"all items are held out: their splits are {', '.join(sorted(map(str, set(known))))}. Expected items for "
            "training, or the names of the splits to train on (split=, --split)."
        )
    return positions


def select_for_scoring(items: Items, splits: SplitNames | None = None) -> NDArray[np.intp]:
    """Return the positions of the items of some splits, by default of the one that is held out, or else of all.

    Raise an InputError if several splits are held out: their scores are not one.
    """
    known = list_splits(items)
    held_out = list_held_out(known)
    if splits is None and len(held_out) > 1:
        raise InputError(
            f"the items are of several splits that are held out: {', '.join(held_out)}. Name the one to score "
            "(split=); `topwork evaluate` scores each."
        )
    wanted = splits or held_out
    return np.array(find_rows(known, wanted) if wanted else range(len(known)), np.intp)


def list_held_out(splits: Sequence[str | None]) -> list[str]:
    """Return the names of the splits that are held out, sorted."""
    return sorted({split for split in splits if split is not None and is_held_out(split)})


def count_left_out(items: Items, positions: NDArray[np.intp]) -> dict[str, int]:
    """Return how many items of each split are not at some positions."""
    known = list_splits(items)
    left_out = set(range(len(known))).difference(positions.tolist())
    counts = Counter(str(known[position]) for position in left_out)
    return dict(sorted(counts.items()))
