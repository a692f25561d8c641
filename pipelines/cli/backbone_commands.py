"""Commands about backbones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ...errors import InputError
from .options import BACKBONES, BackboneOptions, CutOptions, JsonOption, TableFlags, grouped
from .output import print_json, print_table

if TYPE_CHECKING:
    from ...extract.graphs.certificate import Certificate
    from ...extract.graphs.layer import Layer
    from ...extract.sources.table import Table
    from ...models.backbone import Backbone


@grouped
def layers(
    backbone: Annotated[str, typer.Argument(help=f"{BACKBONES}.")],
    options: BackboneOptions,
    cut: CutOptions,
    table: TableFlags,
    check: Annotated[
        bool, typer.Option("--check", help="Export all layers (or those of --layer) and compare with the network.")
    ] = False,
    items: Annotated[str | None, typer.Option(help="A source whose first items --check uses, too.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List every legal cut of a backbone, or prove that their export is the same network."""
    from ...extract.graphs.cutting import cutter_for
    from ...extract.graphs.cutting import layers as list_layers
    from ...extract.graphs.pooling import applicable

    if not check and (items or cut.pool or cut.normalize):
        raise InputError("--items, --pool and --normalize change what --check exports; without --check they do nothing")
    loaded = options.spec(backbone).load()
    found = [layer for layer in list_layers(loaded) if cut.layer is None or layer.name in cut.layers]
    if cut.layer and not check and len(found) < len(cut.layers):
        known = {layer.name for layer in found}
        found += [cutter_for(loaded).describe(name) for name in cut.layers if name not in known]
    if check:
        names = cut.layers if cut.layer else [layer.name for layer in found]
        _print_certificate(_checked(loaded, names, cut, items and table.source(items)), as_json)
    elif as_json:
        facts = [{**vars(layer), "poolings": applicable(layer)} for layer in found]
        print_json({"backbone": backbone, "layers": facts})
    else:
        print_table(["layer", "shape", "kind", "prefix", "parameters", "FLOPs", "single"], [_row(x) for x in found])


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


def _checked(backbone: Backbone, names: list[str], cut: CutOptions, items: str | Table | None) -> Certificate:
    """Export layers in one graph, kept only for as long as it takes."""
    import tempfile
    from pathlib import Path

    from ...extract.engine.sampling import samples_of
    from ...extract.graphs.cut import CutRequest
    from ...extract.graphs.export import export

    request = CutRequest(tuple(names), tuple(cut.pools), cut.normalize)
    with tempfile.TemporaryDirectory(prefix="topwork-") as folder:
        return export(backbone, request, Path(folder) / "graph", samples_of(items)).certificate


def _print_certificate(certificate: Certificate, as_json: bool) -> None:
    if as_json:
        print_json(certificate.to_json())
        return
    rows = []
    for port in certificate.outputs:
        worst = max((d for d in certificate.deviations if d.output == port.name), key=lambda d: d.relative_l2)
        errors = [f"{worst.relative_l2:.1e}", f"{worst.max_abs:.1e}", f"{worst.cosine:.6f}"]
        rows.append([port.name, str(port.axes[1]), *errors, f"{worst.case} {worst.batch}"])
    print_table(["output", "features", "relative L2", "largest", "cosine", "worst batch"], rows)
    batches = sorted({(d.case, d.batch) for d in certificate.deviations})
    typer.echo(f"\nall {len(rows)} outputs agree with the network (bound {certificate.tolerance:.0e}), exported by")
    typer.echo(f"{certificate.route}, on {certificate.provider} in {certificate.precision}; batches: ", nl=False)
    typer.echo(", ".join(f"{case} {batch}" for case, batch in batches))
    typer.echo(f"two runs are equal; an item's features change by {certificate.independence:.1e} with its batch")
    for port in certificate.inputs:
        typer.echo(f"input {port.name}: {port.type} {' x '.join(map(str, port.axes))}")
    for reason in certificate.refused:
        typer.echo(f"not taken: {reason}")
