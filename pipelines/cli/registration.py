"""How a function becomes a command: groups of options, the options of all commands, and examples in its help."""

from __future__ import annotations

import contextlib
import difflib
import functools
import inspect
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from ...errors import InputError
from ...progress_display import show_progress
from .examples import EXAMPLES
from .output import is_quiet, set_quiet

PROGRESS_DELAY = 0.1
"""Seconds after which a command shows what it does; those that take less time show nothing."""


def add_command(app: typer.Typer, name: str, function: Callable[..., None], *, group: str = "") -> None:
    """Register a function as the command `name`, of a group of commands such as ``store`` or of none."""
    examples = EXAMPLES[f"{group} {name}".strip()]
    app.command(name, epilog="\n".join(["Examples:", *(f"  {line}" for line in examples)]))(make_command(function))


def read_config(context: typer.Context, path: Path | None) -> Path | None:
    """Take the values that a file states for a command as defaults of its arguments and options."""
    if path is None:
        return None
    names = list_names(context)
    found = find_table(path, names)
    parameters = {spelling: parameter for parameter in context.command.params for spelling in spell(parameter)}
    unknown = [key for key in found if key not in parameters]
    if unknown:
        near = difflib.get_close_matches(unknown[0], parameters, n=1)
        hint = f"did you mean {near[0]}?" if near else f"expected some of {', '.join(sorted(set(parameters)))}"
        raise InputError(f"{path}: `topwork {' '.join(names)}` has no option {unknown[0]}; {hint}")
    defaults: dict[str, Any] = {}
    for key, value in found.items():
        parameter = parameters[key]
        is_list = parameter.nargs == -1 or getattr(parameter, "multiple", False)
        defaults[str(parameter.name)] = convert_value(value, is_list=is_list)
    context.default_map = defaults
    return path


def list_names(context: typer.Context) -> list[str]:
    """Return the words that name a command, without that of the program."""
    names: list[str] = []
    current: Any = context
    while current.parent is not None:
        names.insert(0, current.info_name)
        current = current.parent
    return names


def find_table(path: Path, names: list[str]) -> dict[str, Any]:
    """Return the table of a command, such as ``[store.info]``, in a TOML file."""
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"--config {path}: {error}. Expected a TOML file with a table for each command.") from error
    found: Any = content
    for name in names:
        found = found.get(name) if isinstance(found, dict) else None
    if not isinstance(found, dict):
        raise InputError(
            f"--config {path}: there is no table [{'.'.join(names)}]; it has {', '.join(content) or 'none'}. Write the "
            "options of each command into a table of its name."
        )
    return found


def spell(parameter: Any) -> list[str]:
    """Return the keys by which a file may state a parameter: `batch-size` or `batch_size`."""
    if parameter.name in ("config", "help"):
        return []
    if parameter.param_type_name == "argument":
        return [parameter.name]
    long_names = [name.removeprefix("--") for name in parameter.opts if name.startswith("--")]
    return [spelling for name in long_names for spelling in (name, name.replace("-", "_"))]


def convert_value(value: Any, *, is_list: bool) -> Any:
    """Return a value of a file as the command line has it.

    A table stands for repeated ``key=value``. A list stands for names separated by commas where an option cannot be
    repeated.
    """
    if isinstance(value, Mapping):
        return [f"{key}={part}" for key, part in value.items()]
    if isinstance(value, list):
        parts = [str(part) for part in value]
        return parts if is_list else ",".join(parts)
    return [value] if is_list else value


@dataclass(frozen=True)
class SharedOptions:
    """Options that every command has."""

    config: Annotated[
        Path | None,
        typer.Option(
            help="A TOML file with arguments and options, in a table for each command; the command line wins.",
            callback=read_config,
            is_eager=True,
        ),
    ] = None
    quiet: Annotated[
        bool,
        typer.Option("--quiet", "-q", help="Print only errors, warnings, and what --json prints.", callback=set_quiet),
    ] = False


def make_command(function: Callable[..., None]) -> Callable[..., None]:
    """Return a function with one option for each field of the groups of options that it takes, and the shared ones."""
    hints = get_type_hints(function, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}

    @functools.wraps(function)
    def command(**values: Any) -> None:
        for field in fields(SharedOptions):
            del values[field.name]  # their callbacks have used them
        for name, group in groups.items():
            members = {field.name: values.pop(field.name) for field in fields(group)}
            values[name] = group(**members)
        with show_progress(command.__name__, delay=PROGRESS_DELAY) if not is_quiet() else contextlib.nullcontext():
            function(**values)

    # Typer reads the options from the signature.
    parameters = [*list_parameters(function), *list_parameters(SharedOptions)]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


@functools.cache
def list_parameters(function: Callable[..., Any]) -> tuple[inspect.Parameter, ...]:
    """Return keyword-only parameters for those of a function, with one for each field of a group of options."""
    hints = get_type_hints(function, include_extras=True)
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(function).parameters.items():
        if is_dataclass(hints[name]):
            parameters += list_parameters(hints[name])
        else:
            parameters.append(parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY))
    return tuple(parameters)
