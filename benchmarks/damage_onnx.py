"""Damaged or hostile ONNX files: bytes, sizes, types, wiring, operations and places of weights; by their seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import onnx
from damage import BAIT, damaged
from onnx import TensorProto, helper, numpy_helper

MODEL = "case.onnx"
WEIGHTS = "case.weights"
"""A file of weights beside the model."""
SIDE = 16
"""Height and width of the images in pixels."""
SIZES = (-(2**63), -(2**31), -1, 0, 1, 2, 2**16, 2**31 - 1, 2**31, 2**32, 2**40, 2**62, 2**63 - 1)
PLACES = (
    WEIGHTS,
    "missing",
    "",
    ".",
    "..",
    f"../{BAIT}",
    f"a/../../{BAIT}",
    "/etc/passwd",
    "/dev/zero",
    "C:\\x",
    "a\0b",
)
LARGE = (*SIZES, 100, 1000, 1000, 10_000)
OFFSETS = ("", "0", "-1", "1", "4096", "9223372036854775807", "99999999999999999999", "x")
OPERATIONS = ("Nothing", "", "Relu", "Conv", "MatMul", "Loop", "If", "Scan", "Gather", "ConstantOfShape",
              "Expand", "Tile", "Reshape", "Slice", "Resize",
              "NonZero", "TopK", "LSTM", "Einsum", "Shape", "RandomNormal")  # fmt: skip


def make_onnx(chance: random.Random) -> dict[str, bytes]:
    """Return a damaged model, and a file of weights that it may name."""
    return {MODEL: damage_model(chance, original_model()), WEIGHTS: bytes(512)}


@cache
def original_model() -> bytes:
    """Return a small model of images: convolutions, pooling and a matrix product."""
    generator = np.random.default_rng(0)
    shapes = {"kernel": (6, 3, 3, 3), "bias": (6,), "matrix": (6, 8)}
    weights = [numpy_helper.from_array(generator.normal(size=shape).astype("f4"), n) for n, shape in shapes.items()]
    nodes = [
        helper.make_node("Conv", ["x", "kernel", "bias"], ["maps"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["maps"], ["active"]),
        helper.make_node("MaxPool", ["active"], ["small"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["small"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "matrix"], ["y"]),
    ]
    images = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 8])
    graph = helper.make_graph(nodes, "small", [images], [output], weights)
    opsets = [helper.make_opsetid("", 17)]
    content: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    return content


def damage_model(chance: random.Random, content: bytes) -> bytes:
    """Change the fields of an ONNX file, or its bytes, or both."""
    if chance.random() < 0.85:
        model = onnx.ModelProto.FromString(content)
        for _ in range(chance.choice((1, 1, 1, 2, 3))):
            chance.choice(CHANGES)(chance, model)
        content = model.SerializeToString()
        if chance.random() < 0.95:
            return content
    return damaged(chance, content)


def change_dims(chance: random.Random, model: Any) -> None:
    tensor = chance.choice(model.graph.initializer)
    if chance.random() < 0.3:
        tensor.dims.append(chance.choice(SIZES))
    elif tensor.dims:
        tensor.dims[chance.randrange(len(tensor.dims))] = chance.choice(SIZES)


def change_input(chance: random.Random, model: Any) -> None:
    port = chance.choice([*model.graph.input, *model.graph.output]).type.tensor_type
    if chance.random() < 0.3:
        port.elem_type = chance.randrange(30)
    elif chance.random() < 0.2:
        del port.shape.dim[chance.randrange(len(port.shape.dim) + 1) :]
    elif port.shape.dim:
        chance.choice(port.shape.dim).dim_value = chance.choice(SIZES)


def move_weights(chance: random.Random, model: Any) -> None:
    tensor = chance.choice(model.graph.initializer)
    if chance.random() < 0.8:
        tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    del tensor.external_data[:]
    for key, values in (("location", PLACES), ("offset", OFFSETS), ("length", OFFSETS)):
        if chance.random() < 0.7 or key == "location":
            tensor.external_data.add(key=key, value=chance.choice(values))


def change_content(chance: random.Random, model: Any) -> None:
    tensor = chance.choice(model.graph.initializer)
    if chance.random() < 0.5:
        tensor.data_type = chance.randrange(30)
    else:
        tensor.raw_data = tensor.raw_data[: chance.randrange(len(tensor.raw_data) + 1)]


def change_wiring(chance: random.Random, model: Any) -> None:
    """Let an operation read or write another value: cycles, values that nobody makes, names that occur twice."""
    node = chance.choice(model.graph.node)
    names = [name for other in model.graph.node for name in (*other.input, *other.output)]
    ports = chance.choice((node.input, node.output))
    if ports:
        ports[chance.randrange(len(ports))] = chance.choice((*names, "", "nobody", *node.output))


def change_operation(chance: random.Random, model: Any) -> None:
    node = chance.choice(model.graph.node)
    node.op_type = chance.choice(OPERATIONS)
    if chance.random() < 0.2:
        node.domain = chance.choice(("com.microsoft", "nobody", "ai.onnx.ml"))


def change_attribute(chance: random.Random, model: Any) -> None:
    nodes = [node for node in model.graph.node if node.attribute]
    if not nodes:
        return
    attribute = chance.choice(chance.choice(nodes).attribute)
    if attribute.ints and chance.random() < 0.7:
        attribute.ints[chance.randrange(len(attribute.ints))] = chance.choice(SIZES)
    elif chance.random() < 0.5:
        attribute.i = chance.choice(SIZES)
    else:
        attribute.type = chance.randrange(15)


def change_versions(chance: random.Random, model: Any) -> None:
    if chance.random() < 0.5 or not model.opset_import:
        model.ir_version = chance.choice((0, 3, 7, 11, 99, 2**62))
    else:
        model.opset_import[0].version = chance.choice((-1, 0, 1, 7, 13, 21, 99, 2**62))


def enlarge(chance: random.Random, model: Any) -> None:
    """Let the model compute a value of any size, which depends on nothing."""
    shape = np.array([chance.choice(LARGE) for _ in range(chance.randint(1, 4))], np.int64)
    model.graph.initializer.append(numpy_helper.from_array(shape, "large"))
    model.graph.node.append(helper.make_node("ConstantOfShape", ["large"], ["larger"]))
    model.graph.node.append(helper.make_node("ReduceSum", ["larger"], ["sum"], keepdims=0))
    last = model.graph.output[0].name
    model.graph.node.append(helper.make_node("Add", [last, "sum"], ["added"]))
    if chance.random() < 0.7:
        model.graph.output[0].name = "added"


def change_list(chance: random.Random, model: Any) -> None:
    """Leave out, repeat or exchange operations, weights, inputs or outputs."""
    fields = chance.choice((model.graph.node, model.graph.initializer, model.graph.input, model.graph.output))
    entries = list(fields)
    if not entries:
        return
    place = chance.randrange(len(entries))
    change = chance.randrange(3)
    if change == 0:
        del entries[place]
    elif change == 1:
        entries.insert(chance.randrange(len(entries)), entries[place])
    else:
        chance.shuffle(entries)
    del fields[:]
    fields.extend(entries)


CHANGES: tuple[Callable[[random.Random, Any], None], ...] = (
    change_dims, change_input, move_weights, move_weights, change_content, change_wiring, change_operation,
    change_attribute, change_versions, enlarge, change_list,
)  # fmt: skip
