"""Heads as files that hold numbers and names only: skops for scikit-learn's, safetensors beside JSON for ours."""

from __future__ import annotations

import io
import json
import warnings
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BundleError
from .saved_types import SAVED_TYPES, SKLEARN_TYPES, SavedType, find_saved_type, saved_type_of

SKOPS, JSON, TENSORS = "head.skops", "head.json", "head.safetensors"
HEAD_FORMAT = 2
"""Version of ``head.json``; version 1 named the type by the path of its module."""
OWN_MODULE = "topwork"
"""Module under which a skops file has the ids of types of ours."""
SKOPS_SCHEMA = "schema.json"
"""Member of a skops file that names the types."""
UNREADABLE = (
    *(zipfile.BadZipFile, zlib.error, EOFError, RuntimeError),
    *(AttributeError, IndexError, KeyError, TypeError, ValueError),
)
"""What skops raises for a file that is damaged."""


def save_head(head: Any, folder: Path) -> list[str]:
    """Write a fitted head, and return the types that whoever loads it must trust, those of topwork left out.

    Parameters
    ----------
    head : estimator
    folder : Path
        Gets ``head.json`` and ``head.safetensors`` for heads of ours, ``head.skops`` for all others.
    """
    kind = saved_type_of(head)
    if kind is not None and kind.is_plain:
        _save_plain(head, kind, folder)
        return []
    import skops.io

    content = skops.io.dumps(head)
    unknown = set(skops.io.get_untrusted_types(data=content))
    (folder / SKOPS).write_bytes(_with_renamed_types(content, {each.path: each.id for each in SAVED_TYPES}))
    return sorted(unknown - {*SKLEARN_TYPES, *(each.path for each in SAVED_TYPES)})


def is_plain(head: Any) -> bool:
    """Tell whether a head is one of ours whose attributes are numbers, names and arrays."""
    kind = saved_type_of(head)
    return kind is not None and kind.is_plain


def head_files(names: Any) -> tuple[str, ...]:
    """Return which of a bundle's files are its head; none if it has no whole one.

    Parameters
    ----------
    names : container of str
    """
    return next((files for files in ((SKOPS,), (JSON, TENSORS)) if all(file in names for file in files)), ())


def load_head(folder: Path, trusted: Sequence[str] = ()) -> Any:
    """Read a head; nothing is unpickled.

    Parameters
    ----------
    folder : Path
    trusted : sequence of str
        Types that the file may hold beyond those of scikit-learn, numpy and scipy that are known to be safe.

    Raises
    ------
    BundleError
        If a file cannot be read, or holds a type that is not trusted.
    """
    return _load_skops(folder / SKOPS, trusted) if (folder / SKOPS).is_file() else _load_plain(folder)


def _load_skops(file: Path, trusted: Sequence[str]) -> Any:
    import skops.io

    own_paths = {each.path for each in SAVED_TYPES}
    allowed = {*own_paths, *SKLEARN_TYPES, *trusted}
    try:
        content = _with_renamed_types(file.read_bytes(), _current_paths())
        unknown = sorted(set(skops.io.get_untrusted_types(data=content)) - allowed)
    except UNREADABLE as error:
        raise _unreadable(file, error) from error
    if unknown:
        raise BundleError(
            f"{file} holds types that are not trusted: {', '.join(unknown)}. If you trust whoever made the bundle, "
            f"load it with trusted={unknown!r} (--trust NAME)."
        )
    try:
        return skops.io.loads(content, trusted=sorted(allowed))
    except UNREADABLE as error:
        raise _unreadable(file, error) from error


def _current_paths() -> dict[str, str]:
    """Return the path of each type of ours, by the names that skops files have for it."""
    current_paths = {}
    for each in SAVED_TYPES:
        for module in each.former_modules:
            current_paths[f"{module}.{each.name}"] = each.path
        current_paths[f"{OWN_MODULE}.{each.id}"] = each.path
    return current_paths


def _with_renamed_types(archive: bytes, names: Mapping[str, str]) -> bytes:
    """Return a skops file in which some types have other names.

    Parameters
    ----------
    archive : bytes
    names : mapping of str to str
        Dotted paths of types, and their new names: an id, which stands for a name in the module ``topwork``, or a path.
    """
    with zipfile.ZipFile(io.BytesIO(archive)) as old:
        members = {name: old.read(name) for name in old.namelist()}
    schema = json.loads(members[SKOPS_SCHEMA])
    _rename_types(schema, names)
    members[SKOPS_SCHEMA] = json.dumps(schema).encode()
    renamed = io.BytesIO()
    with zipfile.ZipFile(renamed, "w") as new:
        for name, content in members.items():
            new.writestr(name, content)
    return renamed.getvalue()


def _rename_types(node: Any, names: Mapping[str, str]) -> None:
    """Rename types in place, in a node of a skops schema and below."""
    if isinstance(node, list):
        for each in node:
            _rename_types(each, names)
    if not isinstance(node, dict):
        return
    path = f"{node.get('__module__')}.{node.get('__class__')}"
    if path in names:
        module, _, name = names[path].rpartition(".")
        node["__module__"] = module or OWN_MODULE
        node["__class__"] = name
    for each in node.values():
        _rename_types(each, names)


def _save_plain(head: Any, kind: SavedType, folder: Path) -> None:
    from safetensors.numpy import save_file

    arrays: dict[str, NDArray[Any]] = {}
    known = head.get_params(deep=False)
    state = {name: value for name, value in vars(head).items() if name not in known and not name.startswith("_")}
    content = {
        "format": HEAD_FORMAT,
        "type": kind.id,
        "params": _saved_parameters(known, arrays),
        "state": {name: _encoded(value, name, arrays) for name, value in state.items()},
    }
    (folder / JSON).write_text(json.dumps(content, indent=1), "utf-8")
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / TENSORS)


def _saved_parameters(parameters: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """Return the parameters that can be written; others are for fitting only, and go back to their defaults."""
    saved = {}
    for name, value in parameters.items():
        try:
            saved[name] = _encoded(value, f"params.{name}", arrays)
        except BundleError:
            warnings.warn(
                f"{name}={value!r} cannot be written to a file and will have its default again; the fitted head is "
                "whole",
                stacklevel=6,
            )
    return saved


def _encoded(value: Any, name: str, arrays: dict[str, NDArray[Any]]) -> Any:
    """Return what JSON can hold; arrays of numbers go aside, and are named."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_encoded(each, f"{name}.{place}", arrays) for place, each in enumerate(value)]}
    if isinstance(value, dict):
        pairs = [[_encoded(key, name, arrays), _encoded(each, f"{name}.{key}", arrays)] for key, each in value.items()]
        return {"dict": pairs}
    if isinstance(value, np.ndarray):
        if value.dtype.kind in "biuf":
            arrays[name] = value
            return {"tensor": name}
        return {"array": _encoded(value.tolist(), name, arrays), "dtype": value.dtype.str}
    raise BundleError(f"{name} is a {type(value).__name__}, which {JSON} cannot hold")


def _load_plain(folder: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        content = json.loads((folder / JSON).read_text("utf-8"))
        found = content["format"]
        name = content["type"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _unreadable(folder / JSON, error) from error
    if found not in (1, HEAD_FORMAT):
        raise BundleError(
            f"{folder / JSON} has format {found}, expected {HEAD_FORMAT}: another version of topwork wrote it"
        )
    kind = find_saved_type(name) if isinstance(name, str) else None
    if kind is None or not kind.is_plain:
        plain_ids = [each.id for each in SAVED_TYPES if each.is_plain]
        raise BundleError(
            f"{folder / JSON} holds a {name}, which is not trusted; expected one of {', '.join(plain_ids)}"
        )
    try:
        arrays = load_file(folder / TENSORS)
        parts = [{name: _decoded(each, arrays) for name, each in content[key].items()} for key in ("params", "state")]
        head = kind.load()(**parts[0])
        for attribute, value in parts[1].items():
            if attribute.startswith("_"):
                raise ValueError(f"an attribute {attribute!r}")
            setattr(head, attribute, value)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, SafetensorError) as error:
        raise _unreadable(folder / JSON, error) from error
    return head


def _unreadable(file: Path, error: Exception) -> BundleError:
    return BundleError(f"{file} cannot be read: {error!r}. Save the bundle again.")


def _decoded(value: Any, arrays: dict[str, NDArray[Any]]) -> Any:
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return arrays[value["tensor"]]
    if "array" in value:
        return np.array(_decoded(value["array"], arrays), dtype=np.dtype(value["dtype"]))
    if "dict" in value:
        return {_decoded(key, arrays): _decoded(each, arrays) for key, each in value["dict"]}
    kind = "tuple" if "tuple" in value else "list"
    found = [_decoded(each, arrays) for each in value[kind]]
    return tuple(found) if kind == "tuple" else found
