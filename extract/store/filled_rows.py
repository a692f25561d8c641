"""The features of columns that not every row of a store has yet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .block_matrix import BlockMatrix, gather_columns
from .part import parse_part_number, read_items
from .segment import NO_PLACE, Segment
from .state import UnfinishedColumns

if TYPE_CHECKING:
    from numpy.typing import NDArray


class FilledRows:
    """Where the features of unfinished columns are, for the items of a store's index.

    Attributes
    ----------
    parts, rows : ndarray of int32, shape (n_items,)
        The part with the features of each item, and the row there; -1 where they are not computed yet.
    """

    def __init__(self, root: Path, items: Segment, filling: UnfinishedColumns) -> None:
        self.root = root
        self.items = items
        self.columns = filling.columns
        self.parts = np.full(len(items), NO_PLACE, np.int32)
        self.rows = self.parts.copy()
        for part in filling.parts:
            self.note(part, read_items(root / part)["digest"].to_pylist())

    def note(self, part: str, digests: Sequence[str]) -> None:
        """Note where the features of contents are: one in each row of a part."""
        rows = {digest: row for row, digest in enumerate(digests)}
        for digest, place in self.items.find_digests(digests):
            self.parts[place] = parse_part_number(part)
            self.rows[place] = rows[digest]

    def has_all(self, places: NDArray[np.intp]) -> bool:
        """Return whether the features of the items at some places are all there."""
        return bool((self.parts[places] != NO_PLACE).all())

    def find_missing(self) -> NDArray[np.intp]:
        """Return the places of items whose features are still to be computed."""
        return np.flatnonzero(self.items.has_features & (self.parts == NO_PLACE))

    def gather(self, places: NDArray[np.intp] | NDArray[np.bool_]) -> dict[str, BlockMatrix]:
        """Return the features of the items at some places, by the keys of the columns."""
        return gather_columns(root=self.root, columns=self.columns, parts=self.parts[places], rows=self.rows[places])
