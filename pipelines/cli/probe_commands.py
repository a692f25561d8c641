"""``topwork probe`` and ``advise``: which layer of which backbone to use, and what the data allow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...errors import InputError
from .arguments import open_data
from .options import (
    BACKBONES_HELP,
    DEFAULT_BACKBONE,
    BackboneOptions,
    CutOptions,
    DataArgument,
    ExecutionOptions,
    JsonOption,
    SplitOption,
    TableOptions,
    TrainingColumns,
    parse_names,
    parse_split,
)
from .output import echo, echo_lines, format_duration, print_json, print_table

if TYPE_CHECKING:
    from ..estimators.precision_scores import PrecisionScores
    from ..selection.probe import LayerProbe
    from ..selection.probe_result import ProbedFeatures

MAX_LAYER_LENGTH = 20
"""Longer names of layers are shortened in tables, so that these fit into 80 columns."""


def probe(
    source: DataArgument,
    model: BackboneOptions,
    cut: CutOptions,
    execution: ExecutionOptions,
    table: TableOptions,
    columns: TrainingColumns,
    backbone: Annotated[
        str | None, typer.Option(help=f"{BACKBONES_HELP}; several, separated by commas, are compared.")
    ] = None,
    task: Annotated[str, typer.Option(help="classification (labels) or regression (values).")] = "classification",
    store: Annotated[str | None, typer.Option(help="Keep the recommended features of all items here.")] = None,
    split: SplitOption = None,
    baselines: Annotated[
        bool, typer.Option("--baselines/--no-baselines", help="Also compare raw inputs, and random weights.")
    ] = True,
    precisions: Annotated[
        bool, typer.Option("--precisions", help="Also compare precisions by the score of a head on each.")
    ] = False,
    max_items: Annotated[int, typer.Option(help="Compare by a sample of so many items.")] = 3000,
    as_json: JsonOption = False,
) -> None:
    """Compare the layers of a backbone on your items, and recommend one.

    Without --layer about eight, spread over depth, are compared; --layer all compares all of them.
    """
    from ..selection.probe import LayerProbe

    is_named = backbone is not None or store is not None or model != BackboneOptions()
    data, of_rows = open_probed(source, table, columns, is_named=is_named)
    compared = LayerProbe(
        list_backbones(model, backbone),
        task=task,
        layers=choose_layers(cut),
        pool=cut.pools if cut.pool else "auto",
        store=store,
        baselines=baselines,
        precisions=precisions,
        max_items=max_items,
        normalize=cut.normalize,
        **execution.to_parameters(),
    )
    compared.fit(data, split=parse_split(split), **of_rows)
    if as_json:
        print_json(compared.to_dict())
    else:
        print_probe(compared, source)


def advise(
    source: DataArgument,
    model: BackboneOptions,
    execution: ExecutionOptions,
    table: TableOptions,
    columns: TrainingColumns,
    backbone: Annotated[str | None, typer.Option(help=f"{BACKBONES_HELP}; by default topwork:tiny.")] = None,
    task: Annotated[str, typer.Option(help="classification (labels) or regression (values).")] = "classification",
    split: SplitOption = None,
    max_items: Annotated[int, typer.Option(help="Measure on a sample of so many items.")] = 3000,
    as_json: JsonOption = False,
) -> None:
    """Say whether your data are many or few, and like or unlike the backbone's own, and what follows from it."""
    from ..selection.advise import advise as advise_on

    is_named = backbone is not None or model != BackboneOptions()
    data, of_rows = open_probed(source, table, columns, is_named=is_named)
    advice = advise_on(
        data,
        backbone=model.to_spec(backbone),
        task=task,
        split=parse_split(split),
        max_items=max_items,
        **execution.to_parameters(),
        **of_rows,
    )
    if as_json:
        print_json(advice.to_dict())
    else:
        echo_lines(advice)


def open_probed(
    source: str, table: TableOptions, columns: TrainingColumns, *, is_named: bool
) -> tuple[Any, dict[str, Any]]:
    """Return a source or store, and the groups of its rows; a backbone that is named is refused for a store."""
    from ...extract.store.feature_store import FeatureStore

    data = open_data(source, table)
    if not isinstance(data, FeatureStore):
        return columns.add_to(data), {}
    if is_named:
        raise InputError(
            f"{source} is a feature store and has a backbone: leave out --backbone, --weights, … and --store"
        )
    of_rows = columns.read_from(data)
    of_rows.pop("sample_weight", None)
    return data, of_rows


def list_backbones(model: BackboneOptions, backbone: str | None) -> list[Any]:
    """Return the backbones to compare; options for one are refused for several."""
    names = parse_names(backbone or DEFAULT_BACKBONE)
    if len(names) > 1 and model != BackboneOptions():
        raise InputError(
            f"--backbone names {len(names)} backbones: --weights, --model-arg, --mean and the like are for one. "
            "Compare them in Python, with LayerProbe([load_backbone(…), load_backbone(…)])."
        )
    return [model.to_spec(name) for name in names]


def choose_layers(cut: CutOptions) -> str | list[str]:
    """Return the layers to compare: "auto", "all", or names."""
    if cut.layer is None or cut.is_automatic:
        return "auto"
    return "all" if cut.layer == "all" else cut.layers


def print_probe(compared: LayerProbe, source: str) -> None:
    """Print the table, the recommendation, and what the search took, in 80 columns."""
    facts = compared.to_dict()
    metric, best = facts["metric"], compared.best_
    backbones = list(dict.fromkeys(row.backbone for row in compared.table_))
    for backbone in backbones:
        if len(backbones) > 1:
            echo(f"{backbone}:")
        rows = [list_cells(row) for row in compared.table_ if row.backbone == backbone]
        print_table(["layer", "pool", metric, "95 %", "n", "width", "ms", "LogME", "kNN"], rows)
    echo("")
    for baseline in compared.baselines_:
        echo(
            f"{baseline.name}: {metric} {baseline.score:.3f}; the recommended features gain "
            f"{100 * baseline.gain:+.1f} ± {100 * baseline.error:.1f} points"
        )
    if compared.precisions_ is not None:
        print_precisions(compared.precisions_, metric)
        echo("")
    named = f"--backbone {best.backbone} " if len(backbones) > 1 else ""
    echo(f"recommended: {named}--layer {best.layer} --pool {best.pool}, {best.width} features")
    echo(f"{metric} {best.score:.3f} ({best.low:.3f} to {best.high:.3f}) on items that did not choose them")
    times = ", ".join(f"{name} {format_duration(seconds)}" for name, seconds in compared.seconds_.items() if seconds)
    echo(f"{len(compared.table_)} compared on {compared.n_items_:,} items: {times}")


def print_precisions(scores: PrecisionScores, metric: str) -> None:
    """Print what precisions cost and gain, and how to use the fastest that is as good."""
    from ...extract.runtime.providers import parse_family

    rows = [
        [
            parse_family(found.precision) + (", part fp32" if found.kept else ""),
            found.provider,
            f"{found.usual:.3f}",
            f"{found.speed:.1f}",
            "" if found.score is None else f"{found.score:.4f}",
            "" if found.difference is None else f"{found.difference:+.4f}",
            "" if found.uncertainty is None else f"± {found.uncertainty:.4f}",
        ]
        for found in scores.compared
    ]
    print_table(["precision", "provider", "error, 99 %", "times as fast", metric, "difference", ""], rows)
    family = parse_family(scores.chosen)
    if family != "fp32":
        echo(f"the fastest that is as good for a head: --precision {family} --fidelity score")


def list_cells(row: ProbedFeatures) -> list[str]:
    """Return a row of the table as text; milliseconds are those of an item."""
    layer = row.layer if len(row.layer) <= MAX_LAYER_LENGTH else f"…{row.layer[1 - MAX_LAYER_LENGTH :]}"
    scores = row.transferability
    cells = [layer, row.pool, f"{row.score:.3f}", f"{row.low:.2f}-{row.high:.2f}", str(row.n_items), str(row.width)]
    cells.append("" if row.seconds is None else f"{row.seconds:.1f}")
    if scores is None:
        return [*cells, "", ""]
    return [*cells, f"{scores.logme:.2f}", f"{scores.neighbor_score:.2f}"]
