"""Run commands as a shell does, without starting an interpreter; what several test files expect of them."""

from __future__ import annotations

import contextlib
import contextvars
import io
import json
import sys
from dataclasses import dataclass
from typing import Any

import pytest
from topwork.pipelines.cli.main import main

LEDGER_FIELDS = {"items", "ok", "failed", "duplicate", "items_per_second", "fingerprint"}
BROKEN_ID = "roof/1a.png"
"""The file that is no image, in the photographs of the fixture ``work``."""


@dataclass(frozen=True)
class Result:
    stdout: str
    stderr: str


def topwork_command(*arguments: object, code: int = 0) -> Result:
    """Run a command as ``python -m topwork`` does, but without starting an interpreter."""
    before, out, err = sys.argv, io.StringIO(), io.StringIO()
    sys.argv = ["topwork", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as exited:
            contextvars.copy_context().run(main)  # --quiet ends with the command
    finally:
        sys.argv = before
    assert (exited.value.code or 0) == code, err.getvalue()
    return Result(out.getvalue(), err.getvalue())


def topwork_json(*arguments: object, code: int = 0) -> dict[str, Any]:
    """Run a command with ``--json``: standard output is one object and nothing else."""
    value = json.loads(topwork_command(*arguments, "--json", code=code).stdout)
    assert isinstance(value, dict)
    return value
