"""Commands that show what is available, without data of the user: ``heads``, ``doctor``, ``demo``."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...errors import InputError
from .options import BACKBONE_PANEL, BACKBONES_HELP, SOURCES_HELP, BackboneOptions, JsonOption
from .output import echo, echo_lines, print_json, print_table

if TYPE_CHECKING:
    from ...heads.registry import NamedHead


def heads(as_json: JsonOption = False) -> None:
    """List the heads that have a name, and what they are good for."""
    from ...heads.registry import HEADS

    if as_json:
        facts = [{"name": head.name, "tasks": head.tasks, "good_for": head.good_for} for head in HEADS.values()]
        print_json({"heads": facts})
        return
    print_heads(list(HEADS.values()))
    echo_lines("\nclass: one per item; labels: any number per item; value: a number to predict")


def print_heads(heads: list[NamedHead]) -> None:
    """Print a table of heads; texts are padded, so that the last column is flush left."""
    from ...heads.registry import TASKS

    width = max(len(head.good_for) for head in heads)
    rows = []
    for head in heads:
        marks = ["yes" if task in head.tasks else "" for task in TASKS]
        rows.append([head.name, *marks, head.good_for.ljust(width)])
    print_table(["head", "class", "labels", "value", "good for".ljust(width)], rows)


def doctor(
    options: BackboneOptions,
    bench: Annotated[
        bool, typer.Option("--bench", help="Time what auto chooses from, on typical networks or on --backbone.")
    ] = False,
    backbone: Annotated[
        str | None,
        typer.Option(help=f"Measure this one: {BACKBONES_HELP}.", rich_help_panel=BACKBONE_PANEL),
    ] = None,
    items: Annotated[
        str | None, typer.Option(help=f"Your own items, as errors on synthetic ones say little. {SOURCES_HELP}.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show which providers and precisions this machine has, how fast they are, and problems of the installation."""
    from ..doctor import examine_installation

    if backbone is not None and not bench:
        raise InputError(f"--backbone {backbone} applies to --bench; expected --bench with it")
    if backbone is None and (items is not None or options != BackboneOptions()):
        raise InputError("--items and options of the backbone apply to --backbone; expected --bench --backbone NAME")
    facts = examine_installation()
    if bench:
        facts["bench"] = run_bench(backbone, options, items)
    if as_json:
        print_json(facts)
        return
    print_machine(facts["machine"], facts["versions"])
    print_providers(facts["providers"])
    echo("")
    for precision, choice in facts["auto"].items():
        echo(f"auto in {precision}: {choice}")
    for problem in facts["problems"]:
        echo_lines(f"\nproblem: {problem}")
    if bench:
        print_bench(facts["bench"])


def run_bench(backbone: str | None, options: BackboneOptions, items: str | None) -> list[dict[str, Any]]:
    """Measure the named backbone, or typical networks."""
    from ...extract.graphs.graph_cache import load_or_reuse
    from ..bench import bench_backbone, bench_typical_networks

    if backbone is None:
        return bench_typical_networks()
    return [bench_backbone(backbone, load_or_reuse(options.to_spec(backbone)), items)]


def print_bench(networks: list[dict[str, Any]]) -> None:
    """Print a table for each network, and what its numbers mean."""
    from ...extract.graphs.fidelity import MAX_ITEM_ERROR, MAX_P99_ERROR
    from ...extract.precision.choice import MIN_ITEMS_TO_SEARCH

    for network in networks:
        kind = "synthetic" if network["synthetic"] else "of your own"
        echo("")
        echo(f"{network['network']}: {network['items']} {kind} items")
        width = max(len(measured["verdict"]) for measured in network["measured"])
        rows = [
            [
                measured["provider"],
                measured["precision"],
                str(measured["kept"]),
                f"{measured['items_per_second']:.0f}",
                f"{measured['speed']:.2f}",
                f"{measured['usual']:.4f}",
                f"{measured['worst']:.4f}",
                measured["verdict"].ljust(width),
            ]
            for measured in network["measured"]
        ]
        print_table(["provider", "precision", "kept", "items/s", "speed", "99 %", "worst", "auto".ljust(width)], rows)
        for failure in network["failed"]:
            echo(f"  failed: {failure}")
    echo_lines(
        f"\nauto: as in a job of {MIN_ITEMS_TO_SEARCH:,} items or more\n"
        "kept: operations in fp32; speed: of inference, over that of the fastest in fp32\n"
        f"99 %, worst: relative errors of the items; auto allows {MAX_P99_ERROR} and {MAX_ITEM_ERROR}"
    )
    if any(network["synthetic"] for network in networks):
        echo_lines(
            "Errors on your own items are others, and often larger than on synthetic ones:\n"
            "--backbone NAME --items SOURCE measures them."
        )


def print_machine(machine: dict[str, Any], versions: dict[str, str]) -> None:
    """Print the processor, its instruction sets, and the versions of the packages."""
    instruction_sets = ", ".join(machine["instruction_sets"]) or "not reported by the system"
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    echo(f"{machine['processor']}, {machine['cores']} cores; {machine['system']}")
    echo(f"instruction sets: {instruction_sets}")
    echo_lines(f"versions: {packages}\n")


def print_providers(providers: list[dict[str, Any]]) -> None:
    """Print which providers are available in which precisions, and the notes about them."""
    rows = []
    for provider in providers:
        availability = "yes" if provider["there"] else "no"
        rows.append([provider["name"], availability, ", ".join(provider["precisions"])])
    print_table(["provider", "available", "precisions"], rows)
    for provider in providers:
        if provider["note"]:
            echo(f"  {provider['name']}: {provider['note']}")


def demo(
    keep: Annotated[
        Path | None, typer.Option(help="Keep images, store, bundle and ONNX file in this new folder.")
    ] = None,
) -> None:
    """Show transfer learning on hand-written digits: offline, in less than a minute."""
    from ..demo import run_demo

    if keep is None:
        with tempfile.TemporaryDirectory(prefix="topwork-demo-") as folder:
            run_demo(Path(folder), echo_lines)
            echo("These files were temporary and are removed; `topwork demo --keep DIR` keeps them.")
        return
    if keep.exists():
        raise InputError(f"--keep {keep}: exists already; expected the name of a new folder")
    keep.mkdir(parents=True)
    run_demo(keep, echo_lines)
