"""The ``topwork`` command: registers every command, and turns errors into exit codes."""

from __future__ import annotations

import errno
import sys
import warnings

import typer

from ...errors import TopworkError
from . import backbone_commands, bundle_commands, extract_commands, overview_commands, store_commands

ENVIRONMENT_ERRNOS = (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EIO, errno.EDQUOT)
"""Operating system errors that are caused by the machine and not by the request."""

app = typer.Typer(
    name="topwork",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Transfer learning by feature extraction: cut a backbone, export it once, train heads from cached features.",
)
store_app = typer.Typer(no_args_is_help=True, help="Inspect and maintain a feature store.")

app.command("layers")(backbone_commands.layers)
app.command("extract")(extract_commands.extract)
app.add_typer(store_app, name="store")
store_app.command("info")(store_commands.info)
store_app.command("verify")(store_commands.verify)
store_app.command("repair")(store_commands.repair)
store_app.command("failures")(store_commands.failures)
store_app.command("retry")(store_commands.retry)
store_app.command("label")(store_commands.label)
store_app.command("compact")(store_commands.compact)
store_app.command("export")(store_commands.export)
store_app.command("import")(store_commands.import_)
app.command("fit")(bundle_commands.fit)
app.command("refit")(bundle_commands.refit)
app.command("evaluate")(bundle_commands.evaluate)
app.command("predict")(bundle_commands.predict)
app.command("export")(bundle_commands.export)
app.command("heads")(overview_commands.heads)
app.command("doctor")(overview_commands.doctor)
app.command("demo")(overview_commands.demo)


def main() -> None:
    """Run the command line; exit with 0, 1 (stopped by policy), 2 (usage or input) or 3 (environment)."""
    warnings.filterwarnings("ignore", message=".*items failed and have no row")  # the commands print the failures
    try:
        app()
    except TopworkError as error:
        exit_with(str(error), error.exit_code)
    except OSError as error:
        subject = error.filename or "a file"
        exit_code = 3 if error.errno in ENVIRONMENT_ERRNOS else 2
        exit_with(f"{subject}: {error.strerror or error}", exit_code)


def exit_with(message: str, exit_code: int) -> None:
    """Print an error on standard error and leave the process."""
    typer.echo(f"topwork: {message}", err=True)
    sys.exit(exit_code)
