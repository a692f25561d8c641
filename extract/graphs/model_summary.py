"""Inputs, outputs and size of an ONNX file, whoever made it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ...errors import InputError


def summarize_model(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what an ONNX file is, as JSON can hold it, and the entries of its metadata; nothing is run.

    Raise an InputError if it cannot be read.
    """
    import onnx

    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:
        raise InputError(f"{path} cannot be read as an ONNX file: {error}. Write or copy it again.") from error
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    facts = {
        "producer": f"{model.producer_name} {model.producer_version}".strip(),
        "opset": {item.domain or "ai.onnx": item.version for item in model.opset_import},
        "nodes": len(graph.node),
        "parameters": sum(math.prod(tensor.dims) for tensor in graph.initializer),
        "inputs": [describe_value(value) for value in graph.input if value.name not in weights],
        "outputs": [describe_value(value) for value in graph.output],
    }
    return facts, {entry.key: entry.value for entry in model.metadata_props}


def describe_value(value: Any) -> dict[str, Any]:
    """Return name, type and axes of an input or output; an axis of any size is a name, or "any"."""
    import onnx

    tensor = value.type.tensor_type
    axes = [side.dim_param or side.dim_value or "any" for side in tensor.shape.dim]
    return {"name": value.name, "type": onnx.TensorProto.DataType.Name(tensor.elem_type).lower(), "axes": axes}
