"""Products in blocks of 8 bits: the rounding, the graphs that have such products, and real texts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import topwork
from onnx import TensorProto, helper, numpy_helper
from topwork.extract.engine.sampling import draw_items
from topwork.extract.graphs.fidelity import Fidelity
from topwork.extract.precision import block_products, choice
from topwork.extract.precision.block_products import (
    Activations,
    add_statistics,
    compute_divisor,
    consists_of_products,
    list_products,
    quantize_products,
    round_weights,
)
from topwork.extract.precision.trial import Trial
from topwork.extract.runtime.openvino_runtime import PRODUCT_BLOCK_SIZE
from topwork.extract.runtime.providers import find_rivals

N_FEATURES = 2 * PRODUCT_BLOCK_SIZE
GENERATOR = np.random.default_rng(0)
FEATURES = GENERATOR.normal(size=(500, N_FEATURES)) @ GENERATOR.normal(size=(N_FEATURES, N_FEATURES))
FEATURES[:, 3] *= 50  # as in transformers, a feature is far larger than others
FEATURES = FEATURES.astype(np.float32)
WEIGHTS = GENERATOR.normal(size=(N_FEATURES, 24)).astype(np.float32)


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def expand(codes: np.ndarray, scales: np.ndarray) -> np.ndarray:
    return codes * np.repeat(scales, PRODUCT_BLOCK_SIZE, axis=0)


def make_model(*weights: np.ndarray, opset: int = 20) -> onnx.ModelProto:
    """Return a model of products of one input."""
    nodes = [helper.make_node("MatMul", ["x", f"w{n}"], [f"y{n}"], name=f"product{n}") for n in range(len(weights))]
    return helper.make_model(
        helper.make_graph(
            nodes,
            "products",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "m", weights[0].shape[0]])],
            [helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None) for node in nodes],
            [numpy_helper.from_array(matrix, f"w{n}") for n, matrix in enumerate(weights)],
        ),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=10,
    )


def run(model: onnx.ModelProto, features: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": features})


def measure(model: onnx.ModelProto, features: np.ndarray) -> Activations:
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    outputs = add_statistics(copy, {"x": N_FEATURES})
    values = run(copy, features)[len(model.graph.output) :]
    found = list(zip(outputs, values, strict=True))
    sizes = {name: value for (name, is_gram), value in found if not is_gram}
    return Activations(sizes, {name: value for (name, is_gram), value in found if is_gram})


def test_weights_are_rounded_to_half_a_step() -> None:
    codes, scales = round_weights(WEIGHTS.astype(np.float64), None)
    assert np.abs(codes).max() == 127
    step = np.repeat(scales, PRODUCT_BLOCK_SIZE, axis=0)
    assert (np.abs(expand(codes, scales) - WEIGHTS) <= step / 2 * (1 + 1e-9)).all()


def test_later_rows_make_up_for_the_rounding_of_earlier_ones() -> None:
    gram = FEATURES.T.astype(np.float64) @ FEATURES
    plain, made_up_for = (
        relative_error(FEATURES @ expand(*round_weights(WEIGHTS.astype(np.float64), given)), FEATURES @ WEIGHTS)
        for given in (None, gram)
    )
    assert made_up_for < 0.6 * plain


def test_rounding_takes_features_that_are_always_zero() -> None:
    features = FEATURES.copy()
    features[:, 5] = 0
    codes, scales = round_weights(WEIGHTS.astype(np.float64), features.T.astype(np.float64) @ features)
    assert relative_error(features @ expand(codes, scales), features @ WEIGHTS) < 0.01


def test_the_size_of_activations_is_divided_between_both_factors() -> None:
    divisor = compute_divisor(np.array([4.0, 0.0, 1e30], np.float32), [np.ones((3, 2), np.float32)])
    assert divisor[0] == pytest.approx(2)
    assert divisor[1] > 0
    assert divisor[2] == block_products.MAX_DIVISOR


@pytest.mark.parametrize("opset", [15, 20])
def test_statistics_of_activations(opset: int) -> None:
    found = measure(make_model(WEIGHTS, opset=opset), FEATURES.reshape(10, 50, -1))
    np.testing.assert_array_equal(found.sizes["x"], np.abs(FEATURES).max(axis=0))
    np.testing.assert_allclose(found.grams["x"], FEATURES.T @ FEATURES, rtol=1e-3, atol=1)


def test_no_gram_matrix_is_computed_beyond_the_memory_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_products, "MAX_GRAM_BYTES", 100)
    found = measure(make_model(WEIGHTS), FEATURES.reshape(10, 50, -1))
    assert (list(found.sizes), found.grams) == (["x"], {})


def test_products_of_one_value_share_its_division() -> None:
    model = make_model(WEIGHTS, 2 * WEIGHTS[:, :7])
    features = FEATURES.reshape(10, 50, -1)
    quantised = quantize_products(make_model(WEIGHTS, 2 * WEIGHTS[:, :7]), measure(model, features), [])
    assert [node.op_type for node in quantised.graph.node] == ["Mul", "MatMulNBits", "MatMulNBits"]
    for found, expected in zip(run(quantised, features), run(model, features), strict=True):
        assert 0 < relative_error(found, expected) < 0.01
    assert {tensor.name for tensor in quantised.graph.initializer}.isdisjoint({"w0", "w1"})


def test_what_is_kept_stays_in_float32() -> None:
    model = make_model(WEIGHTS, 2 * WEIGHTS)
    features = FEATURES.reshape(10, 50, -1)
    quantised = quantize_products(make_model(WEIGHTS, 2 * WEIGHTS), measure(model, features), ["product0"])
    (kept, rounded), (expected, _) = run(quantised, features), run(model, features)
    np.testing.assert_array_equal(kept, expected)
    assert relative_error(rounded, 2 * expected) > 1e-5


def test_a_row_is_rounded_the_same_alone_and_among_others() -> None:
    model = make_model(WEIGHTS)
    quantised = quantize_products(make_model(WEIGHTS), measure(model, FEATURES.reshape(10, 50, -1)), [])
    [together] = run(quantised, FEATURES.reshape(1, 500, -1))
    [alone] = run(quantised, FEATURES[7].reshape(1, 1, -1))
    np.testing.assert_allclose(alone[0, 0], together[0, 7], rtol=1e-5, atol=1e-3)


def test_rows_that_fill_no_block_are_left_alone() -> None:
    assert not list_products(make_model(WEIGHTS[: N_FEATURES - 1]))


def test_graphs_of_convolutions_have_few_products() -> None:
    assert not consists_of_products(topwork.Extractor("topwork:tiny", precision="fp32").graph)


@pytest.fixture(scope="module")
def text_trial(text_folder: Path) -> Trial:
    """Return a trial of a text encoder with random weights."""
    graph = topwork.Extractor(f"hf:{text_folder}", precision="fp32").graph
    texts = [f"{'the ' * (number % 9)}cat number {number}" for number in range(48)]
    items = [ways[0] for ways in draw_items(texts, [graph.input_spec], 48)]
    return Trial(graph, "auto", items, items, items, is_automatic=True)


def test_texts_are_close_enough_in_blocks_on_each_provider(text_trial: Trial) -> None:
    judged = list(text_trial.judge_products())
    assert [found.provider for found in judged] == [each.name for each in find_rivals("auto", "int8")]
    assert len({found.precision for found in judged}) == 1
    assert judged[0].precision.startswith("int8:")
    for found in judged:
        assert 0 < found.usual < 2e-2
        assert found.passes


@pytest.mark.parametrize(
    ("is_automatic", "is_thorough", "usual", "is_tried"),
    [
        (True, True, 0.01, True),
        (True, True, 0.1, True),
        (True, False, 0.1, False),  # a short job, which would be over before they are made
        (False, True, 0.01, False),
        (False, True, 0.1, True),  # int8 was asked for, and is to be close
    ],
)
def test_blocks_are_tried_in_long_jobs_and_where_int8_is_named_and_far_off(
    text_trial: Trial,
    monkeypatch: pytest.MonkeyPatch,
    is_automatic: bool,
    is_thorough: bool,
    usual: float,
    is_tried: bool,
) -> None:
    static = Fidelity("int8:static", "cpu", 48, usual, usual, 2.0)
    blocks = Fidelity("int8:blocks", "cpu", 48, 0.01, 0.02, 2.0)
    monkeypatch.setattr(Trial, "judge", lambda *_: iter([static]))
    monkeypatch.setattr(Trial, "judge_products", lambda *_: iter([blocks]))
    monkeypatch.setattr(choice, "recall", lambda *_: None)
    monkeypatch.setattr(choice, "remember", lambda *_: None)
    trial = replace(text_trial, is_automatic=is_automatic, is_thorough=is_thorough)
    assert list(choice.judge_once(trial, ["int8"])) == [static, blocks][: 1 + is_tried]


def test_short_jobs_spend_no_time_on_ranges_of_transformers(text_trial: Trial) -> None:
    assert list(replace(text_trial, is_thorough=False).judge("int8")) == []
