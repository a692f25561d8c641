"""An ONNX graph with measured shapes, and the value that each layer's name stands for."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ....errors import ExportError, LayerError
from ..dominance import gates
from ..layer import LAST
from .scopes import module_outputs
from .shapes import Measured, measure
from .value_graph import OnnxGraph, Value, load_graph

if TYPE_CHECKING:
    from pathlib import Path

    from ....models.input_spec import InputSpec

RESHAPES = ("Reshape", "Squeeze", "Flatten", "Identity")
LINEAR = ("Gemm", "MatMul", "Conv")


@dataclass(frozen=True)
class OnnxTrace:
    """What is known of an ONNX file.

    Parameters
    ----------
    graph : OnnxGraph
    measured : dict
        Shapes of its values.
    """

    graph: OnnxGraph
    measured: dict[str, Measured]

    @cached_property
    def named(self) -> dict[str, Value]:
        """The value of each layer but ``last``, in order of execution.

        They are the modules that the exporter recorded, or else the values that all data of the network passes.
        """
        modules = {name: value for name, value in module_outputs(self.graph).items() if self.is_features(value)}
        passed = () if modules else self.passed
        return modules or {v.name: v for v in self.graph.live if v in passed and self.is_features(v)}

    @cached_property
    def passed(self) -> set[Any]:
        """The values that all data of the network passes."""
        live: list[Any] = self.graph.live
        return set(gates(live, self.output))

    @property
    def output(self) -> Any:
        """The network's first output that depends on its input."""
        return next((value for value in self.graph.outputs if self.is_live(value)), self.graph.outputs[0])

    def is_live(self, value: Value) -> bool:
        """Tell whether a value depends on the input."""
        return value in self.graph.readers

    def is_features(self, value: Value) -> bool:
        """Tell whether a value depends on the input and has a row of floats for each item of the batch."""
        found = self.measured.get(value.name)
        return found is not None and found.shape is not None and self.is_live(value)

    def sizes(self, value: Value) -> tuple[int, ...]:
        """Return the sizes of a value in the batch that it was measured on; of weights their own."""
        if value.name in self.measured:
            return self.measured[value.name].sizes
        return () if value.tensor is None else tuple(value.tensor.dims)

    def live_sources(self, value: Value) -> list[Value]:
        """Return what a value is computed from, without weights and sizes."""
        return [source for source in value.all_input_nodes if self.is_live(source)]


def trace_onnx(path: Path, data: str, spec: InputSpec) -> OnnxTrace:
    """Load a file and measure its values.

    Raises
    ------
    ExportError
        If ONNX Runtime cannot run it.
    """
    graph = load_graph(path, data)
    return OnnxTrace(graph, measure(graph, spec))


def value_of(trace: OnnxTrace, name: str) -> Value:
    """Return the value that a layer's name stands for: a module's, ``last``, or a value's own name.

    Raises
    ------
    LayerError
        If there is none, or it is not a batch of features; near names are listed.
    ExportError
        If ``last`` is not a batch of features.
    """
    if name == LAST:
        return _last(trace)
    value = trace.named.get(name) or trace.graph.values.get(name)
    if value is not None and trace.is_features(value):
        return value
    near = difflib.get_close_matches(name, [*trace.named, *trace.graph.values], n=4, cutoff=0.4)
    raise LayerError(
        f"the ONNX file has no layer and no value {name!r} that can be cut; close: "
        f"{', '.join(near or list(trace.named)[-4:])}. `topwork layers` lists all layers."
    )


def _last(trace: OnnxTrace) -> Value:
    """Return what feeds the linear layer or convolution that yields the network's output, or else that output."""
    output: Value = trace.output
    while output.operation in (*RESHAPES, "Softmax", "LogSoftmax", "Sigmoid"):
        output = output.all_input_nodes[0]
    last = _operand(trace, output) or trace.output
    if not trace.is_features(last):
        raise ExportError(
            f"the ONNX file yields {last.name!r} of sizes {trace.sizes(last)}, which is not a row of floats for each "
            "item of a batch. Export the network with a free batch size."
        )
    return last


def _operand(trace: OnnxTrace, value: Value) -> Value | None:
    """Return the activation that enters a linear layer or convolution, None if something else made the value."""
    sources = trace.live_sources(value)
    if value.operation == "Add" and len(sources) == 1 and sources[0].operation == "MatMul":
        return _operand(trace, sources[0])
    return sources[0] if value.operation in LINEAR and len(sources) == 1 else None
