"""A graph in OpenVINO itself.

Used where ONNX Runtime's plug-in offers no device, as on AMD processors, and where a graph is computed in two
precisions.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import MissingPackageError
from ...telemetry import without_openvino_telemetry
from .process_runtime import keep_for_ever

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..preprocess.preprocessor import Feed

PRECISION_PROPERTY = "INFERENCE_PRECISION_HINT"
FLOAT32_HINT = "f32"
PRECISION_HINTS = {"bf16": "bf16"}
"""OpenVINO's names of the precisions that it rounds to as it computes; other precisions are in the graph."""
PRODUCT_BLOCK_SIZE = 32
"""Terms of a sum that share a scale, in products of 8-bit weights with activations that are rounded as they come."""
HANDED_OVER = "topwork_between"
"""Name of the value that the first part of a graph hands to the second."""


def make_device_properties(precision: str, threads: int, runs: int) -> dict[str, str]:
    """Return the properties of OpenVINO's processor device; batches that run at a time share the threads."""
    properties = {
        PRECISION_PROPERTY: PRECISION_HINTS.get(precision, FLOAT32_HINT),
        "INFERENCE_NUM_THREADS": str(threads),
        "NUM_STREAMS": str(runs),
    }
    if precision == "int8":
        properties["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = str(PRODUCT_BLOCK_SIZE)
    return properties


class OpenVinoRuntime:
    """A compiled graph with those methods of ``onnxruntime.InferenceSession`` that a session uses.

    At most `runs` threads compute at a time; further ones wait. Everything before the value `float32_until` is computed
    in float32; "", or a value that the graph does not have, stands for nothing.
    """

    def __init__(self, graph: Path | bytes, properties: dict[str, str], runs: int, float32_until: str = "") -> None:
        openvino = import_openvino()
        # The first use of a tensor imports NumPy's interface; two threads that do so at once deadlock.
        _ = openvino.Tensor(np.zeros(1, np.float32)).data
        core = find_core()
        model = core.read_model(graph if isinstance(graph, bytes) else str(graph))
        self._inputs = [_Port(port.get_any_name()) for port in model.inputs]
        *beginning, rest = split_model(model, float32_until)
        in_float32 = {**properties, PRECISION_PROPERTY: FLOAT32_HINT}
        self.parts = [_Part(core.compile_model(part, "CPU", in_float32), runs) for part in beginning]
        self.parts.append(_Part(core.compile_model(rest, "CPU", properties), runs))

    def get_inputs(self) -> list[Any]:
        """Return the graph's inputs, each with its ``name``."""
        return self._inputs

    def run(self, names: None, feed: Feed) -> list[NDArray[Any]]:
        """Compute a matrix (batch, features) for each output; `names` is for the interface of ONNX Runtime."""
        *beginning, rest = self.parts
        for part in beginning:
            (value,) = part.run(feed)
            feed = {**feed, HANDED_OVER: value}
        return rest.run(feed)


class _Part:
    """A compiled graph with a pool of requests that several threads share."""

    def __init__(self, compiled: Any, runs: int) -> None:
        self.compiled = compiled
        self.names = {port.get_any_name() for port in compiled.inputs}
        self.idle: SimpleQueue[Any] = SimpleQueue()
        self.inputs: dict[int, Feed] = {}
        for _ in range(runs):
            self.idle.put(compiled.create_infer_request())

    def run(self, feed: Feed) -> list[NDArray[Any]]:
        used = {name: array for name, array in feed.items() if name in self.names}
        request = self.idle.get()
        try:
            outputs = request.infer(used)
            return [outputs[port].copy() for port in self.compiled.outputs]
        finally:
            # A request refers to the memory of its last inputs: they are let go when it has been given others.
            self.inputs[id(request)] = used
            self.idle.put(request)

    def __del__(self) -> None:
        # Requests are destroyed before the graph that they belong to.
        while not self.idle.empty():
            self.idle.get()
        self.inputs.clear()


class _Port:
    def __init__(self, name: str) -> None:
        self.name = name


def split_model(model: Any, value: str) -> list[Any]:
    """Split an ``openvino.Model`` at a value that all data passes, which the second part takes as its input.

    The whole is returned if it has no such value.
    """
    if find_output(model, value) is None:
        return [model]
    openvino = import_openvino()
    head = model.clone()
    tail = model.clone()
    end = find_output(head, value)
    start = find_output(tail, value)
    handed_over = openvino.opset13.parameter(start.get_partial_shape(), start.get_element_type(), HANDED_OVER)
    handed_over.output(0).get_tensor().set_names({HANDED_OVER})
    for reader in start.get_target_inputs():
        reader.replace_source_output(handed_over.output(0))
    beginning = openvino.Model([end], head.get_parameters())
    rest = openvino.Model(tail.get_results(), [*tail.get_parameters(), handed_over])
    return [beginning, rest]


def find_output(model: Any, value: str) -> Any:
    """Return the output of a model's nodes that has a name, or None."""
    for node in model.get_ordered_ops():
        for output in node.outputs():
            if value in output.get_names():
                return output
    return None


def find_core() -> Any:
    """Return this process's ``openvino.Core``, which is never destroyed: making several has crashed OpenVINO.

    It may be used by several threads. A forked process makes one of its own.
    """
    with _CORES_LOCK:
        process = os.getpid()
        if process not in _CORES:
            core = import_openvino().Core()
            keep_for_ever(core)
            _CORES[process] = core
        return _CORES[process]


_CORES: dict[int, Any] = {}
_CORES_LOCK = threading.RLock()  # a thread that forks holds it, and may open sessions meanwhile
if hasattr(os, "register_at_fork"):
    # No thread of the parent can hold the lock while another forks.
    os.register_at_fork(
        before=_CORES_LOCK.acquire, after_in_parent=_CORES_LOCK.release, after_in_child=_CORES_LOCK.release
    )


def import_openvino() -> Any:
    """Import OpenVINO without its telemetry, or raise a MissingPackageError."""
    try:
        with without_openvino_telemetry():
            import openvino
            import openvino.opset13
    except ImportError as error:
        raise MissingPackageError("this needs the package openvino, which is not installed") from error
    return openvino
