"""The metadata of an ONNX file, read without loading the network that it holds.

An ONNX file is one message of protocol buffers (https://protobuf.dev/programming-guides/encoding): fields, each with
its number, its type and mostly its length, so that the network, which is one of them, can be passed over.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from ...errors import InputError

METADATA, KEY, VALUE = 14, 1, 2
"""Numbers of the fields of onnx.ModelProto and of onnx.StringStringEntryProto."""
VARINT, LENGTH, WIDTHS = 0, 2, {1: 8, 5: 4}
"""Types of fields; those of a fixed width have so many bytes."""
LONGEST = 10
"""Bytes of a number."""


def read_entries(path: Path) -> dict[str, str]:
    """Return the entries of ``metadata_props``.

    Parameters
    ----------
    path : Path

    Raises
    ------
    InputError
        If the file is damaged, or no ONNX file.
    """
    with path.open("rb") as stream:
        entries = [dict(_fields(BytesIO(content), KEY, VALUE)) for _, content in _fields(stream, METADATA)]
    return {_text(entry, KEY): _text(entry, VALUE) for entry in entries}


def _text(entry: dict[int, bytes], field: int) -> str:
    return entry.get(field, b"").decode("utf-8", "replace")


def _fields(stream: BinaryIO, *wanted: int) -> Iterator[tuple[int, bytes]]:
    """Yield number and content of some fields; the others are passed over."""
    end = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    while stream.tell() < end:
        tag = _varint(stream)
        number, kind = tag >> 3, tag & 7
        if kind == VARINT:
            _varint(stream)
            continue
        size = _varint(stream) if kind == LENGTH else WIDTHS.get(kind, end + 1)
        if not number or stream.tell() + size > end:
            raise InputError("this is no ONNX file, or a damaged one")
        if number in wanted:
            yield number, stream.read(size)
        else:
            stream.seek(size, os.SEEK_CUR)


def _varint(stream: BinaryIO) -> int:
    """Read a number: seven bits of it in each byte, the lowest first."""
    value = 0
    for place in range(LONGEST):
        byte = stream.read(1)
        if not byte:
            break
        value |= (byte[0] & 0x7F) << (7 * place)
        if byte[0] < 0x80:
            return value
    raise InputError("this is no ONNX file, or a damaged one")
