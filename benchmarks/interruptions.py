"""``topwork extract`` in a process of its own: run to its end, killed at a given time, or on a failing disk.

The processes are forked from one that has imported everything, so that they start quickly.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from dataclasses import dataclass
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from faults import Disk, Fault, surrender

IMPORTED = ["onnxruntime", "PIL.Image", "pyarrow.compute", "pyarrow.csv", "pyarrow.parquet", "tokenizers",
            "topwork.pipelines.cli.main", "topwork.extract.jobs.job",
            "topwork.extract.extractor.extractor"]  # fmt: skip
ACCOUNT = ("items", "ok", "failed", "duplicate", "absent", "ignored", "failures", "fingerprint")
"""What a ledger says that is not of one run alone."""


@dataclass(frozen=True)
class Command:
    """A job: what is extracted, how, and how many items make a part."""

    name: str
    source: Path
    options: tuple[str, ...]
    window: int

    def arguments(self, store: Path) -> list[str]:
        """Return the words of the command."""
        given = ["extract", str(self.source), "--store", str(store), "--on-error", "record", "--json"]
        return [*given, *self.options]


class Place:
    """Where a command's store is, and what it said.

    Parameters
    ----------
    command : Command
    folder : Path
        Made anew.
    """

    def __init__(self, command: Command, folder: Path) -> None:
        self.command, self.folder = command, folder
        self.disk = folder / "disk"
        self.store = self.disk / "store"
        self.clear()

    def clear(self) -> None:
        """Remove all that is there."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.disk.mkdir(parents=True)

    def said(self) -> str:
        """Return what the last run of the command complained of."""
        return (self.folder / "errors").read_text(errors="replace").strip()

    def to_the_end(self) -> dict[str, Any]:
        """Run the command, and return its account of the items."""
        process = self._started()
        process.join()
        if process.exitcode:
            raise RuntimeError(f"the command ended with {process.exitcode}: {self.said()}")
        ledger = json.loads((self.folder / "output").read_text(encoding="utf-8"))
        return {name: ledger[name] for name in ACCOUNT}

    def kill_after(self, seconds: float) -> bool:
        """Kill the command, and tell whether it was still running."""
        process, deadline = self._started(), time.monotonic() + seconds
        process.join(max(0.0, deadline - time.monotonic()))
        process.kill()
        process.join()
        return bool(process.exitcode and process.exitcode < 0)

    def fail(self, fault: Fault | None) -> tuple[Disk, int]:
        """Run the command on a disk that fails, and return that and the exit code."""
        ours, theirs = Pipe()
        disk, process = Disk(self.disk, fault), self._started(theirs)
        theirs.close()
        disk.serve(ours)
        process.join()
        return disk, process.exitcode or 0

    def _started(self, connection: Connection | None = None) -> ForkServerProcess:
        context = get_context("forkserver")
        context.set_forkserver_preload(IMPORTED)
        words = self.command.arguments(self.store)
        process = context.Process(target=run, args=(words, self.command.window, self.folder, connection))
        process.start()
        return process


def run(words: list[str], window: int, folder: Path, connection: Connection | None) -> None:
    """Run a command in this process."""
    from topwork.extract.engine import batching
    from topwork.pipelines.cli.main import main

    for name, descriptor in (("output", 1), ("errors", 2)):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    if connection is not None:
        surrender(connection)
    batching.ITEMS_PER_WINDOW = window
    sys.argv = ["topwork", *words]
    main()
