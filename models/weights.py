"""Read weights files safely, fit them to a model, digest them."""

from __future__ import annotations

import argparse
import hashlib
import json
import pickle
import re
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import WeightsError, reason, warn_caller

if TYPE_CHECKING:
    from torch import Tensor, nn

WEIGHTS_SUFFIXES = (".safetensors", ".pth", ".th", ".pt", ".bin", ".ckpt", ".tar")
AVERAGED_KEYS = ("state_dict_ema", "model_ema", "ema", "teacher")
"""Entries with averaged weights, which timm's and DINO's own loaders prefer."""
WRAPPER_KEYS = (*AVERAGED_KEYS, "state_dict", "model_state_dict", "model", "module")
WRAPPER_PREFIXES = ("module.", "_orig_mod.")
USUAL_PARTS = {"", "module", "_orig_mod", "model", "backbone", "encoder"}
"""Parts of the prefixes that training frameworks put before the names of a network that they train."""
COUNTER_NAME = "num_batches_tracked"
"""Ending of the names of BatchNorm's counters, which do not decide a feature."""
MAX_SHOWN_NAMES = 12
MIN_FLOAT_BYTES = 2
"""Floats of fewer bytes are quantised: their scales are elsewhere."""


def load_weights(module: nn.Module, path: str | Path, *, key: str = "", classifier: str | None = None) -> bool:
    """Copy the tensors of a file into a module, in place; return whether its classifier was among them.

    The file is a ``.safetensors``, or a checkpoint of torch, which is read with ``weights_only=True``. `key` names the
    entry of a checkpoint that holds the weights; by default averaged weights are taken where there are some. Prefixes
    of training frameworks are removed where that makes the names fit. A classifier that is absent or of another shape
    becomes zeros, with a warning. Raise a WeightsError if the file is absent or unsafe, or if names, shapes or data
    types differ from the module's; the message lists them.
    """
    path = Path(path)
    expected = module.state_dict()
    everything = read_state(path, key)
    state = fit_prefix(everything, expected)
    n_unused = len(everything) - len(state)
    lacking = list_misfits_of_classifier(state, expected, classifier)
    if lacking:
        state = {name: tensor for name, tensor in state.items() if name not in lacking}
        state.update({name: expected[name].new_zeros(expected[name].shape) for name in lacking})
    check_fit(path, state, expected)
    if lacking:
        warn_caller(
            f"{path} has no weights that fit the classifier {classifier!r} ({', '.join(lacking)}): only layers before "
            "it can be cut",
        )
    if n_unused:
        warn_caller(f"{path}: {n_unused} tensors are not the model's (a head, a loss) and are not used")
    module.load_state_dict(state, strict=False)
    return not lacking


def list_misfits_of_classifier(
    state: dict[str, Tensor], expected: dict[str, Tensor], classifier: str | None
) -> list[str]:
    """Return the classifier's tensors if any of them is absent or of another shape; the empty list otherwise."""
    if not classifier:
        return []
    names = [name for name in expected if name.startswith(f"{classifier}.")]
    for name in names:
        if name not in state or state[name].shape != expected[name].shape:
            return names
    return []


def check_fit(path: Path, state: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Raise a WeightsError that lists missing, unexpected, reshaped and quantised tensors, if there are any."""
    problems = list_misfits(state, expected)
    listed = "; ".join(f"{title}: {shorten_list(names)}" for title, names in problems.items() if names)
    if listed:
        raise WeightsError(
            f"{path} does not fit the model; {listed}. Check the name of the architecture and its arguments, such as "
            "num_classes=0 for a file without classifier (model_args, --model-arg)."
        )
    quantised = list_quantised(state, expected)
    if quantised:
        raise WeightsError(
            f"{path} has integers or quantised values where the model has float weights: {shorten_list(quantised)}. "
            "Expected float16, bfloat16, float32 or float64; convert the weights back with the software that quantised "
            "them."
        )


def list_quantised(state: dict[str, Tensor], expected: dict[str, Tensor]) -> list[str]:
    """Return the names of tensors, with their data types, that are quantised where the model's are floats."""
    quantised = []
    for name, tensor in sorted(state.items()):
        is_float = tensor.is_floating_point() and tensor.element_size() >= MIN_FLOAT_BYTES
        if expected[name].is_floating_point() and not is_float:
            quantised.append(f"{name} {str(tensor.dtype).removeprefix('torch.')}")
    return quantised


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
            f"{path} contains more than tensors and would run code when read: {find_culprit(error)}. "
            "Save its state_dict alone, best as .safetensors."
        ) from error
    except Exception as error:
        raise WeightsError(
            f"{path} cannot be read as weights: {reason(error)}. Expected a complete file with a state_dict; compare "
            "its size with the original's."
        ) from error


def find_culprit(error: Exception) -> str:
    """Quote the object that torch refused, without torch's advice to read the file unsafely after all."""
    named = re.search(r"GLOBAL (\S+)", str(error))
    return f"an object of {named[1]}" if named else "an object of unknown type"


def read_safetensors(path: Path) -> dict[str, Any]:
    """Read a .safetensors file."""
    from safetensors.torch import load_file

    tensors: dict[str, Any] = load_file(path)
    return tensors


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of torch without running code; raise a TypeError if it holds no dictionary.

    What training scripts keep beside the weights and runs no code may stand there: their arguments, NumPy's numbers.
    """
    import torch

    with torch.serialization.safe_globals(list_safe_classes()):
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(loaded, dict):
        raise TypeError(f"found a {type(loaded).__name__}, not a dictionary of tensors")
    return loaded


def list_safe_classes() -> list[Any]:
    """Return classes and functions that a checkpoint may use: reading them runs no code of the file's."""
    number_types = {type(np.dtype(code)) for code in np.typecodes["All"] if code != "O"}
    make_number = np.float64(0).__reduce__()[0]
    names_of_numpy_1 = [(make_number, "numpy.core.multiarray.scalar")]
    return [argparse.Namespace, np.dtype, make_number, *names_of_numpy_1, *number_types]


def read_state(path: Path, key: str = "") -> dict[str, Tensor]:
    """Read the tensors of a file, from the entry `key` of a checkpoint, or else from the one its makers would take.

    Warn if averaged weights were chosen over others. Raise a WeightsError if there are no tensors, or no such entry.
    """
    loaded = read_tensors(path)
    entries = [name for name, value in loaded.items() if isinstance(value, dict) and unwrap(value)]
    if key:
        return select_entry(path, loaded, key)
    chosen = find_wrapper_key(loaded)
    state = unwrap(loaded)
    if not state:
        known = ", ".join(map(str, entries)) or "none"
        raise WeightsError(
            f"{path} has no weights under a usual name; entries with weights: {known}. "
            "Name the one to take (weights_key=, --weights-key)."
        )
    others = [name for name in entries if name != chosen]
    if chosen in AVERAGED_KEYS and others:
        warn_caller(
            f"{path}: the averaged weights {chosen!r} are taken, not {', '.join(map(repr, others))}; "
            "weights_key= (--weights-key) names others",
        )
    return state


def select_entry(path: Path, loaded: dict[str, Any], key: str) -> dict[str, Tensor]:
    """Return the tensors of an entry of a checkpoint, or those under a prefix of their names."""
    entries = {str(name): unwrap(value) for name, value in loaded.items() if isinstance(value, dict)}
    if entries.get(key):
        return entries[key]
    selected = select_prefix(unwrap(loaded), f"{key}.")
    if not selected:
        known = ", ".join(name for name, tensors in entries.items() if tensors) or "none"
        raise WeightsError(
            f"weights_key={key!r}: {path} has no such entry with weights, nor names that start with it; its entries "
            f"are: {known}"
        )
    return selected


def find_wrapper_key(loaded: dict[str, Any]) -> str:
    """Return the entry of a checkpoint that holds the weights, "" if the checkpoint is the weights itself."""
    for key in WRAPPER_KEYS:
        value = loaded.get(key)
        if isinstance(value, dict) and unwrap(value):
            return key
    return ""


def unwrap(loaded: dict[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint that keeps them under a key such as ``state_dict``."""
    key = find_wrapper_key(loaded)
    if key:
        return unwrap(loaded[key])
    return {name: value for name, value in loaded.items() if hasattr(value, "shape")}


def strip_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove the prefixes that wrappers (data parallelism, compilation) put before every name."""
    for prefix in WRAPPER_PREFIXES:
        if state and all(name.startswith(prefix) for name in state):
            return strip_prefixes(select_prefix(state, prefix))
    return state


def select_prefix(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names start with a prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def fit_prefix(state: dict[str, Tensor], expected: Collection[str]) -> dict[str, Tensor]:
    """Return the part of a state under the prefix that gives it most names in common with a model's.

    Raise a WeightsError if several prefixes do so equally, and none of them or several are usual ones.
    """
    counts = count_prefixes(state, expected)
    if not counts or counts.get("") == max(counts.values()):
        return state
    best = [prefix for prefix, count in counts.items() if count == max(counts.values())]
    usual = [prefix for prefix in best if set(prefix.split(".")) <= USUAL_PARTS]
    chosen = usual if len(usual) == 1 else best
    if len(chosen) > 1:
        raise WeightsError(
            f"the model's weights lie under several prefixes: {', '.join(sorted(chosen))}. Name the one to take "
            f"(weights_key={chosen[0].rstrip('.')!r}, --weights-key)."
        )
    return select_prefix(state, chosen[0])


def count_prefixes(state: dict[str, Tensor], expected: Collection[str]) -> Counter[str]:
    """Return how many of the model's names a state has under each prefix; all end in a point but the empty one."""
    known = set(expected)
    counts: Counter[str] = Counter()
    for name in state:
        parts = name.split(".")
        for n_outer in range(len(parts)):
            if ".".join(parts[n_outer:]) in known:
                counts["".join(f"{part}." for part in parts[:n_outer])] += 1
    return counts


def digest_of_state(module: nn.Module) -> str:
    """Return the SHA-256 of a module's tensors, over their names, dtypes, shapes and bytes, in order of name."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if name.endswith(COUNTER_NAME):
            continue
        if not isinstance(tensor, torch.Tensor):  # from a module's get_extra_state()
            digest.update(f"{name}|{json.dumps(tensor, sort_keys=True, default=describe_extra)}".encode())
            continue
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        content = flat.view(torch.uint8).numpy()
        digest.update(content.data)  # not copied: one tensor may be most of the memory
    return digest.hexdigest()


def describe_extra(value: Any) -> Any:
    """Return what JSON can hold of a value that it cannot."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "getvalue"):
        return value.getvalue().hex()
    return type(value).__name__
