"""Feature matrices in memory or, where they are too large for it, in a file that is mapped into memory."""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from .atomic import name_full_disk, sweep_after_dead_processes, temporary_name
from .hardware import available_memory
from .user_cache import prepare_folder, user_cache_folder

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

SMALL_BYTES = 2**24
"""Arrays of up to this size lie in memory in any case; how much is free is not looked up for them."""
LARGEST_SHARE = 0.5
"""Share of the memory that is free which one array may take."""
ROWS_AT_ONCE = 4096


def allocate(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return an uninitialised array: in memory, or mapped from a file if it takes more than half of what is free.

    The file lies in the user's cache folder. It is removed when nothing refers to the array any more, or, after a
    process was killed, when the next one makes such a file.
    """
    n_bytes = np.dtype(dtype).itemsize * int(np.prod(shape, dtype=np.int64))
    if n_bytes <= SMALL_BYTES or not exceeds_memory(n_bytes):
        return np.empty(shape, dtype)
    folder = prepare_folder(user_cache_folder())
    sweep_after_dead_processes(folder)
    path = folder / temporary_name()
    try:
        with name_full_disk(path), open(path, "xb") as stream:
            reserve(stream, n_bytes)
        array = np.memmap(path, dtype, "r+", shape=shape)
    except BaseException:
        remove_file(path)
        raise
    weakref.finalize(array._mmap, remove_file, path)  # type: ignore[attr-defined]  # which all views keep alive
    return array


def exceeds_memory(n_bytes: int) -> bool:
    """Return whether an array takes more of the free memory than one may; not where the system does not say it."""
    free = available_memory()
    return free is not None and n_bytes > LARGEST_SHARE * free


def reserve(stream: BinaryIO, n_bytes: int) -> None:
    """Give a file its size, and room on the disk where the system can; writing to a map without room ends a process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(stream.fileno(), 0, n_bytes)
    else:
        stream.truncate(n_bytes)


def remove_file(path: Path) -> None:
    """Remove a file, unless another process has it open where the system then forbids it."""
    with contextlib.suppress(OSError):
        path.unlink()


def take_rows(matrix: Any, rows: NDArray[np.intp]) -> Any:
    """Return the rows of some numbers; a matrix itself if they are all."""
    is_whole = len(rows) == len(matrix) and np.array_equal(rows, np.arange(len(rows)))
    return matrix if is_whole else copy_rows(matrix, rows)


def copy_rows(matrix: Any, rows: NDArray[np.intp]) -> Any:
    """Return the rows of some numbers, copied in blocks into an array of :func:`allocate`.

    What is no array, as a matrix of several files, selects its rows itself.
    """
    if not isinstance(matrix, np.ndarray):
        return matrix[rows]
    copied = allocate((len(rows), *matrix.shape[1:]), matrix.dtype)
    for first in range(0, len(rows), ROWS_AT_ONCE):
        block = slice(first, first + ROWS_AT_ONCE)
        copied[block] = matrix[rows[block]]
    return copied


def join_columns(matrices: Sequence[Any], dtype: DTypeLike) -> NDArray[Any]:
    """Return matrices of the same rows side by side, ``(n_rows, n_features)``; a single array of the dtype itself."""
    if len(matrices) == 1 and isinstance(matrices[0], np.ndarray) and matrices[0].dtype == dtype:
        return matrices[0]
    n_rows = len(matrices[0])
    ends = np.cumsum([matrix.shape[1] for matrix in matrices]).tolist()
    joined = allocate((n_rows, ends[-1]), dtype)
    for matrix, end in zip(matrices, ends, strict=True):
        columns = slice(end - matrix.shape[1], end)
        for first in range(0, n_rows, ROWS_AT_ONCE):
            block = slice(first, first + ROWS_AT_ONCE)
            joined[block, columns] = matrix[block]
    return joined
