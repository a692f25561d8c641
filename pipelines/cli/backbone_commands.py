"""``topwork layers``: list where a backbone can be cut, or verify the export of its layers."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...errors import InputError, ProviderError
from .options import BACKBONES_HELP, BackboneOptions, CutOptions, JsonOption, TableOptions
from .output import echo, echo_lines, print_json, print_outcome, print_table

if TYPE_CHECKING:
    from ...extract.graphs.certificate import Certificate
    from ...extract.graphs.layer import Layer
    from ...extract.sources.table import Table
    from ...models.backbone import Backbone
    from ...models.loading import BackboneSpec


def layers(
    backbone: Annotated[str, typer.Argument(help=f"{BACKBONES_HELP}.")],
    options: BackboneOptions,
    cut: CutOptions,
    table: TableOptions,
    check: Annotated[
        bool,
        typer.Option("--check", help="Export all layers (or those of --layer) and compare them with the original."),
    ] = False,
    items: Annotated[str | None, typer.Option(help="A source whose first items --check uses as well.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List every legal cut of a backbone, or verify that the exported layers match it."""
    from ...extract.graphs.graph_cache import load_or_reuse
    from ...extract.graphs.pooling import applicable_poolings

    if not check and (items or cut.pool or cut.normalize):
        raise InputError("--items, --pool and --normalize apply to the export; expected --check with them")
    spec = options.to_spec(backbone)
    if not check:
        spec = without_weights(spec)
    loaded = load_or_reuse(spec)
    if check:
        source = table.to_source(items) if items else None
        certificate = check_export(loaded, cut, source)
        print_outcome(certificate, print_certificate, as_json=as_json)
        return
    found = find_layers(loaded, cut)
    if as_json:
        facts = [{**vars(layer), "poolings": applicable_poolings(layer)} for layer in found]
        print_json({"backbone": backbone, "layers": facts})
    else:
        print_layers(found)


def without_weights(spec: BackboneSpec) -> BackboneSpec:
    """Return an untrained backbone, with the same layers, where the architecture is known without a download."""
    from ...models.loading import RANDOM_WEIGHTS

    source, _, name = spec.name.partition(":")
    is_known = source in ("timm", "torchvision") and ":" not in name
    return replace(spec, weights=RANDOM_WEIGHTS) if is_known and spec.weights is None else spec


def find_layers(backbone: Backbone, cut: CutOptions) -> list[Layer]:
    """Return the layers that are asked for; those that are not listed by default come last."""
    from ...extract.graphs.cutting import cutter_for
    from ...extract.graphs.cutting import layers as list_layers

    listed = list_layers(backbone)
    if not cut.layer:
        return listed
    found = [layer for layer in listed if layer.name in cut.layers]
    unlisted = set(cut.layers) - {layer.name for layer in found}
    if unlisted:
        cutter = cutter_for(backbone)
        found += [cutter.describe(name) for name in cut.layers if name in unlisted]
    return found


def print_layers(layers: list[Layer]) -> None:
    """Print a table of layers; ``n`` is a side of any size."""
    rows = []
    for layer in layers:
        sides = ["n" if side is None else str(side) for side in layer.shape]
        prefix_tokens = str(layer.prefix_tokens) if layer.kind == "tokens" else ""
        single = "yes" if layer.single_tensor else ""
        shares = [f"{layer.parameters:.1%}", f"{layer.flops:.1%}"]
        rows.append([layer.name, "x".join(sides), layer.kind, prefix_tokens, *shares, single])
    print_table(["layer", "shape", "kind", "prefix", "parameters", "FLOPs", "single"], rows)


def check_export(backbone: Backbone, cut: CutOptions, source: str | Table | None) -> Certificate:
    """Export layers into one temporary graph, open it on every provider, and return its certificate."""
    from ...extract.engine.sampling import make_sampler
    from ...extract.graphs.cut import CutRequest
    from ...extract.graphs.cutting import layers as list_layers
    from ...extract.graphs.export import export
    from ...extract.runtime.providers import find_usable_providers

    names = cut.layers if cut.layer else [layer.name for layer in list_layers(backbone)]
    request = CutRequest(tuple(names), tuple(cut.pools), cut.normalize)
    with tempfile.TemporaryDirectory(prefix="topwork-") as folder:
        graph = export(backbone, request, Path(folder) / "graph", make_sampler(source))
        for provider in find_usable_providers("fp32"):
            with contextlib.suppress(ProviderError):  # the certificate says which one is wrong
                graph.open(provider.name)
        return graph.certificate


def print_certificate(certificate: Certificate) -> None:
    """Print the error of every output, and the conditions under which it was measured."""
    print_deviations(certificate)
    n_outputs = len(certificate.outputs)
    echo_lines(f"\nall {n_outputs} outputs match the original model (tolerance {certificate.tolerance:.0e});")
    print_conditions(certificate)
    echo(f"repeated runs are identical; the batch changes an item's features by {certificate.independence:.1e}")
    for port in certificate.inputs:
        echo(f"input {port.name}: {port.type} {' x '.join(map(str, port.axes))}")
    for measurement in certificate.measurements:
        if not measurement.passes:
            echo(f"not used, as it computes other features: provider {measurement}")
    for reason in certificate.refused:
        echo(f"rejected route: {reason}")


def print_conditions(certificate: Certificate) -> None:
    """Print how the graph was exported and run, and the batches that were compared."""
    batches = sorted({(deviation.case, deviation.batch) for deviation in certificate.deviations})
    listed = ", ".join(f"{case} {batch}" for case, batch in batches)
    echo(f"exported by {certificate.route}, on {certificate.provider} in {certificate.precision}; batches: {listed}")


def print_deviations(certificate: Certificate) -> None:
    """Print the largest deviation of every output from the original model, and the batch in which it occurred."""
    rows = []
    for port in certificate.outputs:
        deviations = [deviation for deviation in certificate.deviations if deviation.output == port.name]
        worst = max(deviations, key=lambda deviation: deviation.relative_l2)
        errors = [f"{worst.relative_l2:.1e}", f"{worst.max_abs:.1e}", f"{worst.cosine:.6f}"]
        rows.append([port.name, str(port.axes[1]), *errors, f"{worst.case} {worst.batch}"])
    print_table(["output", "features", "relative L2", "max error", "cosine", "worst batch"], rows)
