"""The ``topwork`` command: one place where commands are put together and errors become exit codes."""

from __future__ import annotations

import errno
import sys
import warnings

import typer

from ...errors import TopworkError
from . import (
    backbone_commands,
    demo_command,
    doctor_command,
    exchange_commands,
    head_commands,
    refit_command,
    store_commands,
    upkeep_commands,
)

MACHINE_ERRORS = (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EIO, errno.EDQUOT)
"""The machine is at fault, not what was asked for."""

app = typer.Typer(
    name="topwork",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Transfer learning by feature extraction: cut a backbone, export it once, train heads from cached features.",
)
store_app = typer.Typer(no_args_is_help=True, help="Look into a feature store, and keep it in order.")

app.command("layers")(backbone_commands.layers)
app.command("extract")(store_commands.extract)
app.add_typer(store_app, name="store")
store_app.command("info")(store_commands.info)
store_app.command("verify")(upkeep_commands.verify)
store_app.command("repair")(upkeep_commands.repair)
store_app.command("failures")(upkeep_commands.failures)
store_app.command("retry")(upkeep_commands.retry)
store_app.command("label")(upkeep_commands.label)
store_app.command("compact")(upkeep_commands.compact)
store_app.command("export")(exchange_commands.export)
store_app.command("import")(exchange_commands.import_)
app.command("fit")(head_commands.fit)
app.command("refit")(refit_command.refit)
app.command("evaluate")(head_commands.evaluate)
app.command("predict")(head_commands.predict)
app.command("export")(head_commands.export)
app.command("heads")(head_commands.heads)
app.command("doctor")(doctor_command.doctor)
app.command("demo")(demo_command.demo)


def main() -> None:
    """Run the command line; exit with 0, 1 (stopped by policy), 2 (usage or input) or 3 (environment)."""
    warnings.filterwarnings("ignore", message=".*items failed and have no row")  # the commands print the failures
    try:
        app()
    except TopworkError as error:
        _leave(str(error), error.exit_code)
    except OSError as error:
        _leave(f"{error.filename or 'a file'}: {error.strerror or error}", 3 if error.errno in MACHINE_ERRORS else 2)


def _leave(message: str, exit_code: int) -> None:
    typer.echo(f"topwork: {message}", err=True)
    sys.exit(exit_code)
