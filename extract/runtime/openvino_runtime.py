"""A graph in OpenVINO itself.

Where ONNX Runtime's plug-in offers no device, as on AMD processors, and where a graph is computed in two precisions.
"""

from __future__ import annotations

from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import MissingPackageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..preprocess.preprocessor import Feed

PRECISION, EXACT = "INFERENCE_PRECISION_HINT", "f32"
HINTS = {"bf16": "bf16"}
"""OpenVINO's names of precisions that it takes on as it computes; others are in the graph."""


def settings(precision: str, threads: int, runs: int) -> dict[str, str]:
    """Return the properties of the processor's device: so many batches at a time share the threads."""
    hint = HINTS.get(precision, EXACT)
    return {PRECISION: hint, "INFERENCE_NUM_THREADS": str(threads), "NUM_STREAMS": str(runs)}


class OpenVinoRuntime:
    """A compiled graph with the methods of an ``onnxruntime.InferenceSession`` that a session uses.

    Parameters
    ----------
    graph : path or bytes
    hints : dict
        From :func:`settings`.
    runs : int
        How many threads may call :meth:`run` at a time; further ones wait.
    float32_until : str
        A value before which all is computed in float32; "", or one that the graph does not have, for none.
    """

    def __init__(self, graph: Path | bytes, hints: dict[str, str], runs: int, float32_until: str = "") -> None:
        openvino = _openvino()
        _ = openvino.Tensor(np.zeros(1, np.float32)).data  # two threads that are first to do this lock each other out
        core = openvino.Core()
        model = core.read_model(graph if isinstance(graph, bytes) else str(graph))
        self._inputs = [_Port(port.get_any_name()) for port in model.inputs]
        stages = [({**hints, PRECISION: EXACT}, part) for part in _split(model, float32_until)]
        stages[-1] = (hints, stages[-1][1])
        self._stages = [_Stage(core.compile_model(part, "CPU", chosen), runs) for chosen, part in stages]

    def get_inputs(self) -> list[Any]:
        """Return the graph's inputs, each with its ``name``."""
        return self._inputs

    def run(self, names: None, feed: Feed) -> list[NDArray[Any]]:
        """Compute every output for a batch."""
        for stage in self._stages[:-1]:
            feed = {**feed, BETWEEN: stage.run(feed)[0]}
        return self._stages[-1].run(feed)


BETWEEN = "topwork_between"
"""Name of the value that the first part of a graph hands to the second."""


class _Stage:
    """A compiled graph, and requests that several threads share."""

    def __init__(self, compiled: Any, runs: int) -> None:
        self.compiled = compiled
        self.names = {port.get_any_name() for port in compiled.inputs}
        self.idle: SimpleQueue[Any] = SimpleQueue()
        for _ in range(runs):
            self.idle.put(compiled.create_infer_request())

    def run(self, feed: Feed) -> list[NDArray[Any]]:
        request = self.idle.get()
        try:
            found = request.infer({name: array for name, array in feed.items() if name in self.names})
            return [found[port].copy() for port in self.compiled.outputs]
        finally:
            self.idle.put(request)


def _split(model: Any, value: str) -> list[Any]:
    """Return the graph up to a value that all data passes, and from there on."""
    if _output(model, value) is None:
        return [model]
    openvino, head, tail = _openvino(), model.clone(), model.clone()
    end, start = _output(head, value), _output(tail, value)
    between = openvino.opset13.parameter(start.get_partial_shape(), start.get_element_type(), BETWEEN)
    between.output(0).get_tensor().set_names({BETWEEN})
    for reader in start.get_target_inputs():
        reader.replace_source_output(between.output(0))
    return [
        openvino.Model([end], head.get_parameters()),
        openvino.Model(tail.get_results(), [*tail.get_parameters(), between]),
    ]


def _output(model: Any, value: str) -> Any:
    outputs = (output for node in model.get_ordered_ops() for output in node.outputs())
    return next((output for output in outputs if value in output.get_names()), None)


def _openvino() -> Any:
    try:
        import openvino
        import openvino.opset13
    except ImportError as error:
        raise MissingPackageError("this needs the package openvino, which is not installed") from error
    return openvino


class _Port:
    def __init__(self, name: str) -> None:
        self.name = name
