"""How many items are inferred at once, and on how many cores: measured on the first items, and remembered."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING

from ...atomic import write_file
from ...hardware import available_cores, processor
from ...identity import digest
from ..graphs.graph_cache import cache_folder
from ..runtime.providers import find_runtime_versions
from .batching import DEFAULT_BATCH_SIZES, BatchSizes
from .engine import infer
from .sampling import usable

if TYPE_CHECKING:
    from pathlib import Path

    from ..graphs.exported_graph import ExportedGraph
    from ..preprocess.preprocessor import Prepared, Preprocessor
    from ..runtime.session import Session
    from ..sources.item import Item
    from .run_config import RunConfig

SECONDS = 5.0
"""Measuring ends after so many seconds."""
FACTORS = (1, 1 / 2, 2)
"""Times the usual size of a batch that are tried."""
ITEMS, TEXTS = 32, 256
"""Items, or texts, for each core that are measured with."""
WORTH = 20
"""Times as long as measuring may take that a job must last."""
GAIN = 1.05
"""Times as fast as usual that a choice must be: less is noise."""


@dataclass(frozen=True)
class Tuning:
    """How a job is carried out: sizes of batches, and how many are inferred at a time."""

    sizes: BatchSizes
    runs: int


def tune(
    graph: ExportedGraph, config: RunConfig, preprocessor: Preprocessor, items: Iterable[Item], pending: int
) -> tuple[BatchSizes, Session]:
    """Return what was found before for this graph on this machine, or measure if the job is long enough.

    Parameters
    ----------
    graph : ExportedGraph
    config : RunConfig
    preprocessor : Preprocessor
    items : iterable of Item
        The first of them are measured with.
    pending : int
        Items that the job will work on.
    """
    path, bench = locate_tuning(graph, config.provider), _Bench(graph, config.provider, preprocessor)
    usual = Tuning(DEFAULT_BATCH_SIZES, available_cores())
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        best = Tuning(
            replace(DEFAULT_BATCH_SIZES, batch_size=found["batch_size"], tokens=found["tokens"]), found["runs"]
        )
    elif measured := _measured(bench, usual, items, pending):
        best = measured
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {"batch_size": best.sizes.batch_size, "tokens": best.sizes.tokens, "runs": best.runs}
        write_file(path, json.dumps(content).encode())
    else:
        best = usual
    return best.sizes, bench.session(best.runs)


def locate_tuning(graph: ExportedGraph, provider: str) -> Path:
    """Return the file in which the tuning of a graph on this machine is remembered."""
    columns = [column.to_json() for column in graph.metadata.columns]
    key = digest(
        [graph.metadata.fingerprint, columns, provider, find_runtime_versions(), processor(), available_cores()]
    )
    return cache_folder().with_name("tuning") / f"{key[:32]}.json"


def _measured(bench: _Bench, usual: Tuning, items: Iterable[Item], pending: int) -> Tuning | None:
    """Return the fastest choice, None if the job would be over before measuring pays."""
    count = (TEXTS if bench.preprocessor.spec.lengths_vary else ITEMS) * usual.runs
    if pending < WORTH * count:
        return None
    single = replace(usual, sizes=BatchSizes(batch_size=1))
    slowest = bench.speed(single, bench.first(items, usual.runs))
    if not slowest or pending < WORTH * SECONDS * slowest:
        return None
    if count > slowest * SECONDS / len(FACTORS):
        return usual  # it is arithmetic that takes the time, whatever the size of a batch
    return _fastest(bench, usual, bench.first(items, count), pending)


def _fastest(bench: _Bench, usual: Tuning, items: Sequence[Prepared], pending: int) -> Tuning | None:
    started, speeds = time.perf_counter(), dict[Tuning, float]()
    for choice in _choices(usual):
        if speeds and time.perf_counter() - started > SECONDS * (1 - 1 / len(FACTORS)):
            break
        speeds[choice] = bench.speed(choice, items)
        if pending < WORTH * SECONDS * speeds[usual]:
            return None
    best = max(speeds, key=speeds.__getitem__)
    return best if speeds[best] >= GAIN * speeds[usual] else usual


def _choices(usual: Tuning) -> Iterator[Tuning]:
    for factor in FACTORS:
        size, tokens = round(factor * usual.sizes.batch_size), round(factor * (usual.sizes.tokens or 0))
        yield replace(usual, sizes=replace(usual.sizes, batch_size=size, tokens=tokens))
    if usual.runs > 1:
        yield replace(usual, runs=1)


@dataclass
class _Bench:
    graph: ExportedGraph
    provider: str
    preprocessor: Preprocessor
    sessions: dict[int, Session] = field(default_factory=dict)

    def session(self, runs: int) -> Session:
        """Return the graph, loaded for so many batches at a time; a device of its own takes one."""
        if runs not in self.sessions:
            self.sessions[runs] = self.graph.open(self.provider, runs)
        return self.sessions[runs]

    def first(self, items: Iterable[Item], count: int) -> list[Prepared]:
        """Return those of the first items that can be used."""
        return [prepared for (prepared,) in usable(islice(items, count), [self.preprocessor])]

    def speed(self, choice: Tuning, items: Sequence[Prepared]) -> float:
        """Return items per second, after first batches that warm up; 0 without items."""
        session, sizes = self.session(choice.runs), choice.sizes
        infer(items[: sizes.batch_size * choice.runs], session, self.preprocessor, sizes)
        started = time.perf_counter()
        infer(items, session, self.preprocessor, sizes)
        return len(items) / (time.perf_counter() - started)
