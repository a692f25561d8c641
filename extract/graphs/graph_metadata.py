"""The metadata of an exported graph, read from the ONNX file without loading the graph, without torch and without onnx.

An ONNX file is one message of protocol buffers (https://protobuf.dev/programming-guides/encoding): fields, each with
its number, its type and mostly its length, so that the graph, which is one of them, can be skipped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from ...errors import MALFORMED, InputError
from ...identity import digest
from .cut import Column, CutRequest
from .pooling import AUTO

METADATA_KEY = "topwork"
GRAPH_FORMAT = 1

MAX_WIDTH = 2**24
"""Largest number of features of a column."""
METADATA_FIELD = 14
"""Number of the field ``metadata_props`` of onnx.ModelProto."""
KEY_FIELD = 1
VALUE_FIELD = 2
"""Numbers of the fields of onnx.StringStringEntryProto."""
VARINT_TYPE = 0
LENGTH_TYPE = 2
BYTES_OF_FIXED_TYPES = {1: 8, 5: 4}
"""Types of fields: a number, content with its length before it, and content of a fixed number of bytes."""
MAX_VARINT_BYTES = 10


@dataclass(frozen=True)
class GraphMetadata:
    """The description that a graph carries: the backbone's identity, and one column for each output, in order.

    In bf16, `float32_until` is the value before which the provider computes in float32; "" if it computes everything in
    bf16. `versions` are those of the packages that decide how the model is traced.
    """

    backbone: dict[str, Any]
    columns: tuple[Column, ...]
    float32_until: str = ""
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def identity(self) -> dict[str, Any]:
        """The input identity of this graph's features: weights, architecture and arguments, computation, input."""
        return self.backbone

    @property
    def fingerprint(self) -> str:
        """Digest of the input identity."""
        return digest(self.identity)

    @property
    def precision(self) -> str:
        """Precision in which the graph computes; one for all columns."""
        return self.columns[0].precision

    @property
    def request(self) -> CutRequest:
        """The request for all the columns: their layers, each once, pooled as the model itself does."""
        layers = tuple(dict.fromkeys(column.layer for column in self.columns))
        return CutRequest(layers, (AUTO,), self.columns[0].normalize)

    def to_text(self) -> str:
        """Return the text that is kept in the ONNX file."""
        return json.dumps(
            {
                "format": GRAPH_FORMAT,
                "fingerprint": self.fingerprint,
                "backbone": self.backbone,
                "columns": [column.to_json() for column in self.columns],
                "float32_until": self.float32_until,
                "versions": self.versions,
            },
            sort_keys=True,
        )

    @classmethod
    def from_text(cls, text: str) -> GraphMetadata:
        """Read what :meth:`to_text` wrote; text that is damaged or of another format raises an InputError."""
        try:
            fields = json.loads(text)
            found_format = fields["format"]
            if found_format != GRAPH_FORMAT:
                raise InputError(
                    f"this graph has format {found_format}, expected {GRAPH_FORMAT}: another version wrote it"
                )
            columns = tuple(Column(**column) for column in fields["columns"])
            metadata = cls(fields["backbone"], columns, fields.get("float32_until", ""), fields.get("versions", {}))
            metadata.check()
        except InputError:
            raise
        except MALFORMED as error:
            raise InputError(
                f"what this graph states about itself is damaged: {error!r}. Restore it from a copy, or export it anew."
            ) from error
        return metadata

    def check(self) -> None:
        """Raise a TypeError or ValueError for values of other types than are written."""
        texts = [self.float32_until]
        for column in self.columns:
            texts += [column.name, column.layer, column.pool, column.precision, column.dtype]
            if type(column.width) is not int or not 1 <= column.width <= MAX_WIDTH:
                raise ValueError(f"a width {column.width!r}")
        for text in texts:
            if not isinstance(text, str):
                raise TypeError(f"{text!r} instead of a text")
        for mapping in (self.backbone, self.backbone["input"], self.versions):
            if not isinstance(mapping, dict):
                raise TypeError(f"{mapping!r} instead of a mapping")
        if not self.columns:
            raise ValueError("no columns")


def write_metadata(model: Any, metadata: GraphMetadata) -> None:
    """Write the metadata into an ``onnx.ModelProto``, in place of those it had."""
    others = [entry for entry in model.metadata_props if entry.key != METADATA_KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(others)
    model.metadata_props.add(key=METADATA_KEY, value=metadata.to_text())


def read_metadata(path: Path) -> GraphMetadata:
    """Read the metadata of a graph; a file that topwork did not make raises an InputError."""
    entries = read_entries(path)
    if METADATA_KEY not in entries:
        raise InputError("this ONNX file was not exported by topwork: its metadata has no entry 'topwork'")
    return GraphMetadata.from_text(entries[METADATA_KEY])


def read_entries(path: Path) -> dict[str, str]:
    """Return the entries of ``metadata_props`` of any ONNX file; a damaged file raises an InputError."""
    entries = {}
    with path.open("rb") as stream:
        for _, content in _read_fields(stream, {METADATA_FIELD}):
            entry = dict(_read_fields(BytesIO(content), {KEY_FIELD, VALUE_FIELD}))
            key = entry.get(KEY_FIELD, b"").decode("utf-8", "replace")
            entries[key] = entry.get(VALUE_FIELD, b"").decode("utf-8", "replace")
    return entries


def _read_fields(stream: BinaryIO, wanted: set[int]) -> Iterator[tuple[int, bytes]]:
    """Yield number and content of the wanted fields, and skip the others."""
    end = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    while stream.tell() < end:
        tag = _read_varint(stream)
        number = tag >> 3
        field_type = tag & 7
        if field_type == VARINT_TYPE:
            _read_varint(stream)
            continue
        size = read_size(stream, field_type)
        if number == 0 or stream.tell() + size > end:
            raise _damaged_file_error()
        if number in wanted:
            yield number, stream.read(size)
        else:
            stream.seek(size, os.SEEK_CUR)


def read_size(stream: BinaryIO, field_type: int) -> int:
    """Return the number of bytes of a field's content, which follows."""
    if field_type == LENGTH_TYPE:
        return _read_varint(stream)
    if field_type in BYTES_OF_FIXED_TYPES:
        return BYTES_OF_FIXED_TYPES[field_type]
    raise _damaged_file_error()


def _read_varint(stream: BinaryIO) -> int:
    """Read a number: seven bits of it in each byte, the lowest first."""
    value = 0
    for place in range(MAX_VARINT_BYTES):
        byte = stream.read(1)
        if not byte:
            break
        value |= (byte[0] & 0x7F) << (7 * place)
        if byte[0] < 0x80:
            return value
    raise _damaged_file_error()


def _damaged_file_error() -> InputError:
    return InputError("this is no ONNX file, or a damaged one")
