"""Inputs of an ONNX file become the input specification; what the file does not state must be given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import topwork
from onnx import TensorProto, helper, numpy_helper
from topwork.errors import InputError
from topwork.models.from_onnx import build

Port = tuple[str, int, list[Any]]
IMAGE: Port = ("x", TensorProto.FLOAT, ["n", 3, 16, 24])
IDS: Port = ("input_ids", TensorProto.INT64, ["n", "t"])
MASK: Port = ("attention_mask", TensorProto.INT64, ["n", "t"])
TOKENIZER = {"model": {"type": "WordLevel", "vocab": {"[UNK]": 0}, "unk_token": "[UNK]"}}


def write(path: Path, *ports: Port, weights: dict[str, np.ndarray] | None = None, **options: Any) -> Path:
    """Write a network that returns its first input times a weight."""
    weights = {"w": np.array(2, helper.tensor_dtype_to_np_dtype(ports[0][1])), **(weights or {})}
    graph = helper.make_graph(
        [helper.make_node("Mul", [ports[0][0], "w"], ["y"])],
        "double",
        [helper.make_tensor_value_info(*port) for port in ports],
        [helper.make_tensor_value_info("y", *ports[0][1:])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path, **options)
    return path


def test_images_have_the_size_of_the_input_and_need_mean_and_std(tmp_path: Path) -> None:
    path = write(tmp_path / "net.onnx", IMAGE)
    with pytest.raises(InputError, match=r"mean= \(--mean\), std="):
        topwork.load_backbone(f"onnx:{path}")
    backbone = topwork.load_backbone(f"onnx:{path}", mean=(0.5, 0.5, 0.5), std=(0.1, 0.2, 0.3))
    assert (backbone.name, backbone.input_spec.size, backbone.input_spec.resize) == ("onnx", (16, 24), 18)
    assert (backbone.input_spec.mean, backbone.input_spec.std) == ((0.5, 0.5, 0.5), (0.1, 0.2, 0.3))


def test_free_height_and_width_must_be_stated(tmp_path: Path) -> None:
    path = write(tmp_path / "net.onnx", ("x", TensorProto.FLOAT, ["n", 3, "h", "w"]))
    stated = {"mean": (0, 0, 0), "std": (1, 1, 1)}
    with pytest.raises(InputError, match=r"size= \(--size\)"):
        topwork.load_backbone(f"onnx:{path}", **stated)
    spec = topwork.load_backbone(f"onnx:{path}", **stated, size=64, crop=1.0).input_spec
    assert (spec.size, spec.resize) == ((64, 64), 64)


def test_weights_listed_among_the_inputs_are_no_inputs(tmp_path: Path) -> None:
    path = write(tmp_path / "old.onnx", ("x", TensorProto.FLOAT, ["n", 4]), ("w", TensorProto.FLOAT, []))
    assert topwork.load_backbone(f"onnx:{path}").input_spec == topwork.TensorSpec((4,))


@pytest.mark.parametrize("axes", [["n", 5, 7], [1, 6], ["n", 1, 8, 8], ["n", 8, 8, 4]])
def test_any_other_input_of_fixed_sizes_is_a_tensor(axes: list[Any], tmp_path: Path) -> None:
    path = write(tmp_path / "net.onnx", ("x", TensorProto.FLOAT, axes))
    assert topwork.load_backbone(f"onnx:{path}").input_spec == topwork.TensorSpec(tuple(axes[1:]))


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.INT8])
def test_images_with_channels_last_have_the_size_of_the_input(kind: int, tmp_path: Path) -> None:
    path = write(tmp_path / "net.onnx", ("x", kind, ["n", 16, 24, 3]))
    with pytest.raises(InputError, match=r"mean= \(--mean\), std="):
        topwork.load_backbone(f"onnx:{path}")
    spec = topwork.load_backbone(f"onnx:{path}", mean=(0, 0, 0), std=(1, 1, 1)).input_spec
    assert spec.size == (16, 24)


@pytest.mark.parametrize("axes", [["n", 16, 24, 3], ["n", 3, 16, 24], ["n", "h", "w", 3]])
def test_uint8_pixels_are_not_normalised(axes: list[Any], tmp_path: Path) -> None:
    path = write(tmp_path / "net.onnx", ("x", TensorProto.UINT8, axes))
    options = {"size": (16, 24)} if "h" in axes else {}
    spec = topwork.load_backbone(f"onnx:{path}", **options).input_spec
    assert (spec.size, spec.mean, spec.std) == ((16, 24), (0, 0, 0), (1 / 255, 1 / 255, 1 / 255))


@pytest.mark.parametrize(
    ("axes", "overrides", "words"),
    [
        (["n", 1, 8, 8], {"mean": (0, 0, 0)}, ["mean", r"\(free, 1, 8, 8\)", "images have 3 channels"]),
        (["n", 8, 8, 4], {"size": 8}, ["size", r"\(free, 8, 8, 4\)", "images have 3 channels"]),
        (["n", 1, "h", "w"], {}, [r"\(free, 1, free, free\)", "TensorSpec"]),
        (["n", 5, "t"], {}, [r"\(free, 5, free\)", "TensorSpec"]),
    ],
)
def test_error_of_other_channels_and_free_sizes_names_the_shape(
    axes: list[Any], overrides: dict[str, Any], words: list[str], tmp_path: Path
) -> None:
    path = write(tmp_path / "net.onnx", ("x", TensorProto.FLOAT, axes))
    with pytest.raises(InputError) as raised:
        topwork.load_backbone(f"onnx:{path}", **overrides)
    for word in words:
        raised.match(word)


def test_input_of_free_sizes_needs_an_input_spec(tmp_path: Path) -> None:
    path = write(tmp_path / "net.onnx", ("x", TensorProto.FLOAT, ["n", "t"]))
    with pytest.raises(InputError, match="input_spec="):
        topwork.load_backbone(f"onnx:{path}")
    spec = topwork.TensorSpec((9,))
    assert topwork.load_backbone(f"onnx:{path}", input_spec=spec).input_spec == spec


def test_tokens_and_masks_of_other_integers_are_texts(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    ids = ("input_ids", TensorProto.INT32, ["n", "t"])
    mask = ("attention_mask", TensorProto.FLOAT, ["n", "t"])
    assert topwork.load_backbone(f"onnx:{write(tmp_path / 'net.onnx', ids, mask)}").input_spec.max_length == 512


@pytest.mark.parametrize("folder", ["", "onnx"])
def test_tokeniser_lies_in_the_folder_of_the_file_or_one_above(folder: str, tmp_path: Path) -> None:
    (tmp_path / folder).mkdir(exist_ok=True)
    path = write(tmp_path / folder / "net.onnx", IDS, MASK, ("token_type_ids", TensorProto.INT64, ["n", "t"]))
    with pytest.raises(InputError, match="input_spec="):
        topwork.load_backbone(f"onnx:{path}")
    (tmp_path / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    spec = topwork.load_backbone(f"onnx:{path}").input_spec
    assert (spec.max_length, spec.pad_id, json.loads(spec.tokenizer)) == (512, 0, TOKENIZER)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"truncation": {"max_length": 40}, "padding": {"pad_id": 3}}, (40, 3)),
        ({"truncation": None, "padding": None, "added_tokens": [{"content": "<pad>", "id": 1}]}, (512, 1)),
    ],
)
def test_length_and_padding_are_the_tokenisers(
    fields: dict[str, Any], expected: tuple[int, int], tmp_path: Path
) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps({**TOKENIZER, **fields}))
    spec = topwork.load_backbone(f"onnx:{write(tmp_path / 'net.onnx', IDS, MASK)}").input_spec
    assert (spec.max_length, spec.pad_id) == expected


@pytest.mark.parametrize(
    ("ports", "message"),
    [
        ([IDS, MASK, ("position_ids", TensorProto.INT64, ["n", "t"])], r"position_ids \(INT64\)"),
        ([("input_ids", TensorProto.INT64, ["n", 128]), MASK], "128 tokens"),
        ([IMAGE, ("extra", TensorProto.FLOAT, ["n", 2])], r"x \(FLOAT\) .*, extra \(FLOAT\)"),
        ([("x", TensorProto.INT64, ["n", 4])], r"x \(INT64\)"),
        ([("x", TensorProto.UINT8, ["n", 1, 8, 8])], r"x \(UINT8\) of shape \(free, 1, 8, 8\)"),
        ([("input_ids", TensorProto.FLOAT, ["n", "t"]), MASK], r"input_ids \(FLOAT\)"),
        ([("input_ids", TensorProto.INT64, ["n", "t"])], "attention_mask"),
    ],
)
def test_inputs_that_cannot_be_filled_are_refused(ports: list[Port], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        topwork.load_backbone(f"onnx:{write(tmp_path / 'net.onnx', *ports)}")


def test_file_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.onnx does not exist"):
        topwork.load_backbone(f"onnx:{tmp_path / 'none.onnx'}")
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(InputError, match=r"text\.onnx is not an ONNX file"):
        topwork.load_backbone(f"onnx:{tmp_path / 'text.onnx'}")
    (tmp_path / "empty.onnx").write_bytes(b"")
    with pytest.raises(InputError, match=r"empty\.onnx .*no operations"):
        topwork.load_backbone(f"onnx:{tmp_path / 'empty.onnx'}")


def test_weights_and_arguments_of_others_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "net.onnx", IMAGE)
    with pytest.raises(InputError, match="weights="):
        topwork.load_backbone(f"onnx:{path}", weights="random")
    with pytest.raises(InputError, match=r"\['depth'\]"):
        topwork.load_backbone(f"onnx:{path}", model_args={"depth": 3})


def test_graph_of_topwork_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "net.onnx", IMAGE)
    model = onnx.load(path)
    helper.set_model_props(model, {"topwork": "{}"})
    onnx.save(model, path)
    with pytest.raises(InputError, match=r"net\.onnx.*ExportedGraph"):
        topwork.load_backbone(f"onnx:{path}")


def test_weights_in_another_file_are_part_of_the_identity(tmp_path: Path) -> None:
    port = ("x", TensorProto.FLOAT, ["n", 4])
    options: dict[str, Any] = {"save_as_external_data": True, "location": "net.data", "size_threshold": 0}
    weights = {"w": np.array([1, 2, 3, 4], np.float32)}
    path = write(tmp_path / "net.onnx", port, weights=weights, **options)
    before = topwork.load_backbone(f"onnx:{path}").identity()
    content = bytearray((tmp_path / "net.data").read_bytes())
    content[0] ^= 1
    (tmp_path / "net.data").write_bytes(content)
    after = topwork.load_backbone(f"onnx:{path}").identity()
    assert before["weights"] == after["weights"]
    assert before["arguments"]["data:net.data"] != after["arguments"]["data:net.data"]
    (tmp_path / "net.data").unlink()
    with pytest.raises(InputError, match=r"net\.data"):
        build(str(path), pretrained=True, model_args={})


def test_constants_of_operations_in_another_file_decide_the_request(tmp_path: Path) -> None:
    constant = helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(np.full(400, 2, np.float32), "w"))
    graph = helper.make_graph(
        [constant, helper.make_node("Mul", ["x", "w"], ["y"])],
        "double",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 400])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 400])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "net.onnx"
    onnx.save(model, path, save_as_external_data=True, location="net.data", size_threshold=0, convert_attribute=True)
    spec = topwork.BackboneSpec(f"onnx:{path}")
    before = spec.request()
    data = tmp_path / "net.data"
    data.write_bytes(data.read_bytes()[::-1])
    assert spec.request() != before


def move(path: Path, **place: str) -> None:
    """Let the weight of a model lie at a place in another file."""
    model = onnx.load(path)
    (weight,) = model.graph.initializer
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in place.items():
        weight.external_data.add(key=key, value=value)
    onnx.save(model, path)


@pytest.mark.parametrize("location", ["../secret", "sub/../../secret", "/etc/hostname", "", ".", ".."])
def test_weights_outside_the_folder_are_refused(location: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(64))
    (tmp_path / "models" / "sub").mkdir(parents=True)
    path = write(tmp_path / "models" / "net.onnx", IMAGE)
    move(path, location=location)
    with pytest.raises(InputError, match=r"'w' of .*outside the folder"):
        build(str(path), pretrained=True, model_args={})


@pytest.mark.parametrize("place", [("-1", "4"), ("0", "-4"), ("x", "4"), ("0", ""), ("6", "4"), ("0", str(2**70))])
def test_weights_beyond_their_file_are_refused(place: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "net.data").write_bytes(bytes(8))
    path = write(tmp_path / "net.onnx", IMAGE)
    offset, length = place
    move(path, location="net.data", offset=offset, length=length)
    with pytest.raises(InputError, match=r"'w' of .*the place"):
        build(str(path), pretrained=True, model_args={})


@pytest.mark.parametrize("change", [{"data_type": 0}, {"data_type": 99}, {"dims": [-1]}])
def test_weights_that_cannot_be_are_refused(change: dict[str, Any], tmp_path: Path) -> None:
    path = write(tmp_path / "net.onnx", IMAGE)
    model = onnx.load(path)
    model.graph.initializer[0].MergeFrom(TensorProto(**change))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match=r"'w' of "):
        build(str(path), pretrained=True, model_args={})


@pytest.mark.parametrize("port", [("x", TensorProto.FLOAT, [65536, 3, 16, 24]), ("x", TensorProto.FLOAT, [2000, 4])])
def test_fixed_batches_of_many_items_are_refused(port: Port, tmp_path: Path) -> None:
    path = write(tmp_path / "net.onnx", port)
    options = {"mean": (0, 0, 0), "std": (1, 1, 1)} if len(port[2]) == 4 else {}
    with pytest.raises(InputError, match="batches of exactly"):
        topwork.layers(topwork.load_backbone(f"onnx:{path}", **options))


@pytest.mark.parametrize("axes", [["n", 3, 2**40, 16], ["n", 3, 2**20, 2**20], ["n", 2**62], ["n", 2**15, 2**15]])
def test_items_that_do_not_fit_into_memory_are_refused(axes: list[Any], tmp_path: Path) -> None:
    path = write(tmp_path / "net.onnx", ("x", TensorProto.FLOAT, axes))
    with pytest.raises(InputError, match=r"expected at most 268,435,456"):
        build(str(path), pretrained=True, model_args={})


def test_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "net.onnx", IMAGE)
    path.write_bytes(path.read_bytes().replace(b"\x0a\x01x\x0a\x01w\x12\x01y", b"\x0a\x01x\x0a\x01w\x12\x01\xff"))
    with pytest.raises(InputError, match="UTF-8"):
        build(str(path), pretrained=True, model_args={})
