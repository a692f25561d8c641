"""Weights of large graphs are kept beside the ONNX file, wherever the graph goes; the limit is lowered here."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import topwork
import torch
from numpy.typing import NDArray
from onnx import external_data_helper, helper, numpy_helper
from topwork.errors import InputError, WeightsError
from topwork.extract.graphs import model_file
from topwork.extract.graphs.cut import CutRequest
from topwork.extract.graphs.editing import merge_graphs, select_columns
from topwork.extract.graphs.export import export
from topwork.extract.graphs.exported_graph import ExportedGraph
from topwork.extract.graphs.graph_cache import graph_for
from topwork.extract.graphs.model_file import load_model, save_model
from topwork.extract.graphs.routes import Route
from topwork.extract.precision.lowered import lower_graph

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
MAX_BYTES = 20_000
"""Less than the weights of the built-in backbone up to layer1."""
LAYERS = CutRequest(("layer2", "last"), ("avg",))


@pytest.fixture(scope="module", autouse=True)
def low_limit() -> Iterator[None]:
    """Take more than 20 kB of weights for large."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_file, "MAX_EMBEDDED_BYTES", MAX_BYTES)
        yield


@pytest.fixture(scope="module")
def large_graph(tiny: topwork.Backbone, tmp_path_factory: pytest.TempPathFactory) -> ExportedGraph:
    """Return a graph whose weights are beside it."""
    return export(tiny, LAYERS, tmp_path_factory.mktemp("large") / "graph")


def run(graph: ExportedGraph, provider: str = "cpu") -> list[NDArray[Any]]:
    return graph.open(provider).run({"image": IMAGES})


def assert_equal_outputs(found: ExportedGraph, expected: list[NDArray[Any]]) -> None:
    for features, others in zip(run(found), expected, strict=True):
        np.testing.assert_allclose(features, others, rtol=1e-5, atol=1e-6)


def copy_graph(graph: ExportedGraph, folder: Path) -> ExportedGraph:
    shutil.copytree(graph.path.parent, folder)
    return ExportedGraph(folder / graph.path.name)


def test_weights_are_beside_the_graph(large_graph: ExportedGraph) -> None:
    folder = large_graph.path.parent
    assert sorted(path.name for path in folder.iterdir()) == [
        "graph.canaries.npz",
        "graph.json",
        "graph.onnx",
        "graph.seal.json",
        "graph.weights",
    ]
    assert [path.name for path in folder.parent.iterdir()] == ["graph"]
    assert large_graph.path.stat().st_size < MAX_BYTES < folder.joinpath("graph.weights").stat().st_size
    assert folder / "graph.weights" in large_graph.list_files()
    onnx.checker.check_model(large_graph.path)


def test_features_are_those_of_a_small_graph(large_graph: ExportedGraph, tiny_graph: ExportedGraph) -> None:
    small = run(tiny_graph)
    names = [column.name for column in tiny_graph.metadata.columns]
    assert_equal_outputs(large_graph, [small[names.index("layer2.avg")], small[names.index("last")]])


@pytest.mark.parametrize("provider", ["auto", "openvino"])
def test_each_provider_reads_the_weights(large_graph: ExportedGraph, provider: str) -> None:
    if provider == "openvino":
        pytest.importorskip("openvino")
    for found, expected in zip(run(large_graph, provider), run(large_graph), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "route",
    [Route("torchscript", torchscript=True), Route("not optimised", optimize=False)],
    ids=lambda route: route.name,
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_each_route_keeps_weights_outside(route: Route, dtype: torch.dtype, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(40, 200), torch.nn.Tanh(), torch.nn.Linear(200, 3)).to(dtype)
    backbone = topwork.load_backbone(module, input_spec=topwork.TensorSpec((40,)))
    graph = export(backbone, CutRequest(("last",), ("none",)), tmp_path / "graph", routes=[route])
    assert graph.weights_path == tmp_path / "graph" / "graph.weights"
    items = np.random.default_rng(0).normal(size=(3, 40)).astype(np.float32)
    session = graph.open("cpu")
    (found,) = session.run({session.runtime.get_inputs()[0].name: items})
    expected = module.float()[:2](torch.from_numpy(items)).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_graph_is_exported_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOPWORK_CACHE", str(tmp_path))
    request = CutRequest(("layer3",), ("avg",))
    first = graph_for("topwork:tiny", request)
    assert first.weights_path is not None

    def refuse(*arguments: Any) -> ExportedGraph:
        raise AssertionError("the graph is in the cache")

    again = graph_for("topwork:tiny", request, exporter=refuse)
    assert_equal_outputs(again, run(first))


def test_missing_weights_are_an_error(large_graph: ExportedGraph, tmp_path: Path) -> None:
    graph = copy_graph(large_graph, tmp_path / "copy")
    (tmp_path / "copy" / "graph.weights").unlink()
    with pytest.raises(WeightsError, match=r"graph\.weights is missing"):
        graph.open("cpu")
    with pytest.raises(WeightsError, match=r"graph\.weights is missing"):
        select_columns(graph, ["last"], tmp_path / "selected.onnx")


@pytest.mark.parametrize("change", ["flipped", "shortened"])
def test_changed_weights_are_an_error(change: str, large_graph: ExportedGraph, tmp_path: Path) -> None:
    graph = copy_graph(large_graph, tmp_path / "copy")
    weights = tmp_path / "copy" / "graph.weights"
    content = bytearray(weights.read_bytes())
    content[5] ^= 1
    weights.write_bytes(content[:-1] if change == "shortened" else content)
    with pytest.raises(WeightsError, match=r"graph\.weights"):
        graph.open("cpu")


def test_selected_columns_keep_weights_of_their_own(large_graph: ExportedGraph, tmp_path: Path) -> None:
    graph = select_columns(large_graph, ["layer2"], tmp_path / "part.onnx")
    assert graph.weights_path == tmp_path / "part.weights"
    assert large_graph.weights_path is not None
    assert graph.weights_path.stat().st_size < large_graph.weights_path.stat().st_size
    assert_equal_outputs(graph, run(large_graph)[:1])


def test_small_part_of_a_large_graph_is_one_file(
    large_graph: ExportedGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert large_graph.weights_path is not None
    monkeypatch.setattr(model_file, "MAX_EMBEDDED_BYTES", large_graph.weights_path.stat().st_size // 2)
    graph = select_columns(large_graph, ["layer2"], tmp_path / "part.onnx")
    assert graph.weights_path is None
    assert_equal_outputs(graph, run(large_graph)[:1])


@pytest.mark.parametrize("is_large_first", [True, False])
def test_large_and_small_graphs_merge(
    is_large_first: bool, large_graph: ExportedGraph, tiny_graph: ExportedGraph, tmp_path: Path
) -> None:
    small = select_columns(tiny_graph, ["layer2.max"], tmp_path / "small.onnx")
    pair = (large_graph, small) if is_large_first else (small, large_graph)
    merged = merge_graphs(*pair, tmp_path / "merged.onnx")
    assert merged.weights_path == tmp_path / "merged.weights"
    assert large_graph.weights_path is not None
    assert merged.weights_path.stat().st_size <= large_graph.weights_path.stat().st_size
    assert_equal_outputs(merged, [features for graph in pair for features in run(graph)])


def test_bfloat16_shares_the_weights(large_graph: ExportedGraph, tmp_path: Path) -> None:
    graph = copy_graph(large_graph, tmp_path / "copy")
    lowered = lower_graph(graph, "bf16")
    assert lowered.weights_path == graph.weights_path
    assert lowered.metadata.precision == "bf16"


def test_float16_of_a_large_graph_is_refused(large_graph: ExportedGraph) -> None:
    with pytest.raises(InputError, match="2 GiB"):
        lower_graph(large_graph, "fp16")


def write_onnx_file(path: Path, *, location: str = "net.data") -> NDArray[np.float32]:
    """Write a network of the user's with its weights in another file; return its matrix."""
    matrix = np.random.default_rng(0).normal(size=(100, 60)).astype(np.float32)
    classifier = np.ones((60, 2), np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "matrix"], ["product"], name="product"),
        helper.make_node("Relu", ["product"], ["features"], name="features"),
        helper.make_node("MatMul", ["features", "classifier"], ["logits"], name="logits"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", 100])],
        [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(matrix, "matrix"), numpy_helper.from_array(classifier, "classifier")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path, save_as_external_data=True, location="net.data", size_threshold=100)
    if location != "net.data":
        model = onnx.load(path, load_external_data=False)
        for tensor in model.graph.initializer:
            tensor.external_data[0].value = location
        path.write_bytes(model.SerializeToString())
    return matrix


def test_onnx_file_with_large_external_data(tmp_path: Path) -> None:
    matrix = write_onnx_file(tmp_path / "net.onnx")
    backbone = topwork.load_backbone(f"onnx:{tmp_path / 'net.onnx'}")
    graph = export(backbone, CutRequest(("features",), ("none",)), tmp_path / "graph")
    assert graph.weights_path is not None
    items = np.random.default_rng(1).normal(size=(3, 100)).astype(np.float32)
    session = graph.open("cpu")
    (found,) = session.run({session.runtime.get_inputs()[0].name: items})
    np.testing.assert_allclose(found, np.maximum(items @ matrix, 0), rtol=1e-4, atol=1e-5)


def test_weights_in_another_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    write_onnx_file(tmp_path / "inner" / "net.onnx", location="../net.data")
    (tmp_path / "inner" / "net.data").rename(tmp_path / "net.data")
    with pytest.raises(WeightsError, match="folder"):
        load_model(tmp_path / "inner" / "net.onnx")


def test_every_kind_of_content_is_written(tmp_path: Path) -> None:
    weights = [
        helper.make_tensor("floats", onnx.TensorProto.FLOAT, [3000], np.arange(3000.0)),
        helper.make_tensor("halves", onnx.TensorProto.FLOAT16, [3000], np.arange(3000.0)),
        helper.make_tensor("numbers", onnx.TensorProto.INT64, [3000], np.arange(3000)),
        helper.make_tensor("packed", onnx.TensorProto.INT4, [4000], np.arange(4000) % 7),
        helper.make_tensor("strings", onnx.TensorProto.STRING, [2], [b"one", b"two"]),
        helper.make_tensor("small", onnx.TensorProto.FLOAT, [2], [1.0, 2.0]),
    ]
    model = helper.make_model(helper.make_graph([], "net", [], [], weights))
    expected = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    save_model(model, tmp_path / "net.onnx")
    loaded = load_model(tmp_path / "net.onnx")
    outside = [tensor.name for tensor in loaded.graph.initializer if external_data_helper.uses_external_data(tensor)]
    assert outside == ["floats", "halves", "numbers", "packed"]
    for tensor, array in zip(loaded.graph.initializer, expected, strict=True):
        np.testing.assert_array_equal(model_file.read_array(tensor), array)
    in_onnx = onnx.load(tmp_path / "net.onnx")
    for tensor, array in zip(in_onnx.graph.initializer, expected, strict=True):
        np.testing.assert_array_equal(numpy_helper.to_array(tensor), array)
