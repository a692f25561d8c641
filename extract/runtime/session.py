"""A loaded graph that is known to run on the provider that was asked for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ...errors import ProviderError, TopworkError, reason, warn_caller
from ...hardware import available_cores
from ...identity import digest, digest_of_file
from ...user_cache import ENGINES, prepare_folder, user_cache_folder
from .idle_threads import count_session
from .openvino_runtime import OpenVinoRuntime, make_device_properties
from .process_runtime import ProcessRuntime
from .providers import ON_PROCESSOR, OPENVINO, PROVIDERS, Provider, find_providers, openvino_devices

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..preprocess.preprocessor import Feed

CUDA_FLOAT32_OPTIONS = {"use_tf32": "0"}
"""Provider options of CUDA for float32: by default it rounds the factors of products to 10 bits (TF32)."""
TENSORRT = "tensorrt"
TENSORRT_PRECISION_OPTIONS = {"bf16": "trt_bf16_enable", "fp16": "trt_fp16_enable"}
"""Provider options that let TensorRT compute in a precision; GPUs without bfloat16 compute in float32 instead."""
ERRORS_ONLY = 3
"""Log severity of ONNX Runtime."""


class ReplaceableFile(Protocol):
    """An ONNX file that others may replace, see :class:`topwork.extract.graphs.pinned_graph.PinnedGraph`."""

    def load(self, load: Callable[[Path], Any]) -> Any:
        """Return what a function makes of the path where the file is now."""


Graph = Path | bytes | ReplaceableFile
"""An ONNX file or its content."""


@dataclass(frozen=True)
class Session:
    """A graph loaded in an ``onnxruntime.InferenceSession`` or an :class:`OpenVinoRuntime`, in each process anew.

    It computes `runs` batches at a time, each called by a thread of its own.
    """

    runtime: Any
    provider: str
    precision: str = "fp32"
    runs: int = 1

    @property
    def runtime_name(self) -> str:
        """What runs the graph: ``"openvino"`` where that is done without ONNX Runtime, otherwise ``"onnxruntime"``."""
        runtime = self.runtime.loaded if isinstance(self.runtime, ProcessRuntime) else self.runtime
        return "openvino" if isinstance(runtime, OpenVinoRuntime) else "onnxruntime"

    def run(self, feed: Feed) -> list[NDArray[Any]]:
        """Compute a matrix (batch, features) for each output; inputs that the graph does not use are ignored."""
        names = {port.name for port in self.runtime.get_inputs()}  # a cut may lie below the use of the mask
        used = {name: array for name, array in feed.items() if name in names}
        return self.runtime.run(None, used)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class SessionOptions:
    """How a graph is loaded; see :func:`open_session`."""

    precision: str
    threads: int
    runs: int
    float32_until: str

    def runs_on(self, provider: Provider) -> int:
        """Return the number of batches at a time on a provider: the processor divides its threads among them."""
        if provider.name in ON_PROCESSOR:
            return min(self.runs, self.threads)
        return 1


def open_session(
    graph: Path | bytes,
    provider: str = "auto",
    threads: int | None = None,
    precision: str = "fp32",
    runs: int = 1,
    float32_until: str = "",
) -> Session:
    """Load a graph, an ONNX file or its content, on a provider, or raise a ProviderError.

    Provider ``"auto"`` takes the fastest that is available and computes in the precision, and warns if one of these
    does not load. A graph in fp16 or int8 was converted before; for bf16 the graph is that of fp32, and everything
    before the value `float32_until`, if it is not "", is computed in float32. The processor divides its threads, by
    default one per core, among the `runs` batches that are computed at a time.
    """
    options = SessionOptions(
        precision=precision, threads=threads or available_cores(), runs=runs, float32_until=float32_until
    )
    return open_on_first(graph, find_providers(provider, precision), options)


def accept_any(session: Session) -> None:
    """Accept every session, unlike :class:`topwork.extract.graphs.provider_check.ProviderCheck`."""


def open_on_first(
    graph: Graph,
    providers: Sequence[Provider],
    options: SessionOptions,
    check: Callable[[Session], None] = accept_any,
) -> Session:
    """Load a graph on the first provider that loads it and passes a check, with a warning for each that does not.

    `check` raises an error if a session must not be used. Raise what it raises for the last provider, or a
    ProviderError if that does not load the graph.
    """
    *preferred, last = providers
    for provider in preferred:
        try:
            return open_and_check(graph, provider, options, check)
        except Exception as error:
            warn_caller(f"provider {provider.name!r} is not used: {reason(error)}; trying the next")
    try:
        return open_and_check(graph, last, options, check)
    except TopworkError:
        raise
    except Exception as error:
        raise ProviderError(f"provider {last.name!r} could not load the graph: {reason(error)}") from error


def open_and_check(
    graph: Graph, provider: Provider, options: SessionOptions, check: Callable[[Session], None]
) -> Session:
    """Load a graph on one provider, and check the session."""
    session = open_on_provider(graph, provider, options)
    check(session)
    return session


def open_on_provider(graph: Graph, provider: Provider, options: SessionOptions) -> Session:
    """Load a graph on one provider: in OpenVINO itself where its plug-in cannot, else in ONNX Runtime."""
    runs = options.runs_on(provider)
    runtime = ProcessRuntime(lambda: load_runtime(graph, provider, options))
    return Session(runtime, provider.name, precision=options.precision, runs=runs)


def load_runtime(graph: Graph, provider: Provider, options: SessionOptions) -> Any:
    """Load a graph in this process, in OpenVINO or in ONNX Runtime."""
    runtime = load_uncounted(graph, provider, options)
    if provider.name == OPENVINO:
        count_session(runtime, options, partial(load_uncounted, provider=provider, options=options))
    return runtime


def load_uncounted(graph: Graph, provider: Provider, options: SessionOptions) -> Any:
    """Load a graph as :func:`load_runtime` does, without counting it among the sessions of this process."""
    if not isinstance(graph, Path | bytes):
        return graph.load(partial(load_uncounted, provider=provider, options=options))
    runs = options.runs_on(provider)
    properties = make_device_properties(options.precision, options.threads, runs)
    if provider.name == OPENVINO and (options.float32_until or not openvino_devices()):
        return OpenVinoRuntime(graph, properties, runs, options.float32_until)
    if options.float32_until and provider.name == TENSORRT:
        raise ProviderError(
            f"provider {provider.name!r} computes whole graphs in {options.precision}; expected {OPENVINO}, which "
            "computes the beginning of this one in float32, or another precision"
        )
    runtime = open_in_onnxruntime(graph, provider, options, properties)
    check_loaded_provider(runtime, provider)
    return runtime


def open_in_onnxruntime(
    graph: Path | bytes, provider: Provider, options: SessionOptions, properties: dict[str, str]
) -> Any:
    """Return an ``onnxruntime.InferenceSession``; `properties` are those of OpenVINO's device."""
    import onnxruntime

    session_options = make_session_options(options.threads // options.runs_on(provider))
    content = graph if isinstance(graph, bytes) else str(graph)
    if provider.name == OPENVINO:
        device = list(openvino_devices()[:1])
        session_options.add_provider_for_devices(device, {"load_config": json.dumps({"CPU": properties})})
        return onnxruntime.InferenceSession(content, session_options)
    providers = [(provider.runtime, make_provider_options(graph, provider, options.precision))]
    if provider.name == TENSORRT:  # what it does not support
        cuda = PROVIDERS["cuda"]
        providers.append((cuda.runtime, make_provider_options(graph, cuda, options.precision)))
    return onnxruntime.InferenceSession(content, session_options, providers=providers)


def make_provider_options(graph: Path | bytes, provider: Provider, precision: str) -> dict[str, str]:
    """Return ONNX Runtime's options of a provider for a graph in a precision."""
    if provider.name == "cuda" and precision == "fp32":
        return CUDA_FLOAT32_OPTIONS
    if provider.name != TENSORRT:
        return {}
    folder = prepare_folder(locate_engines(graph, precision))
    provider_options = {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(folder)}
    if precision in TENSORRT_PRECISION_OPTIONS:
        provider_options[TENSORRT_PRECISION_OPTIONS[precision]] = "1"
    return provider_options


def locate_engines(graph: Path | bytes, precision: str) -> Path:
    """Return the folder of a graph's engines: TensorRT would take those of another with the same architecture.

    Its names of engines do not depend on weights (https://github.com/microsoft/onnxruntime/issues/6455).
    """
    content = hashlib.sha256(graph).hexdigest() if isinstance(graph, bytes) else digest_of_file(graph)
    return user_cache_folder() / ENGINES / f"{digest([content, precision])[:32]}"


def make_session_options(threads_per_run: int) -> Any:
    """Return ``onnxruntime.SessionOptions``; threads that wait do not spin, as decoding needs the cores, too."""
    import onnxruntime

    session_options = onnxruntime.SessionOptions()
    session_options.log_severity_level = ERRORS_ONLY
    session_options.intra_op_num_threads = threads_per_run
    session_options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return session_options


def check_loaded_provider(runtime: Any, provider: Provider) -> None:
    """Raise a ProviderError if ONNX Runtime fell back to another provider."""
    loaded = runtime.get_providers()[0]
    if loaded != provider.runtime:
        raise ProviderError(
            f"ONNX Runtime could not load the provider {provider.name!r} and would run on "
            f"{loaded}; expected {provider.runtime}. Check its drivers and libraries."
        )
