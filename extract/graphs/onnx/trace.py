"""An ONNX graph with measured shapes, and the value that each layer's name stands for."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ....errors import ExportError, LayerError
from ..dataflow import find_dominators
from ..layer import LAST
from .scopes import find_module_outputs
from .shapes import MeasuredShape, measure_shapes
from .value_graph import OnnxGraph, Value, load_graph

if TYPE_CHECKING:
    from pathlib import Path

    from ....models.input_spec import InputSpec

CONVERSIONS = ("Reshape", "Squeeze", "Flatten", "Identity", "Cast", "QuantizeLinear", "DequantizeLinear")
SQUASHES = ("Softmax", "LogSoftmax", "Sigmoid")
LINEAR = ("Gemm", "MatMul", "Conv")
QUANTIZED_LINEAR = ("QGemm", "QLinear")
CLASSIFIER_WORDS = ("logit", "prob", "class", "score", "softmax", "label", "predict")
EMBEDDING_WORDS = ("embed", "feat", "hidden", "pool", "vector", "latent", "descriptor", "encod", "repr", "project")
"""Parts of the names of outputs that say what the output is."""


@dataclass(frozen=True)
class OnnxTrace:
    """The graph of an ONNX file, and the shapes of its values that running it showed.

    `is_square` says whether its input is an image as high as it is wide.
    """

    graph: OnnxGraph
    measured: dict[str, MeasuredShape]
    is_square: bool

    @cached_property
    def named(self) -> dict[str, Value]:
        """The value of each layer but ``last``, in order of execution.

        They are the modules that the exporter recorded, otherwise the values that all data of the model passes.
        """
        outputs = find_module_outputs(self.graph)
        modules = {name: value for name, value in outputs.items() if self.is_features(value)}
        if modules:
            return modules
        passed = [value for value in self.graph.live if value in self.dominators]
        return {value.name: value for value in passed if self.is_features(value)}

    @cached_property
    def dominators(self) -> set[Any]:
        """The values that all data of the model passes."""
        return find_dominators(self.graph.live, self.output)

    @property
    def output(self) -> Value:
        """The model's first output that depends on its input."""
        for value in self.graph.outputs:
            if self.is_live(value):
                return value
        return self.graph.outputs[0]

    def is_live(self, value: Value) -> bool:
        """Return whether a value depends on the input."""
        return value in self.graph.readers

    def is_features(self, value: Value) -> bool:
        """Return whether a value depends on the input and has a row of floats for each item of the batch."""
        measured = self.measured.get(value.name)
        return measured is not None and measured.shape is not None and self.is_live(value)

    def sizes(self, value: Value) -> tuple[int, ...]:
        """Return the sizes of a value in the batch that it was measured on; of weights their own."""
        if value.name in self.measured:
            return self.measured[value.name].sizes
        return () if value.tensor is None else tuple(value.tensor.dims)

    def live_sources(self, value: Value) -> list[Value]:
        """Return the values that a value is computed from, without weights and sizes."""
        return [source for source in value.all_input_nodes if self.is_live(source)]


def trace(path: Path, data: str, spec: InputSpec) -> OnnxTrace:
    """Load a file, whose input `data` takes the items, and measure its values.

    Raise an ExportError if ONNX Runtime cannot run it.
    """
    graph = load_graph(path, data)
    return OnnxTrace(graph, measure_shapes(graph, spec), spec.is_square)


def find_value(traced: OnnxTrace, name: str) -> Value:
    """Return the value that a layer's name stands for: a module's, ``last``, or a value's own name.

    Raise a LayerError, which lists similar names, if there is none or it is not a batch of features, and an ExportError
    if that is ``last``.
    """
    if name == LAST:
        return find_last(traced)
    value = traced.named.get(name) or traced.graph.values.get(name)
    if value is not None and traced.is_features(value):
        return value
    similar = difflib.get_close_matches(name, [*traced.named, *traced.graph.values], n=4, cutoff=0.4)
    raise LayerError(
        f"the ONNX file has no layer and no value {name!r} that can be cut; close: "
        f"{', '.join(similar or list(traced.named)[-4:])}. `topwork layers` lists all layers."
    )


def find_last(traced: OnnxTrace) -> Value:
    """Return what feeds the model's classifier, or the model's output if it has none.

    Raise an ExportError if it is not a batch of features.
    """
    last = find_classifier_input(traced) or traced.output
    if not traced.is_features(last):
        raise ExportError(
            f"the ONNX file yields {last.name!r} of sizes {traced.sizes(last)}, which is not a row of floats for each "
            "item of a batch. Export the model with a free batch size."
        )
    return last


def find_classifier_input(traced: OnnxTrace) -> Value | None:
    """Return what feeds the linear layer or convolution that yields the output, None if that is an embedding."""
    if is_embedding(traced.output.name):
        return None
    return find_operand(traced, list_ending(traced)[-1])


def list_ending(traced: OnnxTrace) -> list[Value]:
    """Return the output and what it is computed from, back to the first operation that is no conversion or squash."""
    ending = [traced.output]
    while ending[-1].operation in (*CONVERSIONS, *SQUASHES):
        ending.append(ending[-1].all_input_nodes[0])
    return ending


def is_embedding(name: str) -> bool:
    """Return whether an output's name says that it is an embedding."""
    return has_word(name, EMBEDDING_WORDS) and not has_word(name, CLASSIFIER_WORDS)


def explain_last(traced: OnnxTrace) -> str:
    """Return which value ``last`` is, where the file does not decide that; else ""."""
    output = traced.output.name
    ending = list_ending(traced)[-1].operation
    if ending.startswith(QUANTIZED_LINEAR) and not is_embedding(output):
        return (
            f"the ONNX file ends in {ending}, whose input is quantised; 'last' is its output {output!r}. For what "
            "enters its classifier, quantise the model in the format QDQ."
        )
    last = find_classifier_input(traced)
    yields_probabilities = any(value.operation in SQUASHES for value in list_ending(traced))
    if last is None or yields_probabilities or has_word(output, CLASSIFIER_WORDS):
        return ""
    return (
        f"the ONNX file does not say whether its output {output!r} is that of a classifier; 'last' is taken as "
        f"{last.name!r}, which enters its last linear layer. For the output itself, cut at layer {output!r}."
    )


def has_word(name: str, words: tuple[str, ...]) -> bool:
    """Return whether a name contains one of some words."""
    return any(word in name.lower() for word in words)


def find_operand(traced: OnnxTrace, value: Value) -> Value | None:
    """Return the activation that enters a linear layer or convolution, None if something else made the value."""
    sources = traced.live_sources(value)
    product = find_integer_product(traced, value)
    if product is not None:
        (quantized, *_) = traced.live_sources(product)
        return traced.live_sources(quantized)[0]
    if len(sources) != 1:
        return None
    (source,) = sources
    is_bias_added = value.operation == "Add" and source.operation in ("MatMul", "Mul")
    if is_bias_added:
        return find_operand(traced, source)
    return source if value.operation in LINEAR else None


def find_integer_product(traced: OnnxTrace, value: Value) -> Value | None:
    """Return the product of quantised numbers that a multiplication with their scales converts, None if it does not."""
    if value.operation != "Mul":
        return None
    while value.operation in ("Mul", "Cast"):
        value = traced.live_sources(value)[0]
    return value if value.operation in ("MatMulInteger", "ConvInteger") else None
