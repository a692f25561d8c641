"""What a network eats: images, texts or tensors, as a frozen description that travels with its graph."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, TypeAlias

from ..errors import InputError
from .image_spec import ImageSpec
from .tensor_spec import TensorSpec
from .text_spec import TOKENIZER_FILE, TextSpec

InputSpec: TypeAlias = ImageSpec | TextSpec | TensorSpec
"""Every kind of input specification."""

KINDS = ("image", "text", "tensor")


def input_spec_from_json(fields: dict[str, Any], folder: Path) -> InputSpec:
    """Read what an input specification's ``to_json`` and ``files`` wrote.

    Parameters
    ----------
    fields : dict
    folder : Path
        Where the files lie that travel with the graph.

    Raises
    ------
    InputError
        If another version wrote it, or a file is missing or changed.
    """
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}
    kind = values.pop("kind", None)
    if kind == "image":
        return ImageSpec(**values)
    if kind == "tensor":
        return TensorSpec(**values)
    if kind == "text":
        files = {name: _read(folder / name, sha) for name, sha in values.pop("files").items()}
        return TextSpec(files[TOKENIZER_FILE].decode(), **values)
    raise InputError(
        f"input of kind {kind!r}: this version of topwork knows {', '.join(KINDS)}; a newer one wrote this file"
    )


def _read(path: Path, sha: str) -> bytes:
    if not path.is_file():
        raise InputError(f"{path} is missing: the tokeniser travels with its graph. Copy the whole folder again.")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha:
        raise InputError(f"{path} is not the file that the graph was made with. Copy the whole folder again.")
    return content
