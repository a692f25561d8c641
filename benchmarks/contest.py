"""Run contenders in turn, each time in a new process, and report the medians of their figures.

A contender is a Python command whose output ends with one line of JSON: its ``seconds``, without what is done once
before the first item, the number of its ``items``, and further figures; a contender of topwork also reports the
``whole`` seconds, which include opening its session.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from page import PAGE

HERE = Path(__file__).resolve().parent
DATA = HERE.parents[1] / "shared" / "data"
WORK = Path(tempfile.gettempdir()) / "topwork-benchmarks"
LIMIT = 3600.0
"""Seconds that a contender may take."""


def arguments(description: str | None, repeats: int = 3) -> argparse.ArgumentParser:
    """Return a parser with the options of every benchmark."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--work", type=Path, default=WORK, help="folder of images, exported graphs and compiled kernels"
    )
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the real data")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page whose section is replaced")
    parser.add_argument("--repeats", type=int, default=repeats, help="runs of each contender")
    return parser


def use_work_folder(work: Path) -> None:
    """Let this process and those that it starts keep their caches in the work folder, and download nothing."""
    work.mkdir(parents=True, exist_ok=True)
    os.environ["TOPWORK_CACHE"] = str(work / "cache")
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(work / "inductor")
    os.environ["HF_HUB_OFFLINE"] = "1"


@dataclass
class Outcome:
    """What a contender reported in each of its runs, or why it did not run."""

    runs: list[dict[str, Any]] = field(default_factory=list)
    failure: str = ""

    def __getitem__(self, name: str) -> Any:
        """Return a field's median, or its last value where that is no number."""
        if not self.runs:
            raise ContenderError(self.failure)
        values = [run[name] for run in self.runs]
        return statistics.median(values) if isinstance(values[-1], (int, float)) else values[-1]

    @property
    def told(self) -> str:
        """The items per second, or why there are none."""
        return f"did not run: {self.failure}" if self.failure else f"{self['items'] / self['seconds']:.1f}"

    def ratio_to(self, peer: Outcome) -> str:
        """Return how many times as fast as a peer this one is: its session open, and with the opening."""
        if self.failure or peer.failure:
            return ""
        return f"{peer['seconds'] / self['seconds']:.2f} ({peer['seconds'] / self['whole']:.2f})"


def contest(contenders: Mapping[str, Sequence[Any]], repeats: int) -> dict[str, Outcome]:
    """Let every contender run once, then every one again, and so on; one that fails is not asked again."""
    outcomes = {name: Outcome() for name in contenders}
    for _ in range(repeats):
        for name, command in contenders.items():
            if not outcomes[name].failure:
                add_run(outcomes[name], name, command)
    return outcomes


def add_run(outcome: Outcome, name: str, command: Sequence[Any], limit: float = LIMIT) -> None:
    """Run a contender for at most so many seconds, and keep what it reports, or why it does not."""
    try:
        outcome.runs.append(report_of(command, limit))
    except ContenderError as error:
        outcome.failure = str(error)
    told = outcome.failure or f"{outcome.runs[-1].get('seconds', outcome.runs[-1]['wall']):.2f} s"
    print(f"{name}: {told}", file=sys.stderr, flush=True)


class ContenderError(Exception):
    """A contender ended without a report."""


def report_of(command: Sequence[Any], limit: float = LIMIT) -> dict[str, Any]:
    """Run a contender; return what it reports, and the ``wall`` seconds from its start to its end."""
    started, options = time.perf_counter(), {"capture_output": True, "text": True, "cwd": HERE, "timeout": limit}
    try:
        result = subprocess.run([sys.executable, *map(str, command)], check=False, **options)
    except subprocess.TimeoutExpired as error:
        raise ContenderError(f"it took more than {limit:.0f} s") from error
    wall = time.perf_counter() - started
    return {"wall": wall, **parsed(result.returncode, result.stdout, result.stderr)}


def parsed(code: int, output: str, errors: str) -> dict[str, Any]:
    """Return the last line of a contender's output if that is JSON."""
    if code:
        raise ContenderError(" ".join((errors.strip().splitlines() or [f"ended with code {code}"])[-1].split())[:300])
    lines = output.strip().splitlines()
    return json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}


def fastest(contenders: Mapping[Any, Sequence[Any]]) -> Any:
    """Return the key of the contender that is the fastest in one run; the first where none runs."""
    outcomes = contest(contenders, 1)
    able = [key for key, outcome in outcomes.items() if not outcome.failure]
    return min(able, key=lambda key: outcomes[key]["seconds"], default=next(iter(contenders)))


def relative_errors(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return the relative L2 error of each row of two feature matrices."""
    return np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)
