"""A session that is known to run where it was asked to."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import ProviderError, TopworkError, reason
from ...hardware import available_cores
from .openvino_runtime import OpenVinoRuntime, settings
from .providers import ON_PROCESSOR, OPENVINO, Provider, find_providers, openvino_devices

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..preprocess.preprocessor import Feed


EXACT = {"use_tf32": "0"}
"""Of CUDA: by default it rounds what enters a product of float32 to 10 bits, which is no float32."""


@dataclass(frozen=True)
class Session:
    """A loaded graph.

    Parameters
    ----------
    runtime : onnxruntime.InferenceSession or OpenVinoRuntime
        The session.
    provider : str
        Where it really runs: a name of :data:`topwork.extract.runtime.providers.PROVIDERS`.
    precision : str
        In which it computes.
    runs : int
        How many batches it computes at a time, each called for by a thread of its own.
    """

    runtime: Any
    provider: str
    precision: str = "fp32"
    runs: int = 1

    def run(self, feed: Feed) -> list[NDArray[Any]]:
        """Compute every output ``(batch, features)`` for a batch."""
        names = {port.name for port in self.runtime.get_inputs()}  # a cut may lie below the use of the mask
        used = {name: array for name, array in feed.items() if name in names}
        return self.runtime.run(None, used)  # type: ignore[no-any-return]


def open_session(
    graph: Path | bytes,
    provider: str = "auto",
    threads: int | None = None,
    precision: str = "fp32",
    runs: int = 1,
    float32_until: str = "",
) -> Session:
    """Load a graph on a provider.

    Parameters
    ----------
    graph : path or bytes
        An ONNX file or its content.
    provider : str
        A name of :data:`topwork.extract.runtime.providers.PROVIDERS`; ``"auto"`` takes the fastest that is there and
        able, and warns if one that should be able is not.
    threads : int, optional
        Threads that compute; by default one per core.
    precision : {"fp32", "bf16", "fp16", "int8"}
        Arithmetic. A graph in fp16 or int8 was converted before; for bf16 the graph is that of fp32.
    runs : int
        How many batches will be computed at a time, where the processor computes: the threads are divided among them.
    float32_until : str
        In bf16 the value before which all is computed in float32; "" for none.

    Raises
    ------
    ProviderError
        If the provider is not there, or did not load (ONNX Runtime then falls back without an error).
    """
    wanted, threads = find_providers(provider, precision), threads or available_cores()
    want = _Wanted(precision, threads, runs, float32_until)
    for chosen in wanted[:-1]:
        try:
            return _open(graph, chosen, want)
        except Exception as error:
            warnings.warn(f"provider {chosen.name!r} did not load: {reason(error)}; trying the next", stacklevel=2)
    try:
        return _open(graph, wanted[-1], want)
    except TopworkError:
        raise
    except Exception as error:
        raise ProviderError(f"provider {wanted[-1].name!r} could not load the graph: {reason(error)}") from error


@dataclass(frozen=True)
class _Wanted:
    precision: str
    threads: int
    runs: int
    float32_until: str


def _open(graph: Path | bytes, provider: Provider, want: _Wanted) -> Session:
    runs, precision = min(want.runs, want.threads) if provider.name in ON_PROCESSOR else 1, want.precision
    hints = settings(precision, want.threads, runs)
    if provider.name == OPENVINO and (want.float32_until or not openvino_devices()):
        return Session(OpenVinoRuntime(graph, hints, runs, want.float32_until), provider.name, precision, runs)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = want.threads // runs
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # decoding needs the cores, too
    own = EXACT if (provider.name, precision) == ("cuda", "fp32") else {}
    listed: dict[str, Any] = {"providers": [(provider.runtime, own)]}
    if provider.name == OPENVINO:
        options.add_provider_for_devices(list(openvino_devices()[:1]), {"load_config": json.dumps({"CPU": hints})})
        listed = {}
    content = graph if isinstance(graph, bytes) else str(graph)
    runtime = onnxruntime.InferenceSession(content, options, **listed)
    found = runtime.get_providers()
    if found[0] != provider.runtime:
        raise ProviderError(
            f"ONNX Runtime could not load the provider {provider.name!r} and would run on "
            f"{found[0]}; expected {provider.runtime}. Check its drivers and libraries."
        )
    return Session(runtime, provider.name, precision, runs)
