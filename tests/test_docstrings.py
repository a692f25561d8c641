"""The examples in docstrings run."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(
    "topwork." + ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in [
        *ROOT.glob("*.py"),
        *(path for name in ("extract", "heads", "models", "pipelines") for path in (ROOT / name).rglob("*.py")),
    ]
    if ">>> " in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0
