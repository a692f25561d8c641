"""What this machine can run graphs with, what ``auto`` would take and why, and what is wrong with the installation."""

from __future__ import annotations

import platform
from importlib.metadata import distributions
from typing import Any

from ..extract.runtime.providers import (
    LOWER_PRECISIONS,
    OPENVINO,
    PROVIDERS,
    Provider,
    explain_absence,
    explain_unsupported,
    find_usable_providers,
    openvino_devices,
)
from ..hardware import available_cores, installed, instruction_sets, processor

RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino")
"""Packages that all write the folder ``onnxruntime``: the last one installed overwrites files of the others."""
PACKAGES = (*RUNTIMES, "onnxruntime-ep-openvino", "openvino", "onnx", "torch", "numpy")


def examined() -> dict[str, Any]:
    """Return the facts.

    Returns
    -------
    dict
        ``machine``, ``versions``, ``providers`` (each with ``there``, ``precisions`` and ``note``), ``auto`` (a
        provider for each precision, and why), ``problems`` (what is wrong, and what to do).
    """
    return {
        "machine": {
            "processor": processor(),
            "cores": available_cores(),
            "instruction_sets": list(instruction_sets()),
            "system": platform.platform(),
        },
        "versions": installed(PACKAGES),
        "providers": [_examined(provider) for provider in PROVIDERS.values()],
        "auto": {precision: _choice(precision) for precision in ("fp32", *LOWER_PRECISIONS)},
        "problems": problems(_installed(), _listed()),
    }


def _examined(provider: Provider) -> dict[str, Any]:
    lacking = explain_absence(provider)
    able = [precision for precision in provider.precisions if not explain_unsupported(provider, precision)]
    note = f"{lacking}; install {provider.package}" if lacking else ""
    if provider.name == OPENVINO and not lacking:
        note = "as a plug-in of ONNX Runtime" if openvino_devices() else "by itself: the plug-in has no device here"
    return {"name": provider.name, "there": not lacking, "precisions": able, "note": note}


def _choice(precision: str) -> str:
    """Return the provider that ``auto`` takes for a precision, and why."""
    there = [provider.name for provider in find_usable_providers(precision)]
    if (precision, there[:1]) == ("fp16", ["cpu"]):
        return "cpu, which only emulates it: precision auto leaves it out"
    return f"{there[0]}, preferred of {', '.join(there)}" if there else "none is able"


def problems(installed: set[str], listed: list[str]) -> list[str]:
    """Return what is wrong with the packages, each with what to do.

    Parameters
    ----------
    installed : set of str
        Names of installed packages.
    listed : list of str
        The providers that ONNX Runtime was built with.
    """
    found = [name for name in RUNTIMES if name in installed]
    told = []
    if len(found) > 1:
        told.append(
            f"{' and '.join(found)} are installed, and each has overwritten files of the other. "
            f"Uninstall all of them, then install the one you need: pip uninstall {' '.join(found)}"
        )
    if "onnxruntime-gpu" in installed and PROVIDERS["cuda"].runtime not in listed:
        told.append(
            "onnxruntime-gpu is installed, but what is imported cannot use a GPU: another package has overwritten it. "
            "pip uninstall onnxruntime onnxruntime-gpu, then pip install onnxruntime-gpu"
        )
    return told


def _installed() -> set[str]:
    return {str(found.metadata["Name"]).lower().replace("_", "-") for found in distributions()}


def _listed() -> list[str]:
    import onnxruntime

    return list(onnxruntime.get_available_providers())
