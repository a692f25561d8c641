"""The directive ``.. commands::``, which writes what ``topwork COMMAND -h`` says of every command as sections."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from topwork.pipelines.cli.main import app


class Commands(Directive):
    """All commands: usage, what the command does, arguments and options."""

    def run(self) -> list[Any]:
        """Put the sections where the directive stands."""
        section = self.state.document.current_source or "commands"
        lines = list(describe_commands(typer.main.get_command(app), ()))
        self.state.nested_parse(StringList(lines, section), self.content_offset, self.state.parent, match_titles=1)
        return []


def describe_commands(command: Any, names: tuple[str, ...]) -> Iterator[str]:
    """Yield reStructuredText about a command, or about those of a group."""
    children = getattr(command, "commands", None)
    if children is not None:
        for name, child in children.items():
            yield from describe_commands(child, (*names, name))
        return
    title = " ".join(["topwork", *names])
    yield from [title, "-" * len(title), ""]
    context = command.make_context(title, [], resilient_parsing=True)
    yield from ["::", "", f"    {title} {' '.join(command.collect_usage_pieces(context))}", ""]
    yield from [*escape(command.help or "").splitlines(), ""]
    records = [record for parameter in command.params if (record := describe_parameter(parameter, context))]
    if records:
        yield from [".. list-table::", "   :widths: 34 66", ""]
    for spelling, text in records:
        yield from [f"   * - ``{spelling}``", f"     - {text}"]
    yield ""


def describe_parameter(parameter: Any, context: Any) -> tuple[str, str] | None:
    """Return the spelling of an argument or option, and its help on one line."""
    if parameter.param_type_name == "argument":
        return parameter.make_metavar(context), escape(" ".join((parameter.help or "").split()))
    record = parameter.get_help_record(context)
    if record is None:
        return None
    spelling, text = record
    return spelling, escape(" ".join(text.split()))


def escape(text: str) -> str:
    """Return text in which reStructuredText sees no markup."""
    return "".join(f"\\{letter}" if letter in "\\*`|_" else letter for letter in text)


def setup(application: Any) -> dict[str, bool]:
    """Register the directive with Sphinx."""
    application.add_directive("commands", Commands)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
