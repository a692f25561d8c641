"""The command that trains a bundle's head again from the cache."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from .options import BundleArgument, JsonOption, StoreArgument, TrustOption
from .output import print_json


def refit(
    bundle: BundleArgument,
    store: StoreArgument,
    out: Annotated[Path, typer.Option(help="The bundle to write; it may be the same.")],
    labels: Annotated[
        Path | None, typer.Option(help="A table with a column id and one of labels; by default the store's labels.")
    ] = None,
    label_column: Annotated[str | None, typer.Option(help="Column of labels: label, or the only one there is.")] = None,
    held_out: Annotated[
        float | None,
        typer.Option(help="Share of the items to judge by; by default the parent's, or split test and val, or 0.2."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the choice of items to judge by.")] = None,
    anew: Annotated[bool, typer.Option("--anew", help="Start from nothing, and choose the penalty again.")] = False,
    trust: TrustOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train the head of a bundle again on the features of a store, and judge it beside its parent."""
    from ..estimators.refit import refit as refit_bundle

    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="classes without a row|.*the head is not judged"
        )  # the report says so
        child = refit_bundle(
            bundle,
            store,
            labels,
            label_column=label_column,
            held_out=held_out,
            seed=seed,
            warm=not anew,
            trusted=trust or (),
        )
    child.save(out)
    if as_json:
        print_json({"bundle": str(out), **child.lineage_})
    else:
        _print_lineage(child, out)


def _print_lineage(child: Any, out: Path) -> None:
    lineage, metrics, held = child.lineage_, child.lineage_["metrics"], child.lineage_["held_out"]
    start = "from the parent's solution" if lineage["warm"] else "from nothing"
    left_out = f"; {lineage['unlabelled']} rows without a label left out" if lineage["unlabelled"] else ""
    typer.echo(f"trained on {lineage['rows']} rows, started {start}{left_out}")
    for what, names in lineage["classes"].items():
        if names:
            typer.echo(f"{what} classes: {', '.join(map(str, names))}")
    if metrics:
        rule = "split" if held["by"] == "split" else f"id, {held['share']:g} of them, seed {held['seed']}"
        typer.echo(f"judged by {held['n']} rows that were held out (by {rule})")
        typer.echo(f"{metrics['metric']}  {metrics['held_out']:.4f}, in training {metrics['training']:.4f}")
        seen = " (it may have learned from these rows)" if metrics["parent_may_have_learned_them"] else ""
        typer.echo(f"parent    {metrics['parent']:.4f}{seen}")
    else:
        typer.echo("not judged: no row is held out")
    typer.echo(f"saved {out}")
