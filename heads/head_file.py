"""Heads as files that hold numbers and names only: skops for scikit-learn's, safetensors beside JSON for ours."""

from __future__ import annotations

import importlib
import json
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BundleError
from .registry import OWN_TYPES, PLAIN_TYPES, SKLEARN_TYPES

SKOPS, JSON, TENSORS = "head.skops", "head.json", "head.safetensors"
FORMAT = 1
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
    if is_plain(head):
        _save_plain(head, folder)
        return []
    import skops.io

    skops.io.dump(head, folder / SKOPS)
    return sorted(set(skops.io.get_untrusted_types(file=folder / SKOPS)) - {*OWN_TYPES, *SKLEARN_TYPES})


def is_plain(head: Any) -> bool:
    """Tell whether a head is one of ours whose attributes are numbers, names and arrays."""
    return _name_of(type(head)) in PLAIN_TYPES


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

    allowed = {*OWN_TYPES, *SKLEARN_TYPES, *trusted}
    try:
        unknown = sorted(set(skops.io.get_untrusted_types(file=file)) - allowed)
    except UNREADABLE as error:
        raise _unreadable(file, error) from error
    if unknown:
        raise BundleError(
            f"{file} holds types that are not trusted: {', '.join(unknown)}. If you trust whoever made the bundle, "
            f"load it with trusted={unknown!r} (--trust NAME)."
        )
    try:
        return skops.io.load(file, trusted=sorted(allowed))
    except UNREADABLE as error:
        raise _unreadable(file, error) from error


def _name_of(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _save_plain(head: Any, folder: Path) -> None:
    from safetensors.numpy import save_file

    arrays: dict[str, NDArray[Any]] = {}
    known = head.get_params(deep=False)
    state = {name: value for name, value in vars(head).items() if name not in known and not name.startswith("_")}
    content = {
        "format": FORMAT,
        "type": _name_of(type(head)),
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
        found, kind = content["format"], content["type"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _unreadable(folder / JSON, error) from error
    if found != FORMAT:
        raise BundleError(f"{folder / JSON} has format {found}, expected {FORMAT}: another version of topwork wrote it")
    if kind not in PLAIN_TYPES:
        raise BundleError(f"{folder / JSON} holds a {kind}, which is not trusted; expected one of {PLAIN_TYPES}")
    try:
        arrays = load_file(folder / TENSORS)
        parts = [{name: _decoded(each, arrays) for name, each in content[key].items()} for key in ("params", "state")]
        module, _, name = kind.rpartition(".")
        head = getattr(importlib.import_module(module), name)(**parts[0])
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
