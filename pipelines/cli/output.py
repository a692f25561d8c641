"""Printed output of the commands: tables for people, JSON for machines."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import typer

from ...errors import StoppedError
from ...progress_display import format_rate, hide_progress
from ...safe_text import escape_line, escape_text

if TYPE_CHECKING:
    from ...extract.engine.ledger import Ledger
    from ...extract.jobs.plan import Plan

MAX_SHOWN_FAILURES = 10
LEDGER_NOTES = {
    "truncated": "{} of them were longer than the model's maximum length and were truncated",
    "replaced": "{} of them replaced features of older content with the same id",
    "absent": "the store has {} items that are not in this source; they are kept",
    "pruned": "{} items that are not in this source were removed from the store",
}
"""What is printed of each of these numbers of a job, where it is not zero."""


_is_quiet: ContextVar[bool] = ContextVar("topwork_quiet", default=False)


def set_quiet(quiet: bool) -> bool:
    """Let only errors, warnings and JSON be printed from now on, or everything again."""
    _is_quiet.set(quiet)
    return quiet


def is_quiet() -> bool:
    """Return whether only errors, warnings and JSON are printed."""
    return _is_quiet.get()


def echo(text: object, *, err: bool = False) -> None:
    """Print a line on standard output, or on standard error; what a terminal would obey is escaped, line breaks too."""
    if err or not is_quiet():
        print_now(escape_line(str(text)), err=err)


def echo_lines(text: object, *, err: bool = False) -> None:
    """Print text of several lines, in which no names from outside are; see :func:`echo`."""
    if err or not is_quiet():
        print_now(escape_text(str(text)), err=err)


def print_now(text: str, *, err: bool = False) -> None:
    """Print escaped text, in the place of what shows progress."""
    hide_progress()
    typer.echo(text, err=err)


def print_json(value: dict[str, Any]) -> None:
    """Print one object on standard output, also where little is to be printed."""
    print_now(escape_line(json.dumps(value, default=str)))


def is_at_terminal(*, as_json: bool) -> bool:
    """Return whether a person can be asked."""
    return sys.stdin.isatty() and not as_json


def confirm(question: str) -> bool:
    """Ask a person, in the place of what shows progress."""
    hide_progress()
    return typer.confirm(question)


def require_success(failed: int, items: int) -> None:
    """Raise a StoppedError, after the outcome was printed, if every item failed."""
    if items and failed == items:
        raise StoppedError(
            f"every item failed ({failed} of {items}); expected items that can be read. Check the source and its paths."
        )


def print_result(facts: dict[str, Any], text: str, *, as_json: bool) -> None:
    """Print a result as one object for machines, or else as text for people."""
    if as_json:
        print_json(facts)
    else:
        echo(text)


def print_outcome(outcome: Any, print_text: Callable[[Any], None], *, as_json: bool) -> None:
    """Print a ledger, plan or certificate as one object for machines, or else as text for people."""
    if as_json:
        print_json(outcome.to_json())
    else:
        print_text(outcome)


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table in plain columns; all but the first are flush right."""
    table = [list(header), *([escape_line(cell) for cell in row] for row in rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    for first, *others in table:
        cells = [first.ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        echo("  ".join(cells).rstrip())


def print_ledger(ledger: Ledger) -> None:
    """Print what became of a job's inputs, and where its time went."""
    counts = [f"{ledger.items} items: {ledger.ok} ok, {ledger.failed} failed, {ledger.duplicate} duplicate"]
    if ledger.ignored:
        counts.append(f"{ledger.ignored} files of other types ignored")
    echo("; ".join(counts))
    print_failures(ledger.failures)
    for name, note in LEDGER_NOTES.items():
        count = getattr(ledger, name)
        if count:
            echo(note.format(count))
    if ledger.computed:
        print_speed(ledger)
        print_usage(ledger)
    elif ledger.failed:
        echo(f"nothing to compute: everything is in the store; the {ledger.failed} failed items were not retried")
    else:
        echo("nothing to compute: everything is in the store")


def print_speed(ledger: Ledger) -> None:
    """Print where a job ran, and how long it and each of its stages took."""
    facts = [f"computed {ledger.computed} in {format_duration(ledger.seconds)}", format_rate(ledger.items_per_second)]
    if ledger.provider:
        facts.append(f"on {ledger.provider} in {ledger.precision}")
    echo(", ".join(facts))
    stages = ledger.stages
    times = f"read {stages.read:.1f} s, decode {stages.decode:.1f} s, infer {stages.infer:.1f} s"
    echo(f"summed over threads: {times}, write {stages.write:.1f} s")


def print_usage(ledger: Ledger) -> None:
    """Print how much of the processor and the memory a job used, as far as that is known."""
    usage = []
    if ledger.share_of_possible is not None:
        usage.append(f"{ledger.share_of_possible:.0%} of the throughput that {ledger.cores} cores allow")
    if ledger.peak_memory is not None:
        usage.append(f"peak memory {format_size(ledger.peak_memory)}")
    if usage:
        echo("; ".join(usage))


def print_plan(plan: Plan) -> None:
    """Print the forecast of a job."""
    sample = plan.sample
    echo(f"{plan.items} items: {plan.pending} to compute, {plan.items - plan.pending} in the store")
    if not plan.pending:
        echo("nothing to compute: everything is in the store")
        return
    print_sample(sample)
    echo(f"time    {format_duration(plan.seconds)}, {format_rate(plan.items_per_second)}")
    echo(f"disk    {format_size(plan.disk_bytes)}")
    if sample.peak_memory is not None:
        echo(f"memory  {format_size(sample.peak_memory)}")


def print_sample(sample: Ledger) -> None:
    """Print which items were timed for a forecast, and where."""
    failed = f", {sample.failed} failed" if sample.failed else ""
    echo(f"timed {sample.items} of them on {sample.provider} in {sample.precision}{failed}; nothing was written")
    print_failures(sample.failures)


def format_duration(seconds: float) -> str:
    """Return a time for people, such as ``3.3 s``, ``4 min 10 s`` or ``2 h 5 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, remainder = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {remainder} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def format_size(count: int) -> str:
    """Return a number of bytes for people, such as ``312 MB``."""
    value = count / 1e6
    unit = "MB"
    for larger_unit in ("GB", "TB"):
        if value < 1000:
            break
        value /= 1000
        unit = larger_unit
    decimals = 0 if value >= 100 else 1
    return f"{value:.{decimals}f} {unit}"


def print_failures(failures: Sequence[tuple[str, str]]) -> None:
    """Print the first failures with their reasons."""
    for item_id, reason in failures[:MAX_SHOWN_FAILURES]:
        echo(f"  failed: {escape_line(item_id)}: {escape_line(reason)}")
    if len(failures) > MAX_SHOWN_FAILURES:
        echo(f"  … and {len(failures) - MAX_SHOWN_FAILURES} more")
