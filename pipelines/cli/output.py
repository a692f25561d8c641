"""What the commands print: tables for people, JSON for machines, a progress bar on a terminal."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import typer

from ...extract.progress import watching

if TYPE_CHECKING:
    from ...extract.ledger import Ledger

SHOWN_FAILURES = 10


def print_json(value: dict[str, Any]) -> None:
    """Print one object on standard output."""
    typer.echo(json.dumps(value, default=str))


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table in plain columns; all but the first are set flush right."""
    table = [list(header), *(list(row) for row in rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(header))]
    for row in table:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        typer.echo("  ".join(cells).rstrip())


def print_ledger(ledger: Ledger) -> None:
    """Print what became of a job's inputs, and where its time went."""
    typer.echo(
        f"{ledger.items} items: {ledger.ok} ok, {ledger.failed} failed, {ledger.duplicate} duplicate"
        + (f"; {ledger.ignored} other files left out" if ledger.ignored else "")
    )
    print_failures(ledger.failures)
    if ledger.truncated:
        typer.echo(f"{ledger.truncated} of them were longer than the network takes and were truncated")
    if ledger.replaced:
        typer.echo(f"{ledger.replaced} of them replaced features of other content under the same id")
    if ledger.absent:
        typer.echo(f"the store has {ledger.absent} items that are not in this source; they are kept")
    if not ledger.computed:
        again = f"; the {ledger.failed} that failed were not tried again" if ledger.failed else ""
        typer.echo(f"nothing to compute: everything is in the store{again}")
        return
    stages = ledger.stages
    typer.echo(
        f"computed {ledger.computed} in {ledger.seconds:.1f} s, {ledger.items_per_second:.0f} items/s; summed over "
        f"threads: read {stages.read:.1f} s, decode {stages.decode:.1f} s, infer {stages.infer:.1f} s, "
        f"write {stages.write:.1f} s"
    )


def print_failures(failures: Sequence[tuple[str, str]]) -> None:
    """Print the first failures with their reasons."""
    for item_id, reason in failures[:SHOWN_FAILURES]:
        typer.echo(f"  failed: {item_id}: {reason}")
    if len(failures) > SHOWN_FAILURES:
        typer.echo(f"  … and {len(failures) - SHOWN_FAILURES} more")


@contextlib.contextmanager
def progress_bar(title: str) -> Iterator[None]:
    """Draw the progress of what runs inside the block on standard error, if that is a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    started = time.monotonic()
    rate = TextColumn("{task.fields[rate]}")
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=None, rate="")

        def show(done: int, total: int) -> None:
            speed = done / max(time.monotonic() - started, 1e-9)
            progress.update(task, completed=done, total=total, rate=f"{speed:.0f} items/s")

        with watching(show):
            yield
