"""A graph in OpenVINO itself, where ONNX Runtime's plug-in offers no device, as on AMD processors."""

from __future__ import annotations

from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .preprocess.prepared import Feed

HINTS = {"fp32": "f32", "bf16": "bf16"}
"""OpenVINO's names of precisions."""


def settings(precision: str, threads: int, runs: int) -> dict[str, str]:
    """Return the properties of the processor's device: so many batches at a time share the threads."""
    hint = HINTS[precision]
    return {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": str(threads), "NUM_STREAMS": str(runs)}


class OpenVinoRuntime:
    """A compiled graph with the methods of an ``onnxruntime.InferenceSession`` that a session uses.

    Parameters
    ----------
    graph : path or bytes
    precision : {"fp32", "bf16"}
    threads : int
    runs : int
        How many threads may call :meth:`run` at a time; further ones wait.
    """

    def __init__(self, graph: Path | bytes, precision: str, threads: int, runs: int) -> None:
        import openvino

        core = openvino.Core()
        model = core.read_model(graph if isinstance(graph, bytes) else str(graph))
        self._compiled = core.compile_model(model, "CPU", settings(precision, threads, runs))
        self._inputs = [_Port(port.get_any_name()) for port in self._compiled.inputs]
        self._idle: SimpleQueue[Any] = SimpleQueue()
        for _ in range(runs):
            self._idle.put(self._compiled.create_infer_request())

    def get_inputs(self) -> list[Any]:
        """Return the graph's inputs, each with its ``name``."""
        return self._inputs

    def run(self, names: None, feed: Feed) -> list[NDArray[Any]]:
        """Compute every output for a batch."""
        request = self._idle.get()
        try:
            found = request.infer(feed)
            return [found[port].copy() for port in self._compiled.outputs]
        finally:
            self._idle.put(request)


class _Port:
    def __init__(self, name: str) -> None:
        self.name = name
