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


def feed(graph: ExportedGraph) -> dict[str, np.ndarray]:
    height, width = graph.input_spec.size  # type: ignore[union-attr]
    return {"image": np.random.default_rng(0).integers(0, 256, (3, height, width, 3), dtype=np.uint8)}


def test_merged_graph_computes_what_both_compute(tmp_path: Path) -> None:
    first = Extractor("topwork:tiny", layer=["layer2"]).graph
    second = Extractor("topwork:tiny", layer=["layer1", "last"], pool=["avg", "max"]).graph
    merged = merge_graphs(first, second, tmp_path / "merged.onnx")
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
    merged = onnx.load(merge_graphs(first, second, tmp_path / "merged.onnx").path)
    onnx.checker.check_model(merged, full_check=True)

    def count(model: onnx.ModelProto) -> int:
        return sum(node.op_type == "Conv" for node in model.graph.node)

    assert count(merged) == count(onnx.load(first.path))
    weights = sum(len(tensor.raw_data) for tensor in merged.graph.initializer)
    assert weights < 1.1 * sum(len(tensor.raw_data) for tensor in onnx.load(first.path).graph.initializer)


def test_text_graphs_merge(text_folder: Path, tmp_path: Path) -> None:
    first = Extractor(f"hf:{text_folder}", layer="last").graph
    second = Extractor(f"hf:{text_folder}", layer="last", pool=["max", "cls"]).graph
    merged = merge_graphs(first, second, tmp_path / "merged.onnx")
    rows = {name: np.ones((2, 5), np.int64) for name in (port.name for port in first.certificate.inputs)}
    expected = [*first.open("cpu").run(rows), *second.open("cpu").run(rows)]
    for ours, theirs in zip(merged.open("cpu").run(rows), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_other_operators_are_refused(tmp_path: Path) -> None:
    first, second = (Extractor("topwork:tiny", layer=layer).graph for layer in ("layer2", "last"))
    model = onnx.load(second.path)
    model.opset_import[0].version -= 1
    onnx.save(model, tmp_path / "older.onnx")
    with pytest.raises(ExportError, match=r"versions \d+ and \d+"):
        merge_graphs(first, ExportedGraph(tmp_path / "older.onnx"), tmp_path / "merged.onnx")


IMAGES = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def graph() -> ExportedGraph:
    return graph_for("topwork:tiny", CutRequest(("layer1", "layer2", "last"), ("avg", "max")))


@pytest.mark.parametrize("names", [["layer1.avg"], ["last", "layer1.max"], ["layer2.max", "layer2.avg"]])
def test_selected_columns_are_computed_alone_in_the_order_asked(
    names: list[str], graph: ExportedGraph, tmp_path: Path
) -> None:
    before = graph.path.read_bytes()
    selected = select_columns(graph, names, tmp_path / "selected.onnx")
    whole = dict(
        zip(
            [c.name for c in graph.metadata.columns],
            open_session(graph.path, "cpu").run({"image": IMAGES}),
            strict=True,
        )
    )
    found = open_session(selected.path, "cpu").run({"image": IMAGES})
    assert [column.name for column in selected.metadata.columns] == names
    for name, values in zip(names, found, strict=True):
        np.testing.assert_allclose(values, whole[name], rtol=1e-5, atol=1e-6)
    onnx.checker.check_model(onnx.load(selected.path), full_check=True)
    assert {d.output for d in selected.certificate.deviations} == set(names)
    assert [port.name for port in selected.certificate.outputs] == names
    assert selected.metadata.fingerprint == graph.metadata.fingerprint
    assert graph.path.read_bytes() == before


def test_constants_of_the_other_columns_are_gone(graph: ExportedGraph, tmp_path: Path) -> None:
    low = select_columns(graph, ["layer1.avg"], tmp_path / "low.onnx")
    parameters = sum(
        p.numel()
        for n, p in topwork.load_backbone("topwork:tiny").module.named_parameters()
        if n[:5] in ("stem.", "layer1")
    )
    assert parameters < low.path.stat().st_size / 4 < 6_000
    assert low.path.stat().st_size < graph.path.stat().st_size / 10
