"""Graphs are edited: some columns are kept, or two graphs of one model merged; common work is done once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import topwork
from topwork.errors import ExportError
from topwork.extract.extractor.extractor import Extractor
from topwork.extract.graphs.cut import CutRequest
from topwork.extract.graphs.editing import merge_graphs, select_columns
from topwork.extract.graphs.exported_graph import ExportedGraph
from topwork.extract.graphs.graph_cache import graph_for
from topwork.extract.runtime.session import open_session

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def other_graph() -> ExportedGraph:
    """Return a graph of the same backbone as ``tiny_graph``, exported apart."""
    return graph_for("topwork:tiny", CutRequest(("layer1", "layer3"), ("avg", "max")))


def test_merged_graph_computes_what_both_compute(
    tiny_graph: ExportedGraph, other_graph: ExportedGraph, tmp_path: Path
) -> None:
    merged = merge_graphs(tiny_graph, other_graph, tmp_path / "merged.onnx")
    columns = [*tiny_graph.metadata.columns, *other_graph.metadata.columns]
    assert list(merged.metadata.columns) == columns
    expected = [
        features for graph in (tiny_graph, other_graph) for features in graph.open("cpu").run({"image": IMAGES})
    ]
    for found, features in zip(merged.open("cpu").run({"image": IMAGES}), expected, strict=True):
        np.testing.assert_allclose(found, features, rtol=1e-5, atol=1e-6)
    assert [port.name for port in merged.certificate.outputs] == [column.name for column in columns]


@pytest.mark.parametrize("is_larger_first", [True, False])
def test_common_work_is_done_once(
    is_larger_first: bool, tiny_graph: ExportedGraph, other_graph: ExportedGraph, tmp_path: Path
) -> None:
    smaller = select_columns(other_graph, ["layer1.max", "layer1.avg"], tmp_path / "smaller.onnx")
    first, second = (tiny_graph, smaller) if is_larger_first else (smaller, tiny_graph)
    merged = onnx.load(merge_graphs(first, second, tmp_path / "merged.onnx").path)
    onnx.checker.check_model(merged, full_check=True)

    def count(model: onnx.ModelProto) -> int:
        return sum(node.op_type == "Conv" for node in model.graph.node)

    larger = onnx.load(tiny_graph.path)
    assert count(merged) == count(larger)
    weights = sum(len(tensor.raw_data) for tensor in merged.graph.initializer)
    assert weights < 1.1 * sum(len(tensor.raw_data) for tensor in larger.graph.initializer)


def test_text_graphs_merge(text_folder: Path, tmp_path: Path) -> None:
    first = Extractor(f"hf:{text_folder}", layer="last").graph
    second = Extractor(f"hf:{text_folder}", layer="last", pool=["max", "cls"]).graph
    merged = merge_graphs(first, second, tmp_path / "merged.onnx")
    rows = {name: np.ones((2, 5), np.int64) for name in (port.name for port in first.certificate.inputs)}
    expected = [*first.open("cpu").run(rows), *second.open("cpu").run(rows)]
    for ours, theirs in zip(merged.open("cpu").run(rows), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_other_operators_are_refused(tiny_graph: ExportedGraph, other_graph: ExportedGraph, tmp_path: Path) -> None:
    model = onnx.load(other_graph.path)
    model.opset_import[0].version -= 1
    onnx.save(model, tmp_path / "older.onnx")
    with pytest.raises(ExportError, match=r"versions \d+ and \d+"):
        merge_graphs(tiny_graph, ExportedGraph(tmp_path / "older.onnx"), tmp_path / "merged.onnx")


@pytest.mark.parametrize("names", [["layer2.avg"], ["last", "layer2.max"], ["layer2.max", "layer2.avg"]])
def test_selected_columns_are_computed_alone_in_the_order_asked(
    names: list[str], tiny_graph: ExportedGraph, tmp_path: Path
) -> None:
    graph = tiny_graph
    before = graph.path.read_bytes()
    selected = select_columns(graph, names, tmp_path / "selected.onnx")
    columns = [column.name for column in graph.metadata.columns]
    whole = dict(zip(columns, open_session(graph.path, "cpu").run({"image": IMAGES}), strict=True))
    found = open_session(selected.path, "cpu").run({"image": IMAGES})
    assert [column.name for column in selected.metadata.columns] == names
    for name, values in zip(names, found, strict=True):
        np.testing.assert_allclose(values, whole[name], rtol=1e-5, atol=1e-6)
    onnx.checker.check_model(onnx.load(selected.path), full_check=True)
    assert {d.output for d in selected.certificate.deviations} == set(names)
    assert [port.name for port in selected.certificate.outputs] == names
    assert selected.metadata.fingerprint == graph.metadata.fingerprint
    assert graph.path.read_bytes() == before


def test_constants_of_the_other_columns_are_gone(
    tiny: topwork.Backbone, other_graph: ExportedGraph, tmp_path: Path
) -> None:
    low = select_columns(other_graph, ["layer1.avg"], tmp_path / "low.onnx")
    parameters = sum(p.numel() for n, p in tiny.module.named_parameters() if n[:5] in ("stem.", "layer1"))
    assert parameters < low.path.stat().st_size / 4 < 6_000
    assert low.path.stat().st_size < other_graph.path.stat().st_size / 10
