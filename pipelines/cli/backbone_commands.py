"""Commands about backbones."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from .options import BackboneOptions, JsonOption, grouped
from .output import print_json, print_table


@grouped
def layers(
    backbone: Annotated[str, typer.Argument(help="timm:NAME, torchvision:NAME or topwork:tiny.")],
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
    rows: list[list[Any]] = [[layer.name, " x ".join(map(str, layer.shape)), layer.kind] for layer in found]
    print_table(["layer", "shape", "kind"], rows)
