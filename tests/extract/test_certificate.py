"""A graph that differs from its network, however little, is refused."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import topwork
from onnx import numpy_helper
from topwork.errors import ParityError
from topwork.extract.certificate import Certificate, certify, reference
from topwork.extract.cut import Cut, choose
from topwork.extract.graph_cache import graph_for
from topwork.extract.session import open_session
from topwork.extract.trace import trace

LAYERS = ["layer1", "last"]


@pytest.fixture(scope="module")
def cut() -> Cut:
    backbone = topwork.load_backbone("topwork:tiny")
    return choose(backbone, trace(backbone), LAYERS, ["avg"])


@pytest.fixture(scope="module")
def graph() -> Path:
    return graph_for("topwork:tiny", LAYERS, ["avg"]).path


def certify_mutated(cut: Cut, graph: Path, mutate: Callable[[Any], None]) -> Certificate:
    model = onnx.load(graph)
    mutate(model.graph)
    return certify(cut, open_session(model.SerializeToString(), "cpu"), {})


def test_faithful_graph_is_certified_on_three_batch_sizes(cut: Cut, graph: Path) -> None:
    certificate = certify_mutated(cut, graph, lambda _: None)
    assert [(d.output, d.batch) for d in certificate.deviations] == [
        (output, batch) for batch in (1, 2, 5) for output in LAYERS
    ]
    assert (certificate.tolerance, certificate.provider, certificate.precision) == (1e-4, "cpu", "fp32")
    assert certificate.worst.relative_l2 == max(d.relative_l2 for d in certificate.deviations) < 1e-5
    assert min(d.cosine for d in certificate.deviations) > 0.999999


def test_certificate_survives_its_text_form(cut: Cut, graph: Path) -> None:
    certificate = certify_mutated(cut, graph, lambda _: None)
    assert Certificate.from_json(json.loads(json.dumps(certificate.to_json()))) == certificate


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

        expected = "layer1" if name == stem else "last"
        with pytest.raises(ParityError, match=f"output '{expected}', batch of 1, relative L2 error"):
            certify_mutated(cut, graph, mutate)


def test_fixed_batch_is_refused(cut: Cut, graph: Path) -> None:
    def fix(graph: Any) -> None:
        graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2

    with pytest.raises(ParityError, match=r"(?s)does not run on a batch of 1.*Expected a free batch size"):
        certify_mutated(cut, graph, fix)


def test_exchanged_outputs_are_refused(cut: Cut, graph: Path) -> None:
    def exchange(graph: Any) -> None:
        outputs = list(graph.output)[::-1]
        del graph.output[:]
        graph.output.extend(outputs)

    with pytest.raises(ParityError, match=r"output 'layer1' has shape \(1, 80\) on a batch of 1, expected \(1, 16\)"):
        certify_mutated(cut, graph, exchange)


@pytest.mark.parametrize("field", ["mean", "std"])
def test_exchanged_channels_of_the_normalisation_are_refused(field: str, cut: Cut, graph: Path) -> None:
    spec = cut.backbone.input_spec
    other = dataclasses.replace(spec, **{field: getattr(spec, field)[::-1]})
    swapped = dataclasses.replace(cut, backbone=dataclasses.replace(cut.backbone, input_spec=other))
    with pytest.raises(ParityError, match="output 'layer1'"):
        certify(swapped, open_session(graph, "cpu"), {})


def test_tolerance_is_the_backbones_own(cut: Cut, graph: Path) -> None:
    session = open_session(graph, "cpu")
    strict = dataclasses.replace(cut, backbone=dataclasses.replace(cut.backbone, tolerance=1e-12))
    with pytest.raises(ParityError, match=r"output 'layer1'.*expected at most 1e-12"):
        certify(strict, session, {})
    loose = dataclasses.replace(cut, backbone=dataclasses.replace(cut.backbone, tolerance=1e-3))
    assert certify(loose, session, {}).tolerance == 1e-3


def test_reference_leaves_no_hooks_behind(cut: Cut) -> None:
    images = np.zeros((1, 32, 32, 3), np.uint8)
    first, second = reference(cut, images), reference(cut, images)
    np.testing.assert_array_equal(first[1], second[1])
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in cut.backbone.module.modules())
