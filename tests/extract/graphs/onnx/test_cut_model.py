"""The ONNX model of a cut: every pooling in every opset, branches and functions, weights in files of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import topwork
import torch
from onnx import TensorProto, helper, numpy_helper
from topwork.errors import InputError, LayerError, ParityError
from topwork.extract.graphs.cut import CutRequest, choose
from topwork.extract.graphs.export import export, export_by_route
from topwork.extract.graphs.exported_graph import ExportedGraph
from topwork.extract.graphs.layer import Layer
from topwork.extract.graphs.onnx.cut_model import append_image_normalization, cut_model
from topwork.extract.graphs.onnx.cutter import OnnxCutter
from topwork.extract.graphs.onnx.value_graph import names_read
from topwork.extract.graphs.pooling import pool_layer
from topwork.extract.graphs.routes import ONNX_ROUTES
from topwork.extract.runtime.session import open_session

GENERATOR = np.random.default_rng(0)
WEIGHTS = {
    "kernel": GENERATOR.normal(size=(5, 3, 3, 3)).astype(np.float32),
    "table": GENERATOR.normal(size=(5, 2)).astype(np.float32),
    "class_token": GENERATOR.normal(size=(1, 1, 5)).astype(np.float32),
    "flat": np.array([0, 5, -1]),
    "expanded": np.array([1, 1]),
}
PIXELS = np.random.default_rng(1).integers(0, 256, (4, 6, 8, 3), dtype=np.uint8)


def write(
    path: Path, nodes: Sequence[Any], opset: int = 17, axes: Sequence[Any] = ("n", 3, 6, 8), **options: Any
) -> Path:
    """Write a model with the input ``image`` and the output ``last``, names that topwork's own graphs use, too."""
    used = {name for node in nodes for name in names_read(node)}
    graph = helper.make_graph(
        list(nodes),
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, axes)],
        [helper.make_tensor_value_info("last", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in WEIGHTS.items() if name in used],
    )
    functions = options.pop("functions", [])
    domains = [helper.make_opsetid("", opset), helper.make_opsetid("local", 1)]
    model = helper.make_model(graph, opset_imports=domains, functions=functions, ir_version=8)
    onnx.save(model, path, **options)
    return path


def node(operation: str, inputs: str, outputs: str, **attributes: Any) -> Any:
    return helper.make_node(operation, inputs.split(), outputs.split(), **attributes)


CONVOLUTION = [
    node("Conv", "image kernel", "convolved", pads=[1, 1, 1, 1]),
    node("Relu", "convolved", "map"),
]
CLASSIFIER = [
    node("GlobalAveragePool", "map", "averaged"),
    node("Flatten", "averaged", "vector"),
    node("MatMul", "vector table", "last"),
]
TOKENS = [
    node("Reshape", "map flat", "rows"),
    node("Transpose", "rows", "patches", perm=[0, 2, 1]),
    node("Shape", "patches", "sizes"),
    node("Gather", "sizes zero", "batch", axis=0),
    node("Concat", "batch expanded", "target", axis=0),
    node("Expand", "class_token target", "class_tokens"),
    node("Concat", "class_tokens patches", "tokens", axis=1),
    node("Gather", "tokens first", "vector", axis=1),
    node("MatMul", "vector table", "last"),
]
WEIGHTS |= {"zero": np.array([0]), "first": np.array(0)}


def cut(path: Path, layers: Sequence[str], pools: Sequence[str], normalize: bool = False) -> ExportedGraph:
    backbone = topwork.load_backbone(f"onnx:{path}", mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))
    return export(backbone, CutRequest(tuple(layers), tuple(pools), normalize), path.with_suffix(""))


def features(graph: ExportedGraph) -> dict[str, np.ndarray]:
    found = open_session(graph.path, "cpu").run({"image": PIXELS})
    return dict(zip((column.name for column in graph.metadata.columns), found, strict=True))


def feature_map() -> torch.Tensor:
    x = (torch.from_numpy(PIXELS).permute(0, 3, 1, 2) / 255 - torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1)) / (
        torch.tensor([0.2, 0.3, 0.25]).view(3, 1, 1)
    )
    return torch.nn.functional.conv2d(x, torch.from_numpy(WEIGHTS["kernel"]), padding=1).relu()


@pytest.mark.parametrize("opset", [11, 13, 17, 18, 20])
@pytest.mark.parametrize("normalize", [False, True])
def test_maps_are_pooled_as_torch_does_in_every_opset(opset: int, normalize: bool, tmp_path: Path) -> None:
    pools = ("avg", "max", "gem", "avg2x2", "avg4x3", "flatten", "avg+max")
    found = features(cut(write(tmp_path / "net.onnx", CONVOLUTION + CLASSIFIER, opset), ["map"], pools, normalize))
    for pool in pools:
        expected = pool_layer(feature_map(), Layer("map", (5, 6, 8), "map", 0), pool)
        expected = torch.nn.functional.normalize(expected) if normalize else expected
        np.testing.assert_allclose(found[f"map.{pool}"], expected.numpy(), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("opset", [13, 17, 20])
def test_tokens_are_pooled_without_the_class_token(opset: int, tmp_path: Path) -> None:
    pools = ("cls", "mean", "max", "gem", "flatten", "cls+mean")
    graph = cut(write(tmp_path / "net.onnx", CONVOLUTION + TOKENS, opset), ["tokens", "last"], pools)
    found, rows = features(graph), feature_map().flatten(2).transpose(1, 2)
    sequence = torch.cat([torch.from_numpy(WEIGHTS["class_token"]).expand(4, 1, 5), rows], 1)
    for pool in pools:
        expected = pool_layer(sequence, Layer("tokens", (49, 5), "tokens", prefix_tokens=1), pool).numpy()
        np.testing.assert_allclose(found[f"tokens.{pool}"], expected, rtol=2e-5, atol=1e-6)
    np.testing.assert_array_equal(found["last"], np.repeat(WEIGHTS["class_token"][0], 4, 0))


def test_channels_last_are_pooled_over_height_and_width(tmp_path: Path) -> None:
    nodes = [*CONVOLUTION, node("Transpose", "map", "turned", perm=[0, 2, 3, 1]), *CLASSIFIER]
    backbone = topwork.load_backbone(
        f"onnx:{write(tmp_path / 'net.onnx', nodes)}", mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25)
    )
    graph = export(backbone, CutRequest(("turned",), ("avg", "avg2x2")), tmp_path / "graph")
    expected = pool_layer(feature_map(), Layer("map", (5, 6, 8), "map", 0), "avg2x2").numpy()
    np.testing.assert_allclose(features(graph)["turned.avg2x2"], expected, rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(features(graph)["turned.avg"], feature_map().mean((2, 3)).numpy(), rtol=2e-5, atol=1e-6)


def test_file_without_module_names_lists_what_all_data_passes(tmp_path: Path) -> None:
    nodes = [*CONVOLUTION, node("Add", "map convolved", "sum"), node("Relu", "sum", "more"), *CLASSIFIER]
    nodes[4] = node("GlobalAveragePool", "more", "averaged")
    backbone = topwork.load_backbone(f"onnx:{write(tmp_path / 'net.onnx', nodes)}", mean=(0, 0, 0), std=(1, 1, 1))
    layers = topwork.layers(backbone)
    names = ["convolved", "sum", "more", "averaged", "vector", "last", "last"]
    assert [layer.name for layer in layers] == names
    assert all(layer.single_tensor for layer in layers)
    assert layers[0].flops == pytest.approx(5 * 48 * 27 / (5 * 48 * 27 + 10))
    assert layers[0].parameters == pytest.approx(135 / 145)


def test_what_is_above_the_cut_is_not_in_the_file(tmp_path: Path) -> None:
    graph = cut(write(tmp_path / "net.onnx", CONVOLUTION + TOKENS), ["map"], ["avg"])
    model = onnx.load(graph.path)
    assert {n.op_type for n in model.graph.node}.isdisjoint({"Reshape", "Expand", "Gather"})
    assert sum(np.prod(tensor.dims) for tensor in model.graph.initializer) < 135 + 20


def branch(operation: str, output: str) -> Any:
    """Return a branch that reads a weight and a value from outside."""
    graph_nodes = [node("Conv", "image kernel", "inner", pads=[1, 1, 1, 1]), node(operation, "inner", output)]
    return helper.make_graph(graph_nodes, output, [], [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)])


def test_branches_keep_what_they_read_from_outside(tmp_path: Path) -> None:
    condition = node("Constant", "", "condition", value=numpy_helper.from_array(np.array(True)))
    chosen = node("If", "condition", "map", then_branch=branch("Relu", "yes"), else_branch=branch("Neg", "no"))
    found = features(cut(write(tmp_path / "net.onnx", [condition, chosen, *CLASSIFIER]), ["map"], ["flatten"]))
    np.testing.assert_allclose(found["map"], feature_map().flatten(1).numpy(), rtol=2e-5, atol=1e-5)


def test_local_functions_are_kept(tmp_path: Path) -> None:
    opset = [helper.make_opsetid("", 17)]
    function = helper.make_function("local", "Twice", ["x"], ["y"], [node("Add", "x x", "y")], opset)
    nodes = [CONVOLUTION[0], helper.make_node("Twice", ["convolved"], ["doubled"], domain="local")]
    nodes += [node("Relu", "doubled", "map"), *CLASSIFIER]
    found = features(cut(write(tmp_path / "net.onnx", nodes, functions=[function]), ["doubled", "map"], ["avg"]))
    np.testing.assert_allclose(found["map"], 2 * feature_map().mean((2, 3)).numpy(), rtol=2e-5, atol=1e-6)


def test_weights_in_another_file_are_taken_into_the_graph(tmp_path: Path) -> None:
    path = write(
        tmp_path / "net.onnx",
        CONVOLUTION + CLASSIFIER,
        save_as_external_data=True,
        location="net.data",
        size_threshold=0,
    )
    graph = cut(path, ["map"], ["avg"])
    (tmp_path / "net.data").unlink()
    np.testing.assert_allclose(features(graph)["map"], feature_map().mean((2, 3)).numpy(), rtol=2e-5, atol=1e-6)


def test_fixed_batch_of_one_is_freed(tmp_path: Path) -> None:
    graph = cut(write(tmp_path / "net.onnx", CONVOLUTION + CLASSIFIER, axes=(1, 3, 6, 8)), ["map", "last"], ["avg"])
    assert graph.certificate.worst.relative_l2 < 1e-6
    np.testing.assert_allclose(features(graph)["map"], feature_map().mean((2, 3)).numpy(), rtol=2e-5, atol=1e-6)


def test_batch_that_the_file_counts_on_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WEIGHTS, "flat", np.array([1, 5, 48]))
    nodes = [*CONVOLUTION, *TOKENS[:2], node("ReduceMean", "patches", "last", axes=[1], keepdims=0)]
    path = write(tmp_path / "net.onnx", nodes, axes=(1, 3, 6, 8))
    with pytest.raises(ParityError, match=r"axes \(1, 5\)"):
        cut(path, ["patches"], ["mean"])
    assert cut(path, ["map"], ["avg"]).certificate.worst.relative_l2 < 1e-6


def test_half_precision_yields_float32_features(tmp_path: Path) -> None:
    path = write(tmp_path / "net.onnx", CONVOLUTION + CLASSIFIER)
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for port in (*model.graph.input, *model.graph.output):
        port.type.tensor_type.elem_type = TensorProto.FLOAT16
    onnx.save(model, path)
    found = features(cut(path, ["map", "last"], ["avg"]))
    assert found["map"].dtype == np.float32
    np.testing.assert_allclose(found["map"], feature_map().mean((2, 3)).numpy(), rtol=5e-3)


def test_unknown_layer_is_refused_with_near_names(tmp_path: Path) -> None:
    path = write(tmp_path / "net.onnx", CONVOLUTION + TOKENS)
    with pytest.raises(LayerError, match=r"'mapp'.*: map"):
        cut(path, ["mapp"], ["avg"])
    with pytest.raises(LayerError, match="'class_token'"):
        cut(path, ["class_token"], ["avg"])


def test_specification_that_does_not_fit_the_input_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "net.onnx", CONVOLUTION + CLASSIFIER)
    backbone = topwork.load_backbone(f"onnx:{path}", mean=(0, 0, 0), std=(1, 1, 1), size=(8, 8))
    with pytest.raises(InputError, match=r"image \(FLOAT\) of shape \(free, 3, 6, 8\).*\(batch, 3, 8, 8\)"):
        topwork.layers(backbone)


def test_cut_whose_weight_was_changed_is_refused(tmp_path: Path) -> None:
    def change_weight(trace: Any, cut: Any) -> Any:
        model = cut_model(trace, cut)
        kernel = next(tensor for tensor in model.graph.initializer if tensor.name.endswith("kernel"))
        values = numpy_helper.to_array(kernel).copy()
        values[0, 0, 0, 0] += 0.05
        kernel.CopyFrom(numpy_helper.from_array(values, kernel.name))
        return model

    with pytest.raises(ParityError, match="'map'"):
        export_with(change_weight, write(tmp_path / "net.onnx", CONVOLUTION + CLASSIFIER))


def test_exchanged_channels_are_named(tmp_path: Path) -> None:
    def append_exchanged(nodes: Any, images: str, normalization: Any) -> str:
        normalized = append_image_normalization(nodes, images, normalization)
        return nodes.add("Gather", normalized, nodes.integers(2, 1, 0), axis=1)

    with pytest.raises(ParityError, match="red and blue"):
        export_with(
            partial(cut_model, normalize=append_exchanged), write(tmp_path / "net.onnx", CONVOLUTION + CLASSIFIER)
        )


def export_with(make_model: Callable[..., Any], path: Path) -> None:
    backbone = topwork.load_backbone(f"onnx:{path}", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    cutter = OnnxCutter(backbone, make_model)  # type: ignore[arg-type]
    export_by_route(choose(cutter, CutRequest(("map",), ("avg",))), ONNX_ROUTES[0], path.parent)
