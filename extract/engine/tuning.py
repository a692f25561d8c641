"""Batch sizes and concurrency: measured on the first items of a long job, and remembered."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING

from ...errors import ProviderError
from ...hardware import available_cores, processor
from ...identity import digest
from ...user_cache import TUNING, recall, remember, user_cache_folder
from ..runtime.providers import ON_PROCESSOR, find_rivals, find_runtime_versions, parse_family
from .batching import DEFAULT_BATCH_SIZES, BatchSizes
from .engine import infer
from .sampling import prepare_usable

if TYPE_CHECKING:
    from pathlib import Path

    from ..graphs.exported_graph import ExportedGraph
    from ..preprocess.preprocessor import Prepared, Preprocessor
    from ..runtime.session import Session
    from ..sources.item import Item
    from .run_config import RunConfig

MEASURING_SECONDS = 8.0
"""Time within which tunings are measured; to confirm the fastest is not part of it."""
CONFIRMING_ROUNDS = 2
SMALLER_FACTORS, LARGER_FACTORS = (1 / 2, 1 / 4), (2,)
"""Multiples of the default batch size that are tried beside it: all smaller ones, and larger ones if none of them pays,
as long as each is faster than the one before."""
DEVICE_BATCH_SIZE_FACTORS = (2, 4, 8, 16)
"""The same on a device of its own; what does not fit into its memory is not faster."""
DEVICE_GAIN = 8
"""How many times as fast as single items a device may be expected to compute batches."""
OUT_OF_MEMORY = ("out of memory", "failed to allocate", "alloc_failed")
"""What errors of ONNX Runtime's providers say, in lower case, if a batch does not fit into the memory of a device."""
SECONDS_PER_TUNING = MEASURING_SECONDS / 4
"""Limit of the time that the items are chosen for which are measured with."""
DISTURBED_SECONDS = 0.5
MAX_TIMES = 3
"""A time is taken up to so often, until all add up to enough: a short one is easily disturbed."""
ITEMS_PER_CORE = 32
"""Items of equal shape that are measured with, for each core."""
TEXTS_PER_CORE = 256
"""Items of varying length that are measured with, for each core."""
MIN_JOB_TO_TUNING_RATIO = 40
"""A job is tuned if it lasts at least this many times as long as measuring."""
MIN_SPEEDUP = 1.02
"""Speed over that of the fastest before from which a tuning is considered, and over that of the defaults, measured
anew, from which it is taken."""


@dataclass(frozen=True)
class Tuning:
    """How a job is computed: sizes of batches, and the number of batches that are inferred at a time."""

    sizes: BatchSizes
    runs: int


def tune(
    graph: ExportedGraph,
    config: RunConfig,
    preprocessor: Preprocessor,
    items: Iterable[Item],
    pending: int,
    bench: Bench | None = None,
) -> tuple[BatchSizes, Session]:
    """Return the tuning of a graph on this machine: remembered, measured in long jobs, or the default.

    The first items are measured with; `pending` is the number of items that the job will compute. The tuning is
    returned as the batch sizes, and the graph loaded for the number of batches at a time.
    """
    bench = bench or Bench(graph, config.provider, preprocessor)
    path = locate_tuning(graph, config.provider)
    tuning = read_tuning(path)
    if tuning is not None:
        return tuning.sizes, bench.open_session(tuning.runs)
    measured = measure_tuning(bench, items, pending)
    if measured is None:
        return bench.default.sizes, bench.open_session(bench.default.runs)
    write_tuning(path, measured)
    return measured.sizes, bench.open_session(measured.runs)


def locate_tuning(graph: ExportedGraph, provider: str) -> Path:
    """Return the file in which the tuning of a graph on this machine is remembered."""
    columns = [column.to_json() for column in graph.metadata.columns]
    conditions = [
        graph.metadata.fingerprint,
        columns,
        provider,
        find_runtime_versions(),
        processor(),
        available_cores(),
    ]
    return user_cache_folder() / TUNING / f"{digest(conditions)[:32]}.json"


def read_tuning(path: Path) -> Tuning | None:
    """Read a remembered tuning; None if there is none, or it is damaged."""
    values = recall(path)
    if values is None:
        return None
    return Tuning(BatchSizes(values["batch_size"], values["tokens"]), values["runs"])


def write_tuning(path: Path, tuning: Tuning) -> None:
    """Remember a tuning."""
    values = {"batch_size": tuning.sizes.batch_size, "tokens": tuning.sizes.tokens, "runs": tuning.runs}
    remember(path, values)


def measure_tuning(bench: Bench, items: Iterable[Item], pending: int) -> Tuning | None:
    """Return the fastest tuning; None if the job, of `pending` items, is too short for measuring."""
    # Leave short jobs alone: first by their number of items, then by their time in batches of one item.
    default = bench.default
    items_per_core = TEXTS_PER_CORE if bench.preprocessor.spec.lengths_vary else ITEMS_PER_CORE
    count = items_per_core * default.runs
    if bench.is_on_device:  # two batches of the largest size
        count = max(count, 2 * max(DEVICE_BATCH_SIZE_FACTORS) * default.sizes.batch_size)
    if pending < MIN_JOB_TO_TUNING_RATIO * count:
        return None
    single = replace(default, sizes=BatchSizes(batch_size=1))
    lowest_speed = bench.speed(single, bench.prepare_first(items, default.runs))
    if not lowest_speed or is_too_short(pending, lowest_speed):
        return None
    # Find the fastest provider, with items of which one after the other would take no longer than measuring may.
    n_affordable = max(default.runs, int(lowest_speed * SECONDS_PER_TUNING))
    bench.compare_providers(bench.prepare_first(items, min(count, n_affordable)))
    # Keep the defaults where a single item takes long: then no batch size makes a difference.
    gain = DEVICE_GAIN if bench.is_on_device else 1
    if count > gain * lowest_speed * SECONDS_PER_TUNING:
        return default
    return find_fastest_tuning(bench, bench.prepare_first(items, count), pending)


def find_fastest_tuning(bench: Bench, prepared: Sequence[Prepared], pending: int) -> Tuning | None:
    """Return the fastest tuning that there is time to measure; None if the job is too short by the default's speed."""
    default = bench.default
    started = time.perf_counter()
    speeds = {default: bench.speed(default, prepared)}
    if is_too_short(pending, speeds[default]):
        return None
    for tuning in iterate_other_tunings(default, speeds, bench.is_on_device):
        if time.perf_counter() - started > MEASURING_SECONDS - SECONDS_PER_TUNING:
            break
        speed = bench.speed_if_it_fits(tuning, prepared)
        if speed >= MIN_SPEEDUP * max(speeds.values()):
            speeds[tuning] = speed
    fastest = max(speeds, key=speeds.__getitem__)
    if fastest != default and is_faster(bench, fastest, default, prepared):
        return fastest
    return default


def is_faster(bench: Bench, one: Tuning, other: Tuning, prepared: Sequence[Prepared]) -> bool:
    """Return whether a tuning is faster than another when both are measured anew, by turns.

    The fastest of several that were measured once may be the one that was disturbed the least.
    """
    speeds: dict[Tuning, list[float]] = {one: [], other: []}
    for _ in range(CONFIRMING_ROUNDS):
        for tuning, found in speeds.items():
            found.append(bench.speed(tuning, prepared))
    return max(speeds[one]) >= MIN_SPEEDUP * max(speeds[other])


def is_too_short(pending: int, items_per_second: float) -> bool:
    """Return whether a job of this speed is over before measuring pays off."""
    return pending < MIN_JOB_TO_TUNING_RATIO * MEASURING_SECONDS * items_per_second


def iterate_other_tunings(default: Tuning, speeds: Mapping[Tuning, float], is_on_device: bool) -> Iterator[Tuning]:
    """Yield tunings to try in addition to the default, of which those that pay are added to `speeds`.

    They are smaller batches, or else larger ones as long as that pays, and one batch at a time; none where the memory
    limits the default.
    """
    if default.sizes != DEFAULT_BATCH_SIZES:
        return
    default_tokens = default.sizes.tokens or 0
    for factors in (DEVICE_BATCH_SIZE_FACTORS,) if is_on_device else (SMALLER_FACTORS, LARGER_FACTORS):
        for factor in factors:
            sizes = BatchSizes(round(factor * default.sizes.batch_size), round(factor * default_tokens))
            tuning = replace(default, sizes=sizes)
            yield tuning
            if factor > 1 and tuning not in speeds:
                break
        if len(speeds) > 1:
            break
    if default.runs > 1 and not is_on_device:
        yield replace(max(speeds, key=speeds.__getitem__), runs=1)


@dataclass
class Bench:
    """Measures the speed of tunings of a graph; the default tuning infers one batch per core at a time."""

    graph: ExportedGraph
    provider: str
    preprocessor: Preprocessor
    cores: int = field(default_factory=available_cores)
    sessions: dict[int, Session] = field(default_factory=dict)

    @property
    def default(self) -> Tuning:
        """The tuning where nothing was measured: batches that fit into the memory."""
        largest = self.graph.find_largest_batch(self.open_session(self.cores))
        return Tuning(DEFAULT_BATCH_SIZES.limit(largest, self.cores), self.cores)

    @property
    def is_on_device(self) -> bool:
        """Whether the graph runs on a device of its own, such as a GPU."""
        return self.open_session(self.cores).provider not in ON_PROCESSOR

    def open_session(self, runs: int) -> Session:
        """Return the graph, loaded for a number of batches at a time; a device of its own takes one."""
        if runs not in self.sessions:
            self.sessions[runs] = self.graph.open(self.provider, runs)
        return self.sessions[runs]

    def prepare_first(self, items: Iterable[Item], count: int) -> list[Prepared]:
        """Prepare the first items; those that fail are left out."""
        return [prepared for (prepared,) in prepare_usable(islice(items, count), [self.preprocessor])]

    def compare_providers(self, items: Sequence[Prepared]) -> None:
        """Time the providers of which "auto" takes the fastest, unless that was done before on this machine."""
        rivals = find_rivals(self.provider, parse_family(self.graph.metadata.precision))
        if len(rivals) < 2 or self.graph.read_speeds():
            return
        default = self.default
        first = self.open_session(default.runs)
        sessions = {first.provider: first}
        speeds: dict[str, float] = {}
        for name in [rival.name for rival in rivals]:
            with contextlib.suppress(ProviderError):  # it does not compute the model
                if name not in sessions:
                    sessions[name] = self.graph.open(name, default.runs)
                self.sessions = {default.runs: sessions[name]}
                speeds[name] = self.speed(default, items)
        self.sessions = {default.runs: sessions[max(speeds, key=speeds.__getitem__)]}
        self.graph.remember_speeds(speeds)

    def speed(self, tuning: Tuning, items: Sequence[Prepared]) -> float:
        """Return the items per second of a tuning, after a warm-up; 0 without items."""
        session = self.open_session(tuning.runs)
        warm_up = items[: tuning.sizes.batch_size * tuning.runs]
        infer(warm_up, session, self.preprocessor, tuning.sizes)
        seconds: list[float] = []
        while sum(seconds) < DISTURBED_SECONDS and len(seconds) < MAX_TIMES:
            started = time.perf_counter()
            infer(items, session, self.preprocessor, tuning.sizes)
            seconds.append(time.perf_counter() - started)
        return len(items) / min(seconds)

    def speed_if_it_fits(self, tuning: Tuning, items: Sequence[Prepared]) -> float:
        """Return the items per second of a tuning; 0 if its batches do not fit into the memory of the device."""
        try:
            return self.speed(tuning, items)
        except Exception as error:
            if isinstance(error, MemoryError) or any(text in str(error).lower() for text in OUT_OF_MEMORY):
                return 0.0
            raise
