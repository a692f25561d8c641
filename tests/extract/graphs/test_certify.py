"""A graph that differs from its model, however little, is refused, and the message says how it differs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import topwork
from onnx import helper, numpy_helper
from topwork.errors import ParityError
from topwork.extract.graphs.certificate import Certificate
from topwork.extract.graphs.certify import certify
from topwork.extract.graphs.cut import Cut, CutRequest, choose
from topwork.extract.graphs.cutting import cutter_for
from topwork.extract.graphs.export import export
from topwork.extract.graphs.exported_graph import ExportedGraph
from topwork.extract.graphs.graph_cache import graph_for
from topwork.extract.graphs.routes import DEFAULT_TRACING, TORCH_ROUTES
from topwork.extract.graphs.torch.trace import trace
from topwork.extract.runtime.session import open_session
from topwork.models.backbone import TorchBackbone
from torch import Tensor, nn
from torch.nn import functional

OUTPUTS = ("layer2.avg", "layer2.max", "last")
TEXT_REQUEST = CutRequest(("last",), ("auto",))
Mutation = Callable[[Any], None]


@pytest.fixture(scope="module")
def cut(tiny: topwork.Backbone, tiny_request: CutRequest) -> Cut:
    return choose(cutter_for(tiny), tiny_request)


@pytest.fixture
def graph(tiny_graph: ExportedGraph) -> Path:
    return tiny_graph.path


@pytest.fixture(scope="module")
def text_cut(text_folder: Path) -> Cut:
    return choose(cutter_for(topwork.load_backbone(f"hf:{text_folder}")), TEXT_REQUEST)


@pytest.fixture(scope="module")
def text_graph(text_folder: Path) -> Path:
    return graph_for(f"hf:{text_folder}", TEXT_REQUEST).path


def certify_mutated(cut: Cut, graph: Path, mutate: Mutation, items: Any = ()) -> Certificate:
    model = onnx.load(graph)
    mutate(model.graph)
    return certify(cut, open_session(model.SerializeToString(), "cpu"), versions={}, items=items)


def test_faithful_graph_is_certified_on_three_batch_sizes(cut: Cut, graph: Path) -> None:
    certificate = certify_mutated(cut, graph, lambda _: None)
    cases = [(d.output, d.case, d.batch) for d in certificate.deviations]
    assert cases == [(output, "random", batch) for batch in (1, 2, 5) for output in OUTPUTS]
    assert (certificate.tolerance, certificate.provider, certificate.precision) == (1e-4, "cpu", "fp32")
    assert certificate.worst.relative_l2 == max(d.relative_l2 for d in certificate.deviations) < 1e-5
    assert min(d.cosine for d in certificate.deviations) > 0.999999
    assert certificate.independence < 1e-5


def test_names_types_and_axes_are_in_the_certificate(cut: Cut, graph: Path) -> None:
    certificate = certify_mutated(cut, graph, lambda _: None)
    (image,) = certificate.inputs
    assert (image.name, image.type, image.axes[1:]) == ("image", "tensor(uint8)", (32, 32, 3))
    assert isinstance(image.axes[0], str)
    assert [(p.name, p.type, p.axes[1]) for p in certificate.outputs] == [
        ("layer2.avg", "tensor(float)", 40),
        ("layer2.max", "tensor(float)", 40),
        ("last", "tensor(float)", 80),
    ]


def test_real_items_are_compared_too(cut: Cut, graph: Path) -> None:
    items = np.random.default_rng(1).integers(0, 9, (3, 32, 32, 3), dtype=np.uint8)
    certificate = certify_mutated(cut, graph, lambda _: None, list(items))
    assert [d.batch for d in certificate.deviations if d.case == "real" and d.output == "last"] == [1, 2, 5]


def test_texts_are_compared_with_and_without_padding(text_cut: Cut, text_graph: Path) -> None:
    certificate = certify_mutated(text_cut, text_graph, lambda _: None)
    cases = {(d.case, d.batch) for d in certificate.deviations}
    assert cases == {(case, batch) for case in ("random", "padded") for batch in (1, 2, 5)} | {("long", 1)}
    assert [port.name for port in certificate.inputs] == ["input_ids", "attention_mask"]
    assert all(isinstance(axis, str) for port in certificate.inputs for axis in port.axes)
    assert certificate.worst.relative_l2 < 1e-5


def initializers(graph: Path, number: int) -> list[str]:
    """Return the names of the largest float constants."""
    floats = [t for t in onnx.load(graph).graph.initializer if t.data_type == onnx.TensorProto.FLOAT]
    return [t.name for t in sorted(floats, key=lambda t: -np.prod(t.dims))][:number]


@pytest.mark.parametrize("change", [lambda v: v * 1.01, lambda v: np.full_like(v, np.nan), np.zeros_like])
def test_changed_constant_is_refused_and_its_output_named(change: Callable[[Any], Any], cut: Cut, graph: Path) -> None:
    stem = next(t.name for t in onnx.load(graph).graph.initializer if list(t.dims) == [16, 3, 3, 3])
    for name in {stem, *initializers(graph, 3)}:

        def mutate(graph: Any, name: str = name) -> None:
            tensor = next(t for t in graph.initializer if t.name == name)
            tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), name))

        expected = "layer2.avg" if name == stem else "last"
        with pytest.raises(ParityError, match=f"'{expected}'"):
            certify_mutated(cut, graph, mutate)


def test_one_perturbed_weight_is_refused(cut: Cut, graph: Path) -> None:
    (name,) = initializers(graph, 1)

    def perturb(graph: Any) -> None:
        tensor = next(t for t in graph.initializer if t.name == name)
        values = numpy_helper.to_array(tensor).copy()
        values.flat[np.abs(values).argmax()] *= 1.5
        tensor.CopyFrom(numpy_helper.from_array(values, name))

    with pytest.raises(ParityError, match="'last'"):
        certify_mutated(cut, graph, perturb)


def test_fixed_batch_is_refused(cut: Cut, graph: Path) -> None:
    def fix(graph: Any) -> None:
        graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1

    with pytest.raises(ParityError, match=r"'image'.*\(1, 32, 32, 3\)"):
        certify_mutated(cut, graph, fix)


def test_batch_that_is_fixed_within_the_graph_is_refused(cut: Cut, graph: Path) -> None:
    def fix(graph: Any) -> None:
        graph.initializer.append(numpy_helper.from_array(np.array([1, 80]), "fixed shape"))
        final = graph.output[-1].name
        node = next(node for node in graph.node if final in node.output)
        node.output[list(node.output).index(final)] = "before"
        graph.node.append(helper.make_node("Reshape", ["before", "fixed shape"], [final]))

    with pytest.raises(ParityError, match=r"'last'.*\(1, 80\)"):
        certify_mutated(cut, graph, fix)


def test_exchanged_outputs_are_refused(cut: Cut, graph: Path) -> None:
    def exchange(graph: Any) -> None:
        outputs = list(graph.output)[::-1]
        del graph.output[:]
        graph.output.extend(outputs)

    with pytest.raises(ParityError, match=r"last, layer2\.max, layer2\.avg; .*layer2\.avg, layer2\.max, last"):
        certify_mutated(cut, graph, exchange)


def test_swapped_order_of_channels_is_named(cut: Cut, graph: Path) -> None:
    def swap(graph: Any) -> None:
        graph.initializer.append(numpy_helper.from_array(np.array([2, 1, 0]), "reversed"))
        for node in graph.node:
            node.input[:] = ["swapped" if name == "image" else name for name in node.input]
        graph.node.insert(0, helper.make_node("Gather", ["image", "reversed"], ["swapped"], axis=3))

    with pytest.raises(ParityError, match=r"'layer2.avg'.*red and blue"):
        certify_mutated(cut, graph, swap)


def test_dropped_mask_is_named(text_cut: Cut, text_graph: Path) -> None:
    def drop(graph: Any) -> None:
        one = numpy_helper.from_array(np.array(1, np.int64), "one")
        graph.initializer.append(one)
        for node in graph.node:
            node.input[:] = ["all ones" if name == "attention_mask" else name for name in node.input]
        graph.node.insert(0, helper.make_node("Max", ["attention_mask", "one"], ["all ones"]))

    with pytest.raises(ParityError, match=r"padded batch of 1.*attention mask"):
        certify_mutated(text_cut, text_graph, drop)


def change_backbone(cut: Cut, **changes: Any) -> Cut:
    """Return a cut of a backbone with other fields, without tracing it again."""
    assert isinstance(cut.backbone, TorchBackbone)
    backbone = dataclasses.replace(cut.backbone, **changes)
    backbone.traces[DEFAULT_TRACING] = dataclasses.replace(trace(cut.backbone), backbone=backbone)
    return dataclasses.replace(cut, cutter=cutter_for(backbone))


@pytest.mark.parametrize("field", ["mean", "std"])
def test_other_normalisation_is_refused(field: str, cut: Cut, graph: Path) -> None:
    spec = cut.backbone.input_spec
    other = dataclasses.replace(spec, **{field: tuple(2 * value for value in getattr(spec, field))})
    changed = change_backbone(cut, input_spec=other)
    with pytest.raises(ParityError, match=r"'layer2.avg'"):
        certify(changed, open_session(graph, "cpu"), versions={})


def test_tolerance_is_the_backbones_own(cut: Cut, graph: Path) -> None:
    session = open_session(graph, "cpu")
    strict = change_backbone(cut, tolerance=1e-12)
    with pytest.raises(ParityError, match=r"'layer2.avg'.*1e-12"):
        certify(strict, session, versions={})
    loose = change_backbone(cut, tolerance=1e-3)
    assert certify(loose, session, versions={}).tolerance == 1e-3


class Net(nn.Module):
    """A convolution with something behind it that ignores evaluation mode."""

    def __init__(self, after: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.after = nn.Conv2d(3, 4, 3), after

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.conv(x)).mean((2, 3))


def always_dropping(x: Tensor) -> Tensor:
    return functional.dropout(x, 0.5, training=True)


def always_over_the_batch(x: Tensor) -> Tensor:
    return functional.batch_norm(x, None, None, training=True)


@pytest.mark.parametrize(
    ("after", "message"),
    [
        (always_dropping, "'last'.*dropout"),
        (always_over_the_batch, "'last'.*batch normalisation"),
    ],
)
def test_model_that_stays_in_training_mode_is_refused(
    after: Callable[[Tensor], Tensor], message: str, tmp_path: Path
) -> None:
    spec = topwork.ImageSpec(size=(12, 12), resize=12)
    backbone = topwork.load_backbone(Net(after), input_spec=spec)
    with pytest.raises(ParityError, match=message):
        export(backbone, CutRequest(("last",)), tmp_path / "graph", routes=TORCH_ROUTES[:1])
    assert list(tmp_path.iterdir()) == []


def test_module_left_in_training_mode_is_put_into_evaluation_mode(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten())
    backbone = topwork.load_backbone(net, input_spec=topwork.ImageSpec(size=(6, 6), resize=6))
    backbone.module.train()  # type: ignore[attr-defined]
    certificate = export(backbone, CutRequest(("last",)), tmp_path / "graph").certificate
    assert certificate.worst.relative_l2 < 1e-5


def test_reference_leaves_no_hooks_behind(cut: Cut) -> None:
    feed = {"image": np.zeros((1, 32, 32, 3), np.uint8)}
    first, second = cut.cutter.reference(cut, feed), cut.cutter.reference(cut, feed)
    np.testing.assert_array_equal(first[1], second[1])
    modules = cut.backbone.module.modules()  # type: ignore[attr-defined]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in modules)


def test_randomness_in_the_graph_alone_is_named(cut: Cut, graph: Path) -> None:
    def drop(graph: Any) -> None:
        graph.initializer.append(numpy_helper.from_array(np.array(True), "training"))
        final = graph.output[-1].name
        node = next(node for node in graph.node if final in node.output)
        node.output[list(node.output).index(final)] = "before"
        graph.node.append(helper.make_node("Dropout", ["before", "", "training"], [final]))

    with pytest.raises(ParityError, match=r"exported graph.*'last'.*dropout"):
        certify_mutated(cut, graph, drop)


def test_batch_statistics_in_the_graph_alone_are_named(cut: Cut, graph: Path) -> None:
    def centre(graph: Any) -> None:
        graph.initializer.append(numpy_helper.from_array(np.array([0]), "first axis"))
        final = graph.output[-1].name
        node = next(node for node in graph.node if final in node.output)
        node.output[list(node.output).index(final)] = "before"
        half = numpy_helper.from_array(np.array(2, np.float32), "two")
        graph.initializer.append(half)
        graph.node.append(helper.make_node("ReduceMean", ["before", "first axis"], ["of the batch"], keepdims=1))
        graph.node.append(helper.make_node("Add", ["before", "of the batch"], ["twice"]))
        graph.node.append(helper.make_node("Div", ["twice", "two"], [final]))  # of a single item: the item itself

    with pytest.raises(ParityError, match=r"'last'.*batch normalisation"):
        certify_mutated(cut, graph, centre)
