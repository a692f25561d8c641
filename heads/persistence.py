"""Heads as files without pickle: skops for scikit-learn's, JSON and safetensors for topwork's own."""

from __future__ import annotations

import io
import json
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import MALFORMED, BundleError, warn_caller
from .saved_types import SAVED_TYPES, SKLEARN_TYPES, SavedType, find_saved_type, get_saved_type

SKOPS = "head.skops"
JSON = "head.json"
TENSORS = "head.safetensors"
HEAD_FORMAT = 2
"""Version of ``head.json``."""
READABLE_FORMATS = (1, HEAD_FORMAT)
"""Version 1 named the type by the path of its module."""
OWN_MODULE = "topwork"
"""Module under which a skops file has the ids of topwork's types."""
SKOPS_SCHEMA = "schema.json"
"""Member of a skops file that names the types."""
UNREADABLE = (
    *(zipfile.BadZipFile, zlib.error, EOFError, RuntimeError),
    *(tokenize.TokenError, SyntaxError, struct.error),
    *MALFORMED,
)
"""What skops raises for a file that is damaged."""


def save_head(head: Any, folder: Path) -> list[str]:
    """Write a fitted head, and return the types that callers of :func:`load_head` must trust.

    Topwork's own heads are ``head.json`` and ``head.safetensors``, all others ``head.skops``. Types of topwork need no
    trust.
    """
    kind = get_saved_type(head)
    if kind is not None and kind.is_plain:
        save_plain(head, kind, folder)
        return []
    import skops.io

    content = skops.io.dumps(head)
    id_of_path = {saved_type.path: saved_type.id for saved_type in SAVED_TYPES}
    (folder / SKOPS).write_bytes(rename_skops_types(content, id_of_path))
    untrusted = set(skops.io.get_untrusted_types(data=content))
    return sorted(untrusted - set(id_of_path) - set(SKLEARN_TYPES))


def is_plain(head: Any) -> bool:
    """Check whether a head is one of topwork's own whose attributes are numbers, names and arrays."""
    kind = get_saved_type(head)
    return kind is not None and kind.is_plain


def head_files(names: Any) -> tuple[str, ...]:
    """Return which of a bundle's files are its head; none if it has no whole one."""
    for files in ((SKOPS,), (JSON, TENSORS)):
        if all(file in names for file in files):
            return files
    return ()


def load_head(folder: Path, trusted: Sequence[str] = ()) -> Any:
    """Read a head; nothing is unpickled.

    The file may contain the trusted types in addition to those of scikit-learn, numpy and scipy that are known to be
    safe; any other type is an error, as is a damaged file.
    """
    if (folder / SKOPS).is_file():
        return load_skops(folder / SKOPS, trusted)
    return load_plain(folder)


def load_skops(file: Path, trusted: Sequence[str]) -> Any:
    """Load a head from a skops file; raise a BundleError for types that are not trusted."""
    import skops.io

    own_paths = {each.path for each in SAVED_TYPES}
    allowed = {*own_paths, *SKLEARN_TYPES, *trusted}
    try:
        content = rename_skops_types(file.read_bytes(), find_current_paths())
        untrusted = sorted(set(skops.io.get_untrusted_types(data=content)) - allowed)
    except UNREADABLE as error:
        raise describe_damage(file, error) from error
    if untrusted:
        raise BundleError(
            f"{file} contains types that are not trusted: {', '.join(untrusted)}. If you trust the author of the "
            f"bundle, load it with trusted={untrusted!r} (--trust NAME)."
        )
    try:
        return skops.io.loads(content, trusted=sorted(allowed))
    except UNREADABLE as error:
        raise describe_damage(file, error) from error


def find_current_paths() -> dict[str, str]:
    """Return the path of each type of topwork, by the names that skops files have for it."""
    current_paths = {}
    for each in SAVED_TYPES:
        for module in each.former_modules:
            current_paths[f"{module}.{each.name}"] = each.path
        current_paths[f"{OWN_MODULE}.{each.id}"] = each.path
    return current_paths


def rename_skops_types(archive: bytes, names: Mapping[str, str]) -> bytes:
    """Rename types in a skops file, from dotted paths to other paths, or to ids: names in ``topwork``."""
    with zipfile.ZipFile(io.BytesIO(archive)) as old:
        members = {name: old.read(name) for name in old.namelist()}
    schema = json.loads(members[SKOPS_SCHEMA])
    rename_types(schema, names)
    members[SKOPS_SCHEMA] = json.dumps(schema).encode()
    renamed = io.BytesIO()
    with zipfile.ZipFile(renamed, "w") as new:
        for name, content in members.items():
            new.writestr(name, content)
    return renamed.getvalue()


def rename_types(node: Any, names: Mapping[str, str]) -> None:
    """Rename types in place, in a node of a skops schema and below."""
    if isinstance(node, list):
        for each in node:
            rename_types(each, names)
    if not isinstance(node, dict):
        return
    path = f"{node.get('__module__')}.{node.get('__class__')}"
    if path in names:
        module, _, name = names[path].rpartition(".")
        node["__module__"] = module or OWN_MODULE
        node["__class__"] = name
    for each in node.values():
        rename_types(each, names)


def save_plain(head: Any, saved_type: SavedType, folder: Path) -> None:
    """Save a head's parameters and fitted attributes as JSON, and its arrays as safetensors."""
    from safetensors.numpy import save

    arrays: dict[str, NDArray[Any]] = {}
    parameters = head.get_params(deep=False)
    state = {}
    for name, value in vars(head).items():
        if name not in parameters and not name.startswith("_"):
            state[name] = encode(value, name, arrays)
    content = {
        "format": HEAD_FORMAT,
        "type": saved_type.id,
        "params": encode_parameters(parameters, arrays),
        "state": state,
    }
    (folder / JSON).write_text(json.dumps(content, indent=1), "utf-8")
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    (folder / TENSORS).write_bytes(save(contiguous))  # safetensors' own file has mode 0600, whatever the umask


def encode_parameters(parameters: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """Return the parameters that can be written; others are for fitting only, and are reset to their defaults."""
    encoded = {}
    for name, value in parameters.items():
        try:
            encoded[name] = encode(value, f"params.{name}", arrays)
        except BundleError:
            warn_caller(
                f"{name}={value!r} cannot be written to a file, and will have its default value when the head is "
                "loaded; the fitted head is complete",
            )
    return encoded


def encode(value: Any, name: str, arrays: dict[str, NDArray[Any]]) -> Any:
    """Return a value as JSON can hold it; arrays of numbers are added to `arrays`, and referred to by name."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [encode(element, f"{name}.{number}", arrays) for number, element in enumerate(value)]}
    if isinstance(value, dict):
        pairs = value.items()
        return {"dict": [[encode(key, name, arrays), encode(each, f"{name}.{key}", arrays)] for key, each in pairs]}
    if isinstance(value, np.ndarray):
        return encode_array(value, name, arrays)
    raise BundleError(f"{name} is a {type(value).__name__}, which {JSON} cannot hold")


def encode_array(value: NDArray[Any], name: str, arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """Return a reference to an array of numbers, which is added to `arrays`, or the elements of another."""
    if value.dtype.kind in "biuf":
        arrays[name] = value
        return {"tensor": name}
    return {"array": encode(value.tolist(), name, arrays), "dtype": value.dtype.str}


def load_plain(folder: Path) -> Any:
    """Load what :func:`save_plain` wrote; raise a BundleError if it is damaged or of an unknown type."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    file = folder / JSON
    content = read_description(file)
    saved_type = require_plain_type(content["type"], file)
    try:
        arrays = load_file(folder / TENSORS)
        return restore_head(saved_type, content, arrays)
    except (OSError, SafetensorError, *MALFORMED) as error:
        raise describe_damage(file, error) from error


def read_description(file: Path) -> dict[str, Any]:
    """Read ``head.json``, and check that its format is one that can be read."""
    try:
        content: dict[str, Any] = json.loads(file.read_text("utf-8"))
        found_format = content["format"]
        content["type"]  # without one the file is damaged
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise describe_damage(file, error) from error
    if found_format not in READABLE_FORMATS:
        raise BundleError(
            f"{file} has format {found_format}, expected {HEAD_FORMAT}: another version of topwork wrote it"
        )
    return content


def require_plain_type(name: Any, file: Path) -> SavedType:
    """Return the plain type that a file names; any other is not trusted."""
    saved_type = find_saved_type(name) if isinstance(name, str) else None
    if saved_type is None or not saved_type.is_plain:
        plain_ids = [saved_type.id for saved_type in SAVED_TYPES if saved_type.is_plain]
        raise BundleError(f"{file} contains a {name}, which is not trusted; expected one of {', '.join(plain_ids)}")
    return saved_type


def restore_head(saved_type: SavedType, content: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Any:
    """Make a head of its description and its arrays."""
    parameters = {name: decode(value, arrays) for name, value in content["params"].items()}
    state = {name: decode(value, arrays) for name, value in content["state"].items()}
    head = saved_type.load()(**parameters)
    for attribute, value in state.items():
        if attribute.startswith("_"):
            raise ValueError(f"an attribute {attribute!r}")
        setattr(head, attribute, value)
    return head


def describe_damage(file: Path, error: Exception) -> BundleError:
    """Return the error for a file that cannot be read."""
    return BundleError(f"{file} cannot be read: {error!r}. Save the bundle again.")


def decode(value: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    """Return the value that :func:`encode` was given."""
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return arrays[value["tensor"]]
    if "array" in value:
        return np.array(decode(value["array"], arrays), dtype=np.dtype(value["dtype"]))
    if "dict" in value:
        return {decode(key, arrays): decode(element, arrays) for key, element in value["dict"]}
    if "tuple" in value:
        return tuple(decode(element, arrays) for element in value["tuple"])
    return [decode(element, arrays) for element in value["list"]]
