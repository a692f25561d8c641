"""An array on disk, whose rows are items."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from ...errors import SourceError
from .sequence import SequenceSource


def array_source(path: Path, kind: str) -> SequenceSource:
    """Return the rows of an ``.npy``, or of the array ``X`` of an ``.npz`` with its labels ``y``, if there are any.

    Raises
    ------
    SourceError
        If it cannot be read without unpickling.
    """
    if kind == "text":
        raise SourceError(f"source {path} holds arrays, but this backbone eats texts")
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(loaded, np.ndarray) != (path.suffix == ".npy"):
            raise ValueError(f"its content is not that of a file that ends in {path.suffix}")
        rows, labels = (loaded, None) if path.suffix == ".npy" else (loaded["X"], loaded.get("y"))
        if rows.ndim == 0:
            raise ValueError("it holds a single number, no rows")
        return SequenceSource(rows, labels, kind)
    except KeyError as error:
        raise SourceError(f"{path} has the arrays {', '.join(loaded)}; expected X, and y for labels") from error
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise SourceError(f"{path} cannot be read as an array: {error}") from error
