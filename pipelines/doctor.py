"""Providers of this machine, which of them ``auto`` would take and why, and problems of the installation."""

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
    find_rivals,
    find_usable_providers,
    openvino_devices,
)
from ..hardware import available_cores, installed, instruction_sets, processor

RUNTIME_PACKAGES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino")
"""Packages that all write the folder ``onnxruntime``: the last one installed overwrites files of the others."""
REPORTED_PACKAGES = (*RUNTIME_PACKAGES, "onnxruntime-ep-openvino", "openvino", "onnx", "torch", "numpy")


def examine_installation() -> dict[str, Any]:
    """Return the machine and what it can run graphs with.

    The keys are ``machine``, ``versions``, ``providers`` (each with ``there``, ``precisions`` and ``note``), ``auto``
    (a provider for each precision, and why), ``problems`` (each with its remedy).
    """
    import onnxruntime

    installed_packages = {str(found.metadata["Name"]).lower().replace("_", "-") for found in distributions()}
    return {
        "machine": {
            "processor": processor(),
            "cores": available_cores(),
            "instruction_sets": list(instruction_sets()),
            "system": platform.platform(),
        },
        "versions": installed(REPORTED_PACKAGES),
        "providers": [examine_provider(provider) for provider in PROVIDERS.values()],
        "auto": {precision: explain_choice(precision) for precision in ("fp32", *LOWER_PRECISIONS)},
        "problems": find_problems(installed_packages, onnxruntime.get_available_providers()),
    }


def examine_provider(provider: Provider) -> dict[str, Any]:
    """Return whether a provider is there, its precisions, and a note on it."""
    lacking = explain_absence(provider)
    if lacking:
        note = f"{lacking}; install {provider.package}"
    elif provider.name != OPENVINO:
        note = ""
    elif openvino_devices():
        note = "as a plug-in of ONNX Runtime"
    else:
        note = "by itself: the plug-in has no device here"
    precisions = [precision for precision in provider.precisions if not explain_unsupported(provider, precision)]
    return {"name": provider.name, "there": not lacking, "precisions": precisions, "note": note}


def explain_choice(precision: str) -> str:
    """Return the provider that ``auto`` takes for a precision, or those of which it times the fastest."""
    if not find_usable_providers(precision):
        return "none is able"
    names = [provider.name for provider in find_rivals("auto", precision)]
    if precision == "fp16" and names[0] == "cpu":
        return "cpu, which only emulates it: precision auto leaves it out"
    if len(names) == 1:
        return names[0]
    return f"{' or '.join(names)}, as timed on your items; {names[0]} before that"


def find_problems(installed_packages: set[str], built_providers: list[str]) -> list[str]:
    """Return the problems of installed packages (their normalised names) and of the providers of ONNX Runtime.

    Each comes with its remedy.
    """
    runtimes = [name for name in RUNTIME_PACKAGES if name in installed_packages]
    problems = []
    if len(runtimes) > 1:
        problems.append(
            f"{' and '.join(runtimes)} are installed, and each has overwritten files of the other. "
            f"Uninstall all of them, then install the one you need: pip uninstall {' '.join(runtimes)}"
        )
    if "onnxruntime-gpu" in installed_packages and PROVIDERS["cuda"].runtime not in built_providers:
        problems.append(
            "onnxruntime-gpu is installed, but what is imported cannot use a GPU: another package has overwritten it. "
            "pip uninstall onnxruntime onnxruntime-gpu, then pip install onnxruntime-gpu"
        )
    return problems
