"""The command that looks at the machine."""

from __future__ import annotations

import typer

from .options import JsonOption
from .output import print_json, print_table


def doctor(as_json: JsonOption = False) -> None:
    """Show what this machine can run graphs with, and what is wrong with the installation."""
    from ..doctor import examined

    facts = examined()
    if as_json:
        print_json(facts)
        return
    machine = facts["machine"]
    typer.echo(f"{machine['processor']}, {machine['cores']} cores; {machine['system']}")
    typer.echo(f"instruction sets: {', '.join(machine['instruction_sets']) or 'not told by the system'}")
    typer.echo(f"versions: {', '.join(f'{name} {found}' for name, found in facts['versions'].items())}\n")
    print_table(
        ["provider", "there", "computes in"],
        [[p["name"], "yes" if p["there"] else "no", ", ".join(p["precisions"])] for p in facts["providers"]],
    )
    for provider in facts["providers"]:
        if provider["note"]:
            typer.echo(f"  {provider['name']}: {provider['note']}")
    typer.echo("")
    for precision, choice in facts["auto"].items():
        typer.echo(f"auto in {precision}: {choice}")
    for problem in facts["problems"]:
        typer.echo(f"\nproblem: {problem}")
