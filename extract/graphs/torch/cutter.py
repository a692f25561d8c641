"""Cut a PyTorch module: on its traced graph, by torch's ONNX exporters."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ....atomic import new_file
from ....errors import ExportError, reason
from ....models.module_copy import set_evaluation_mode
from ...preprocess.by_kind import example_feed
from ..layer import Layer
from ..model_file import MIN_OUTSIDE_BYTES, has_large_weights, load_model, write_bytes
from ..routes import DEFAULT_TRACING, Route, Tracing
from .computation import digest_computation
from .cut_model import cut_module
from .inputs import dynamic_axes, to_tensors
from .layers import describe_layer, list_layers
from .reference import compute_reference
from .tokens import find_own_pooling
from .trace import Trace, trace

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import nn

    from ....models.backbone import TorchBackbone
    from ...preprocess.preprocessor import Feed
    from ..cut import Cut

OPSET = 20


class TorchCutter:
    """A PyTorch module, traced as described; see :class:`topwork.extract.graphs.cut.Cutter`."""

    def __init__(self, backbone: TorchBackbone, tracing: Tracing = DEFAULT_TRACING) -> None:
        self.backbone = backbone
        self.tracing = tracing
        set_evaluation_mode(backbone.module)

    @cached_property
    def traced(self) -> Trace:
        """The model as a functional graph."""
        return trace(self.backbone, self.tracing)

    def layers(self) -> list[Layer]:
        """List the legal cuts in order of execution, ``last`` at the end."""
        return list_layers(self.traced)

    def describe(self, name: str) -> Layer:
        """Describe one layer, without the shares of parameters and FLOPs."""
        return describe_layer(self.traced, name)

    def find_own_pooling(self) -> str:
        """Return how the model pools before its classifier, "" if that cannot be determined."""
        return self.backbone.pooling or find_own_pooling(self.traced)

    def digest_computation(self) -> str:
        """Return the digest of the model's traced program, "" if it cannot be traced."""
        return digest_computation(self.backbone)

    def reference(self, cut: Cut, feed: Feed) -> list[NDArray[np.float32]]:
        """Return what the untouched module yields for a batch, pooled: one matrix for each output of the cut."""
        return compute_reference(self.traced, cut, feed)

    def onnx_model(self, cut: Cut, route: Route, weights: Path) -> Any:
        """Return the ONNX model of a cut."""
        module = cut_module(self.traced, cut)
        feed = example_feed(self.backbone.input_spec)
        try:
            with silence_exporter():
                if route.torchscript:
                    return export_by_torchscript(module, feed, cut, folder=weights.parent)
                return export_by_dynamo(module, feed, cut, route=route, weights=weights)
        except Exception as error:
            raise ExportError(
                f"{self.backbone.name} cannot be exported at {', '.join(cut.names)}: {reason(error)}"
            ) from error


def export_by_dynamo(module: nn.Module, feed: Feed, cut: Cut, *, route: Route, weights: Path) -> Any:
    """Return the ``onnx.ModelProto`` that torch's dynamo exporter makes of a cut, traced with a batch.

    Large weights are written to the path `weights`.
    """
    import torch

    axes = dynamic_axes(cut.backbone.input_spec, route.tracing.inferred)
    program = torch.onnx.export(
        module,
        to_tensors(feed),
        dynamo=True,
        dynamic_shapes=(axes,),
        opset_version=OPSET,
        optimize=route.optimize,
        input_names=list(feed),
        output_names=list(cut.names),
        verbose=False,
    )
    assert program is not None
    return serialize(program.model, weights)


def serialize(model: Any, weights: Path) -> Any:
    """Return an ``onnx_ir.Model`` as ``onnx.ModelProto``; large weights are written to a path, straight from torch."""
    import onnx_ir

    values = [value for value in model.graph.initializers.values() if value.const_value is not None]
    if not has_large_weights(value.const_value.nbytes for value in values):
        return onnx_ir.serde.serialize_model(model)
    with new_file(weights) as temporary, temporary.open("xb") as stream:
        for value in values:
            tensor = value.const_value
            if tensor.nbytes < MIN_OUTSIDE_BYTES:
                continue
            content = np.ascontiguousarray(tensor.numpy()).reshape(-1).view(np.uint8)
            offset, length = write_bytes(stream, content)
            value.const_value = onnx_ir.ExternalTensor(
                str(weights.absolute()), offset, length, tensor.dtype, shape=tensor.shape, name=value.name
            )
    return onnx_ir.serde.serialize_model(model)


def export_by_torchscript(module: nn.Module, feed: Feed, cut: Cut, *, folder: Path) -> Any:
    """Return the ``onnx.ModelProto`` that torch's TorchScript exporter makes of a cut, traced with a batch.

    The files of a large model stay in the folder.
    """
    import torch

    input_axes = {port.name: port.free_axes for port in cut.backbone.input_spec.graph_inputs}
    output_axes = {name: {0: "batch"} for name in cut.names}
    path = folder / "torchscript.onnx"
    torch.onnx.export(
        module,
        to_tensors(feed),
        str(path),
        dynamo=False,
        dynamic_axes={**input_axes, **output_axes},
        opset_version=OPSET,
        input_names=list(feed),
        output_names=list(cut.names),
    )
    return load_model(path)


@contextlib.contextmanager
def silence_exporter() -> Iterator[None]:
    """Silence the exporter's messages about itself; its result is checked afterwards.

    Where torch's TorchScript exporter fails, it prints its graph from C++, past ``sys.stdout``.
    """
    from unittest import mock

    import torch

    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with (
            torch.no_grad(),
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            mock.patch.object(torch._C, "_jit_onnx_log", ignore_all, create=True),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def ignore_all(*values: Any) -> None:
    """Do nothing with what is to be printed."""
