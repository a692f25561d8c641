"""A matrix whose rows lie in several files, read when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

BLOCK_ROWS = 4096


class BlockMatrix:
    """Rows of several matrices, in an order of their own; read-only.

    It is sliced and gone through like an array, and ``numpy.asarray`` makes it one.

    Parameters
    ----------
    open_part : callable
        Returns the matrix of a part, mapped into memory, by the part's number.
    parts, rows : ndarray of int, shape (n,)
        Where each row lies.
    width : int
    dtype : dtype
    """

    ndim = 2

    def __init__(
        self,
        open_part: Callable[[int], NDArray[Any]],
        parts: NDArray[np.int32],
        rows: NDArray[np.int32],
        width: int,
        dtype: DTypeLike,
    ) -> None:
        self.open_part, self.parts, self.rows = open_part, parts, rows
        self.shape, self.dtype = (len(rows), width), np.dtype(dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        """Return rows, or of them what numpy would return, as an array of its own."""
        first, *others = key if isinstance(key, tuple) else (key,)
        if first is Ellipsis or first is None:
            return np.asarray(self)[key]
        chosen = np.arange(len(self))[first]
        found = self._gathered(np.atleast_1d(chosen))
        found = found[0] if chosen.ndim == 0 else found
        if not others:
            return found
        return found[(*others,)] if chosen.ndim == 0 else found[(slice(None), *others)]

    def __iter__(self) -> Iterator[NDArray[Any]]:
        for block in self.blocks():
            yield from block

    def blocks(self, size: int = BLOCK_ROWS) -> Iterator[NDArray[Any]]:
        """Yield the rows in order, some at a time."""
        for start in range(0, len(self), size):
            yield self._gathered(np.arange(start, min(start + size, len(self))))

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Return all rows as an array."""
        if copy is False:
            raise ValueError("these rows lie in several files: an array of them is a copy; call compact() first")
        return self._gathered(np.arange(len(self))).astype(dtype or self.dtype, copy=False)

    def take(self, chosen: NDArray[np.intp]) -> BlockMatrix:
        """Return some of the rows, without reading them."""
        return BlockMatrix(self.open_part, self.parts[chosen], self.rows[chosen], self.shape[1], self.dtype)

    def _gathered(self, chosen: NDArray[np.intp]) -> NDArray[Any]:
        parts, rows = self.parts[chosen], self.rows[chosen]
        out = np.empty((*chosen.shape, self.shape[1]), self.dtype)
        for part in np.unique(parts).tolist():
            here = parts == part
            out[here] = self.open_part(part)[rows[here]]
        return out
