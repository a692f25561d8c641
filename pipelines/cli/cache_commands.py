"""``topwork cache …``: the user's cache folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...errors import CacheError
from .options import JsonOption
from .output import confirm, echo, format_size, is_at_terminal, print_json, print_result, print_table

if TYPE_CHECKING:
    from ...extract.graphs.cache_contents import CacheEntry

MAX_SHOWN_GRAPHS = 20
MAX_SHOWN_NAME = 56
MAX_SHOWN_ENTRIES = 5


def info(as_json: JsonOption = False) -> None:
    """Show what the cache of exported graphs holds, the newest graphs first."""
    from ...extract.graphs.cache_contents import KINDS, list_entries
    from ...user_cache import user_cache_folder

    folder = user_cache_folder()
    entries = list_entries()
    kinds = {kind: [entry for entry in entries if entry.kind == kind] for kind in KINDS}
    graphs = [entry.describe() for entry in kinds["graphs"]]
    if as_json:
        counts = {kind: {"entries": len(found), "bytes": count_bytes(found)} for kind, found in kinds.items()}
        print_json({"folder": str(folder), "bytes": count_bytes(entries), "kinds": counts, "graphs": graphs})
        return
    echo(f"{folder}: {len(entries)} entries, {format_size(count_bytes(entries))}")
    if graphs:
        rows = [[describe_graph(graph), format_size(graph["bytes"]), f"{graph['age_days']:g}"] for graph in graphs]
        print_table(["graph", "size", "days old"], rows[:MAX_SHOWN_GRAPHS])
    if len(graphs) > MAX_SHOWN_GRAPHS:
        echo(f"… and {len(graphs) - MAX_SHOWN_GRAPHS} more graphs; --json lists all")


def count_bytes(entries: Sequence[CacheEntry]) -> int:
    """Return the size of entries together."""
    return sum(entry.bytes for entry in entries)


def describe_graph(graph: dict[str, Any]) -> str:
    """Return backbone and layers of a graph, in at most 56 characters."""
    if graph["backbone"] is None:
        return "(cannot be read)"
    text = f"{graph['backbone']} {','.join(graph['layers'])}"
    return text if len(text) <= MAX_SHOWN_NAME else f"{text[: MAX_SHOWN_NAME - 1]}…"


def clean(
    older_than: Annotated[
        float | None, typer.Option(help="Remove only what was written at least so many days ago.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, and remove nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Empty the cache of exported graphs; what is needed again is exported again. Stores and bundles have their own."""
    from ...extract.graphs.cache_contents import choose_entries, remove_entries

    entries = choose_entries(older_than)
    facts = {"entries": len(entries), "bytes": count_bytes(entries)}
    amount = f"{len(entries)} entries, {format_size(facts['bytes'])}"
    if dry_run:
        print_result(facts, f"would remove {amount}", as_json=as_json)
        return
    if entries and is_at_terminal(as_json=as_json) and not confirm(f"Remove {amount}?"):
        return
    remove_entries(entries)
    print_result(facts, f"removed {amount}", as_json=as_json)


def verify(as_json: JsonOption = False) -> None:
    """Check every entry of the cache against its SHA-256, and that nobody else can change it.

    The exit code is 3 unless all are as topwork wrote them. Damaged entries, and those without a SHA-256, are not used
    but made anew when they are needed.
    """
    from ...extract.graphs.cache_check import verify_cache
    from ...user_cache import user_cache_folder

    folder = user_cache_folder()
    found = verify_cache()
    if as_json:
        print_json({"folder": str(folder), **found})
    unusable = [*found["damaged"], *found["unsealed"], *found["unsafe"]]
    if unusable:
        named = ", ".join(unusable[:MAX_SHOWN_ENTRIES])
        if len(unusable) > MAX_SHOWN_ENTRIES:
            named += f" and {len(unusable) - MAX_SHOWN_ENTRIES} more (--json lists all)"
        raise CacheError(
            f"{len(found['damaged'])} entries of the cache {folder} are damaged, {len(found['unsealed'])} have no "
            f"SHA-256 (an earlier version or another program wrote them), and {len(found['unsafe'])} belong to other "
            f"users or can be changed by them: {named}. None of them is used: those of the first two "
            "kinds are made anew when they are needed, or removed by `topwork cache clean`; remove the others."
        )
    if not as_json:
        echo(f"{folder}: all {len(found['intact'])} entries match their SHA-256")
