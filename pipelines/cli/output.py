"""What the commands print: tables for people, JSON for machines, a progress bar on a terminal."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import typer

from ...extract.engine.progress import Progress, watching

if TYPE_CHECKING:
    from ...extract.engine.ledger import Ledger
    from ...extract.jobs.plan import Plan

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
    if ledger.pruned:
        typer.echo(f"{ledger.pruned} items that are not in this source were removed from the store")
    if not ledger.computed:
        again = f"; the {ledger.failed} that failed were not tried again" if ledger.failed else ""
        typer.echo(f"nothing to compute: everything is in the store{again}")
        return
    where = f", on {ledger.provider} in {ledger.precision}" if ledger.provider else ""
    typer.echo(f"computed {ledger.computed} in {duration(ledger.seconds)}, {rate(ledger.items_per_second)}{where}")
    stages = ledger.stages
    typer.echo(
        f"summed over threads: read {stages.read:.1f} s, decode {stages.decode:.1f} s, infer {stages.infer:.1f} s, "
        f"write {stages.write:.1f} s"
    )
    _print_means(ledger)


def _print_means(ledger: Ledger) -> None:
    """Print what a job made of the machine, as far as it is known."""
    facts = []
    if ledger.share_of_possible is not None:
        facts.append(f"{ledger.share_of_possible:.0%} of what {ledger.cores} cores can do")
    if ledger.peak_memory is not None:
        facts.append(f"peak memory {size(ledger.peak_memory)}")
    if facts:
        typer.echo("; ".join(facts))


def print_plan(plan: Plan) -> None:
    """Print what a job will take."""
    sample = plan.sample
    typer.echo(f"{plan.items} items: {plan.pending} to compute, {plan.items - plan.pending} in the store")
    if not plan.pending:
        typer.echo("nothing to compute: everything is in the store")
        return
    failed = f", {sample.failed} failed" if sample.failed else ""
    typer.echo(f"timed {sample.items} of them on {sample.provider} in {sample.precision}{failed}; nothing was written")
    print_failures(sample.failures)
    typer.echo(f"time    {duration(plan.seconds)}, {rate(plan.items_per_second)}")
    typer.echo(f"disk    {size(plan.disk_bytes)}")
    if sample.peak_memory is not None:
        typer.echo(f"memory  {size(sample.peak_memory)}")


def duration(seconds: float) -> str:
    """Return a time for people, such as ``3.3 s``, ``4 min 10 s`` or ``2 h 5 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def size(count: int) -> str:
    """Return a number of bytes for people, such as ``312 MB``."""
    value, units = count / 1e6, ["MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.0f} {units[0]}" if value >= 100 else f"{value:.1f} {units[0]}"


def rate(items_per_second: float) -> str:
    """Return a speed for people."""
    return f"{items_per_second:.{0 if items_per_second >= 10 else 1}f} items/s"


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
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn(title), BarColumn(bar_width=None), MofNCompleteColumn(), TextColumn("{task.fields[speed]}"))
    with Bar(*columns, console=Console(stderr=True), transient=True, expand=True) as bar:
        task = bar.add_task(title, total=None, speed="")
        pace = Pace(time.monotonic())

        def show(progress: Progress) -> None:
            speed = pace.describe(progress, time.monotonic())
            bar.update(task, completed=progress.done, total=progress.total, speed=speed)

        with watching(show):
            yield


class Pace:
    """How fast a run is, what limits it, and what is left; items that were there before do not count.

    Parameters
    ----------
    started : float
        A time in seconds.
    """

    def __init__(self, started: float) -> None:
        self.started = started

    def describe(self, progress: Progress, now: float) -> str:
        """Return the facts in some 45 characters.

        Parameters
        ----------
        progress : Progress
        now : float
            The time in seconds.
        """
        if not progress.computed:
            self.started = now  # loading the graph, and passing over what is in the store, is no computing
            return ""
        speed = progress.computed / max(now - self.started, 1e-9)
        left = round((progress.total - progress.done) / speed)
        clock = f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02} left"
        return f"{rate(speed)}, limit: {progress.stage}, {clock}"
