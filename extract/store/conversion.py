"""From the items of a part to a segment, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .part import FIELDS
from .segment import DIGEST_BYTES, GIVEN, NONE, Segment, digests_of, with_column

if TYPE_CHECKING:
    import pyarrow


def segment_of(items: pyarrow.Table, part: int) -> Segment:
    """Return the items of a part.

    Parameters
    ----------
    items : pyarrow.Table
        With the fields of :class:`Row`, and columns of labels that were set.
    part : int
        Its number.
    """
    import pyarrow as pa
    from pyarrow import compute

    row = compute.fill_null(items["row"].cast(pa.int32()), NONE)
    has_features = np.asarray(row) != NONE
    digests = digests_of(items["digest"].to_pylist())
    columns = {name: items[name] for name in FIELDS}
    columns |= {
        "id": items["id"].cast(pa.large_string()),
        "digest": pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(DIGEST_BYTES), len(digests), [None, pa.py_buffer(digests.tobytes())]
        ),
        "row": row,
        "part": pa.array(np.where(has_features, part, NONE).astype(np.int32)),
        "original": pa.array(np.full(len(items), NONE, np.int32)),
    }
    columns |= {name: items[name] for name in items.column_names if name.startswith(GIVEN)}
    return Segment(pa.table(columns))


def items_of(segment: Segment) -> pyarrow.Table:
    """Return a segment as the items of a part, whose rows are numbered anew."""
    import pyarrow as pa

    has_features = segment.has_features
    numbers = np.cumsum(has_features) - 1
    row = pa.array(numbers.astype(np.int32), mask=~has_features)
    digests = [bytes(digest).hex() if digest.any() else "" for digest in segment.digests]
    given = [name for name in segment.table.column_names if name.startswith(GIVEN)]
    table = segment.table.select([*FIELDS, *given])
    for name, values in (
        ("id", table["id"].cast(pa.string())),
        ("digest", pa.array(digests, pa.string())),
        ("row", row),
    ):
        table = with_column(table, name, values)
    table = with_column(table, "status", pa.array(segment.statuses(), pa.string()))
    return with_column(table, "reason", pa.array(segment.reasons(), pa.string()))
