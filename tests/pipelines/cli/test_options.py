"""Options reach the backbone and the extractor; what cannot be parsed is an error."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import typer
from hypothesis import example, given
from hypothesis import strategies as st
from topwork import Extractor, Table
from topwork.errors import InputError
from topwork.models.input_spec import InputOverrides
from topwork.models.loading import BackboneSpec
from topwork.pipelines.cli.arguments import make_extraction
from topwork.pipelines.cli.main import app
from topwork.pipelines.cli.options import (
    BackboneOptions,
    CutOptions,
    ExecutionOptions,
    TableOptions,
)
from topwork.pipelines.cli.registration import make_command
from typer.testing import CliRunner

NAMES = st.from_regex(r"[a-z_]{1,12}", fullmatch=True)
VALUES = st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.none(), st.text())


def commands(command: Any = None, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Return every command and group of commands by its path."""
    command = command or typer.main.get_command(app)
    found = {path: command}
    for name, child in getattr(command, "commands", {}).items():
        found |= commands(child, (*path, name))
    return found


@pytest.mark.parametrize("path", commands(), ids=" ".join)
def test_help_shows_every_option_within_80_columns(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "80", "TERM": "dumb"})
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= 80
    command = commands()[path]
    names = [name for parameter in command.params for name in parameter.opts if name.startswith("--")]
    assert [name for name in names if name not in result.stdout] == []
    assert set(getattr(command, "commands", {})) <= set(result.stdout.replace("│", " ").split())
    assert "BackboneOptions" not in result.stdout


def test_commands_are_those_of_the_documentation() -> None:
    assert {" ".join(path) for path in commands()} >= {
        "layers", "extract", "store info", "store verify", "store failures",
        "fit", "evaluate", "predict", "export", "heads", "demo",
    }  # fmt: skip


def test_options_describe_the_backbone() -> None:
    options = BackboneOptions(
        weights="random",
        model_arg=["num_classes=0", "pad_type=same", "bn_eps=1e-3"],
        mean="0.5",
        std="0.1,0.2,0.3",
        size="192x256",
        crop=0.9,
        interpolation="bilinear",
    )
    assert options.to_spec("timm:resnet18") == BackboneSpec(
        "timm:resnet18",
        "random",
        {"num_classes": 0, "pad_type": "same", "bn_eps": 1e-3},
        InputOverrides((0.5, 0.5, 0.5), (0.1, 0.2, 0.3), (192, 256), 0.9, "bilinear"),
    )
    averaged = BackboneOptions(weights="best.pth", weights_key="ema").to_spec("timm:resnet18")
    assert averaged == BackboneSpec("timm:resnet18", "best.pth", weights_key="ema")
    assert BackboneOptions().to_spec("topwork:tiny") == BackboneSpec("topwork:tiny")
    assert BackboneOptions(size="224").to_spec("x").preprocessing.size == 224
    assert BackboneOptions(decode="fast").to_spec("x").preprocessing == InputOverrides(decode="fast")
    assert BackboneOptions(max_length=64).to_spec("x").preprocessing == InputOverrides(max_length=64)
    assert BackboneOptions(prompt="a: ").to_spec("x").preprocessing == InputOverrides(prompt="a: ")


def test_cut_and_run_options_describe_the_extractor() -> None:
    run = ExecutionOptions(provider="cpu", batch_size="7", max_pixels=10, on_error="limit:5%")
    found = vars(make_extraction("topwork:tiny", BackboneOptions(), CutOptions("layer1,layer2@2", "avg,max"), run))
    assert found["layer"] == ["layer1", "layer2@2"]
    assert found["pool"] == ["avg", "max"]
    assert {name: found[name] for name in run.to_parameters()} == run.to_parameters()
    assert (found["provider"], found["batch_size"], found["max_pixels"], found["on_error"]) == (
        "cpu",
        7,
        10,
        "limit:5%",
    )
    assert (CutOptions().layers, CutOptions().pools) == (["last"], ["auto"])


def test_normalize_is_passed_on() -> None:
    for wanted in (False, True):
        found = make_extraction("topwork:tiny", BackboneOptions(), CutOptions(normalize=wanted), ExecutionOptions())
        assert found.normalize is wanted


def test_column_names_turn_the_source_into_a_table() -> None:
    assert TableOptions().to_source("texts.csv") == "texts.csv"
    assert TableOptions(text_column="question", label_column="topic").to_source("texts.csv") == Table(
        "texts.csv", text="question", label="topic"
    )
    assert TableOptions("file", id_column="key").to_source("t.tsv") == Table("t.tsv", path="file", id="key")


def test_defaults_record_failures_and_choose_automatically() -> None:
    parameters = ExecutionOptions().to_parameters()
    assert (parameters["on_error"], parameters["batch_size"], parameters["provider"]) == ("record", "auto", "auto")
    assert parameters["max_pixels"] == inspect.signature(Extractor).parameters["max_pixels"].default


@given(st.dictionaries(NAMES, VALUES))
def test_model_arguments_are_read_as_python_writes_them(arguments: dict[str, Any]) -> None:
    pairs = [f"{name}={value!r}" for name, value in arguments.items()]
    assert BackboneOptions(model_arg=pairs).to_spec("x").model_args == arguments


@given(st.from_regex(r"[a-z][a-z0-9./-]*", fullmatch=True))
@example("a=b")
@example("((((")
def test_model_argument_that_is_not_a_literal_is_a_string(text: str) -> None:
    assert BackboneOptions(model_arg=[f"name={text}"]).to_spec("x").model_args == {"name": text}


def read_or_refused(read: Callable[[], Any], message: str) -> Any:
    """Return what was read, or None if it was refused with this message."""
    try:
        return read()
    except InputError as error:
        text = str(error)
    assert message in text
    return None


@given(st.text())
@example("²")
@example("0x0")
@example("1x2x3")
@example("")
def test_size_is_read_or_refused(text: str) -> None:
    size = read_or_refused(lambda: BackboneOptions(size=text).to_spec("x").preprocessing.size, "192x256")
    if size is not None:
        assert [int(part) for part in text.lower().split("x")] == list(np.atleast_1d(size))


@given(st.text())
@example("²")
@example("-1")
@example("1.5")
def test_batch_size_is_read_or_refused(text: str) -> None:
    size = read_or_refused(lambda: ExecutionOptions(batch_size=text).to_parameters()["batch_size"], "--batch-size")
    assert size in (None, text) or size == int(text)


@given(st.text())
@example("0.5,,0.5")
@example("1,2,3")
def test_mean_is_read_or_refused(text: str) -> None:
    mean = read_or_refused(lambda: BackboneOptions(mean=text).to_spec("x").preprocessing.mean, "0.5,0.5,0.5")
    if mean is not None:
        values = [float(part) for part in text.split(",")]
        assert repr(list(mean)) == repr(values * 3 if len(values) == 1 else values)


@pytest.mark.parametrize("pair", ["num_classes", "=3", ""])
def test_model_argument_needs_a_name_and_a_value(pair: str) -> None:
    with pytest.raises(InputError, match="num_classes=0"):
        BackboneOptions(model_arg=[pair]).to_spec("x")


def test_groups_become_options_and_arrive_as_groups() -> None:
    taken: list[Any] = []

    @make_command
    def command(source: str, cut: CutOptions, run: ExecutionOptions, as_json: bool = False) -> None:
        """Take options."""
        taken.append((source, cut, run, as_json))

    application = typer.Typer()
    application.command()(command)
    arguments = ["here", "--layer", "a,b", "--batch-size", "3", "--as-json"]
    result = CliRunner().invoke(application, arguments)
    assert result.exit_code == 0, result.output
    assert taken == [("here", CutOptions("a,b"), ExecutionOptions(batch_size="3"), True)]
