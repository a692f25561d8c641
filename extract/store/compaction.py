"""Merge the parts of a store into one: a file for each column, in row order; and the checkpoint that says so."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np

from ...atomic import new_folder
from .conversion import items_of
from .part import ITEMS_FILE, write_table
from .segment import Segment

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .block_matrix import BlockMatrix

BLOCKS_FILE = "blocks.json"
"""CRC-32 of every block of rows: a damaged file does not take all its rows with it."""
BLOCK_ROWS = 1024


def write_compacted(
    folder: Path, items: Segment, matrices: dict[str, BlockMatrix], whole: dict[str, Path]
) -> dict[str, str]:
    """Write all items of a store as one part, whole or not at all.

    Parameters
    ----------
    folder : Path
        Must not exist.
    items : Segment
        Settled.
    matrices : dict
        For each column's key the rows of those items that have features, in order.
    whole : dict
        For some of the keys a file that is this matrix already, with its ``blocks.json`` beside it; it is linked.

    Returns
    -------
    dict
        SHA-256 of each file of the part, by its name.
    """
    digests, blocks = {}, {}
    with new_folder(folder) as temporary:
        write_table(temporary / ITEMS_FILE, items_of(items))
        for key, matrix in matrices.items():
            if key in whole:
                _link(whole[key], temporary / f"{key}.npy")
                blocks[key] = json.loads((whole[key].parent / BLOCKS_FILE).read_bytes())["columns"][key]
            else:
                digests[f"{key}.npy"], blocks[key] = _write_matrix(temporary / f"{key}.npy", matrix)
        content = json.dumps({"rows": BLOCK_ROWS, "columns": blocks}).encode()
        (temporary / BLOCKS_FILE).write_bytes(content)
    digests[BLOCKS_FILE] = hashlib.sha256(content).hexdigest()
    digests[ITEMS_FILE] = hashlib.sha256((folder / ITEMS_FILE).read_bytes()).hexdigest()
    return digests


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # some file systems have no links
        shutil.copyfile(source, target)


def _write_matrix(path: Path, matrix: BlockMatrix) -> tuple[str, list[int]]:
    """Write a ``.npy`` a block at a time, and return its SHA-256 and the CRC-32 of every block."""
    whole, blocks = hashlib.sha256(), []
    with open(path, "wb") as stream:
        for piece in _pieces(matrix):
            stream.write(piece)
            whole.update(piece)
            blocks.append(crc32(piece))
    return whole.hexdigest(), blocks[1:]


def _pieces(matrix: BlockMatrix) -> Iterable[Any]:
    """Yield the header of a ``.npy``, and its rows a block at a time."""
    kind = matrix.dtype.newbyteorder("<")
    yield header_of(matrix.shape, kind)
    for block in matrix.blocks(BLOCK_ROWS):
        yield np.ascontiguousarray(block, kind).data.cast("B") if block.size else b""


def header_of(shape: tuple[int, int], dtype: np.dtype[Any]) -> bytes:
    """Return the header of the ``.npy`` of an array in C order."""
    import io

    stream = io.BytesIO()
    fields = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, fields)
    return stream.getvalue()


def damaged_rows(folder: Path, key: str, matrix: NDArray[Any]) -> NDArray[np.intp]:
    """Return the rows of a compacted column that are not as they were written.

    Parameters
    ----------
    folder : Path
        The part.
    key : str
        The column's.
    matrix : ndarray
        Its content now.
    """
    expected = json.loads((folder / BLOCKS_FILE).read_bytes())["columns"][key]
    starts = range(0, len(matrix), BLOCK_ROWS)
    found = [crc32(np.ascontiguousarray(matrix[start : start + BLOCK_ROWS]).data.cast("B")) for start in starts]
    bad = [
        np.arange(start, min(start + BLOCK_ROWS, len(matrix)))
        for start, a, b in zip(starts, found, expected, strict=True)
        if a != b
    ]
    return np.concatenate(bad) if bad else np.empty(0, np.intp)
