"""The Python example of the README runs, and its table lists every command."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import typer
from topwork.pipelines.cli.main import app

from .documentation import list_blocks

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LINES_BEFORE_THE_CODE_ENDS = 40


def test_python_example_runs(demo: tuple[Path, str], tmp_path: Path) -> None:
    (tmp_path / "demo").symlink_to(demo[0], target_is_directory=True)
    (code,) = (block.body for block in list_blocks(README) if block.kind == "python")
    assert README[: README.index(code)].count("\n") + code.count("\n") < LINES_BEFORE_THE_CODE_ENDS
    printed = io.StringIO()
    with contextlib.chdir(tmp_path), contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {"__name__": "__main__"})
    assert float(printed.getvalue().splitlines()[-1]) > 0.95
    assert (tmp_path / "digits.onnx").is_file()


def test_every_command_is_in_the_table() -> None:
    names = list(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    assert names
    assert [name for name in names if f"`topwork {name} " not in README and f"`topwork {name}`" not in README] == []


def test_pages_that_are_linked_exist() -> None:
    links = re.findall(r"\]\(([\w./-]+)\)", README)
    assert len(links) > 10
    assert [link for link in links if not (ROOT / link).exists()] == []
