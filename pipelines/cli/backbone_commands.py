"""Commands about backbones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .options import BACKBONES, BackboneOptions, JsonOption, grouped
from .output import print_json, print_table

if TYPE_CHECKING:
    from ...extract.layer import Layer


@grouped
def layers(
    backbone: Annotated[str, typer.Argument(help=f"{BACKBONES}.")],
    options: BackboneOptions,
    as_json: JsonOption = False,
) -> None:
    """List every legal cut of a backbone."""
    from ...extract.layers import layers as list_layers
    from ...extract.pooling import applicable

    found = list_layers(options.spec(backbone).load())
    if as_json:
        print_json(
            {"backbone": backbone, "layers": [{**vars(layer), "poolings": applicable(layer)} for layer in found]}
        )
        return
    header = ["layer", "shape", "kind", "prefix", "parameters", "FLOPs", "single"]
    print_table(header, [_row(layer) for layer in found])


def _row(layer: Layer) -> list[str]:
    return [
        layer.name,
        "x".join("n" if side is None else str(side) for side in layer.shape),
        layer.kind,
        str(layer.prefix_tokens) if layer.kind == "tokens" else "",
        f"{layer.parameters:.1%}",
        f"{layer.flops:.1%}",
        "yes" if layer.single_tensor else "",
    ]
