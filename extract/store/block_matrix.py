"""A matrix whose rows lie in several files and are read on access."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...large_arrays import allocate
from .part import format_part_name, open_matrix
from .remote_copy import find_copy, open_copy
from .state import StoredColumn

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

ROWS_PER_BLOCK = 4096
MAX_OPEN_PARTS = 64
"""Matrices of parts that stay open while rows are gathered."""


class BlockMatrix:
    """Rows of several matrices, in any order; read-only.

    It is sliced and iterated like an array, and ``numpy.asarray`` converts it to one. `open_part` maps the matrix of a
    part into memory; `parts` and `rows`, shape (n,), are the part of each row and its position there.
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
        self.open_part = open_part
        self.parts = parts
        self.rows = rows
        self.shape = (len(rows), width)
        self.dtype = np.dtype(dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle where the rows are; the parts are opened again where it is unpickled."""
        return BlockMatrix, (self.open_part, self.parts, self.rows, self.shape[1], self.dtype)

    def __getitem__(self, key: Any) -> Any:
        """Return the rows, or the part of them, that numpy would return, as a new array."""
        row_key, *other_keys = key if isinstance(key, tuple) else (key,)
        if row_key is Ellipsis or row_key is None:
            return np.asarray(self)[key]
        chosen = np.arange(len(self))[row_key]
        if chosen.ndim == 0:  # a single row
            row = self._gather(chosen.reshape(1))[0]
            return row[(*other_keys,)] if other_keys else row
        rows = self._gather(chosen)
        return rows[(slice(None), *other_keys)] if other_keys else rows

    def __iter__(self) -> Iterator[NDArray[Any]]:
        for block in self.blocks():
            yield from block

    def blocks(self, size: int = ROWS_PER_BLOCK) -> Iterator[NDArray[Any]]:
        """Yield the rows in order, `size` at a time."""
        for start in range(0, len(self), size):
            yield self._gather(np.arange(start, min(start + size, len(self))))

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Return all rows as an array."""
        if copy is False:
            raise ValueError(
                "the rows lie in several files, so an array of them is always a copy; expected copy=None or True. Call "
                "compact() on the store to get one file"
            )
        return self._gather(np.arange(len(self))).astype(dtype or self.dtype, copy=False)

    def take(self, chosen: NDArray[np.intp]) -> BlockMatrix:
        """Return some of the rows, without reading them."""
        return BlockMatrix(
            open_part=self.open_part,
            parts=self.parts[chosen],
            rows=self.rows[chosen],
            width=self.shape[1],
            dtype=self.dtype,
        )

    def _gather(self, chosen: NDArray[np.intp]) -> NDArray[Any]:
        """Read some rows, each part once, into memory or a file; see :func:`topwork.large_arrays.allocate`."""
        if chosen.ndim != 1:
            return self._gather(chosen.ravel()).reshape(*chosen.shape, self.shape[1])
        gathered = allocate((len(chosen), self.shape[1]), self.dtype)
        if not len(chosen):
            return gathered
        parts = self.parts[chosen]
        rows = self.rows[chosen]
        order = np.argsort(parts, kind="stable")
        bounds = [0, *(np.flatnonzero(np.diff(parts[order])) + 1).tolist(), len(order)]
        for first, last in itertools.pairwise(bounds):
            places = to_slice(order[first:last])
            gathered[places] = self.open_part(int(parts[order[first]]))[to_slice(rows[places])]
        return gathered


def to_slice(numbers: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]] | slice:
    """Return a slice that selects what ascending neighbouring numbers do, as it is read faster; or the numbers."""
    is_run = len(numbers) == numbers[-1] - numbers[0] + 1 and bool((np.diff(numbers) == 1).all())
    return slice(int(numbers[0]), int(numbers[-1]) + 1) if is_run else numbers


class PartOpener:
    """Opens one column of the parts of a store, of which the last ones stay open; it can be pickled."""

    def __init__(self, root: Path, key: str) -> None:
        self.root = root
        self.key = key
        self._open = functools.lru_cache(maxsize=MAX_OPEN_PARTS)(self._map)

    def _map(self, number: int) -> NDArray[Any]:
        return open_matrix(self.root / format_part_name(number), self.key)

    def __call__(self, number: int) -> NDArray[Any]:
        """Map a part into memory."""
        return self._open(number)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the place of the parts: of those in object storage their URL and digests."""
        copy = find_copy(self.root)
        if copy is None:
            return PartOpener, (self.root, self.key)
        files = {name: sha for name, sha in copy.expected.items() if name.endswith(f"/{self.key}.npy")}
        return open_remote_parts, (copy.url, self.key, files)


def open_remote_parts(url: str, key: str, files: Mapping[str, str]) -> PartOpener:
    """Return what opens parts in object storage, in another process or on another machine."""
    copy = open_copy(url)
    copy.expected.update(files)
    return PartOpener(copy.folder, key)


def gather_column(root: Path, stored: StoredColumn, parts: NDArray[np.int32], rows: NDArray[np.int32]) -> BlockMatrix:
    """Return rows of a column, by the numbers of their parts and their positions there; nothing is read yet."""
    return BlockMatrix(
        open_part=PartOpener(root, stored.key),
        parts=parts,
        rows=rows,
        width=stored.column.width,
        dtype=stored.column.dtype,
    )


def gather_columns(
    root: Path, columns: Iterable[StoredColumn], parts: NDArray[np.int32], rows: NDArray[np.int32]
) -> dict[str, BlockMatrix]:
    """Return rows of several columns by their keys; see :func:`gather_column`."""
    return {stored.key: gather_column(root=root, stored=stored, parts=parts, rows=rows) for stored in columns}
