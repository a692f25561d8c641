"""Which operations stay in float32, and where a network may be divided."""

from __future__ import annotations

import math

import numpy as np
import pytest
from topwork.extract.extractor.extractor import Extractor
from topwork.extract.graphs.exported_graph import ExportedGraph
from topwork.extract.precision.lowered import Lowering
from topwork.extract.precision.sensitive import find_sensitive_operations, find_split_values, group_heavy_operations

GROUPS = [[f"{group}{number}" for number in range(2)] for group in "abcdef"]
ERRORS = dict(zip("abcdef", (0.03, 0.01, 0.02, 0.004, 0.003, 0.001), strict=True))
IMAGES = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)


def error(kept: list[str]) -> float:
    """Return an error that adds up in squares over the groups that are lowered."""
    return math.hypot(*(ERRORS[group[0][0]] for group in GROUPS if not set(group) & set(kept)))


@pytest.mark.parametrize(
    ("bound", "expected"),
    [
        (0.03, ["a0", "a1"]),
        (0.015, ["a0", "a1", "c0", "c1"]),
        (0.004, ["a0", "a1", "b0", "b1", "c0", "c1", "d0", "d1"]),
    ],
)
def test_groups_that_hurt_most_are_kept_until_the_rest_is_good(bound: float, expected: list[str]) -> None:
    assert find_sensitive_operations(GROUPS, error, bound) == expected
    assert error(expected) < bound


def test_nothing_is_kept_where_half_would_not_do() -> None:
    assert find_sensitive_operations(GROUPS, error, 1e-4) == []
    assert find_sensitive_operations(GROUPS[:1], error, 1e-4) == []


@pytest.fixture(scope="module")
def graph() -> ExportedGraph:
    return Extractor("topwork:tiny", precision="fp32").graph


def test_groups_hold_every_heavy_operation_once(graph: ExportedGraph) -> None:
    import onnx

    names = [name for group in group_heavy_operations(graph) for name in group]
    heavy = [node.name for node in onnx.load(graph.path).graph.node if node.op_type in ("Conv", "MatMul", "Gemm")]
    assert names == heavy
    assert len(set(names)) == len(names)


def test_split_values_are_in_order(graph: ExportedGraph) -> None:
    import onnx

    order = [name for node in onnx.load(graph.path).graph.node for name in node.output]
    places = [order.index(name) for name in find_split_values(graph)]
    assert places == sorted(set(places))
    assert len(places) >= 2


@pytest.mark.needs("openvino")
def test_graph_in_two_parts_computes_the_same(graph: ExportedGraph) -> None:
    """In float32 both parts: what is handed over is the same value, in the same batch."""
    from topwork.extract.runtime.openvino_runtime import OpenVinoRuntime, make_device_properties

    hints = make_device_properties("fp32", 2, 2)
    name = graph.certificate.inputs[0].name
    expected = OpenVinoRuntime(graph.path, hints, 2).run(None, {name: IMAGES})
    for value in find_split_values(graph):
        divided = OpenVinoRuntime(graph.path, hints, 2, value)
        assert len(divided.parts) == 2
        for batch in (8, 3):
            found = divided.run(None, {name: IMAGES[:batch]})
            np.testing.assert_allclose(found[0], expected[0][:batch], rtol=1e-4, atol=1e-5)


@pytest.mark.needs("bf16")
def test_what_is_before_the_value_is_computed_in_float32(graph: ExportedGraph) -> None:
    from topwork.extract.runtime.openvino_runtime import OpenVinoRuntime, make_device_properties

    for value in find_split_values(graph):
        beginning, rest = OpenVinoRuntime(graph.path, make_device_properties("bf16", 2, 2), 2, value).parts
        hints = [stage.compiled.get_property("INFERENCE_PRECISION_HINT") for stage in (beginning, rest)]
        assert [hint.to_string() for hint in hints] == ["f32", "bf16"]


def test_divided_graph_says_so_in_its_precision(graph: ExportedGraph) -> None:
    whole, value = Lowering("bf16"), find_split_values(graph)[0]
    divided = Lowering("bf16", (value,))
    assert whole.precision == "bf16"
    assert divided.precision.startswith("bf16:")
    written = divided.write(graph)
    assert written.metadata.float32_until == value
    assert {column.precision for column in written.metadata.columns} == {divided.precision}
    assert graph.metadata.float32_until == ""
