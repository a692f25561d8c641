"""The value that ``last`` stands for: what enters the classifier, or the output where that is an embedding."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import topwork
from onnx import TensorProto, helper, numpy_helper
from topwork.extract.graphs.cut import CutRequest, choose
from topwork.extract.graphs.cutting import cutter_for

WEIGHTS = {
    "first": np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32),
    "second": np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32),
    "bias": np.ones(3, np.float32),
}
BODY = [helper.make_node("MatMul", ["x", "first"], ["hidden"]), helper.make_node("Relu", ["hidden"], ["active"])]
ENDINGS = {
    "gemm": [helper.make_node("Gemm", ["active", "second", "bias"], ["y"])],
    "bias added": [
        helper.make_node("MatMul", ["active", "second"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["y"]),
    ],
    "softmax": [
        helper.make_node("MatMul", ["active", "second"], ["product"]),
        helper.make_node("Softmax", ["product"], ["y"]),
    ],
    "cast": [
        helper.make_node("Gemm", ["active", "second", "bias"], ["product"]),
        helper.make_node("Cast", ["product"], ["y"], to=TensorProto.DOUBLE),
    ],
    "normalised": [
        helper.make_node("MatMul", ["active", "second"], ["product"]),
        helper.make_node("LpNormalization", ["product"], ["y"], axis=1),
    ],
}


def find_last(path: Path, ending: str, output: str) -> tuple[np.ndarray, list[str]]:
    """Write a perceptron with an output of a name; return the features of ``last`` for one row, and the warnings."""
    kind = TensorProto.DOUBLE if ending == "cast" else TensorProto.FLOAT
    nodes = [*BODY, *ENDINGS[ending]]
    graph = helper.make_graph(
        [
            helper.make_node(
                node.op_type,
                list(node.input),
                [output if name == "y" else name for name in node.output],
                **{attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute},
            )
            for node in nodes
        ],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 6])],
        [helper.make_tensor_value_info(output, kind, ["n", 3])],
        [numpy_helper.from_array(array, name) for name, array in WEIGHTS.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cut = choose(cutter_for(topwork.load_backbone(f"onnx:{path}")), CutRequest(("last",), ("auto",)))
    (features,) = cut.cutter.reference(cut, {"input": np.ones((1, 6), np.float32)})
    return features, [str(warning.message) for warning in caught]


HIDDEN = np.maximum(np.ones((1, 6), np.float32) @ WEIGHTS["first"], 0)


@pytest.mark.parametrize("output", ["logits", "pooled_logits", "class_probabilities", "scores"])
@pytest.mark.parametrize("ending", ["gemm", "bias added", "softmax", "cast"])
def test_last_is_what_enters_a_classifier(ending: str, output: str, tmp_path: Path) -> None:
    found, messages = find_last(tmp_path / "net.onnx", ending, output)
    np.testing.assert_allclose(found, HIDDEN, rtol=1e-6)
    assert messages == []


@pytest.mark.parametrize("output", ["image_embeds", "Embedding", "features", "pooler_output", "text_projection"])
@pytest.mark.parametrize("ending", ["gemm", "bias added", "cast"])
def test_last_is_an_output_that_is_an_embedding(ending: str, output: str, tmp_path: Path) -> None:
    found, messages = find_last(tmp_path / "net.onnx", ending, output)
    bias = WEIGHTS["bias"]
    np.testing.assert_allclose(found, HIDDEN @ WEIGHTS["second"] + bias, rtol=1e-5)
    assert messages == []


@pytest.mark.parametrize("ending", ["gemm", "bias added", "cast"])
def test_choice_is_said_where_the_name_of_the_output_does_not_decide(ending: str, tmp_path: Path) -> None:
    found, messages = find_last(tmp_path / "net.onnx", ending, "683")
    np.testing.assert_allclose(found, HIDDEN, rtol=1e-6)
    assert len(messages) == 1
    assert "'683'" in messages[0]


def test_probabilities_and_normalised_outputs_need_no_name(tmp_path: Path) -> None:
    found, messages = find_last(tmp_path / "net.onnx", "softmax", "683")
    assert (found.shape, messages) == ((1, 4), [])
    found, messages = find_last(tmp_path / "other.onnx", "normalised", "683")
    assert (found.shape, messages) == ((1, 3), [])
