"""``onnx:FILE``: a network that somebody exported to ONNX, from whatever framework.

What a file's inputs tell is taken from them; what they do not tell, such as mean and standard deviation, the user
states.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError, reason
from ..identity import digest_of_file
from .backbone import DEFAULT_TOLERANCE, LARGEST_TOLERANCE
from .image_spec import ImageSpec
from .input_spec import InputSpec
from .registry import Built
from .tensor_spec import TensorSpec
from .text_spec import TOKENIZER_FILE, TextSpec

CROP = 0.875
"""Share of the shorter side that is kept, as in most evaluations on ImageNet; ``crop=`` changes it."""
SIDE = 224
"""Height and width that stand in the specification until the user states them."""
LONGEST = 512
"""Tokens of the longest text, where neither the tokeniser nor the user says."""
PADDING = ("[PAD]", "<pad>", "<|pad|>")
TEXT_INPUTS = ("input_ids", "attention_mask")
SEGMENTS = ("token_type", "segment")
"""Inputs that are 0 for every token of a single text have one of these in their name."""
MADE_BY_TOPWORK = "topwork"


@dataclass(frozen=True)
class NetworkInput:
    """One input of the network.

    Parameters
    ----------
    name : str
    type : str
        Of ONNX, such as "FLOAT" or "INT64".
    axes : tuple of int or None
        Fixed sizes, None where a size is free.
    """

    name: str
    type: str
    axes: tuple[int | None, ...]


def build(name: str, *, pretrained: bool, model_args: dict[str, Any]) -> Built:
    """Read what an ONNX file says of its inputs.

    Parameters
    ----------
    name : str
        The file.
    pretrained : bool
        Must be true: the weights are in the file.
    model_args : dict
        Must be empty: the architecture is in the file.

    Raises
    ------
    InputError
        If the file is absent, damaged or made by topwork, or its inputs are not those of a backbone.
    """
    if not pretrained:
        raise InputError(f"onnx:{name} brings its weights along; expected no weights=. Export the network with others.")
    if model_args:
        raise InputError(f"onnx:{name} takes no arguments, but got {sorted(model_args)}: its architecture is fixed")
    path = Path(name)
    model = read_model(path)
    inputs = network_inputs(model)
    spec, unknown = _input_spec(path, inputs)
    files = external_data(path, model)
    return Built(path, spec, tolerance=_tolerance(model), architecture="onnx", arguments=files, unknown=unknown)


def read_model(path: Path) -> Any:
    """Return the model without the weights that lie in other files."""
    import onnx

    if not path.is_file():
        raise InputError(f"{path} does not exist; expected an ONNX file")
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:
        raise InputError(f"{path} is not an ONNX file: {reason(error)}") from error
    if not model.graph.node or not model.graph.output:
        raise InputError(f"{path} is not an ONNX file with a network in it: it has no operations")
    if any(entry.key == MADE_BY_TOPWORK for entry in model.metadata_props):
        raise InputError(
            f"{path} is a graph that topwork exported, and cannot be cut again. "
            f"Pass ExportedGraph(Path('{path}')) as an Extractor's backbone, or export the network anew."
        )
    return model


def network_inputs(model: Any) -> list[NetworkInput]:
    """Return the inputs of an ONNX model; old files list their weights among them, which are left out."""
    import onnx

    weights = {tensor.name for tensor in model.graph.initializer}
    found = []
    for port in model.graph.input:
        if port.name not in weights:
            tensor = port.type.tensor_type
            axes = tuple(dim.dim_value or None for dim in tensor.shape.dim)
            found.append(NetworkInput(port.name, onnx.TensorProto.DataType.Name(tensor.elem_type), axes))
    return found


def _input_spec(path: Path, inputs: list[NetworkInput]) -> tuple[InputSpec | None, tuple[str, ...]]:
    """Return what the network eats, as far as its inputs say, and what the user must add."""
    names = [port.name for port in inputs]
    if set(TEXT_INPUTS) <= set(names):
        _require_texts(path, inputs)
        return _text_spec(path), ()
    if len(inputs) != 1 or not inputs[0].type.startswith("FLOAT"):
        raise InputError(
            f"{path} has the inputs {', '.join(f'{port.name} ({port.type})' for port in inputs)}; expected one of "
            f"floats, or {' and '.join(TEXT_INPUTS)}"
        )
    axes = inputs[0].axes
    if len(axes) == 4 and axes[1] == 3:
        sides = [side for side in axes[2:] if side is not None]
        size = (sides[0], sides[1]) if len(sides) == 2 else (SIDE, SIDE)
        spec = ImageSpec(size=size, resize=round(min(size) / CROP))
        return spec, ("mean", "std") if len(sides) == 2 else ("mean", "std", "size")
    fixed = [side for side in axes[1:] if side is not None]
    return (TensorSpec(tuple(fixed)) if fixed and len(fixed) == len(axes) - 1 else None), ()


def _require_texts(path: Path, inputs: list[NetworkInput]) -> None:
    """Refuse inputs that are neither tokens nor 0 for every token, and a fixed number of tokens."""
    for port in inputs:
        if port.type != "INT64" or (port.name not in TEXT_INPUTS and not any(s in port.name for s in SEGMENTS)):
            raise InputError(
                f"{path} has an input {port.name} ({port.type}), which topwork does not know how to fill; expected "
                f"INT64 {', '.join(TEXT_INPUTS)}, token_type_ids. Export the network without it."
            )
        if len(port.axes) == 2 and port.axes[1] is not None:
            raise InputError(
                f"{path} takes texts of exactly {port.axes[1]} tokens; expected any number, as batches are padded to "
                "their longest text. Export the network with a free second axis."
            )


def _text_spec(path: Path) -> TextSpec | None:
    """Return the tokeniser beside the file, or one folder up, as files of models hubs have it."""
    folder = path.resolve().parent
    file = next((f for f in (folder / TOKENIZER_FILE, folder.parent / TOKENIZER_FILE) if f.is_file()), None)
    if file is None:
        return None
    content = file.read_text(encoding="utf-8")
    try:
        fields = json.loads(content)
    except ValueError as error:
        raise InputError(f"{file} is not a tokenizer.json: {error}") from error
    longest = (fields.get("truncation") or {}).get("max_length", LONGEST)
    return TextSpec(content, longest, inputs=TEXT_INPUTS, pad_id=_pad_id(fields))


def _pad_id(fields: dict[str, Any]) -> int:
    if fields.get("padding"):
        return int(fields["padding"]["pad_id"])
    added = {token["content"]: token["id"] for token in fields.get("added_tokens", ())}
    return int(next((added[token] for token in PADDING if token in added), 0))


def _tolerance(model: Any) -> float:
    """Return the largest error of a cut; half-precision numbers are no closer than 1e-3 to each other."""
    import onnx

    is_half = any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in model.graph.initializer)
    return LARGEST_TOLERANCE if is_half else DEFAULT_TOLERANCE


def external_data(path: Path, model: Any) -> dict[str, Any]:
    """Return the digests of the files beside the model that hold its weights: they decide the network, too."""
    from onnx.external_data_helper import uses_external_data

    names = {
        entry.value
        for tensor in model.graph.initializer
        if uses_external_data(tensor)
        for entry in tensor.external_data
        if entry.key == "location"
    }
    missing = sorted(name for name in names if not (path.parent / name).is_file())
    if missing:
        raise InputError(f"{path} keeps its weights in {', '.join(missing)}, which is missing beside it")
    return {f"data:{name}": digest_of_file(path.parent / name) for name in sorted(names)}
