"""Exponentials and sums of products in ONNX are rounded as by the C library and by fused operations."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import GraphProto, helper
from topwork.extract.graphs.torch.cutter import OPSET
from topwork.pipelines.fused.graph_builder import GraphBuilder
from topwork.pipelines.fused.rounding import add_exponential, add_fused_product

Numbers = NDArray[np.float64]


def run(build: Callable[..., str], *values: Numbers) -> Any:
    proto = GraphProto(name="numbers")
    builder = GraphBuilder(proto, "numbers/")
    inputs = [builder._add_input(np.float64) for _ in values]
    builder._add_output(build(builder, *inputs), np.float64)
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip(inputs, values, strict=True)))[0]


@pytest.mark.parametrize("scale", [1e-9, 0.01, 1.0, 30.0, 200.0])
def test_exponential_equals_that_of_the_c_library(scale: float) -> None:
    values = -np.abs(np.random.default_rng(0).standard_normal(20_000)) * scale
    expected = np.array([math.exp(value) for value in values.tolist()])
    found = run(add_exponential, values)
    differs = found != expected
    assert differs.mean() < 1e-3  # some C libraries differ in last digits
    assert np.abs(found - expected).max() <= np.spacing(expected[differs].max(initial=0.0))


def test_limits_of_the_exponential() -> None:
    values = np.array([0.0, -1e-320, -708.0, -745.0, -746.0, -1e6, -1e300])
    expected = np.array([math.exp(value) for value in values.tolist()])
    assert np.allclose(run(add_exponential, values), expected, rtol=1e-15, atol=5e-324)


def test_sums_of_products_are_rounded_once() -> None:
    generator = np.random.default_rng(0)
    total, first, second = generator.standard_normal((3, 5_000))
    total[:2_500] = -np.round(first[:2_500] * second[:2_500], 9)  # most digits cancel
    exact = [Fraction(a) + Fraction(b) * Fraction(c) for a, b, c in zip(total, first, second, strict=True)]
    assert np.array_equal(run(add_fused_product, total, first, second), [float(number) for number in exact])
