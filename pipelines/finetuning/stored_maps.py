"""Whole maps, and the tokens of texts, of items in a store, read as they are needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...extract.graphs.layer import Layer

MAX_RESIDENT_BYTES = 2**30
"""Maps of up to this size are kept in memory; larger ones are read from the disk in every epoch."""
ROWS_OF_BLOCK = 16
"""Rows that are neighbours on the disk and read together."""


class StoredMaps:
    """Values of a layer, for some rows of a matrix ``(n_rows, width)`` that lies on the disk.

    It has a length, and positions of rows select some of them, as in an array; :meth:`read` reads the values.
    """

    def __init__(self, matrix: Any, rows: NDArray[np.intp], layer: Layer) -> None:
        self.matrix = matrix
        self.rows = rows
        self.layer = layer

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, positions: Any) -> StoredMaps:
        """Return the maps of some rows, of which nothing is read."""
        return StoredMaps(self.matrix, self.rows[positions], self.layer)

    @property
    def rows_of_block(self) -> int:
        """Number of rows that are read together; 1 in memory."""
        return 1 if isinstance(self.matrix, np.ndarray) and not isinstance(self.matrix, np.memmap) else ROWS_OF_BLOCK

    def load(self) -> StoredMaps:
        """Return the maps in memory, if they are small enough, otherwise these."""
        width = self.matrix.shape[1]
        if len(self) * width * self.matrix.dtype.itemsize > MAX_RESIDENT_BYTES:
            return self
        return StoredMaps(self._read_rows(np.arange(len(self))), np.arange(len(self)), self.layer)

    def read(self, positions: NDArray[np.intp]) -> list[NDArray[Any]]:
        """Return the values ``(n, *layer.shape)`` of some rows, and of texts the mask of their tokens, int64.

        Texts end with the last token of the longest of them. Their padding is stored as zeros, which no token is.
        """
        flat = self._read_rows(positions)
        if not self.layer.is_masked:
            return [flat.reshape(len(flat), *(size or 0 for size in self.layer.shape))]
        tokens = flat.reshape(len(flat), -1, self.layer.shape[-1] or 0)
        mask = (tokens != 0).any(axis=2)
        longest = int(mask.any(axis=0).sum())
        return [np.ascontiguousarray(tokens[:, :longest]), mask[:, :longest].astype(np.int64)]

    def _read_rows(self, positions: NDArray[np.intp]) -> NDArray[Any]:
        """Return rows of the matrix as an array of their own, read in the order in which they lie on the disk."""
        rows = self.rows[positions]
        order = np.argsort(rows, kind="stable")
        values = np.empty((len(rows), self.matrix.shape[1]), self.matrix.dtype)
        values[order] = self.matrix[rows[order]]
        return values


class MapsOfCuts:
    """The maps of the same rows at several cuts, from the lowest to the uppermost."""

    def __init__(self, of_cut: Mapping[str, StoredMaps]) -> None:
        self.of_cut = dict(of_cut)

    def __len__(self) -> int:
        return len(next(iter(self.of_cut.values())))

    def __getitem__(self, positions: Any) -> MapsOfCuts:
        """Return the maps of some rows, of which nothing is read."""
        return MapsOfCuts({cut: maps[positions] for cut, maps in self.of_cut.items()})
