"""Cutting a PyTorch network: on its traced graph, by way of torch's ONNX exporters."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ....errors import ExportError, reason
from ...preprocess.by_kind import example_feed
from ..dominance import ancestors
from ..layer import Layer
from ..pooling import features_of
from ..routes import ORDINARY, Route, Tracing
from .entry import dynamic_axes, entry_module, tensors_of
from .layers import describe, torch_layers
from .reference import reference
from .tokens import own_pooling
from .trace import Trace, node_of, trace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn
    from torch.fx import GraphModule, Node

    from ....models.torch_backbone import TorchBackbone
    from ...preprocess.preprocessor import Feed
    from ..cut import Cut

OPSET = 20


class TorchCutter:
    """A traced PyTorch network; see :class:`topwork.extract.graphs.cutting.Cutter`."""

    def __init__(self, backbone: TorchBackbone, tracing: Tracing = ORDINARY) -> None:
        self.backbone, self.tracing = backbone, tracing
        backbone.module.eval()

    @cached_property
    def traced(self) -> Trace:
        """The network as a functional graph."""
        return trace(self.backbone, self.tracing)

    def layers(self) -> list[Layer]:
        """List the legal cuts in order of execution, ``last`` at the end."""
        return torch_layers(self.traced)

    def describe(self, name: str) -> Layer:
        """Describe one layer, without what lies below it."""
        return describe(self.traced, name)

    def own_pooling(self) -> str:
        """Return how the network pools before its classifier, "" if that cannot be told."""
        return own_pooling(self.traced)

    def reference(self, cut: Cut, feed: Feed) -> list[NDArray[np.float32]]:
        """Return what the untouched network yields for a batch, pooled: one matrix for each output of the cut."""
        return reference(self.traced, cut, feed)

    def onnx_model(self, cut: Cut, route: Route) -> Any:
        """Return the ONNX model of a cut."""
        network, feed = cut_network(self.traced, cut), example_feed(self.backbone.input_spec)
        export = _by_torchscript if route.torchscript else _by_dynamo
        try:
            with _quiet():
                return export(network, feed, cut, route)
        except Exception as error:
            raise ExportError(
                f"{self.backbone.name} cannot be exported at {', '.join(cut.names)}: {reason(error)}"
            ) from error


def cut_network(traced: Trace, cut: Cut) -> nn.Module:
    """Return a module that takes the graph's inputs and returns one matrix for each output."""
    from torch import nn

    backbone = traced.backbone
    body = _only(traced.module, [node_of(traced, layer.name) for layer, _ in cut.chosen])
    entry = entry_module(backbone.input_spec)

    class CutNetwork(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.entry, self.body = entry, body

        def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
            positional, named = backbone.arguments_of(self.entry(*inputs))
            values = self.body(*positional, **named)
            return tuple(features_of(values, cut, inputs[-1]))

    return CutNetwork().eval()


def _only(module: GraphModule, outputs: list[Node]) -> GraphModule:
    """Return a graph of only what the outputs need; parameters above the last cut are not in it."""
    import torch

    needed = ancestors(outputs)
    graph, copies = torch.fx.Graph(), dict[torch.fx.Node, torch.fx.Node]()
    for node in module.graph.nodes:
        if node in needed or node.op == "placeholder":
            copies[node] = graph.node_copy(node, lambda n: copies[n])
    graph.output(tuple(copies[node] for node in outputs))
    return torch.fx.GraphModule(module, graph)


def _by_dynamo(network: nn.Module, feed: Feed, cut: Cut, route: Route) -> Any:
    import torch

    program = torch.onnx.export(
        network,
        tensors_of(feed),
        dynamo=True,
        dynamic_shapes=(dynamic_axes(cut.backbone.input_spec, len(feed), route.tracing.inferred),),
        opset_version=OPSET,
        optimize=route.optimize,
        input_names=list(feed),
        output_names=list(cut.names),
        verbose=False,
    )
    assert program is not None
    return program.model_proto


def _by_torchscript(network: nn.Module, feed: Feed, cut: Cut, route: Route) -> Any:
    import onnx
    import torch

    ports = cut.backbone.input_spec.graph_inputs
    input_axes = {port.name: port.free_axes for port in ports}
    output_axes = {name: {0: "batch"} for name in cut.names}
    stream = io.BytesIO()
    torch.onnx.export(
        network,
        tensors_of(feed),
        stream,  # type: ignore[arg-type]
        dynamo=False,
        dynamic_axes={**input_axes, **output_axes},
        opset_version=OPSET,
        input_names=list(feed),
        output_names=list(cut.names),
    )
    return onnx.load_from_string(stream.getvalue())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence what the exporter says about itself; what matters is checked afterwards."""
    import torch

    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with torch.no_grad(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
