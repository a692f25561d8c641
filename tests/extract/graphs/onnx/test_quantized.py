"""Quantised ONNX files: features are those of ONNX Runtime on the same file, and no item depends on another."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import topwork
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_dynamic, quantize_static
from tokenizers import Tokenizer, models, pre_tokenizers
from topwork.extract.graphs.onnx.signed_weights import shift_signed_weights
from torch import nn

IMAGES = list(np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8))
PIXELS = (np.stack(IMAGES).transpose(0, 3, 1, 2) / 127.5 - 1).astype(np.float32)  # (4, 3, 16, 16)
PREPARED: dict[str, Any] = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "crop": 1.0}
ROUNDING = 0.02


class Pixels(CalibrationDataReader):
    def __init__(self) -> None:
        self.batches = iter([{"x": PIXELS}])

    def get_next(self) -> Any:
        return next(self.batches, None)


def save(module: nn.Module, example: np.ndarray, path: Path, output: str) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        axes = {"x": {0: "n"}, output: {0: "n"}}
        torch.onnx.export(
            module.eval(),
            (torch.from_numpy(example),),
            path,
            dynamo=False,
            opset_version=17,
            input_names=["x"],
            output_names=[output],
            dynamic_axes=axes,
        )
    return path


@pytest.fixture(scope="module")
def convolution(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    """Return a network of a convolution and a classifier, and its file."""
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    path = save(nn.Sequential(*body, nn.Linear(8, 5)), PIXELS, tmp_path_factory.mktemp("float") / "net.onnx", "logits")
    return body, path


def extract(path: Path, items: Any, layer: str, **options: Any) -> np.ndarray:
    backbone = topwork.load_backbone(f"onnx:{path}", **options)
    extractor = topwork.Extractor(backbone, layer=layer, provider="cpu", precision="fp32")
    found: np.ndarray = extractor.fit_transform(items)
    return found


def run_file(path: Path, **inputs: np.ndarray) -> np.ndarray:
    found: np.ndarray = onnxruntime.InferenceSession(str(path)).run(None, inputs)[0]
    return found


def run_as_specified(path: Path, **inputs: np.ndarray) -> np.ndarray:
    """Return what the operators are specified to compute; unlike ONNX Runtime's, sums of integers never saturate."""
    found: np.ndarray = ReferenceEvaluator(onnx.load(path)).run(None, inputs)[0]
    return found


def run_up_to(path: Path, operation: str, **inputs: np.ndarray) -> np.ndarray:
    """Return what ONNX Runtime computes for the first value of an operation in a file."""
    model = onnx.load(path)
    name = next(node.output[0] for node in model.graph.node if node.op_type == operation)
    model.graph.output.append(onnx.ValueInfoProto(name=name))
    found: np.ndarray = onnxruntime.InferenceSession(model.SerializeToString()).run([name], inputs)[0]
    return found


def error(found: np.ndarray, expected: np.ndarray) -> float:
    assert found.shape == expected.shape
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("quant_format", [QuantFormat.QDQ, QuantFormat.QOperator])
def test_statically_quantised_images(
    quant_format: QuantFormat, per_channel: bool, convolution: tuple[nn.Module, Path], tmp_path: Path
) -> None:
    _, original = convolution
    path = tmp_path / "quantised.onnx"
    quantize_static(original, path, Pixels(), quant_format=quant_format, per_channel=per_channel)
    assert error(extract(path, IMAGES, "logits", **PREPARED), run_file(path, x=PIXELS)) < ROUNDING
    if quant_format == QuantFormat.QDQ:
        expected = run_up_to(path, "Flatten", x=PIXELS)
        assert error(extract(path, IMAGES, "last", **PREPARED), expected) < ROUNDING
    else:
        with pytest.warns(UserWarning, match="QGemm.*'logits'"):
            extract(path, IMAGES, "last", **PREPARED)


def test_dynamically_quantised_images(convolution: tuple[nn.Module, Path], tmp_path: Path) -> None:
    body, original = convolution
    path = tmp_path / "quantised.onnx"
    quantize_dynamic(original, path)
    found = extract(path, IMAGES, "logits", **PREPARED)
    alone = np.concatenate([run_file(path, x=PIXELS[number : number + 1]) for number in range(len(PIXELS))])
    assert error(found, alone) < 5e-3
    np.testing.assert_allclose(extract(path, IMAGES[:1], "logits", **PREPARED), found[:1], rtol=1e-6)
    with torch.no_grad():
        expected = body(torch.from_numpy(PIXELS)).numpy()
    assert error(extract(path, IMAGES, "last", **PREPARED), expected) < ROUNDING


def test_dynamically_quantised_arrays(tmp_path: Path) -> None:
    torch.manual_seed(0)
    items = np.random.default_rng(0).normal(size=(5, 16)).astype(np.float32)
    module = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 8), nn.Tanh())
    path = tmp_path / "quantised.onnx"
    quantize_dynamic(save(module, items, tmp_path / "net.onnx", "y"), path)
    alone = np.concatenate([run_as_specified(path, x=items[number : number + 1]) for number in range(len(items))])
    assert error(extract(path, items, "last"), alone) < 1e-5


def test_dynamically_quantised_texts_do_not_depend_on_padding(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    weights = {
        "words": generator.normal(size=(5, 16)).astype(np.float32),
        "table": generator.normal(size=(16, 8)).astype(np.float32),
        "last_axis": np.array([-1]),
    }
    nodes = [
        helper.make_node("Gather", ["words", "input_ids"], ["embedded"]),
        helper.make_node("Cast", ["attention_mask"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["floats", "last_axis"], ["column"]),
        helper.make_node("Mul", ["embedded", "column"], ["masked"]),
        helper.make_node("MatMul", ["masked", "table"], ["product"]),
        helper.make_node("Tanh", ["product"], ["last_hidden_state"]),
    ]
    ports = ("input_ids", "attention_mask")
    graph = helper.make_graph(
        nodes,
        "text",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "t"]) for name in ports],
        [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["n", "t", 8])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), tmp_path / "net.onnx"
    )
    path = tmp_path / "quantised.onnx"
    quantize_dynamic(tmp_path / "net.onnx", path)
    tokenizer = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, "a": 2, "b": 3, "c": 4}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))

    texts = ["a b c", "b", "c c a b b a"]
    found = extract(path, texts, "last")
    for row, ids in zip(found, ([2, 3, 4], [3], [4, 4, 2, 3, 3, 2]), strict=True):
        tokens = np.array([ids])
        hidden = run_as_specified(path, input_ids=tokens, attention_mask=np.ones_like(tokens))[0]
        np.testing.assert_allclose(row, hidden.mean(axis=0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("remove_zero_points", [False, True])
def test_integers_do_not_saturate(remove_zero_points: bool, tmp_path: Path) -> None:
    """ONNX Runtime alone is off by a fifth here on a processor without VNNI."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 32), nn.Tanh())
    items = np.random.default_rng(0).standard_normal((5, 64)).astype(np.float32)
    path = tmp_path / "quantised.onnx"
    quantize_dynamic(save(network, items, tmp_path / "plain.onnx", "embedding"), path)
    if remove_zero_points:
        model = onnx.load(path)
        for node in model.graph.node:
            if node.op_type == "MatMulInteger":
                del node.input[3]
        onnx.save(model, path)
    alone = np.concatenate([run_as_specified(path, x=item[None]) for item in items])
    assert error(extract(path, list(items), "last"), alone) < 1e-5


def test_weights_that_others_read_stay_signed(tmp_path: Path) -> None:
    torch.manual_seed(0)
    items = np.random.default_rng(0).standard_normal((2, 8)).astype(np.float32)
    path = tmp_path / "quantised.onnx"
    quantize_dynamic(save(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)), items, tmp_path / "plain.onnx", "y"), path)
    graph = onnx.load(path).graph
    first, second = (node for node in graph.node if node.op_type == "MatMulInteger")
    second.input[3] = first.input[3]  # both have one zero point
    graph.node.append(helper.make_node("Identity", [second.input[1]], ["copy"]))
    shift_signed_weights(graph)
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    weights = {types[name] for name in (first.input[1], second.input[1], first.input[3])}
    assert weights == {TensorProto.INT8}
