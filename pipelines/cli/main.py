"""The ``topwork`` command: registers every command, and turns errors into exit codes."""

from __future__ import annotations

import errno
import os
import signal
import sys
import warnings
from typing import Annotated, Any

import typer

from ...atomic import FULL_DISK_ERRORS
from ...errors import TopworkError
from ...url_secrets import hide_secrets
from . import (
    audit_commands,
    backbone_commands,
    bundle_commands,
    cache_commands,
    explain_command,
    extract_commands,
    finetune_command,
    overview_commands,
    probe_commands,
    report_command,
    show_command,
    store_commands,
)
from .interruption import Interruption, catch_signals
from .output import echo
from .registration import add_command

ENVIRONMENT_ERRNOS = (*FULL_DISK_ERRORS, errno.EACCES, errno.EROFS, errno.EIO)
"""Operating system errors that are caused by the machine and not by the request."""

PRINTED_WARNINGS = (
    ".*items failed and have no row",
    ".*are pending and were left out",
    ".*have no label and are left out",
    "the head is trained but not evaluated",
)
"""Warnings that the commands print themselves."""
CLOSED_PIPE_EXIT_CODE = 128 + getattr(signal, "SIGPIPE", 13)
"""What a shell reports of a program that SIGPIPE ended."""

app = typer.Typer(
    name="topwork",
    no_args_is_help=True,
    context_settings={"help_option_names": ["--help", "-h"]},
    pretty_exceptions_enable=False,
    help="Transfer learning by feature extraction: cut a backbone, export it once, train heads from cached features.",
)


def print_version(is_asked: bool) -> None:
    """Print the version and leave, if it is asked for."""
    if is_asked:
        from importlib import metadata

        echo(f"topwork {metadata.version('topwork')}")
        raise typer.Exit


@app.callback()
def take_options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=print_version, is_eager=True)
    ] = False,
) -> None:
    """Take the options before a command; their callbacks do the work."""


cache_app = typer.Typer(no_args_is_help=True, help="Inspect, check and empty the cache of exported graphs.")
store_app = typer.Typer(no_args_is_help=True, help="Inspect and maintain a feature store.")

add_command(app, "layers", backbone_commands.layers)
add_command(app, "extract", extract_commands.extract)
app.add_typer(store_app, name="store")
add_command(store_app, "info", store_commands.info, group="store")
add_command(store_app, "verify", store_commands.verify, group="store")
add_command(store_app, "repair", store_commands.repair, group="store")
add_command(store_app, "failures", store_commands.failures, group="store")
add_command(store_app, "retry", store_commands.retry, group="store")
add_command(store_app, "label", store_commands.label, group="store")
add_command(store_app, "compact", store_commands.compact, group="store")
add_command(store_app, "merge", store_commands.merge, group="store")
add_command(store_app, "export", store_commands.export, group="store")
add_command(store_app, "import", store_commands.import_, group="store")
add_command(app, "audit", audit_commands.audit)
add_command(app, "probe", probe_commands.probe)
add_command(app, "advise", probe_commands.advise)
add_command(app, "fit", bundle_commands.fit)
add_command(app, "finetune", finetune_command.finetune)
add_command(app, "refit", bundle_commands.refit)
add_command(app, "evaluate", bundle_commands.evaluate)
add_command(app, "predict", bundle_commands.predict)
add_command(app, "export", bundle_commands.export)
add_command(app, "explain", explain_command.explain)
add_command(app, "report", report_command.report)
app.add_typer(cache_app, name="cache")
add_command(cache_app, "info", cache_commands.info, group="cache")
add_command(cache_app, "clean", cache_commands.clean, group="cache")
add_command(cache_app, "verify", cache_commands.verify, group="cache")
add_command(app, "show", show_command.show)
add_command(app, "heads", overview_commands.heads)
add_command(app, "doctor", overview_commands.doctor)
add_command(app, "demo", overview_commands.demo)


def main() -> None:
    """Run the command line; exit with 0, 1 (stopped by policy), 2 (usage or input) or 3 (environment)."""
    for message in PRINTED_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    warnings.showwarning = print_warning
    with catch_signals() as interruption:
        run_app(interruption)


def run_app(interruption: Interruption) -> None:
    """Run the command, and turn what ends it into a message and an exit code."""
    try:
        app(prog_name="topwork")
    except SystemExit as error:
        if interruption.number:
            echo(f"topwork: {interruption.describe(sys.argv[1:])}", err=True)
            interruption.end_process()
        leave_if_pipe_is_closed(error)
        raise
    except TopworkError as error:
        exit_with(str(error), error.exit_code)
    except OSError as error:
        subject = error.filename2 or error.filename or "a file"
        cause = error.strerror or error
        if error.errno in FULL_DISK_ERRORS:
            cause = f"{FULL_DISK_ERRORS[error.errno]}, and run the command again"
        exit_code = 3 if error.errno in ENVIRONMENT_ERRNOS else 2
        exit_with(f"{subject}: {cause}", exit_code)


def print_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: Any = None,
    line: str | None = None,
) -> None:
    """Print a warning on standard error, on one line, in place of :func:`warnings.showwarning`."""
    name = "" if issubclass(category, UserWarning) else f"{category.__name__}: "
    echo(f"topwork: warning: {name}{message}", err=True)


def leave_if_pipe_is_closed(leaving: SystemExit) -> None:
    """Leave the process as SIGPIPE would end it if nobody reads the output any more."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        pass
    else:
        if not isinstance(leaving.__context__, BrokenPipeError):  # click has caught it
            return
    discard = os.open(os.devnull, os.O_WRONLY)
    os.dup2(discard, sys.stdout.fileno())  # what is still buffered is flushed at the end of the interpreter
    raise SystemExit(CLOSED_PIPE_EXIT_CODE) from None


def exit_with(message: str, exit_code: int) -> None:
    """Print an error on standard error and leave the process."""
    echo(f"topwork: {hide_secrets(message)}", err=True)
    sys.exit(exit_code)
