"""Files beside the weights of a transformers model, in a local folder or on the hub, and errors about them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import InputError, TopworkError, WeightsError, reason
from .loader import fetching

CONFIG_FILE = "config.json"
CODE_FIELD = "auto_map"
"""Field of a configuration that names Python code in the folder."""


def read_json(name: str, file: str) -> Any:
    """Read a JSON file of a local folder or of the hub; None if there is none. Raise an InputError if it is damaged."""
    path = find_file(name, file)
    if path is None:
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{file} of hf:{name} is not valid JSON: {error}") from error


def find_file(name: str, file: str) -> Path | None:
    """Return the path of a file of a local folder or of the hub; None if there is none."""
    if Path(name).is_dir():
        path = Path(name) / file
        return path if path.is_file() else None
    from transformers.utils import cached_file

    with contextlib.suppress(OSError):
        found = cached_file(name, file, _raise_exceptions_for_missing_entries=False)
        return None if found is None else Path(found)
    return None


def refuse_code(name: str, file: str) -> None:
    """Raise an InputError if a file says that the folder's own Python code is needed, which never runs."""
    fields = read_json(name, file)
    if isinstance(fields, dict) and fields.get(CODE_FIELD):
        classes = ", ".join(sorted(fields[CODE_FIELD]))
        raise InputError(
            f"hf:{name} has Python code of its own ({CODE_FIELD} in {file}: {classes}), which topwork never runs; "
            "expected a model that transformers itself contains. Load it yourself and pass the module with input_spec=."
        )


def refuse_quantised(name: str) -> None:
    """Raise an InputError if the weights are quantised."""
    fields = read_json(name, CONFIG_FILE) or {}
    quantisation = fields.get("quantization_config")
    if quantisation:
        method = quantisation.get("quant_method", "an unknown method")
        raise InputError(
            f"the weights of hf:{name} are quantized by {method} (quantization_config in {CONFIG_FILE}); expected a "
            "checkpoint in floating point. Use the model that it was made from; topwork chooses its own precision."
        )


@contextlib.contextmanager
def reading(name: str, part: str) -> Iterator[None]:
    """Wrap the reading of a folder or of files of the hub; only errors about the hub speak of connections.

    Raise a WeightsError if a local folder's `part` cannot be read, and a HubError if it cannot be fetched.
    """
    try:
        if Path(name).is_dir():
            yield
        else:
            with fetching(f"hf:{name}", wanted=True):
                yield
    except (TopworkError, TypeError):
        raise
    except Exception as error:  # safetensors, huggingface_hub and pickle have errors of their own
        raise WeightsError(f"the {part} of hf:{name} cannot be read: {reason(error)}") from error


def refuse_damaged(name: str) -> None:
    """Raise a WeightsError if a safetensors file of a local folder is truncated or damaged."""
    from safetensors import safe_open

    for path in sorted(Path(name).glob("*.safetensors")):
        try:
            with safe_open(path, framework="numpy"):
                pass
        except Exception as error:  # the library's errors have a class of their own
            raise WeightsError(
                f"{path} is truncated or damaged ({reason(error)}); expected a complete safetensors file. Copy it "
                "again."
            ) from error
