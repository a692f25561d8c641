"""What an ONNX file says of itself is read without loading its graph, and equals what the onnx library reads."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from topwork.errors import InputError
from topwork.extract.extractor.extractor import Extractor
from topwork.extract.graphs.exported_graph import ExportedGraph
from topwork.extract.graphs.graph_metadata import GraphMetadata, read_entries


@pytest.fixture(scope="module")
def graph() -> ExportedGraph:
    return Extractor("topwork:tiny", precision="fp32").graph


def test_entries_equal_those_of_the_onnx_library(graph: ExportedGraph, tmp_path: Path) -> None:
    model = onnx.load(graph.path)
    for key, value in (("empty", ""), ("long", "a" * 300), ("words", "größer 🌳")):
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.save(model, tmp_path / "m.onnx")
    expected = {entry.key: entry.value for entry in model.metadata_props}
    assert read_entries(tmp_path / "m.onnx") == expected
    assert GraphMetadata.from_text(expected["topwork"]) == graph.metadata


def test_file_without_metadata_has_no_entries(tmp_path: Path) -> None:
    onnx.save(onnx.ModelProto(ir_version=10, producer_name="nobody"), tmp_path / "m.onnx")
    assert read_entries(tmp_path / "m.onnx") == {}
    with pytest.raises(InputError, match="topwork"):
        _ = ExportedGraph(tmp_path / "m.onnx").metadata


def test_truncated_file_is_refused(graph: ExportedGraph, tmp_path: Path) -> None:
    content = graph.path.read_bytes()
    (tmp_path / "m.onnx").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError):
        read_entries(tmp_path / "m.onnx")


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(InputError):
        (Path(folder) / "m.onnx").write_bytes(content)
        assert isinstance(read_entries(Path(folder) / "m.onnx"), dict)
