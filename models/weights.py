"""Read weights files safely, fit them to a network, digest them."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor, nn

SUFFIXES = (".safetensors", ".pth", ".th", ".pt", ".bin")
WRAPPERS = ("state_dict", "model_state_dict", "model", "model_ema", "module")
PREFIXES = ("module.", "_orig_mod.")
SHOWN = 12


def load_weights(module: nn.Module, path: str | Path) -> None:
    """Copy the tensors of a file into a module.

    Parameters
    ----------
    module : torch.nn.Module
        Changed in place.
    path : path
        A ``.safetensors`` file, or a ``.pth``, ``.th``, ``.pt``, ``.bin`` checkpoint, which is read with
        ``weights_only=True``. A dictionary inside a ``state_dict`` entry and ``module.`` before every name are undone.

    Raises
    ------
    WeightsError
        If the file is absent or unsafe, or if names or shapes differ from the module's; the message lists them.
    """
    state = strip_prefixes(unwrap(read_tensors(Path(path))))
    expected = module.state_dict()
    counters = {name for name in expected if name.endswith("num_batches_tracked")}
    missing = sorted(set(expected) - set(state) - counters)
    unexpected = sorted(set(state) - set(expected))
    reshaped = sorted(n for n in set(state) & set(expected) if state[n].shape != expected[n].shape)
    if missing or unexpected or reshaped:
        raise WeightsError(_mismatch(Path(path), missing, unexpected, [_shapes(n, state, expected) for n in reshaped]))
    module.load_state_dict(state, strict=False)


def read_tensors(path: Path) -> dict[str, Any]:
    """Read a file of tensors without running code from it."""
    if not path.is_file():
        raise WeightsError(f"weights file {path} does not exist; expected one of {', '.join(SUFFIXES)}")
    if path.suffix not in SUFFIXES:
        raise WeightsError(f"weights file {path} has an unknown ending; expected one of {', '.join(SUFFIXES)}")
    try:
        return _read_safetensors(path) if path.suffix == ".safetensors" else _read_checkpoint(path)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} holds more than tensors and would run code when read: {_culprit(error)} "
            "Save its state_dict alone, best as .safetensors."
        ) from error
    except Exception as error:
        raise WeightsError(f"{path} cannot be read as weights: {error}. Expected a state_dict.") from error


def _culprit(error: Exception) -> str:
    """Quote what torch found, but not its advice to read the file unsafely after all."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if "GLOBAL" in line or "instruction" in line), "an object of unknown type.")


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    tensors: dict[str, Any] = load_file(path)
    return tensors


def _read_checkpoint(path: Path) -> dict[str, Any]:
    import torch

    loaded = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(loaded, dict):
        raise TypeError(f"found a {type(loaded).__name__}, not a dictionary of tensors")
    return loaded


def unwrap(loaded: dict[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint that keeps them under a key such as ``state_dict``."""
    for key in WRAPPERS:
        if isinstance(loaded.get(key), dict):
            return unwrap(loaded[key])
    return {name: value for name, value in loaded.items() if hasattr(value, "shape")}


def strip_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove what wrappers (data parallelism, compilation) put before every name."""
    for prefix in PREFIXES:
        if state and all(name.startswith(prefix) for name in state):
            return strip_prefixes({name[len(prefix) :]: value for name, value in state.items()})
    return state


def digest_of_state(module: nn.Module) -> str:
    """Return the SHA-256 of a module's tensors, over their names, dtypes, shapes and bytes, in order of name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if name.endswith("num_batches_tracked"):
            continue
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    import torch

    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _shapes(name: str, state: dict[str, Tensor], expected: dict[str, Tensor]) -> str:
    return f"{name} {tuple(state[name].shape)}, expected {tuple(expected[name].shape)}"


def _mismatch(path: Path, missing: list[str], unexpected: list[str], reshaped: list[str]) -> str:
    parts = [f"{path} does not fit the network"]
    for title, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", reshaped)):
        if names:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            parts.append(f"{title}: {', '.join(names[:SHOWN])}{more}")
    advice = "Check the name of the architecture and its arguments, such as num_classes=0 for a file without classifier"
    return "; ".join(parts) + f". {advice} (model_args, --model-arg)."
