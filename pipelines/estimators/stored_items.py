"""The items of a store that are predicted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...extract.sources.path_labels import name_split
from ...extract.sources.selected import find_rows
from .item_labels import find_originals

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...extract.store.feature_store import FeatureStore


@dataclass(frozen=True)
class StoredItems:
    """Rows of a store without its views, by their positions, then failed items with the reason of each."""

    store: FeatureStore
    rows: NDArray[np.intp]
    failures: list[tuple[str, str]]

    @classmethod
    def select(cls, store: FeatureStore, splits: Sequence[str] | None = None) -> StoredItems:
        """Return the items of some splits, by default all; raise an InputError if there are none of a split."""
        is_chosen = find_originals(store)
        failures = store.failures()
        if splits is not None:
            chosen = find_rows(store.splits, splits)
            is_chosen &= np.isin(np.arange(len(is_chosen)), chosen)
            failures = select_failures(store, splits)
        return cls(store, np.flatnonzero(is_chosen), failures)

    def __len__(self) -> int:
        return len(self.rows) + len(self.failures)

    def list_ids(self) -> list[str]:
        """Return the ids of the rows, then of the failed items."""
        ids = self.store.ids
        return [ids[row] for row in self.rows.tolist()] + [item_id for item_id, _ in self.failures]


def select_failures(store: FeatureStore, splits: Sequence[str]) -> list[tuple[str, str]]:
    """Return id and reason of the failed items of some splits."""
    wanted = {name_split(name) for name in splits}
    items = store.index.settle()
    split_of = dict(zip(items.table["id"].to_pylist(), items.labels("split"), strict=True))
    return [(item_id, reason) for item_id, reason in store.failures() if split_of[item_id] in wanted]
