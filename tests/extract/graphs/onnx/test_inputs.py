"""ONNX files with other layouts and types than float32 images: features are those of ONNX Runtime on the same file."""

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
from tokenizers import Tokenizer, models, pre_tokenizers
from topwork.errors import InputError
from torch import Tensor, nn

IMAGES = list(np.random.default_rng(0).integers(0, 256, (3, 12, 16, 3), dtype=np.uint8))
PIXELS = np.stack(IMAGES).transpose(0, 3, 1, 2)  # (3, 3, 12, 16)
CHANNELS_LAST = (0, 2, 3, 1)


class Convolution(nn.Module):
    """A convolution of images whose type and layout are those of the input."""

    def __init__(self, dtype: torch.dtype, *, channels: int = 3, channels_last: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(channels, 8, 3).to(dtype)
        self.channels_last = channels_last

    def forward(self, x: Tensor) -> Tensor:
        if self.channels_last:
            x = x.permute(0, 3, 1, 2)  # (batch, height, width, channels) -> (batch, channels, height, width)
        if not x.is_floating_point():
            x = x / 255
        return self.conv(x.to(self.conv.weight.dtype)).relu().mean((2, 3))


def save(module: nn.Module, example: Tensor, path: Path, opset: int = 17) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            (example,),
            path,
            dynamo=False,
            opset_version=opset,
            input_names=["x"],
            output_names=["features"],
            dynamic_axes={"x": {0: "n"}, "features": {0: "n"}},
        )
    return path


def run_file(path: Path, **inputs: np.ndarray) -> np.ndarray:
    found: np.ndarray = onnxruntime.InferenceSession(str(path)).run(None, inputs)[0]
    return found


def extract(path: Path, items: Any, **options: Any) -> np.ndarray:
    backbone = topwork.load_backbone(f"onnx:{path}", **options)
    found: np.ndarray = topwork.Extractor(backbone, provider="cpu", precision="fp32").fit_transform(items)
    return found


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
def test_images_of_floats(dtype: torch.dtype, channels_last: bool, tmp_path: Path) -> None:
    batch = torch.from_numpy((PIXELS / 255 - 0.4) / 0.2).to(dtype)
    if channels_last:
        batch = batch.permute(CHANNELS_LAST).contiguous()
    computed = torch.float32 if dtype == torch.float64 else dtype  # ONNX Runtime has no convolution of doubles
    path = save(Convolution(computed, channels_last=channels_last), batch, tmp_path / "net.onnx")
    found = extract(path, IMAGES, mean=(0.4,) * 3, std=(0.2,) * 3, crop=1.0)
    tolerance = 3e-3 if dtype == torch.float16 else 1e-5
    np.testing.assert_allclose(found, run_file(path, x=batch.numpy()), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("dtype", "offset"), [(torch.uint8, 0), (torch.int8, 128), (torch.int32, 0)])
def test_images_of_integers(dtype: torch.dtype, offset: int, channels_last: bool, tmp_path: Path) -> None:
    batch = torch.from_numpy(PIXELS.astype(np.int64) - offset).to(dtype)
    if channels_last:
        batch = batch.permute(CHANNELS_LAST).contiguous()
    path = save(Convolution(torch.float32, channels_last=channels_last), batch, tmp_path / "net.onnx", opset=13)
    stated: dict[str, Any] = {"mean": (offset / 255,) * 3, "std": (1 / 255,) * 3}
    if dtype == torch.uint8:
        stated = {}
    found = extract(path, IMAGES, crop=1.0, **stated)
    np.testing.assert_allclose(found, run_file(path, x=batch.numpy()), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("mean", "std"),
    [((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), ((0.5,) * 3, (1 / 255,) * 3), ((0,) * 3, (1,) * 3)],
)
def test_normalisation_that_uint8_does_not_hold_is_refused(
    mean: tuple[float, ...], std: tuple[float, ...], tmp_path: Path
) -> None:
    path = save(Convolution(torch.float32), torch.from_numpy(PIXELS.copy()), tmp_path / "net.onnx")
    with pytest.raises(InputError, match="UINT8"):
        topwork.layers(topwork.load_backbone(f"onnx:{path}", mean=mean, std=std))


@pytest.mark.parametrize(("channels", "channels_last"), [(1, False), (4, False), (6, True)])
def test_other_numbers_of_channels_are_arrays(channels: int, channels_last: bool, tmp_path: Path) -> None:
    items = np.random.default_rng(0).normal(size=(3, channels, 12, 16)).astype(np.float32)
    if channels_last:
        items = np.ascontiguousarray(items.transpose(CHANNELS_LAST))
    module = Convolution(torch.float32, channels=channels, channels_last=channels_last)
    path = save(module, torch.from_numpy(items), tmp_path / "net.onnx")
    np.testing.assert_allclose(extract(path, items), run_file(path, x=items), rtol=1e-5, atol=1e-6)
    spec = topwork.ImageSpec(size=(12, 16), resize=12)
    with pytest.raises(InputError, match=rf"\b{channels}\b.*\(batch, 3, 12, 16\) or \(batch, 12, 16, 3\)"):
        topwork.layers(topwork.load_backbone(f"onnx:{path}", input_spec=spec))


def test_arrays_of_doubles(tmp_path: Path) -> None:
    items = np.random.default_rng(0).normal(size=(3, 6)).astype(np.float32)
    path = save(
        nn.Sequential(nn.Linear(6, 4).double(), nn.Tanh()), torch.from_numpy(items).double(), tmp_path / "n.onnx"
    )
    np.testing.assert_allclose(extract(path, items), run_file(path, x=items.astype(np.float64)), rtol=1e-5)


def test_arrays_of_integers_are_refused_by_their_type(tmp_path: Path) -> None:
    path = save(nn.Embedding(9, 4), torch.zeros(2, 5, dtype=torch.int64), tmp_path / "net.onnx")
    for options in ({}, {"input_spec": topwork.TensorSpec((5,))}):
        with pytest.raises(InputError, match="INT64"):
            topwork.layers(topwork.load_backbone(f"onnx:{path}", **options))


WORDS = {"[PAD]": 0, "[UNK]": 1, "a": 2, "b": 3, "c": 4}


def write_text_model(path: Path, kind: int, mask_kind: int, names: tuple[str, str]) -> None:
    """Write embeddings of tokens plus those of segments, zero where the mask is, and a tokeniser."""
    tables = {"words": np.arange(20, dtype=np.float32).reshape(5, 4), "segments": np.ones((2, 4), np.float32)}
    nodes = [
        helper.make_node("Gather", ["words", names[0]], ["embedded"]),
        helper.make_node("Gather", ["segments", "token_type_ids"], ["typed"]),
        helper.make_node("Add", ["embedded", "typed"], ["sum"]),
        helper.make_node("Cast", [names[1]], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["floats", "last_axis"], ["column"]),
        helper.make_node("Mul", ["sum", "column"], ["last_hidden_state"]),
    ]
    kinds = {names[0]: kind, names[1]: mask_kind, "token_type_ids": kind}
    graph = helper.make_graph(
        nodes,
        "text",
        [helper.make_tensor_value_info(name, port_kind, ["n", "t"]) for name, port_kind in kinds.items()],
        [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["n", "t", 4])],
        [numpy_helper.from_array(array, name) for name, array in (tables | {"last_axis": np.array([-1])}).items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    tokenizer = Tokenizer(models.WordLevel(WORDS, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(path.with_name("tokenizer.json")))


@pytest.mark.parametrize("kind", [TensorProto.INT32, TensorProto.INT64])
@pytest.mark.parametrize("mask_kind", [TensorProto.INT32, TensorProto.FLOAT, TensorProto.BOOL])
def test_texts_of_other_types(kind: int, mask_kind: int, tmp_path: Path) -> None:
    write_text_model(tmp_path / "net.onnx", kind, mask_kind, ("input_ids", "attention_mask"))
    found = extract(tmp_path / "net.onnx", ["a b c", "b"])
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    for row, ids in zip(found, ([2, 3, 4], [3]), strict=True):
        tokens = np.array([ids], dtype)
        mask = np.ones_like(tokens).astype(helper.tensor_dtype_to_np_dtype(mask_kind))
        hidden = run_file(
            tmp_path / "net.onnx", input_ids=tokens, attention_mask=mask, token_type_ids=np.zeros_like(tokens)
        )
        np.testing.assert_allclose(row, hidden[0].mean(axis=0), rtol=1e-6)


def test_names_of_tokens_and_mask_can_be_stated(tmp_path: Path) -> None:
    write_text_model(tmp_path / "net.onnx", TensorProto.INT64, TensorProto.INT64, ("tokens", "mask"))
    path = tmp_path / "net.onnx"
    with pytest.raises(InputError, match=r"tokens \(INT64\)"):
        topwork.load_backbone(f"onnx:{path}")
    spec = topwork.TextSpec.from_file(tmp_path / "tokenizer.json", 16, inputs=("tokens", "mask"))
    np.testing.assert_allclose(extract(path, ["a"], input_spec=spec), [[9, 10, 11, 12]])
