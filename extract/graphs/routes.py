"""The ways to export a model, in the order in which they are tried; the certificate records which one was taken."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Tracing:
    """How a model becomes a traced graph.

    `strict` follows the model's Python bytecode, which handles some code that ordinary tracing does not. `decompose`
    breaks composite operations into those of core ATen before an exporter sees them. `plain_attention` computes
    attention by matrix products and a softmax, as the model does where no fused kernel exists. `inferred` lets
    ``torch.export`` infer which axes are free, where it cannot prove that those which should be are.
    """

    strict: bool = False
    decompose: bool = False
    plain_attention: bool = False
    inferred: bool = False


DEFAULT_TRACING = Tracing()


@dataclass(frozen=True)
class Route:
    """One way to export; with `optimize`, the exporter may rewrite the graph."""

    name: str
    tracing: Tracing = DEFAULT_TRACING
    optimize: bool = True
    torchscript: bool = False


PLAIN_ATTENTION = Tracing(plain_attention=True)
TORCH_ROUTES = (
    Route("dynamo"),
    Route("dynamo, not optimised", optimize=False),
    Route("dynamo, decomposed", Tracing(decompose=True)),
    Route("dynamo, plain attention", PLAIN_ATTENTION),
    Route("dynamo, inferred axes", Tracing(inferred=True)),
    Route("dynamo, inferred axes, decomposed", Tracing(inferred=True, decompose=True)),
    Route("dynamo, strict tracing", Tracing(strict=True)),
    Route("torchscript", torchscript=True),
    Route("torchscript, plain attention", PLAIN_ATTENTION, torchscript=True),
)
ONNX_ROUTES = (Route("copied from ONNX"),)
"""The only way for a backbone that is an ONNX graph already."""


@contextlib.contextmanager
def use_plain_attention(module: nn.Module) -> Iterator[None]:
    """Let a model compute its attention without fused kernels inside the block.

    timm's layers have a flag ``fused_attn``; models of transformers have an implementation that is chosen by name.
    """
    flags = [(child, child.fused_attn) for child in module.modules() if hasattr(child, "fused_attn")]
    model: Any = module
    implementation = getattr(getattr(model, "config", None), "_attn_implementation", None)
    try:
        for child, _ in flags:
            child.fused_attn = False  # type: ignore[assignment]
        if implementation is not None:
            model.set_attn_implementation("eager")
        yield
    finally:
        for child, flag in flags:
            child.fused_attn = flag
        if implementation is not None:
            model.set_attn_implementation(implementation)
