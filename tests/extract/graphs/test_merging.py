"""Two graphs of one network become one, which computes what both have in common once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from topwork.errors import ExportError
from topwork.extract.extractor.extractor import Extractor
from topwork.extract.graphs.exported_graph import ExportedGraph
from topwork.extract.graphs.merging import merge


def feed(graph: ExportedGraph) -> dict[str, np.ndarray]:
    height, width = graph.input_spec.size  # type: ignore[union-attr]
    return {"image": np.random.default_rng(0).integers(0, 256, (3, height, width, 3), dtype=np.uint8)}


def test_merged_graph_computes_what_both_compute(tmp_path: Path) -> None:
    first = Extractor("topwork:tiny", layer=["layer2"]).graph
    second = Extractor("topwork:tiny", layer=["layer1", "last"], pool=["avg", "max"]).graph
    merged = merge(first, second, tmp_path / "merged.onnx")
    assert [column.name for column in merged.metadata.columns] == [
        column.name for graph in (first, second) for column in graph.metadata.columns
    ]
    expected = [*first.open("cpu").run(feed(first)), *second.open("cpu").run(feed(first))]
    for ours, theirs in zip(merged.open("cpu").run(feed(first)), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    assert [port.name for port in merged.certificate.outputs] == [c.name for c in merged.metadata.columns]


def test_common_work_is_done_once(tmp_path: Path) -> None:
    first = Extractor("topwork:tiny", layer=["last"]).graph
    second = Extractor("topwork:tiny", layer=["layer2"]).graph
    merged = onnx.load(merge(first, second, tmp_path / "merged.onnx").path)
    onnx.checker.check_model(merged, full_check=True)

    def count(model: onnx.ModelProto) -> int:
        return sum(node.op_type == "Conv" for node in model.graph.node)

    assert count(merged) == count(onnx.load(first.path))
    weights = sum(len(tensor.raw_data) for tensor in merged.graph.initializer)
    assert weights < 1.1 * sum(len(tensor.raw_data) for tensor in onnx.load(first.path).graph.initializer)


def test_text_graphs_merge(text_folder: Path, tmp_path: Path) -> None:
    first = Extractor(f"hf:{text_folder}", layer="last").graph
    second = Extractor(f"hf:{text_folder}", layer="last", pool=["max", "cls"]).graph
    merged = merge(first, second, tmp_path / "merged.onnx")
    rows = {name: np.ones((2, 5), np.int64) for name in (port.name for port in first.certificate.inputs)}
    expected = [*first.open("cpu").run(rows), *second.open("cpu").run(rows)]
    for ours, theirs in zip(merged.open("cpu").run(rows), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_other_operators_are_refused(tmp_path: Path) -> None:
    first, second = (Extractor("topwork:tiny", layer=layer).graph for layer in ("layer2", "last"))
    model = onnx.load(second.path)
    model.opset_import[0].version -= 1
    onnx.save(model, tmp_path / "older.onnx")
    with pytest.raises(ExportError, match=r"use operators of versions.*store of its own"):
        merge(first, ExportedGraph(tmp_path / "older.onnx"), tmp_path / "merged.onnx")
