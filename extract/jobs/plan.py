"""What a job will take: a few of its items are computed, and nothing is written."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...hardware import available_cores
from ..engine.batching import BatchSizes
from ..engine.engine import Result, run
from ..engine.ledger import Ledger
from ..engine.progress import Progress
from ..engine.run_config import RunConfig
from ..engine.sampling import samples_of
from ..preprocess.by_kind import preprocessor_for
from ..preprocess.preprocessor import Preprocessor
from ..runtime.providers import ON_PROCESSOR
from ..store.pending import Pending

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..graphs.exported_graph import ExportedGraph
    from ..runtime.session import Session
    from ..sources.item import Item, Source
    from ..store.feature_store import FeatureStore

SAMPLE = 50
"""About as many items are timed."""
MIXED_BATCH = 8
"""Items of a batch where lengths vary: so few are as much alike in a sample as a whole batch is in a window."""
SEED = 0
ITEM_BYTES = 250
"""What a store keeps of an item beside its features: digest, label, status, in its part and in the index."""
ID_COPIES = 3


@dataclass(frozen=True)
class Plan:
    """A forecast of a job.

    Parameters
    ----------
    items : int
        Inputs of the source.
    pending : int
        Those that the job will work on.
    seconds : float
        Wall time that the job will take, if its threads never wait for each other.
    disk_bytes : int
        What the store will grow by.
    sample : Ledger
        What became of the items that were computed for the forecast, and where the time and the memory went.
    """

    items: int
    pending: int
    seconds: float
    disk_bytes: int
    sample: Ledger

    @property
    def items_per_second(self) -> float:
        """Throughput that is to be expected."""
        return self.pending / self.seconds if self.seconds else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary for machines."""
        return {
            "items": self.items,
            "pending": self.pending,
            "seconds": self.seconds,
            "items_per_second": self.items_per_second,
            "disk_bytes": self.disk_bytes,
            "peak_memory": self.sample.peak_memory,
            "provider": self.sample.provider,
            "precision": self.sample.precision,
            "fingerprint": self.sample.fingerprint,
            "sample": self.sample.to_json(),
        }


def plan(
    source: Source,
    graph: ExportedGraph,
    store: FeatureStore | None = None,
    config: RunConfig | None = None,
) -> Plan:
    """Forecast what :func:`topwork.extract_features` will take.

    About fifty of the items that are to be computed, drawn with a seed, go through the engine, after whole batches that
    warm it up; in batches that are small enough for every core to infer, as in the job. Items whose content is already
    in the store under another id are computed here, though not in the job.

    Parameters
    ----------
    source : Source
    graph : ExportedGraph
        In the precision of the job.
    store : FeatureStore, optional
        Where the features will go; None if it is to be made.
    config : RunConfig, optional
        As for the job.
    """
    config = config or RunConfig()
    sizes = config.batch_sizes
    known = _known(source, store)
    pending = sum(1 for _ in _pending(source, known))
    sample = Ledger(precision=graph.metadata.precision, fingerprint=graph.metadata.fingerprint, cores=available_cores())
    if not pending:
        return Plan(len(source), 0, 0.0, 0, sample)
    started = time.perf_counter()
    session = graph.open(config.provider, sample.cores)
    loading = time.perf_counter() - started
    sample.provider, sample.runs = session.provider, session.runs
    preprocessor = preprocessor_for(graph.input_spec, config.max_pixels)
    size = min(sizes.batch_size, MIXED_BATCH if preprocessor.spec.lengths_vary else -(-SAMPLE // session.runs))
    _warm_up(session, preprocessor, samples_of(source, config.max_pixels)(graph.input_spec), (sizes.batch_size, size))
    chosen = _drawn(_pending(source, known), pending, size * -(-SAMPLE // size))
    computing = run(chosen, session, preprocessor, BatchSizes(size), sample.stages, workers=config.workers)
    _compute(computing, sample, len(chosen), config)
    seconds = loading + pending * _seconds_per_item(sample)
    disk = pending * _bytes_per_item(graph, chosen, sample) + (0 if store else _bytes_of_graph(graph))
    return Plan(len(source), pending, seconds, round(disk), sample)


def _known(source: Source, store: FeatureStore | None) -> Pending | None:
    if store is None:
        return None
    known = Pending(store.index)
    known.find_changed(source, store.index)
    return known


def _pending(source: Source, known: Pending | None) -> Iterator[Item]:
    return iter(source) if known is None else (item for item, row in known.match(source) if row is None)


def _drawn(items: Iterable[Item], total: int, count: int) -> list[Item]:
    """Draw some of the items with a seed; they keep their order."""
    chosen = set(np.random.default_rng(SEED).choice(total, min(count, total), replace=False).tolist())
    return [item for position, item in enumerate(items) if position in chosen]


def _warm_up(
    session: Session, preprocessor: Preprocessor, arrays: Sequence[NDArray[Any]], sizes: Sequence[int]
) -> None:
    """Infer batches of each size on all that infers: kernels are chosen and memory is taken as in the job."""
    if arrays:
        largest = max(arrays, key=lambda array: array.size)
        with ThreadPoolExecutor(session.runs) as pool:
            for size in sizes:
                feed = preprocessor.collate([largest] * size)
                list(pool.map(session.run, [feed] * session.runs))


def _compute(results: Iterator[Result], sample: Ledger, total: int, config: RunConfig) -> None:
    """Enter what becomes of the sample."""
    started = time.perf_counter()
    config.report(Progress(0, total))
    for result in results:
        status = "duplicate" if result.duplicate_of else "failed" if result.vectors is None else "ok"
        sample.count(result.item.id, status, result.reason)
        sample.computed += 1
        sample.truncated += result.truncated
        sample.note_memory()
        config.report(Progress(sample.items, total, sample.computed, sample.limiting_stage))
    sample.seconds = sample.computing_seconds = time.perf_counter() - started


def _seconds_per_item(sample: Ledger) -> float:
    """Return the time of an item where cores do not wait: stages take turns on the processor, others run beside it."""
    cores, runs = sample.cores, sample.runs
    busy = sample.stages.core_seconds(cores, runs) / cores
    if sample.provider not in ON_PROCESSOR:
        busy = max(sample.stages.busy(cores, runs).values())
    return busy / sample.computed


def _bytes_per_item(graph: ExportedGraph, items: Sequence[Item], sample: Ledger) -> float:
    features = sum(column.width * np.dtype(column.dtype).itemsize for column in graph.metadata.columns)
    names = sum(len(item.id.encode()) for item in items) / len(items)
    return features * (1 - sample.failed / sample.items) + ITEM_BYTES + ID_COPIES * names


def _bytes_of_graph(graph: ExportedGraph) -> int:
    inputs = sum(len(content) for content in graph.input_spec.files().values())
    return graph.path.stat().st_size + graph.certificate_path.stat().st_size + inputs
