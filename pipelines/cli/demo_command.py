"""``topwork demo``."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from ...errors import InputError


def demo(
    keep: Annotated[
        Path | None, typer.Option(help="Keep images, store, bundle and ONNX file in this new folder.")
    ] = None,
) -> None:
    """Show transfer on hand-written digits, within a minute and without a network."""
    from ..demo import run_demo

    if keep is not None:
        if keep.exists():
            raise InputError(f"--keep {keep}: exists already; expected the name of a new folder")
        keep.mkdir(parents=True)
        run_demo(keep, typer.echo)
        return
    with tempfile.TemporaryDirectory(prefix="topwork-demo-") as folder:
        run_demo(Path(folder), typer.echo)
        typer.echo("All of it is gone again; `topwork demo --keep DIR` keeps it.")
