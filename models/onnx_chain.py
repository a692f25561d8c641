"""``onnx:a.onnx+b.onnx``: files of which each computes from the output of the one before, as one file.

Networks for sound are often shipped so: one file makes spectrograms, another one embeds them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..atomic import write_file
from ..errors import InputError, reason
from ..identity import digest, digest_of_file
from ..user_cache import prepare_folder, user_cache_folder

SEPARATOR = "+"
CHAINS = "chains"
"""Folder of the cache for joined files."""
SCALE, OFFSET = "scale", "offset"
"""Arguments of a chain: what passes from one file to the next is multiplied by one, and the other is added."""
JOINED = "joined"


def split_chain(name: str) -> list[Path]:
    """Return the files that a name states: several joined by ``+``, or one whose own name may contain a ``+``."""
    parts = name.split(SEPARATOR)
    is_chain = len(parts) > 1 and all(part.lower().endswith(".onnx") for part in parts) and not Path(name).exists()
    return [Path(part) for part in parts] if is_chain else [Path(name)]


def join_files(paths: Sequence[Path], models: Sequence[Any], model_args: dict[str, Any]) -> tuple[Path, str]:
    """Write the model that runs some models one after the other into the cache, and return its path and digest.

    The digest is that of the files, their names and the arguments, whatever this version of onnx makes of them.

    The first output of each enters the first input of the next, in the shape that this one states; names in it begin
    with that of their file. Raise an InputError if they do not fit.
    """
    from onnx.external_data_helper import uses_external_data

    scale, offset = read_arguments(model_args)
    for part, model in zip(paths, models, strict=True):
        if any(uses_external_data(tensor) for tensor in model.graph.initializer):
            raise InputError(
                f"{part} keeps its weights in another file, and cannot be joined; expected one file with its weights "
                "(onnx.save with save_as_external_data=False)"
            )
    key = digest([[digest_of_file(path) for path in paths], [path.stem for path in paths], scale, offset])
    path = user_cache_folder() / CHAINS / f"{key[:32]}.onnx"
    content = merge(paths, models, scale, offset).SerializeToString()
    if not path.exists() or path.read_bytes() != content:  # of another version, or damaged
        prepare_folder(path.parent)
        write_file(path, content)
    return path, key


def read_arguments(model_args: dict[str, Any]) -> tuple[float, float]:
    """Return scale and offset; raise an InputError for other arguments, and for what is no number."""
    unknown = sorted(set(model_args) - {SCALE, OFFSET})
    if unknown:
        raise InputError(
            f"a chain of ONNX files takes the arguments {SCALE} and {OFFSET}, but got {', '.join(unknown)}"
        )
    try:
        return float(model_args.get(SCALE, 1.0)), float(model_args.get(OFFSET, 0.0))
    except (TypeError, ValueError) as error:
        raise InputError(f"model_args={model_args}: expected numbers") from error


def merge(paths: Sequence[Path], models: Sequence[Any], scale: float, offset: float) -> Any:
    """Return one ``onnx.ModelProto``."""
    import onnx
    from onnx import compose, version_converter

    opset = max(version_of(model) for model in models)
    ir_version = max(model.ir_version for model in models)
    try:
        merged = None
        for path, model in zip(paths, models, strict=True):
            part = model if version_of(model) == opset else version_converter.convert_version(model, opset)
            part = compose.add_prefix(part, f"{path.stem}/")
            part.ir_version = ir_version
            if merged is None:
                merged = part
                continue
            passed = append_passing(merged, part, scale, offset)
            merged = compose.merge_models(merged, part, io_map=[(passed, part.graph.input[0].name)])
        assert merged is not None
        onnx.checker.check_model(merged)
    except InputError:
        raise
    except Exception as error:  # onnx's checks have errors of their own
        names = SEPARATOR.join(str(path) for path in paths)
        raise InputError(f"onnx:{names} cannot be joined: {reason(error)}") from error
    return merged


def version_of(model: Any) -> int:
    """Return the version of ONNX's own operations in a model."""
    return max(int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx"))


def append_passing(model: Any, following: Any, scale: float, offset: float) -> str:
    """Append to a model what brings its first output into the shape of the next one's input, as its only output.

    Return its name. Raise an InputError if the next model does not state the shape of its items.
    """
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    name = graph.output[0].name
    if graph.output[0].type.tensor_type.elem_type != TensorProto.FLOAT:
        raise InputError(f"the output {name} is not float32; expected an output that the next file can take")
    port = following.graph.input[0]
    sizes = [axis.dim_value for axis in port.type.tensor_type.shape.dim][1:]
    if not sizes or not all(sizes):
        raise InputError(
            f"{port.name} has free sizes behind the batch: expected a file that states the shape of its items, so that "
            "the output of the one before can be brought into it"
        )
    for operation, number in (("Mul", scale), ("Add", offset)):
        constant = f"{JOINED}/{name}/{operation}"
        graph.initializer.append(numpy_helper.from_array(np.float32(number).reshape(1), f"{constant}/number"))
        graph.node.append(helper.make_node(operation, [name, f"{constant}/number"], [constant], name=constant))
        name = constant
    shape = f"{JOINED}/shape/{port.name}"
    graph.initializer.append(numpy_helper.from_array(np.array([0, *sizes], np.int64), shape))
    joined = f"{JOINED}/{port.name}"
    graph.node.append(helper.make_node("Reshape", [name, shape], [joined], name=joined))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(joined, TensorProto.FLOAT, ["batch", *sizes]))
    return joined
