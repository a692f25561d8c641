"""Files of ONNX models, with the weights of large ones in a file beside them.

A message of protocol buffers holds at most 2 GiB (https://protobuf.dev/programming-guides/proto-limits/). The weights
of larger models are external data of ONNX: ``graph.onnx`` names ``graph.weights``, and says where in it each weight
begins. The metadata of the graph hold the digest of that file.

In memory, an ``onnx.ModelProto`` names such files by their absolute paths: no weight is read before it is needed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ...atomic import new_file, write_file
from ...errors import WeightsError, reason
from ...identity import digest_of_file

MAX_EMBEDDED_BYTES = 1536 * 2**20
"""Models with more bytes of weights keep them beside the ONNX file: operations need space in the message, too."""
MIN_OUTSIDE_BYTES = 1024
"""Smaller weights stay in the ONNX file, where shapes are inferred from them."""
ALIGNMENT = 4096
"""Weights begin at multiples of this number of bytes, the size of a memory page."""
BYTES_PER_WRITE = 64 * 2**20
CONTENT_FIELDS = ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data")
"""Fields of ``onnx.TensorProto``, one of which holds its content."""
WEIGHTS_KEY = "topwork.weights"
"""Entry of a graph's metadata: size and digest of the file of its weights."""
WEIGHTS_SUFFIX = ".weights"


def find_weights(path: Path, entries: Mapping[str, str]) -> Path | None:
    """Return where the weights of a graph with these metadata are, None if they are in the ONNX file."""
    if WEIGHTS_KEY not in entries:
        return None
    return path.with_name(json.loads(entries[WEIGHTS_KEY])["file"])


def check_weights(path: Path, entries: Mapping[str, str]) -> None:
    """Raise a WeightsError if the weights beside a graph with these metadata are missing or were changed."""
    weights = find_weights(path, entries)
    if weights is None:
        return
    expected = json.loads(entries[WEIGHTS_KEY])
    remedy = (
        f"Copy {path.name} and {weights.name} from where they were made; of a store or a bundle, restore them from a "
        f"copy; of the cache of graphs, remove the folder {path.parent}."
    )
    if not weights.is_file():
        raise WeightsError(f"{weights} is missing; expected it beside {path.name}, whose weights it holds. {remedy}")
    state = weights.stat()
    if state.st_size != expected["size"]:
        raise WeightsError(f"{weights} has {state.st_size:,} bytes; expected {expected['size']:,}. {remedy}")
    if _digest_unchanged_file(weights, state.st_size, state.st_mtime_ns) != expected["sha256"]:
        raise WeightsError(f"{weights} was changed: expected the weights that {path.name} was made with. {remedy}")


@lru_cache(maxsize=64)
def _digest_unchanged_file(path: Path, size: int, modified: int) -> str:
    """Return the digest of a file, which is read once while its size and time of change stay the same."""
    return digest_of_file(path)


def load_model(path: Path) -> Any:
    """Read an ``onnx.ModelProto``; if its weights are large, those beside the file stay there.

    Raise a WeightsError if they are missing or were changed.
    """
    import onnx

    model = onnx.load(path, load_external_data=False)
    check_weights(path, {entry.key: entry.value for entry in model.metadata_props})
    if not is_large(model):
        try:
            onnx.load_external_data_for_model(model, str(path.parent))
        except (OSError, ValueError, onnx.checker.ValidationError) as error:
            raise WeightsError(
                f"the weights of {path} cannot be read: {reason(error)}; expected them in its folder. Copy it again."
            ) from error
        return model
    for tensor in model.graph.initializer:
        if is_outside(tensor):
            _set_place(tensor, {**_get_place(tensor), "location": _find_file(path, tensor)})
    return model


def _find_file(path: Path, tensor: Any) -> str:
    """Return the absolute path of the file with a weight of an ONNX file; raise a WeightsError for one elsewhere."""
    folder = path.absolute().parent
    file = folder / _get_place(tensor)["location"]
    if not file.resolve().is_relative_to(folder.resolve()) or not file.is_file():
        raise WeightsError(f"{path} keeps weights in {file}; expected a file in the folder of {path.name}")
    return str(file)


def save_model(model: Any, path: Path) -> None:
    """Write an ``onnx.ModelProto``, first the weights beside it if they are large; the model refers to them afterwards.

    Weights that are in one file of the same folder already stay there.
    """
    entries = [entry for entry in model.metadata_props if entry.key != WEIGHTS_KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(entries)
    if is_large(model):
        place_weights(model, path.absolute())
    else:
        embed_weights(model)
    write_file(path, model.SerializeToString())


def place_weights(model: Any, path: Path) -> None:
    """Let a large ``onnx.ModelProto`` refer to weights beside the file that it will be; write them if they are not."""
    tensors = [tensor for tensor in model.graph.initializer if count_bytes(tensor) >= MIN_OUTSIDE_BYTES]
    files = {_get_place(tensor).get("location", "") for tensor in tensors}
    weights = Path(next(iter(files)))
    if len(files) > 1 or weights.parent != path.parent:
        weights = path.with_suffix(WEIGHTS_SUFFIX)
        write_weights(weights, tensors)
    entry = {"file": weights.name, "size": weights.stat().st_size, "sha256": digest_of_file(weights)}
    model.metadata_props.add(key=WEIGHTS_KEY, value=json.dumps(entry))
    for tensor in tensors:
        _set_place(tensor, {**_get_place(tensor), "location": weights.name})


def write_weights(path: Path, tensors: Sequence[Any]) -> None:
    """Write tensors (``onnx.TensorProto``) into a file, and let them refer to it."""
    places = []
    with new_file(path, replace=True) as temporary, temporary.open("xb") as stream:
        for tensor in tensors:
            places.append(write_bytes(stream, read_bytes(tensor)))
    for tensor, (offset, length) in zip(tensors, places, strict=True):
        for field in CONTENT_FIELDS:
            tensor.ClearField(field)
        _set_place(tensor, {"location": str(path.absolute()), "offset": str(offset), "length": str(length)})


def write_bytes(stream: IO[bytes], content: NDArray[np.uint8]) -> tuple[int, int]:
    """Append the bytes of a weight to a file, without copying them; return their offset and their number."""
    stream.write(b"\0" * (-stream.tell() % ALIGNMENT))
    offset = stream.tell()
    for start in range(0, len(content), BYTES_PER_WRITE):
        stream.write(content[start : start + BYTES_PER_WRITE].data)
    return offset, len(content)


def read_bytes(tensor: Any) -> NDArray[np.uint8]:
    """Return the bytes of an ``onnx.TensorProto``; those in a file are mapped into memory, not read."""
    import onnx

    if is_outside(tensor):
        place = _get_place(tensor)
        offset = int(place.get("offset", 0))
        return np.memmap(place["location"], np.uint8, mode="r", offset=offset, shape=(count_bytes(tensor),))
    if tensor.HasField("raw_data"):
        return np.frombuffer(tensor.raw_data, np.uint8)
    return np.frombuffer(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor)).raw_data, np.uint8)


def read_array(tensor: Any) -> NDArray[Any]:
    """Return the content of an ``onnx.TensorProto``."""
    import onnx

    if not is_outside(tensor):
        return np.asarray(onnx.numpy_helper.to_array(tensor))
    content = read_bytes(tensor)
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
    if len(content) == math.prod(tensor.dims) * dtype.itemsize:
        array: NDArray[Any] = content.view(dtype).reshape(tuple(tensor.dims))
        return array
    packed = onnx.TensorProto(dims=tensor.dims, data_type=tensor.data_type, raw_data=content.tobytes())
    return np.asarray(onnx.numpy_helper.to_array(packed))


def embed_weights(model: Any) -> None:
    """Read the weights that are outside of an ``onnx.ModelProto`` into it."""
    for tensor in model.graph.initializer:
        if is_outside(tensor):
            tensor.raw_data = read_bytes(tensor).tobytes()
            tensor.ClearField("data_location")
            del tensor.external_data[:]


def is_large(model: Any) -> bool:
    """Return whether the weights of an ``onnx.ModelProto`` are kept beside its file."""
    return has_large_weights(map(count_bytes, model.graph.initializer))


def has_large_weights(sizes: Iterable[int]) -> bool:
    """Return whether weights of these numbers of bytes are kept beside the file."""
    return sum(sizes) > MAX_EMBEDDED_BYTES


def count_bytes(tensor: Any) -> int:
    """Return the number of bytes of an ``onnx.TensorProto``."""
    import onnx

    if tensor.data_type == onnx.TensorProto.STRING:
        return 0  # strings stay in the file
    place = _get_place(tensor)
    if "length" in place:
        return int(place["length"])
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
    size: int = math.prod(tensor.dims) * dtype.itemsize
    return size


def is_outside(tensor: Any) -> bool:
    """Return whether the content of an ``onnx.TensorProto`` is in another file."""
    return bool(tensor.data_location == type(tensor).EXTERNAL)


def _get_place(tensor: Any) -> dict[str, str]:
    """Return where the content of a tensor is: ``location``, ``offset`` and ``length``; empty if it is inside."""
    return {entry.key: entry.value for entry in tensor.external_data}


def _set_place(tensor: Any, place: Mapping[str, str]) -> None:
    """Let a tensor refer to a place in another file."""
    tensor.data_location = type(tensor).EXTERNAL
    del tensor.external_data[:]
    for key, value in place.items():
        tensor.external_data.add(key=key, value=value)
