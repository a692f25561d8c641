"""Commands that show what is available, without data of the user: ``heads``, ``doctor``, ``demo``."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...errors import InputError
from .options import JsonOption
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


def doctor(as_json: JsonOption = False) -> None:
    """Show which providers and precisions this machine has, and problems of the installation."""
    from ..doctor import examine_installation

    facts = examine_installation()
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
