"""Read weights files safely, fit them to a model, digest them."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor, nn

WEIGHTS_SUFFIXES = (".safetensors", ".pth", ".th", ".pt", ".bin")
WRAPPER_KEYS = ("state_dict", "model_state_dict", "model", "model_ema", "module")
WRAPPER_PREFIXES = ("module.", "_orig_mod.")
COUNTER_NAME = "num_batches_tracked"
"""Ending of the names of BatchNorm's counters, which do not decide a feature."""
MAX_SHOWN_NAMES = 12


def load_weights(module: nn.Module, path: str | Path) -> None:
    """Copy the tensors of a file into a module, which is changed in place.

    The file is a ``.safetensors``, or a ``.pth``, ``.th``, ``.pt``, ``.bin`` checkpoint, which is read with
    ``weights_only=True``. A dictionary inside a ``state_dict`` entry and ``module.`` before every name are undone.
    Raise a WeightsError if the file is absent or unsafe, or if names or shapes differ from the module's; the message
    lists them.
    """
    state = strip_prefixes(unwrap(read_tensors(Path(path))))
    check_fit(Path(path), state, module.state_dict())
    module.load_state_dict(state, strict=False)


def check_fit(path: Path, state: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Raise a WeightsError that lists missing, unexpected and reshaped tensors, if there are any."""
    problems = list_misfits(state, expected)
    listed = "; ".join(f"{title}: {shorten_list(names)}" for title, names in problems.items() if names)
    if listed:
        raise WeightsError(
            f"{path} does not fit the model; {listed}. Check the name of the architecture and its arguments, such as "
            "num_classes=0 for a file without classifier (model_args, --model-arg)."
        )


def list_misfits(state: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, list[str]]:
    """Return the names of missing, unexpected and reshaped tensors, each in order."""
    missing = [name for name in expected.keys() - state.keys() if not name.endswith(COUNTER_NAME)]
    reshaped = []
    for name in sorted(state.keys() & expected.keys()):
        shape = tuple(state[name].shape)
        expected_shape = tuple(expected[name].shape)
        if shape != expected_shape:
            reshaped.append(f"{name} {shape}, expected {expected_shape}")
    return {
        "missing": sorted(missing),
        "unexpected": sorted(state.keys() - expected.keys()),
        "of another shape": reshaped,
    }


def shorten_list(names: Sequence[str]) -> str:
    """Return names joined by commas, with the number of those left out if there are many."""
    shown = ", ".join(names[:MAX_SHOWN_NAMES])
    n_hidden = len(names) - MAX_SHOWN_NAMES
    if n_hidden > 0:
        return f"{shown} and {n_hidden} more"
    return shown


def read_tensors(path: Path) -> dict[str, Any]:
    """Read a file of tensors without running code from it.

    Raise a WeightsError if the file is absent, damaged, of an unknown ending, or contains more than tensors.
    """
    expected = f"expected one of {', '.join(WEIGHTS_SUFFIXES)}"
    if not path.is_file():
        raise WeightsError(f"weights file {path} does not exist; {expected}")
    if path.suffix not in WEIGHTS_SUFFIXES:
        raise WeightsError(f"weights file {path} has an unknown ending; {expected}")
    try:
        if path.suffix == ".safetensors":
            return read_safetensors(path)
        return read_checkpoint(path)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} contains more than tensors and would run code when read: {find_culprit(error)} "
            "Save its state_dict alone, best as .safetensors."
        ) from error
    except Exception as error:
        raise WeightsError(f"{path} cannot be read as weights: {error}. Expected a state_dict.") from error


def find_culprit(error: Exception) -> str:
    """Quote the object that torch refused, without torch's advice to read the file unsafely after all."""
    for line in str(error).splitlines():
        if "GLOBAL" in line or "instruction" in line:
            return line.strip()
    return "an object of unknown type."


def read_safetensors(path: Path) -> dict[str, Any]:
    """Read a .safetensors file."""
    from safetensors.torch import load_file

    tensors: dict[str, Any] = load_file(path)
    return tensors


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of torch without running code; raise a TypeError if it holds no dictionary."""
    import torch

    loaded = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(loaded, dict):
        raise TypeError(f"found a {type(loaded).__name__}, not a dictionary of tensors")
    return loaded


def unwrap(loaded: dict[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint that keeps them under a key such as ``state_dict``."""
    for key in WRAPPER_KEYS:
        if isinstance(loaded.get(key), dict):
            return unwrap(loaded[key])
    return {name: value for name, value in loaded.items() if hasattr(value, "shape")}


def strip_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove the prefixes that wrappers (data parallelism, compilation) put before every name."""
    for prefix in WRAPPER_PREFIXES:
        if state and all(name.startswith(prefix) for name in state):
            return strip_prefixes({name.removeprefix(prefix): value for name, value in state.items()})
    return state


def digest_of_state(module: nn.Module) -> str:
    """Return the SHA-256 of a module's tensors, over their names, dtypes, shapes and bytes, in order of name."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if name.endswith(COUNTER_NAME):
            continue
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
