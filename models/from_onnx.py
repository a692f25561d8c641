"""``onnx:FILE``: a model that was exported to ONNX from any framework.

What the file states about its inputs is taken from it; what it does not state, such as mean and standard deviation, is
stated by the user.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError, reason
from ..identity import digest_of_file
from .backbone import DEFAULT_TOLERANCE, LARGEST_TOLERANCE
from .image_spec import ImageSpec
from .input_spec import InputSpec
from .loader import BuiltModel
from .tensor_spec import TensorSpec
from .text_spec import TOKENIZER_FILE, TextSpec

DEFAULT_CROP = 0.875
"""Share of the shorter side that is kept, as in most evaluations on ImageNet; ``crop=`` changes it."""
PROVISIONAL_SIZE = (224, 224)
"""Height and width in pixels until the user states them."""
DEFAULT_MAX_TOKENS = 512
"""Maximum length of a text, where neither the tokeniser nor the user states it."""
PADDING_TOKENS = ("[PAD]", "<pad>", "<|pad|>")
TEXT_INPUTS = ("input_ids", "attention_mask")
SEGMENT_INPUTS = ("token_type", "segment")
"""Parts of the names of inputs that are 0 for every token of a single text."""
TOPWORK_KEY = "topwork"
"""Key of the metadata of graphs that topwork exported."""


@dataclass(frozen=True)
class OnnxInput:
    """One input of an ONNX model: ONNX's name of its type, such as "FLOAT", and its axes, None where a size is free."""

    name: str
    type: str
    axes: tuple[int | None, ...]


def build(name: str, *, pretrained: bool, model_args: dict[str, Any]) -> BuiltModel:
    """Read the inputs of an ONNX file; weights and architecture are in it, so neither can be chosen.

    Raise an InputError if the file is absent, damaged or made by topwork, or its inputs are not those of a backbone.
    """
    if not pretrained:
        raise InputError(f"onnx:{name} contains its weights; expected no weights=. Export the model with others.")
    if model_args:
        raise InputError(f"onnx:{name} takes no arguments, but got {sorted(model_args)}: its architecture is fixed")
    path = Path(name)
    model = read_model(path)
    spec, unknown = read_input_spec(path, read_inputs(model))
    return BuiltModel(
        path,
        spec,
        tolerance=choose_tolerance(model),
        architecture="onnx",
        arguments=digest_external_data(path, model),
        unknown=unknown,
    )


def read_model(path: Path) -> Any:
    """Read an ONNX model, without the weights that lie in other files.

    Raise an InputError if the file is absent, damaged, empty, or made by topwork.
    """
    import onnx

    if not path.is_file():
        raise InputError(f"{path} does not exist; expected an ONNX file")
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:
        raise InputError(f"{path} is not an ONNX file: {reason(error)}") from error
    if not model.graph.node or not model.graph.output:
        raise InputError(f"{path} is not an ONNX file with a model in it: it has no operations")
    if any(entry.key == TOPWORK_KEY for entry in model.metadata_props):
        raise InputError(
            f"{path} is a graph that topwork exported, and cannot be cut again. "
            f"Pass ExportedGraph(Path('{path}')) as an Extractor's backbone, or export the model anew."
        )
    return model


def read_inputs(model: Any) -> list[OnnxInput]:
    """Return the inputs of an ONNX model, without the weights that old files list among them."""
    import onnx

    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = []
    for port in model.graph.input:
        if port.name not in weights:
            tensor = port.type.tensor_type
            axes = tuple(dim.dim_value or None for dim in tensor.shape.dim)
            inputs.append(OnnxInput(port.name, onnx.TensorProto.DataType.Name(tensor.elem_type), axes))
    return inputs


def read_input_spec(path: Path, inputs: Sequence[OnnxInput]) -> tuple[InputSpec | None, tuple[str, ...]]:
    """Return the specification that the inputs state, None if they do not, and the overrides that the user must state.

    Raise an InputError if the inputs are not those of a backbone.
    """
    if {port.name for port in inputs}.issuperset(TEXT_INPUTS):
        check_text_inputs(path, inputs)
        return find_tokenizer(path), ()
    check_single_float_input(path, inputs)
    return spec_of_float_input(inputs[0])


def check_single_float_input(path: Path, inputs: Sequence[OnnxInput]) -> None:
    """Raise an InputError unless there is exactly one input, of floats."""
    if len(inputs) != 1 or not inputs[0].type.startswith("FLOAT"):
        described = ", ".join(f"{port.name} ({port.type})" for port in inputs)
        raise InputError(f"{path} has the inputs {described}; expected one of floats, or {' and '.join(TEXT_INPUTS)}")


def check_text_inputs(path: Path, inputs: Sequence[OnnxInput]) -> None:
    """Raise an InputError for inputs other than tokens and segments, and for a fixed number of tokens."""
    for port in inputs:
        is_segment = any(part in port.name for part in SEGMENT_INPUTS)
        if port.type != "INT64" or not (port.name in TEXT_INPUTS or is_segment):
            raise InputError(
                f"{path} has an input {port.name} ({port.type}), which topwork cannot fill; expected "
                f"INT64 {', '.join(TEXT_INPUTS)}, token_type_ids. Export the model without it."
            )
        if len(port.axes) == 2 and port.axes[1] is not None:
            raise InputError(
                f"{path} takes texts of exactly {port.axes[1]} tokens; expected any number, as batches are padded to "
                "their longest text. Export the model with a free second axis."
            )


def spec_of_float_input(port: OnnxInput) -> tuple[InputSpec | None, tuple[str, ...]]:
    """Return the specification that an input of floats states, and the overrides that the user must state.

    Three channels are an image, and any other fixed shape is a tensor; of free sizes there is no specification.
    """
    axes = port.axes
    if len(axes) == 4 and axes[1] == 3:
        _, _, height, width = axes
        if height is None or width is None:
            return _provisional_image_spec(PROVISIONAL_SIZE), ("mean", "std", "size")
        return _provisional_image_spec((height, width)), ("mean", "std")
    shape = [size for size in axes[1:] if size is not None]
    if shape and len(shape) == len(axes) - 1:
        return TensorSpec(tuple(shape)), ()
    return None, ()


def _provisional_image_spec(size: tuple[int, int]) -> ImageSpec:
    return ImageSpec(size=size, resize=round(min(size) / DEFAULT_CROP))


def find_tokenizer(path: Path) -> TextSpec | None:
    """Read the tokeniser in the folder of an ONNX file or one folder up, where model hubs keep it."""
    folder = path.resolve().parent
    candidates = (folder / TOKENIZER_FILE, folder.parent / TOKENIZER_FILE)
    files = [file for file in candidates if file.is_file()]
    if not files:
        return None
    content = files[0].read_text(encoding="utf-8")
    try:
        fields = json.loads(content)
    except ValueError as error:
        raise InputError(f"{files[0]} is not a tokenizer.json: {error}") from error
    truncation = fields.get("truncation") or {}
    max_length = truncation.get("max_length", DEFAULT_MAX_TOKENS)
    return TextSpec(content, max_length, inputs=TEXT_INPUTS, pad_id=find_pad_id(fields))


def find_pad_id(fields: dict[str, Any]) -> int:
    """Return the id of the padding token of a ``tokenizer.json``; 0 if it has none."""
    if fields.get("padding"):
        return int(fields["padding"]["pad_id"])
    ids = {token["content"]: token["id"] for token in fields.get("added_tokens", ())}
    for token in PADDING_TOKENS:
        if token in ids:
            return int(ids[token])
    return 0


def choose_tolerance(model: Any) -> float:
    """Return the largest error of a cut; adjacent half-precision numbers differ by 1e-3."""
    import onnx

    is_half = any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in model.graph.initializer)
    return LARGEST_TOLERANCE if is_half else DEFAULT_TOLERANCE


def digest_external_data(path: Path, model: Any) -> dict[str, Any]:
    """Return the digests of the files that hold a model's weights outside of it, as they decide its features.

    Raise an InputError if one of them is missing.
    """
    from onnx.external_data_helper import uses_external_data

    names: set[str] = set()
    for tensor in model.graph.initializer:
        if uses_external_data(tensor):
            names.update(entry.value for entry in tensor.external_data if entry.key == "location")
    missing = sorted(name for name in names if not (path.parent / name).is_file())
    if missing:
        raise InputError(f"{path} keeps its weights in {', '.join(missing)}, which is missing in the same folder")
    return {f"data:{name}": digest_of_file(path.parent / name) for name in sorted(names)}
