"""Independent pieces of work on the workers of joblib's back end, where the user has chosen one.

``with joblib.parallel_config("ray", n_jobs=16):`` (after ``ray.util.joblib.register_ray()``), ``"dask"`` or ``"loky"``
gives the pieces to processes, perhaps of other machines; otherwise they are done one after the other, each with all
cores of this process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs

if TYPE_CHECKING:
    from numpy.typing import NDArray

Result = TypeVar("Result")


def run_all(function: Callable[..., Result], tasks: Iterable[tuple[Any, ...]]) -> list[Result]:
    """Return the results of a function for several tuples of arguments, in their order.

    An argument that is a memory map is sent as the name of its file, which every worker must see.
    """
    if effective_n_jobs(None) == 1:
        return [function(*task) for task in tasks]
    sent = (delayed(call)(function, *map(shrink, task)) for task in tasks)
    results: list[Result] = Parallel(n_jobs=None)(sent)
    return results


def call(function: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function in a worker."""
    return function(*(argument.open() if isinstance(argument, MappedFile) else argument for argument in arguments))


class MappedFile:
    """A memory map of a whole array in a file, by the file's name."""

    def __init__(self, array: np.memmap[Any, Any]) -> None:
        self.path = str(array.filename)
        self.offset = int(array.offset)
        self.dtype = array.dtype
        self.shape = array.shape

    def open(self) -> NDArray[Any]:
        """Map the file."""
        return np.memmap(self.path, self.dtype, "r", self.offset, self.shape, "C")


def shrink(argument: Any) -> Any:
    """Return what is sent in place of an argument."""
    mapped = find_memory_map(argument)
    is_whole = mapped is not None and (argument.dtype, argument.shape) == (mapped.dtype, mapped.shape)
    if mapped is None or mapped.filename is None or not is_whole or not argument.flags.c_contiguous:
        return argument
    return MappedFile(mapped)


def find_memory_map(array: Any) -> np.memmap[Any, Any] | None:
    """Return the memory map of a file that an array is a view of, or is; None for arrays in memory."""
    found = None
    while isinstance(array, np.ndarray):
        found = array if getattr(array, "_mmap", None) is not None else found
        array = array.base
    return found if isinstance(found, np.memmap) else None
