"""An array on disk, whose rows are items."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import SourceError, reason
from .file import check_regular
from .item_kinds import ITEM_KINDS
from .sequence import SequenceSource

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_REASON_LETTERS = 200
"""Letters of an error that are repeated: numpy's may quote a whole header."""


def array_source(path: Path, kind: str) -> SequenceSource:
    """Return the rows of an ``.npy``, or of the array ``X`` of an ``.npz`` with its labels ``y``, if there are any.

    Of sounds an ``.npz`` also has their ``rate``, in Hz. Raise a SourceError if it cannot be read without unpickling.
    """
    has_sounds = ITEM_KINDS[kind].has_sounds and path.suffix.lower() == ".npz"
    if not ITEM_KINDS[kind].has_arrays and not has_sounds:
        raise SourceError(f"source {path} holds arrays, but this backbone expects {kind} input")
    try:
        check_regular(path)
        arrays = read_arrays(path)
        rows, y = arrays["X"], arrays.get("y")
        check_rows(rows)
        if has_sounds:
            rate = read_rate(arrays)
            return SequenceSource([(row, rate) for row in rows], labels=read_labels(y), kind=kind)
        return SequenceSource(rows, labels=read_labels(y), kind=kind)
    except KeyError as error:
        raise SourceError(f"{path} {error.args[0]}") from error
    except Exception as error:  # a damaged header ends in errors of many kinds
        raise SourceError(f"{path} cannot be read as an array: {reason(error)[:MAX_REASON_LETTERS]}") from error


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Return the rows ``X``, and the labels ``y`` and the ``rate`` if there are any."""
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        if "contains pickled" not in str(error):  # as numpy says of any other file
            raise
        raise ValueError("it is no array, or one of Python objects; expected numbers that numpy saved") from None
    if isinstance(loaded, np.ndarray) != (path.suffix.lower() == ".npy"):
        raise ValueError(f"its content is not that of a file that ends in {path.suffix}")
    if isinstance(loaded, np.ndarray):
        return {"X": loaded}
    with loaded:
        if "X" not in loaded:
            raise KeyError(f"has the arrays {', '.join(loaded)}; expected X, and y for labels")
        return {name: loaded[name] for name in ("X", "y", "rate") if name in loaded}


def read_rate(arrays: dict[str, NDArray[Any]]) -> int:
    """Return the number of samples per second of all sounds."""
    if "rate" not in arrays:
        raise KeyError("has no array rate; expected the samples per second of its sounds X, in Hz")
    if arrays["rate"].size != 1:
        raise ValueError(f"rate of shape {arrays['rate'].shape}; expected one number, in Hz")
    return int(arrays["rate"].item())


def check_rows(rows: NDArray[Any]) -> None:
    """Raise a ValueError if an array has no rows, or rows without values."""
    if rows.ndim == 0:
        raise ValueError("it holds a single number, no rows")
    if len(rows) and not rows.nbytes:  # a header of a hundred bytes may promise any number of them
        raise ValueError(f"rows of shape {rows.shape[1:]} hold no values; expected numbers")


def read_labels(y: NDArray[Any] | None) -> list[Any] | None:
    """Return labels, None for NaN; None if there are none."""
    if y is None:
        return None
    if y.ndim != 1:
        raise ValueError(f"labels y of shape {y.shape}; expected one for each row")
    if y.dtype.kind == "S":
        y = np.char.decode(y, "utf-8")
    return [None if label != label else label for label in y]  # NaN is not equal to itself
