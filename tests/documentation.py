"""The code on a page in Markdown, and how it is run: commands must print what the page shows, up to figures."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from .pipelines.cli.running import topwork_command

FENCE = re.compile(
    r"(?:<!-- (?P<mark>[^>]*) -->\n)?^```(?P<kind>[^\n`]*)\n(?P<body>.*?)^```$", re.DOTALL | re.MULTILINE
)
FILE = re.compile(r"^:caption: (?P<name>.*)\n+", re.MULTILINE)
NEEDS = re.compile(r"\A---\nneeds: (?P<names>.*)\n---\n")
FIGURE = re.compile(r"[\d.,]*\d(?: (?:[MGT]B|s|min \d+ s|h \d+ min)\b)?")
PLACE = re.compile(r"on \w+ in (?:fp|bf|int)[\w:]+")
"""A provider and a precision, which differ between machines."""
PRECISION = re.compile(r"\b(?:fp32|bf16|fp16|int8)(?::\w+)?")
MEASUREMENT = re.compile(r"^ +\w+ in (?:fp32|bf16|fp16|int8).*: .*\n", re.MULTILINE)
"""A line on another provider on which a graph was measured, perhaps by another test."""


class Block(NamedTuple):
    """A fenced block: what stands behind the fence, the comment before it, and its lines."""

    kind: str
    mark: str
    body: str


def list_blocks(text: str) -> list[Block]:
    """Return the fenced blocks of a page."""
    return [Block(found["kind"], found["mark"] or "", found["body"]) for found in FENCE.finditer(text)]


def list_needs(text: str) -> list[str]:
    """Return what a page needs in its folder, as it states itself: ``needs: demo hymenoptera``."""
    found = NEEDS.match(text)
    return found["names"].split() if found else []


def run_page(text: str, folder: Path) -> int:
    """Run the code of a page from top to bottom in a folder, and return the number of blocks.

    ``console`` blocks are commands with what they print, ``python`` blocks share their names, and a ``text`` block
    behind one of them is what it prints. A block with a caption is a file. ``bash`` blocks must say why they are not
    run: ``<!-- not run: … -->``.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    printed: str | None = None
    n_run = 0
    with contextlib.chdir(folder):
        for block in list_blocks(text):
            if block.kind == "text" and printed is not None:
                assert without_figures(printed) == without_figures(block.body)
            printed = None
            if block.kind == "bash":
                assert block.mark.startswith("not run: "), block.body
            elif block.kind == "console":
                run_commands(block.body)
                n_run += 1
            elif block.kind == "python":
                printed = run_python(block.body, names)
                n_run += 1
            elif block.kind.startswith("{code-block}"):
                write_file(block.body)
    return n_run


def run_commands(body: str) -> None:
    """Run the commands of a ``console`` block; each must print what the block shows."""
    for arguments, output in shown_commands(body):
        printed = topwork_command(*arguments.split()).stdout
        assert without_figures(printed) == without_figures(output), arguments


def shown_commands(body: str) -> Iterator[tuple[str, str]]:
    """Yield the commands of a ``console`` block, without ``topwork``, and the output printed below each."""
    for chunk in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
        command, _, output = chunk.replace("\\\n", " ").partition("\n")
        assert command.startswith("topwork "), command
        yield command.removeprefix("topwork "), output


def run_python(body: str, names: dict[str, Any]) -> str:
    """Run a ``python`` block with the names of those before it, and return what it prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(body, "page", "exec"), names)
    return printed.getvalue()


def write_file(body: str) -> None:
    """Write the file that a block with a caption shows."""
    found = FILE.search(body)
    assert found is not None, body
    Path(found["name"]).write_text(body[found.end() :], encoding="utf-8")


def without_figures(text: str) -> list[str]:
    """Return the lines without figures, machines and spacing."""
    text = PRECISION.sub("#", PLACE.sub("on # in #", MEASUREMENT.sub("", text)))
    text = FIGURE.sub("#", text)
    return [re.sub(r"\s+", " ", line).strip() for line in text.splitlines() if line.strip()]
