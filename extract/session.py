"""An ONNX Runtime session that is known to run where it was asked to."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, ProviderError

if TYPE_CHECKING:
    import onnxruntime
    from numpy.typing import NDArray

    from .preprocess.prepared import Feed

PROVIDERS = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}
PACKAGES = {"cuda": "onnxruntime-gpu", "cpu": "onnxruntime"}
"""By preference: ``auto`` takes the first that is there."""


@dataclass(frozen=True)
class Session:
    """A loaded graph.

    Parameters
    ----------
    runtime : onnxruntime.InferenceSession
        The session.
    provider : str
        "cpu" or "cuda": where it really runs.
    """

    runtime: onnxruntime.InferenceSession
    provider: str

    def run(self, feed: Feed) -> list[NDArray[Any]]:
        """Compute every output ``(batch, features)`` for a batch."""
        names = {port.name for port in self.runtime.get_inputs()}  # a cut may lie below the use of the mask
        used = {name: array for name, array in feed.items() if name in names}
        return self.runtime.run(None, used)  # type: ignore[no-any-return]


def open_session(graph: Path | bytes, provider: str = "auto", threads: int | None = None) -> Session:
    """Load a graph on a provider.

    Parameters
    ----------
    graph : path or bytes
        An ONNX file or its content.
    provider : {"auto", "cpu", "cuda"}
        ``auto`` takes the fastest that is there.
    threads : int, optional
        Threads within one operation; by default one per core.

    Raises
    ------
    ProviderError
        If the provider is not there, or ONNX Runtime did not load it (it then falls back without an error).
    """
    import onnxruntime

    chosen = require_provider(provider)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads or available_cores()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # decoding needs the cores, too
    runtime = onnxruntime.InferenceSession(
        graph if isinstance(graph, bytes) else str(graph), options, providers=[PROVIDERS[chosen]]
    )
    if runtime.get_providers()[0] != PROVIDERS[chosen]:
        raise ProviderError(
            f"ONNX Runtime could not load the provider {chosen!r} and would run on "
            f"{runtime.get_providers()[0]}; expected {PROVIDERS[chosen]}. Check its drivers and libraries."
        )
    return Session(runtime, chosen)


def choose_provider(provider: str, available: list[str]) -> str:
    """Return the name of the provider to load."""
    if provider == "auto":
        return next(name for name, full in PROVIDERS.items() if full in available)
    if provider not in PROVIDERS:
        raise InputError(f"provider {provider!r} does not exist; expected auto, {', '.join(PROVIDERS)}")
    if PROVIDERS[provider] not in available:
        raise ProviderError(
            f"provider {provider!r} is not there; found {', '.join(available)}. "
            f"Install the package {PACKAGES[provider]}, or use provider='auto'."
        )
    return provider


def require_provider(provider: str) -> str:
    """Return the name of the provider that would be loaded; see :func:`open_session`."""
    import onnxruntime

    return choose_provider(provider, onnxruntime.get_available_providers())


def available_cores() -> int:
    """Return the number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
