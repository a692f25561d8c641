"""An ONNX file as a graph of values: from which others each is computed, and which depend on the input.

Values correspond to the nodes of :mod:`topwork.extract.graphs.torch.flow`: sizes are no data here, either.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from ..model_file import load_model, read_array
from .signed_weights import shift_signed_weights

if TYPE_CHECKING:
    from ....models.input_spec import InputSpec

SIZE_OPERATIONS = ("Shape", "Size")
FLOAT_TYPES = ("FLOAT", "FLOAT16", "DOUBLE", "BFLOAT16")


@dataclass(eq=False)
class Value:
    """One tensor of the graph.

    `node` is the operation that yields it, an ``onnx.NodeProto``, None for inputs and weights; `all_input_nodes` are
    the values that this operation reads, its subgraphs included. `weight` is the ``onnx.TensorProto`` of a weight.
    """

    name: str
    node: Any = None
    all_input_nodes: list[Value] = field(default_factory=list)
    weight: Any = None

    @property
    def operation(self) -> str:
        """Type of the operation that yields it, "" for inputs and weights."""
        return "" if self.node is None else str(self.node.op_type)

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return an attribute of the operation."""
        import onnx

        for attribute in self.node.attribute:
            if attribute.name == name:
                return onnx.helper.get_attribute_value(attribute)
        return default

    @property
    def tensor(self) -> Any:
        """Its content as onnx.TensorProto, None if it is computed."""
        if self.operation == "Constant":
            return self.attribute("value")
        return self.weight

    def constant(self) -> NDArray[Any] | None:
        """Return its content, None if it is computed."""
        if self.tensor is None:
            return None
        return read_array(self.tensor)


@dataclass(frozen=True)
class OnnxGraph:
    """A loaded file: an ``onnx.ModelProto`` with the weights from other files.

    `data` is the name of the input that the values depend on; the others are masks and the like.
    """

    model: Any
    data: str

    @cached_property
    def values(self) -> dict[str, Value]:
        """All values of the main graph by name, in the order of the file."""
        graph = self.model.graph
        values = {port.name: Value(port.name) for port in graph.input}
        sparse_weights = [sparse.values for sparse in graph.sparse_initializer]
        for tensor in (*graph.initializer, *sparse_weights):
            values[tensor.name] = Value(tensor.name, weight=tensor)
        for node in graph.node:
            sources = [values[name] for name in names_read(node) if name in values]
            for name in node.output:
                if name:
                    values[name] = Value(name, node, sources)
        return values

    @cached_property
    def live(self) -> list[Value]:
        """The values that depend on those of the input, in order."""
        live: dict[Value, None] = {self.values[self.data]: None}
        for value in self.values.values():
            if value.operation not in SIZE_OPERATIONS and any(source in live for source in value.all_input_nodes):
                live[value] = None
        return list(live)

    @cached_property
    def readers(self) -> dict[Value, list[Value]]:
        """For each live value the live values computed from it."""
        readers: dict[Value, list[Value]] = {value: [] for value in self.live}
        for value in self.live:
            for source in value.all_input_nodes:
                if source in readers:
                    readers[source].append(value)
        return readers

    @property
    def outputs(self) -> list[Value]:
        """The values that the model returns."""
        return [self.values[port.name] for port in self.model.graph.output]

    @property
    def opset(self) -> int:
        """Version of the standard operators."""
        versions = [imported.version for imported in self.model.opset_import if imported.domain in ("", "ai.onnx")]
        return int(versions[0])

    @property
    def inputs(self) -> list[Any]:
        """The inputs as onnx.ValueInfoProto, without the weights that old files list among them."""
        weights = {tensor.name for tensor in self.model.graph.initializer}
        return [port for port in self.model.graph.input if port.name not in weights]

    @property
    def data_type(self) -> Any:
        """Type of the input that the values depend on, as onnx.TypeProto.Tensor."""
        (data,) = (port for port in self.inputs if port.name == self.data)
        return data.type.tensor_type

    def mixes_items(self, spec: InputSpec) -> bool:
        """Return whether something is computed over a whole batch, so that its items depend on each other.

        It is the range by which a batch is rounded, or the largest value of a batch of sounds.
        """
        if any(node.op_type.startswith("DynamicQuantize") for node in self.model.graph.node):
            return True
        return spec.kind == "audio" and any(
            value.operation.startswith("Reduce") and reduces_batch(value) for value in self.live
        )

    @property
    def fixed_batch(self) -> int | None:
        """The only batch size that the file allows, None if it is free."""
        axes = self.data_type.shape.dim
        if not axes:
            return None
        return int(axes[0].dim_value) or None


def reduces_batch(value: Value) -> bool:
    """Return whether a reduction runs over all axes, or over the first."""
    axes = value.attribute("axes")
    if axes is None and len(value.all_input_nodes) > 1:
        constant = value.all_input_nodes[1].constant()
        if constant is None:
            return False
        axes = constant.ravel().tolist()
    is_over_all = not axes and not value.attribute("noop_with_empty_axes", 0)
    return is_over_all or 0 in (axes or ())


def load_graph(path: Path, data: str) -> OnnxGraph:
    """Read a file; large weights beside it are read when they are needed."""
    model = load_model(path)
    shift_signed_weights(model.graph)
    return OnnxGraph(model, data)


def names_read(node: Any) -> Iterator[str]:
    """Yield the names of all values that a node reads, and of those that its branches and loops read."""
    yield from (name for name in node.input if name)
    for graph in list_subgraphs(node):
        for inner in graph.node:
            yield from names_read(inner)
        yield from (port.name for port in graph.output)


def prune(graph: Any, wanted: Iterable[str]) -> Any:
    """Return a graph with copies of the nodes, in order, and weights that the values called `wanted` need."""
    import onnx

    needed = set(wanted)
    nodes = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(names_read(node))
            nodes.append(node)
    pruned = onnx.GraphProto()
    pruned.node.extend(reversed(nodes))
    pruned.initializer.extend(tensor for tensor in graph.initializer if tensor.name in needed)
    pruned.sparse_initializer.extend(sparse for sparse in graph.sparse_initializer if sparse.values.name in needed)
    return pruned


def list_subgraphs(node: Any) -> Iterator[Any]:
    """Yield the graphs inside a node: branches of ``If``, bodies of ``Loop`` and ``Scan``."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs
