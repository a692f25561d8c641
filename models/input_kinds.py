"""The kinds of input specification, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import MALFORMED, InputError
from .audio_spec import AudioSpec
from .image_spec import ImageSpec
from .input_spec import InputSpec
from .tensor_spec import TensorSpec
from .text_spec import TextSpec

INPUT_SPECS: dict[str, type[InputSpec]] = {spec.kind: spec for spec in (ImageSpec, TextSpec, AudioSpec, TensorSpec)}
"""Class of each kind of input specification."""


def input_spec_from_json(fields: dict[str, Any], folder: Path) -> InputSpec:
    """Read an input specification that its ``to_json`` and ``files`` (into `folder`) wrote.

    Raise an InputError if the kind is unknown, or a file is missing or changed.
    """
    values = dict(fields)
    for name, value in fields.items():
        if isinstance(value, list):
            values[name] = tuple(value)
    kind = values.pop("kind", None)
    if not isinstance(kind, str) or kind not in INPUT_SPECS:
        known = ", ".join(INPUT_SPECS)
        raise InputError(f"input of kind {kind!r}: this version of topwork reads {known}; a newer one wrote this file")
    try:
        return INPUT_SPECS[kind].from_json(values, folder)
    except InputError:
        raise
    except MALFORMED as error:
        raise InputError(
            f"the description of the {kind} input is damaged: {error!r}. Restore it from a copy."
        ) from error
