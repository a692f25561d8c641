"""``onnx:FILE``: a model that was exported to ONNX from any framework.

What the file states about its inputs is taken from it; what it does not state, such as mean and standard deviation, is
stated by the user.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import InputError, reason
from ..identity import digest_of_file
from .backbone import DEFAULT_TOLERANCE, LARGEST_TOLERANCE, QUANTIZED_TOLERANCE
from .image_spec import ImageSpec
from .input_spec import InputSpec, Normalization
from .loader import BuiltModel
from .onnx_chain import join_files, split_chain
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
TOKEN_TYPES = ("INT32", "INT64")
MASK_TYPES = (*TOKEN_TYPES, "FLOAT", "BOOL")
FLOAT_INPUTS = ("FLOAT", "FLOAT16", "DOUBLE")
"""Types of inputs that float32 items are converted to."""
INTEGER_INPUTS = ("UINT8", "INT8", "UINT16", "INT16", "INT32", "INT64")
"""Types of inputs that pixels are converted to."""
RAW_PIXELS = Normalization(mean=(0.0,) * 3, std=(1 / 255,) * 3)
"""The normalisation that leaves pixels as numbers from 0 to 255."""
SMALLEST_SHARE_OF_BYTE = 4
"""Number of values of ONNX's smallest type, of 2 bits, in a byte."""
TOPWORK_KEY = "topwork"
"""Key of the metadata of graphs that topwork exported."""


SAMPLE_AXES = (2, 3)
"""Numbers of axes of an input of sounds: (batch, samples), or (batch, channels, samples)."""


@dataclass(frozen=True)
class OnnxInput:
    """One input of an ONNX model: ONNX's name of its type, such as "FLOAT", and its axes, None where a size is free."""

    name: str
    type: str
    axes: tuple[int | None, ...]

    @property
    def has_channels_last(self) -> bool:
        """Whether its axes are those of images (batch, height, width, 3), and not (batch, 3, height, width)."""
        return len(self.axes) == 4 and self.axes[3] == 3 and self.axes[1] != 3

    def __str__(self) -> str:
        """Name the input, its type and its axes."""
        axes = ", ".join("free" if size is None else str(size) for size in self.axes)
        return f"{self.name} ({self.type}) of shape ({axes})"


@dataclass(frozen=True)
class StatedInput:
    """What a file states about its input; the fields are those of :class:`topwork.models.loader.BuiltModel`."""

    spec: InputSpec | None = None
    unknown: tuple[str, ...] = ()
    complaint: str = ""
    note: str = ""
    sample_axes: tuple[int | None, ...] = ()


def build(name: str, *, pretrained: bool, model_args: dict[str, Any]) -> BuiltModel:
    """Read the inputs of an ONNX file; weights and architecture are in it, so neither can be chosen.

    Raise an InputError if the file is absent, damaged or made by topwork, or its inputs are not those of a backbone.
    """
    if not pretrained:
        raise InputError(f"onnx:{name} contains its weights; expected no weights=. Export the model with others.")
    files = split_chain(name)
    weights_digest = ""
    if len(files) > 1:
        path, weights_digest = join_files(files, [read_model(file) for file in files], model_args)
    elif model_args:
        raise InputError(f"onnx:{name} takes no arguments, but got {sorted(model_args)}: its architecture is fixed")
    else:
        path = files[0]
    model = read_model(path)
    inputs = read_inputs(model)
    stated = read_input_spec(path, inputs)
    return BuiltModel(
        path,
        stated.spec,
        tolerance=choose_tolerance(model, inputs),
        architecture="onnx",
        weights_digest=weights_digest,
        arguments=digest_external_data(path, model),
        unknown=stated.unknown,
        complaint=stated.complaint,
        note=stated.note,
        sample_axes=stated.sample_axes,
    )


def read_model(path: Path) -> Any:
    """Read an ONNX model, without the weights that lie in other files.

    Raise an InputError if the file is absent, damaged, empty or made by topwork, or names weights elsewhere.
    """
    import onnx

    if not path.is_file():
        raise InputError(f"{path} does not exist; expected an ONNX file")
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:
        raise InputError(f"{path} is not an ONNX file: {reason(error)}; expected an exported model") from error
    if not model.graph.node or not model.graph.output:
        raise InputError(f"{path} is not an ONNX file with a model in it: it has no operations")
    if any(entry.key == TOPWORK_KEY for entry in model.metadata_props):
        raise InputError(
            f"{path} is a graph that topwork exported, and cannot be cut again. "
            f"Pass ExportedGraph(Path('{path}')) as an Extractor's backbone, or export the model anew."
        )
    check_names(path, model.graph)
    for tensor in iterate_tensors(model.graph):
        check_tensor(path, tensor)
    return model


def check_names(path: Path, graph: Any) -> None:
    """Raise an InputError for a name that is no text: protobuf returns it as bytes."""
    names = [part.name for part in (*graph.node, *graph.initializer, *graph.input, *graph.output)]
    for node in graph.node:
        names += [node.op_type, node.domain, *node.input, *node.output]
    for name in names:
        if not isinstance(name, str):
            raise InputError(f"{path} has a name {name!r}; expected names in UTF-8. Export the model again.")


def check_tensor(path: Path, tensor: Any) -> None:
    """Raise an InputError for a weight of no known type or size, or whose place is not in a file below the folder."""
    import onnx
    from onnx.external_data_helper import uses_external_data

    if tensor.data_type not in onnx.helper.get_all_tensor_dtypes():
        raise damaged_weight_error(path, tensor, f"a type {tensor.data_type} that ONNX does not have")
    if any(size < 0 for size in tensor.dims):
        raise damaged_weight_error(path, tensor, f"the sizes {list(tensor.dims)}")
    if uses_external_data(tensor):
        check_place(path, tensor)


def check_place(path: Path, tensor: Any) -> None:
    """Raise an InputError if the place of a weight is not in a file below the folder of the model."""
    place = {entry.key: entry.value for entry in tensor.external_data}
    location = PurePosixPath(place.get("location", ""))
    if location.is_absolute() or ".." in location.parts or not location.name:
        raise damaged_weight_error(path, tensor, f"the place {str(location)!r} outside the folder of the model")
    file = path.parent / location
    if not file.is_file():
        raise InputError(f"{path} keeps its weights in {location}, which is missing in the same folder")
    try:
        offset = int(place.get("offset", 0))
        length = int(place.get("length", 0))
    except ValueError as error:
        raise damaged_weight_error(path, tensor, f"the place {place}") from error
    if min(offset, length) < 0 or offset + max(length, count_content(tensor)) > file.stat().st_size:
        raise damaged_weight_error(
            path, tensor, f"the place {place} beyond the {file.stat().st_size:,} bytes of the file"
        )


def count_content(tensor: Any) -> int:
    """Return the least number of bytes that the content of a weight has; types of 4 bits have two values in each."""
    import onnx

    if tensor.data_type == onnx.TensorProto.STRING:
        return 0
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    n_bytes: int = math.prod(tensor.dims) * dtype.itemsize
    return n_bytes // SMALLEST_SHARE_OF_BYTE if dtype.itemsize == 1 else n_bytes


def damaged_weight_error(path: Path, tensor: Any, found: str) -> InputError:
    """Return the error of a weight that has something it cannot have."""
    return InputError(
        f"the weight {tensor.name!r} of {path} has {found}; expected a weight in the file or in one of its folder. "
        "Export the model again."
    )


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


def read_input_spec(path: Path, inputs: Sequence[OnnxInput]) -> StatedInput:
    """Return what the inputs state; raise an InputError for texts with other inputs than tokens and segments."""
    names = {port.name for port in inputs}
    if names.issuperset(TEXT_INPUTS):
        check_text_inputs(path, inputs, TEXT_INPUTS)
        return StatedInput(find_tokenizer(path))
    if TEXT_INPUTS[0] in names:
        return describe_unmasked_texts(path, inputs)
    if len(inputs) != 1 or inputs[0].type not in (*FLOAT_INPUTS, *INTEGER_INPUTS):
        return StatedInput(complaint=explain_inputs(path, inputs))
    (port,) = inputs
    if len(port.axes) == 4 and (port.axes[1] == 3 or port.has_channels_last):
        return describe_images(port)
    if port.type in INTEGER_INPUTS:
        return StatedInput(complaint=explain_inputs(path, inputs))
    return describe_tensor(path, port)


def explain_inputs(path: Path, inputs: Sequence[OnnxInput]) -> str:
    """Return the error of inputs that no specification describes."""
    described = ", ".join(str(port) for port in inputs)
    return (
        f"{path} has the inputs {described}; expected images of 3 channels, one tensor of floats, or "
        f"{' and '.join(TEXT_INPUTS)}. Export the model with such inputs, or pass input_spec= if their names differ."
    )


def check_text_inputs(path: Path, inputs: Sequence[OnnxInput], names: Sequence[str]) -> None:
    """Raise an InputError for inputs other than tokens, a mask and segments, and for a fixed number of tokens.

    The tokens and the mask, if there is one, have the names.
    """
    for port in inputs:
        types = MASK_TYPES if port.name in names[1:] else TOKEN_TYPES
        is_segment = any(part in port.name for part in SEGMENT_INPUTS)
        if port.type not in types or not (port.name in names or is_segment):
            raise InputError(
                f"{path} has an input {port.name} ({port.type}), which topwork cannot fill; expected "
                f"{', '.join(names)}, token_type_ids of {' or '.join(TOKEN_TYPES)}. Export the model without it."
            )
        if len(port.axes) == 2 and port.axes[1] is not None:
            raise InputError(
                f"{path} takes texts of exactly {port.axes[1]} tokens; expected any number, as batches are padded to "
                "their longest text. Export the model with a free second axis."
            )


def describe_images(port: OnnxInput) -> StatedInput:
    """Return the preprocessing that an input of images states: their size; uint8 pixels are not normalised."""
    height, width = port.axes[1:3] if port.has_channels_last else port.axes[2:4]
    has_size = height is not None and width is not None
    size = (height, width) if height is not None and width is not None else PROVISIONAL_SIZE
    spec = ImageSpec(size=size, resize=round(min(size) / DEFAULT_CROP))
    unknown = () if has_size else ("size",)
    if port.type == "UINT8":
        return StatedInput(replace(spec, mean=RAW_PIXELS.mean, std=RAW_PIXELS.std), unknown)
    return StatedInput(spec, ("mean", "std", *unknown))


def describe_tensor(path: Path, port: OnnxInput) -> StatedInput:
    """Return the specification of an input of floats, unless some of its sizes are free."""
    note = f"{port} takes arrays, as images have 3 channels: (batch, 3, height, width) or (batch, height, width, 3)"
    sample_axes = port.axes[1:] if len(port.axes) in SAMPLE_AXES else ()
    shape = [size for size in port.axes[1:] if size is not None]
    if shape and len(shape) == len(port.axes) - 1:
        return StatedInput(TensorSpec(tuple(shape)), note=note, sample_axes=sample_axes)
    return StatedInput(
        complaint=f"{path} has the input {port}, whose free sizes must be fixed; pass input_spec=TensorSpec((…)) with "
        "the sizes of one item, input_spec=ImageSpec(…) if it takes images of 3 channels, or rate= and window= "
        "(--rate, --window) if it takes sounds",
        sample_axes=sample_axes,
    )


def describe_unmasked_texts(path: Path, inputs: Sequence[OnnxInput]) -> StatedInput:
    """Return the tokeniser of a model without an attention mask, if it states the length to which texts are padded."""
    names = TEXT_INPUTS[:1]
    try:
        check_text_inputs(path, inputs, names)
    except InputError as error:
        return StatedInput(complaint=str(error))
    spec = find_tokenizer(path)
    length = None if spec is None else find_fixed_length(spec.tokenizer)
    if spec is not None and length is not None:
        return StatedInput(replace(spec, inputs=names, padding="max_length", max_length=length))
    return StatedInput(
        complaint=f"{path} takes no {TEXT_INPUTS[1]}: the padding of a batch would change the features of its texts, "
        "and no tokenizer.json beside it states a fixed length. Pass input_spec=TextSpec.from_file('tokenizer.json', "
        "max_length=…, inputs=('input_ids',), padding='max_length') with the length that the model was trained on"
    )


def find_fixed_length(tokenizer: str) -> int | None:
    """Return the length to which a ``tokenizer.json`` pads every text, None if it states none."""
    padding = json.loads(tokenizer).get("padding") or {}
    strategy = padding.get("strategy")
    return int(strategy["Fixed"]) if isinstance(strategy, dict) else None


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


def choose_tolerance(model: Any, inputs: Sequence[OnnxInput]) -> float:
    """Return the largest error of a cut; adjacent half-precision numbers differ by 1e-3, and quantised ones by more."""
    import onnx

    types = {tensor.data_type for tensor in model.graph.initializer}
    is_half = onnx.TensorProto.FLOAT16 in types or any(port.type == "FLOAT16" for port in inputs)
    if is_quantized(model):
        return QUANTIZED_TOLERANCE
    return LARGEST_TOLERANCE if is_half else DEFAULT_TOLERANCE


def is_quantized(model: Any) -> bool:
    """Return whether an ONNX model computes with quantised numbers."""
    return any(is_quantizing(node.op_type) for node in model.graph.node)


def is_quantizing(operation: str) -> bool:
    """Return whether an operation makes or reads quantised numbers, such as QuantizeLinear, QGemm, MatMulInteger."""
    return "Quantize" in operation or operation.startswith(("QLinear", "QGemm")) or "Integer" in operation


def digest_external_data(path: Path, model: Any) -> dict[str, Any]:
    """Return the digests of the files that hold a model's weights outside of it, as they decide its features."""
    from onnx.external_data_helper import uses_external_data

    names: set[str] = set()
    for tensor in iterate_tensors(model.graph):
        if uses_external_data(tensor):
            names.update(entry.value for entry in tensor.external_data if entry.key == "location")
    return {f"data:{name}": digest_of_file(path.parent / name) for name in sorted(names)}


def iterate_tensors(graph: Any) -> Iterator[Any]:
    """Yield the weights of a graph and of those inside its operations, and the constants of operations."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            inner_graphs = [attribute.g, *attribute.graphs] if attribute.HasField("g") else attribute.graphs
            for inner in inner_graphs:
                yield from iterate_tensors(inner)
