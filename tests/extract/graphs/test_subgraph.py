"""A graph with fewer outputs computes the same columns, and holds nothing for the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import topwork
from topwork.extract.graphs.cut import CutRequest
from topwork.extract.graphs.exported_graph import ExportedGraph
from topwork.extract.graphs.graph_cache import graph_for
from topwork.extract.graphs.subgraph import select_columns
from topwork.extract.runtime.session import open_session

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
