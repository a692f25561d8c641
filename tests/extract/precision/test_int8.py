"""Quantised graphs compute what their originals do, nearly, and operations that are kept compute exactly."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from topwork.extract.engine.engine import infer
from topwork.extract.engine.sampling import draw_items
from topwork.extract.extractor.extractor import Extractor
from topwork.extract.graphs.exported_graph import ExportedGraph
from topwork.extract.graphs.fidelity import relative_errors
from topwork.extract.precision.int8 import HEAVY_OPERATIONS, calibrate, quantize
from topwork.extract.preprocess.by_kind import preprocessor_for
from topwork.extract.preprocess.preprocessor import Prepared
from topwork.extract.runtime.session import open_session

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def graph() -> ExportedGraph:
    return Extractor("topwork:tiny", layer=["layer2", "last"], precision="fp32").graph


@pytest.fixture(scope="module")
def items(graph: ExportedGraph) -> list[Prepared]:
    return [prepared for (prepared,) in draw_items(IMAGES, [graph.input_spec], 40)]


def errors(graph: ExportedGraph, items: list[Prepared], model: onnx.ModelProto) -> list[float]:
    preprocessor = preprocessor_for(graph.input_spec)
    expected = infer(items, graph.open("cpu"), preprocessor)
    return relative_errors(infer(items, open_session(model.SerializeToString(), "cpu"), preprocessor), expected)


def test_quantised_graph_computes_nearly_the_same(graph: ExportedGraph, items: list[Prepared]) -> None:
    model = quantize(calibrate(graph, items), ())
    found = [node.op_type for node in model.graph.node]
    heavy = [node for node in onnx.load(graph.path).graph.node if node.op_type in HEAVY_OPERATIONS]
    assert found.count("DequantizeLinear") >= 2 * len(heavy) - 2  # two convolutions may read one value
    assert 1e-3 < np.median(errors(graph, items, model)) < 0.1


def test_weights_have_a_scale_for_each_channel(graph: ExportedGraph, items: list[Prepared]) -> None:
    model = quantize(calibrate(graph, items), ())
    scales = {tensor.name: tensor for tensor in model.graph.initializer}
    axes = [
        scales[node.input[1]].dims[0]
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and scales[node.input[1]].dims
    ]
    assert len(axes) >= 3
    assert min(axes) > 1


def test_operations_that_are_kept_are_exact(graph: ExportedGraph, items: list[Prepared]) -> None:
    names = [node.name for node in onnx.load(graph.path).graph.node if node.op_type in HEAVY_OPERATIONS]
    assert max(errors(graph, items, quantize(calibrate(graph, items), names))) < 1e-6


def test_ranges_are_those_of_the_items(graph: ExportedGraph, items: list[Prepared]) -> None:
    few, same, all_of_them = (calibrate(graph, items[:count]).facts for count in (4, 4, 40))
    assert few == same != all_of_them
    assert all(all_of_them[name][0] <= low and high <= all_of_them[name][1] for name, (low, high) in few.items())
