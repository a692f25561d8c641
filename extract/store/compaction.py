"""Merge the parts of a store into one, with a file for each column in row order and checksums of its blocks."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np

from ...atomic import link_or_copy, new_folder
from ...identity import digest_of_file
from .part import ITEMS_FILE, format_part_name, open_matrix, write_tables
from .remote_copy import find_copy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .block_matrix import BlockMatrix
    from .segment import Segment

BLOCKS_FILE = "blocks.json"
"""CRC-32 of every block of rows, so that damage to a file costs only the rows of some blocks."""
ROWS_PER_CHECKSUM = 1024


def write_compacted(
    folder: Path,
    items: Segment,
    matrices: Mapping[str, BlockMatrix],
    unchanged_files: Mapping[str, Path],
    rows_per_checksum: int = ROWS_PER_CHECKSUM,
) -> dict[str, str]:
    """Write all items of a store as one part, whole or not at all; return the SHA-256 of each written file.

    `items` are settled, `matrices` have the rows of those with features, in order. Of `unchanged_files` each already
    holds the matrix of its key, with its ``blocks.json`` in the same folder; it is linked.
    """
    digests: dict[str, str] = {}
    checksums: dict[str, list[int]] = {}
    with new_folder(folder) as temporary:
        write_tables(temporary / ITEMS_FILE, items.iterate_items())
        for key, matrix in matrices.items():
            target = temporary / f"{key}.npy"
            unchanged = unchanged_files.get(key)
            if unchanged is None:
                digests[target.name], checksums[key] = write_blocks(target, matrix, rows_per_checksum)
            else:
                link_or_copy(unchanged, target)
                checksums[key] = read_checksums(unchanged.parent)["columns"][key]
        content = json.dumps({"rows": rows_per_checksum, "columns": checksums}).encode()
        (temporary / BLOCKS_FILE).write_bytes(content)
    digests[BLOCKS_FILE] = hashlib.sha256(content).hexdigest()
    digests[ITEMS_FILE] = digest_of_file(folder / ITEMS_FILE)
    return digests


def find_unchanged_files(root: Path, items: Segment, keys: Iterable[str]) -> dict[str, Path]:
    """Return, by key, the files of columns that already hold the features of all items in order."""
    parts, rows = items.find_features()
    if find_copy(root) is not None:
        return {}
    if not len(parts) or (parts != parts[0]).any() or not np.array_equal(rows, np.arange(len(rows))):
        return {}
    folder = root / format_part_name(int(parts[0]))
    if not (folder / BLOCKS_FILE).is_file():
        return {}
    return {key: folder / f"{key}.npy" for key in keys if len(open_matrix(folder, key)) == len(rows)}


def write_blocks(path: Path, matrix: BlockMatrix, rows_per_checksum: int) -> tuple[str, list[int]]:
    """Write a ``.npy`` a block at a time, and return its SHA-256 and the CRC-32 of every block."""
    dtype = matrix.dtype.newbyteorder("<")
    header = build_npy_header(matrix.shape, dtype)
    file_digest = hashlib.sha256(header)
    checksums = []
    with open(path, "wb") as stream:
        stream.write(header)
        for block in matrix.blocks(rows_per_checksum):
            content = np.ascontiguousarray(block, dtype).tobytes()
            stream.write(content)
            file_digest.update(content)
            checksums.append(crc32(content))
    return file_digest.hexdigest(), checksums


def build_npy_header(shape: tuple[int, int], dtype: np.dtype[Any]) -> bytes:
    """Return the header of the ``.npy`` of an array in C order."""
    stream = io.BytesIO()
    fields = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, fields)
    return stream.getvalue()


def read_checksums(folder: Path) -> dict[str, Any]:
    """Read the number of rows of a block, ``rows``, and the CRC-32 of every block by column, ``columns``."""
    content: dict[str, Any] = json.loads((folder / BLOCKS_FILE).read_bytes())
    return content


def find_damaged_rows(folder: Path, key: str, matrix: NDArray[Any]) -> NDArray[np.intp]:
    """Return the rows of a compacted column, now `matrix`, in blocks that do not match their checksums."""
    content = read_checksums(folder)
    size = content["rows"]
    is_damaged = np.zeros(len(matrix), bool)
    for number, expected in enumerate(content["columns"][key]):
        rows = slice(number * size, (number + 1) * size)
        is_damaged[rows] = crc32(np.ascontiguousarray(matrix[rows]).tobytes()) != expected
    return np.flatnonzero(is_damaged)
