"""Files of fsspec's other file systems, as of clouds: read in pieces, within the limit of an item, and tried again."""

from __future__ import annotations

import io
from functools import partial
from typing import Any

from ...errors import TransientError
from .file import check_size
from .retries import is_transient, repeat

PIECE_BYTES = 2**23
"""Most images come in one piece, for which a cloud is asked once."""


def read_item(system: Any, path: str) -> bytes:
    """Return the content of an item; raise a DecodeError if it is larger than any item."""
    return repeat(partial(read_once, system, path))


def read_once(system: Any, path: str) -> bytes:
    """Return the content of an item, over one attempt."""
    content = None
    if system.async_impl:
        content = read_small_file(system, path)
    if content is None:
        content = read_stream(system, path)
    return content


def read_small_file(system: Any, path: str) -> bytes | None:
    """Return the content of a file of one piece; None if it is larger, or cannot be asked for by range."""
    try:
        content: bytes = system.cat_file(path, start=0, end=PIECE_BYTES)
    except (FileNotFoundError, PermissionError):
        raise
    except Exception as error:  # an empty file has no range, say some clouds
        if is_transient(error):
            raise
        return None
    check_size(len(content))
    return None if len(content) == PIECE_BYTES else content


def read_stream(system: Any, path: str) -> bytes:
    """Return the content of a file of any size."""
    content = io.BytesIO()
    received = 0
    with system.open(path, "rb") as stream:
        size = getattr(stream, "size", None)
        if not isinstance(size, int):
            size = 0
        check_size(size)
        for piece in iter(partial(stream.read, PIECE_BYTES), b""):
            received += len(piece)
            check_size(received)
            content.write(piece)
    if received < size:
        raise TransientError(f"the file ended after {received:,} of {size:,} bytes")
    return content.getvalue()
