"""Execution providers and precisions: which exist, what they need, and which of them this machine has.

A column's precision names everything that its features depend on: a family (``bf16``), and where the family is not
enough, a digest behind it (``int8:3fa94c1b``) of the ranges found on items and of the operations that stay in float32.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import cache
from typing import Any

from ...errors import InputError, ProviderError, warn_caller
from ...hardware import DISABLE_VARIABLE, disabled_names, has_bfloat16, installed, may_be_intel

PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8")
LOWER_PRECISIONS = ("int8", "bf16", "fp16")
"""The families that ``precision="auto"`` compares with float32."""
OPENVINO = "openvino"
ON_PROCESSOR = (OPENVINO, "cpu")
"""Providers that share the cores with what reads and decodes."""


@dataclass(frozen=True)
class Provider:
    """One way to run a graph: as users write it, as ONNX Runtime names it, and the package to install."""

    name: str
    runtime: str
    package: str
    precisions: tuple[str, ...]


PROVIDERS = {
    provider.name: provider
    for provider in (
        Provider("tensorrt", "TensorrtExecutionProvider", "onnxruntime-gpu", ("fp32", "bf16", "fp16")),
        Provider("cuda", "CUDAExecutionProvider", "onnxruntime-gpu", ("fp32", "fp16")),
        Provider("coreml", "CoreMLExecutionProvider", "onnxruntime", ("fp32", "fp16")),
        Provider("dml", "DmlExecutionProvider", "onnxruntime-directml", ("fp32", "fp16")),
        Provider(OPENVINO, "OpenVINOExecutionProvider", "openvino", ("fp32", "bf16", "int8")),
        Provider("cpu", "CPUExecutionProvider", "onnxruntime", ("fp32", "fp16", "int8")),
    )
}
"""In the order in which ``auto`` tries them where their speeds are unknown, if they compute in the precision."""


def parse_family(precision: str) -> str:
    """Return the family of a column's precision, which is the precision without its digest."""
    return precision.partition(":")[0]


def is_found_on_items(precision: str) -> bool:
    """Return whether a graph in this precision cannot be made without items."""
    return precision == "int8" or precision != parse_family(precision)


def find_providers(provider: str, precision: str) -> list[Provider]:
    """Return the providers to try, in order of preference: the one asked for, or for "auto" all that are usable.

    It is an InputError if there is no provider of this name, and a ProviderError if none is usable.
    """
    if provider != "auto":
        check_provider(provider, precision)
        return [PROVIDERS[provider]]
    usable = find_usable_providers(precision)
    if not usable:
        reasons = [f"{p.name}: {explain_absence(p) or explain_unsupported(p, precision)}" for p in PROVIDERS.values()]
        raise ProviderError(f"no provider here computes in {precision}: {'; '.join(reasons)}")
    return usable


def find_usable_providers(precision: str) -> list[Provider]:
    """Return the providers that are available and compute in a precision, in order of preference."""
    return [p for p in PROVIDERS.values() if not explain_absence(p) and not explain_unsupported(p, precision)]


def find_rivals(provider: str, precision: str) -> list[Provider]:
    """Return the providers of which the fastest is to be found by trying: for "auto" all that run on the processor.

    A device of its own is taken as it is. The errors are those of :func:`find_providers`.
    """
    found = find_providers(provider, precision)
    return found if found[0].name in ON_PROCESSOR else found[:1]


def check_provider(name: str, precision: str = "fp32") -> None:
    """Raise an error if a provider does not exist, is not available, or cannot compute in a precision."""
    if name not in PROVIDERS:
        raise InputError(f"provider {name!r} does not exist; expected auto, {', '.join(PROVIDERS)}")
    provider = PROVIDERS[name]
    absence = explain_absence(provider)
    if absence:
        raise ProviderError(
            f"provider {name!r} is not available: {absence}. "
            f"Install the package {provider.package}, or use provider='auto'."
        )
    obstacle = explain_unsupported(provider, precision)
    if obstacle:
        raise ProviderError(f"provider {name!r} cannot compute in {precision}: {obstacle}")


def explain_absence(provider: Provider) -> str:
    """Return why a provider is not available on this machine, "" if it is."""
    import onnxruntime

    if provider.name in disabled_names():
        return f"it is switched off by {DISABLE_VARIABLE}"
    if provider.name == OPENVINO:
        return explain_absence_of_openvino()
    available = onnxruntime.get_available_providers()
    if provider.runtime in available:
        return ""
    return f"this ONNX Runtime has {', '.join(available)}"


def explain_absence_of_openvino() -> str:
    """Return why OpenVINO is not available, "" if it is: as a plug-in with a device, or as a package of its own."""
    if openvino_devices() or has_package("openvino"):
        return ""
    if has_package("onnxruntime_ep_openvino"):
        return "its plug-in found no device that it supports: it runs on Intel's only"
    return "neither openvino nor onnxruntime-ep-openvino is installed"


def explain_unsupported(provider: Provider, precision: str) -> str:
    """Return why a provider does not compute in a precision on this machine, "" if it does."""
    if precision not in provider.precisions:
        return f"it computes in {', '.join(provider.precisions)}"
    if precision in disabled_names():
        return f"{precision} is switched off by {DISABLE_VARIABLE}"
    if precision == "bf16" and provider.name in ON_PROCESSOR and not has_bfloat16():
        return "this processor has no bfloat16 instructions (avx512_bf16 or amx_bf16)"
    return ""


def find_runtime_versions() -> dict[str, str]:
    """Return the versions of the installed packages that run graphs; measurements hold for these versions only."""
    packages = {provider.package for provider in PROVIDERS.values()}
    packages.add("onnxruntime-ep-openvino")
    return installed(sorted(packages))


def has_package(name: str) -> bool:
    """Return whether a package can be imported, without importing it."""
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:
        return False


@cache
def openvino_devices() -> tuple[Any, ...]:
    """Return the processors that ONNX Runtime's OpenVINO plug-in offers; empty where it is not installed.

    The plug-in is registered once per process. It ignores processors that are not Intel's; there it is not loaded
    beside the package openvino, as both contain the same libraries.
    """
    if not has_package("onnxruntime_ep_openvino") or not may_be_intel():
        return ()
    import onnxruntime
    import onnxruntime_ep_openvino

    runtime = PROVIDERS[OPENVINO].runtime
    try:
        onnxruntime.register_execution_provider_library(runtime, onnxruntime_ep_openvino.get_library_path())
    except Exception as error:
        warn_caller(f"OpenVINO's plug-in did not load: {error}; is it for another onnxruntime?")
        return ()
    cpu = onnxruntime.OrtHardwareDeviceType.CPU
    return tuple(d for d in onnxruntime.get_ep_devices() if d.ep_name == runtime and d.device.type == cpu)
