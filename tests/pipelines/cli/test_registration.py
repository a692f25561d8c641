"""Every command has the shared options and examples that it can parse; a file may state its arguments."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from topwork.pipelines.cli.examples import EXAMPLES
from topwork.pipelines.cli.main import app
from typer.testing import CliRunner

from .running import topwork_command, topwork_json
from .test_options import commands

COMMANDS = {" ".join(path): command for path, command in commands().items() if not hasattr(command, "commands")}


def test_every_command_has_examples() -> None:
    assert set(EXAMPLES) == set(COMMANDS)


@pytest.mark.parametrize("line", [line for lines in EXAMPLES.values() for line in lines])
def test_command_parses_its_examples_and_its_help_shows_them_on_one_line(line: str) -> None:
    words = shlex.split(line)[1:]
    name = next(name for name in (" ".join(words[:2]), words[0]) if name in COMMANDS)
    arguments = words[len(name.split()) :]
    context: Any = COMMANDS[name].make_context(name, arguments)
    assert context.params
    assert line in EXAMPLES[name]
    shown = CliRunner().invoke(app, [*name.split(), "-h"], env={"COLUMNS": "80", "TERM": "dumb"}).stdout
    assert line in [text.strip() for text in shown.splitlines()]


def test_version() -> None:
    assert topwork_command("--version").stdout.startswith("topwork 0.")


def test_file_states_arguments_and_options_of_a_command(photos: Path, tmp_path: Path) -> None:
    job = tmp_path / "job.toml"
    job.write_text(f"""
        [extract]
        source = ["{photos}"]
        store = "{tmp_path / "features"}"
        layer = ["layer1", "layer2"]
        batch-size = 4
        on_error = "raise"
        quiet = true

        [store.info]
        store = "{tmp_path / "features"}"
        json = true
    """)
    assert topwork_command("extract", "--config", job, "--on-error", "record").stdout == ""
    found = json.loads(topwork_command("store", "info", "--config", job).stdout)
    assert [column["layer"] for column in found["columns"]] == ["layer1", "layer2"]
    assert found["ok"] == topwork_json("store", "info", tmp_path / "features")["ok"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[heads]\njosn = true", "has no option josn; did you mean json?"),
        ("[heads]\nxyz = true", "has no option xyz; expected some of json, quiet"),
        ("[fit]\nout = 'b'", "there is no table [heads]; it has fit"),
        ("[heads", "Expected a TOML file"),
        ("heads = 3", "there is no table [heads]"),
        ("[heads]\nconfig = 'other.toml'", "has no option config"),
    ],
)
def test_wrong_file_is_named(content: str, message: str, tmp_path: Path) -> None:
    job = tmp_path / "job.toml"
    job.write_text(content)
    assert message in topwork_command("heads", "--config", job, code=2).stderr
    assert "absent.toml" in topwork_command("heads", "--config", tmp_path / "absent.toml", code=2).stderr


def test_table_in_a_file_stands_for_pairs(tmp_path: Path) -> None:
    job = tmp_path / "job.toml"
    job.write_text("[layers]\nbackbone = 'topwork:tiny'\nmodel-arg = {a = 1, b = 'x'}\nlayer = 'layer1'\n")
    root = typer.main.get_command(app).make_context("topwork", ["layers"])
    context: Any = COMMANDS["layers"].make_context("layers", ["--config", str(job)], parent=root)
    assert list(context.params["model_arg"]) == ["a=1", "b=x"]
    assert context.params["layer"] == "layer1"


def test_quiet_prints_errors_only(work: Path, tmp_path: Path) -> None:
    assert topwork_command("heads", "--quiet").stdout == ""
    assert topwork_json("heads", "--quiet")["heads"]
    assert topwork_command("heads").stdout != ""
    result = topwork_command("evaluate", work / "bundle", tmp_path, "-q", code=2)
    assert result.stdout == ""
    assert result.stderr.startswith("topwork: ")
