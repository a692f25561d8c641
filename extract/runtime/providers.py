"""Execution providers: which there are, what they need, and which of them this machine has."""

from __future__ import annotations

import importlib.util
import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any

from ...errors import InputError, ProviderError
from ...hardware import DISABLE_VARIABLE, disabled_names, has_bfloat16, has_int8, installed

OPENVINO = "openvino"
ON_PROCESSOR = (OPENVINO, "cpu")
"""Providers that share the cores with what reads and decodes."""


@dataclass(frozen=True)
class Provider:
    """One way to run a graph.

    Parameters
    ----------
    name : str
        As users write it.
    runtime : str
        As ONNX Runtime names it.
    package : str
        What to install.
    precisions : tuple of str
        In which it can compute.
    """

    name: str
    runtime: str
    package: str
    precisions: tuple[str, ...]


PROVIDERS = {
    provider.name: provider
    for provider in (
        Provider("tensorrt", "TensorrtExecutionProvider", "onnxruntime-gpu", ("fp32", "fp16")),
        Provider("cuda", "CUDAExecutionProvider", "onnxruntime-gpu", ("fp32", "fp16")),
        Provider("coreml", "CoreMLExecutionProvider", "onnxruntime", ("fp32", "fp16")),
        Provider("dml", "DmlExecutionProvider", "onnxruntime-directml", ("fp32", "fp16")),
        Provider(OPENVINO, "OpenVINOExecutionProvider", "openvino", ("fp32", "bf16", "int8")),
        Provider("cpu", "CPUExecutionProvider", "onnxruntime", ("fp32", "fp16", "int8")),
    )
}
"""By preference: ``auto`` takes the first that is there and able."""


def choices(provider: str, precision: str) -> list[Provider]:
    """Return the providers to try, in order.

    Parameters
    ----------
    provider : str
        A name, or "auto".
    precision : str

    Raises
    ------
    InputError
        If there is no such provider, or if it cannot compute in this precision.
    ProviderError
        If it is not there, or no provider that is can compute in this precision.
    """
    if provider != "auto":
        return [_named(provider, precision)]
    found = able(precision)
    if not found:
        reasons = [f"{p.name}: {lacks(p) or unable(p, precision)}" for p in PROVIDERS.values()]
        raise ProviderError(f"no provider here computes in {precision}: {'; '.join(reasons)}")
    return found


def able(precision: str) -> list[Provider]:
    """Return the providers that are there and compute in a precision, the one that ``auto`` takes first."""
    return [p for p in PROVIDERS.values() if not lacks(p) and not unable(p, precision)]


def require_provider(name: str) -> None:
    """Raise an error if there is no such provider, here or elsewhere."""
    if name not in ("auto", *PROVIDERS):
        raise InputError(f"provider {name!r} does not exist; expected auto, {', '.join(PROVIDERS)}")


def _named(name: str, precision: str) -> Provider:
    require_provider(name)
    provider = PROVIDERS[name]
    lacking = lacks(provider)
    if lacking:
        raise ProviderError(
            f"provider {name!r} is not there: {lacking}. "
            f"Install the package {provider.package}, or use provider='auto'."
        )
    cannot = unable(provider, precision)
    if cannot:
        raise ProviderError(f"provider {name!r} cannot compute in {precision}: {cannot}")
    return provider


def lacks(provider: Provider) -> str:
    """Return why a provider is not there, "" if it is."""
    import onnxruntime

    if provider.name in disabled_names():
        return f"it is switched off by {DISABLE_VARIABLE}"
    if provider.name == OPENVINO:
        return "" if openvino_devices() or has_package("openvino") else _openvino_reason()
    found = onnxruntime.get_available_providers()
    return "" if provider.runtime in found else f"this ONNX Runtime has {', '.join(found)}"


def unable(provider: Provider, precision: str) -> str:
    """Return why a provider does not compute in a precision, "" if it does."""
    if precision not in provider.precisions:
        return f"it computes in {', '.join(provider.precisions)}"
    if precision == "bf16" and not has_bfloat16():
        return "this processor has no bfloat16 instructions (avx512_bf16 or amx_bf16)"
    if precision == "int8" and not has_int8():
        return "this processor has no instructions for sums of 8-bit products (avx512_vnni, avx_vnni or amx_int8)"
    return ""


def _openvino_reason() -> str:
    if has_package("onnxruntime_ep_openvino"):
        return "its plug-in found no device that it supports: it runs on Intel's only"
    return "neither openvino nor onnxruntime-ep-openvino is installed"


def runtimes() -> dict[str, str]:
    """Return the versions of the packages that run graphs: what was measured with others is not remembered."""
    return installed(sorted({"onnxruntime-ep-openvino", *(provider.package for provider in PROVIDERS.values())}))


def has_package(name: str) -> bool:
    """Tell whether a package can be imported, without importing it."""
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:
        return False


@cache
def openvino_devices() -> tuple[Any, ...]:
    """Return the processors that ONNX Runtime's OpenVINO plug-in offers; none where it is not installed.

    The plug-in is registered once in a process. It passes over processors that are not Intel's.
    """
    if not has_package("onnxruntime_ep_openvino"):
        return ()
    import onnxruntime
    import onnxruntime_ep_openvino

    runtime = PROVIDERS[OPENVINO].runtime
    try:
        onnxruntime.register_execution_provider_library(runtime, onnxruntime_ep_openvino.get_library_path())
    except Exception as error:
        warnings.warn(f"OpenVINO's plug-in did not load: {error}; is it for another onnxruntime?", stacklevel=2)
        return ()
    cpu = onnxruntime.OrtHardwareDeviceType.CPU
    return tuple(d for d in onnxruntime.get_ep_devices() if d.ep_name == runtime and d.device.type == cpu)
