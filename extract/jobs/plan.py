"""The forecast of a job: a few of its items are computed, and nothing is written."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import InputError
from ...hardware import available_cores
from ...progress import Progress
from ..engine.batching import BatchSizes
from ..engine.engine import compute_features
from ..engine.ledger import Ledger
from ..engine.result import Result
from ..engine.run_config import RunConfig
from ..engine.sampling import make_sampler
from ..preprocess.by_kind import preprocessor_for
from ..preprocess.preprocessor import Preprocessor
from ..runtime.providers import ON_PROCESSOR
from ..sources.views import ViewedSource
from ..store.feature_store import DTYPES
from ..store.pending import Pending

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..graphs.cut import Column
    from ..graphs.exported_graph import ExportedGraph
    from ..runtime.session import Session
    from ..sources.item import Item, Source
    from ..store.feature_store import FeatureStore

SAMPLE_ITEMS = 50
"""Approximate number of items that are timed."""
TEXTS_PER_SAMPLE_BATCH = 8
"""Items per batch where lengths vary: so few are as similar in a sample as a whole batch is in a window."""
SAMPLE_SEED = 0
BYTES_PER_ITEM = 250
"""Bytes that a store keeps of an item in addition to its features: digest, label and status, in part and index."""
ID_COPIES = 3
"""Copies of an item's id in a store."""


@dataclass(frozen=True)
class Plan:
    """A forecast of a job.

    `seconds` is its wall time if its threads never wait for each other, `disk_bytes` the growth of the store; `sample`
    is the account of the items that were computed for the forecast.
    """

    items: int
    pending: int
    seconds: float
    disk_bytes: int
    sample: Ledger

    @property
    def items_per_second(self) -> float:
        """Expected throughput."""
        if not self.seconds:
            return 0.0
        return self.pending / self.seconds

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary for JSON."""
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
    *,
    views: int | None = None,
    dtype: str = "float32",
) -> Plan:
    """Forecast what :func:`topwork.extract_features` will take.

    About fifty of the items that are to be computed, drawn with a seed, go through the engine after a warm-up with
    whole batches; in batches that are small enough for every core to infer, as in the job. Items whose content is in
    the store under another id are computed here, though not in the job. The graph is in the precision of the job;
    `store` is None if it does not exist yet; it is to have features of `dtype` then. `views` is the number of augmented
    versions of each image, by default as many as the store has.
    """
    if dtype not in DTYPES:
        raise InputError(f"dtype={dtype!r} of a store: expected one of {', '.join(DTYPES)}")
    config = config or RunConfig()
    if views is None:
        views = 0 if store is None else store.n_views
    if views:
        source = ViewedSource(source, views, graph.input_spec.kind)
    columns = (
        store.columns if store is not None else [replace(column, dtype=dtype) for column in graph.metadata.columns]
    )
    # Count what is to be computed.
    known = None
    if store is not None:
        known = Pending(store.index)
        known.find_changed(source, store.index)
    n_pending = sum(1 for _ in iterate_pending(source, known))
    sample = Ledger(precision=graph.metadata.precision, fingerprint=graph.metadata.fingerprint, cores=available_cores())
    if not n_pending:
        return Plan(len(source), pending=0, seconds=0.0, disk_bytes=0, sample=sample)
    # Load the graph.
    started = time.perf_counter()
    session = graph.open(config.provider, sample.cores)
    loading_seconds = time.perf_counter() - started
    sample.provider = session.provider
    sample.runs = session.runs
    # Warm up, with batches of the job and of the sample.
    preprocessor = preprocessor_for(graph.input_spec, config.max_pixels)
    batch_size = choose_sample_batch_size(config, session, preprocessor)
    arrays = make_sampler(source, config.max_pixels)(graph.input_spec)
    if arrays:
        warm_up(session, preprocessor, arrays, [config.batch_sizes.batch_size, batch_size])
    # Time a sample of whole batches.
    n_batches = -(-SAMPLE_ITEMS // batch_size)
    items = draw_sample(iterate_pending(source, known), n_pending, n_batches * batch_size)
    results = compute_features(
        items, session, preprocessor, sizes=BatchSizes(batch_size), stages=sample.stages, workers=config.workers
    )
    record_sample(results, sample, len(items), config)
    # Extrapolate.
    seconds = loading_seconds + n_pending * forecast_seconds_per_item(sample)
    disk_bytes = n_pending * forecast_bytes_per_item(columns, items, sample)
    if store is None:
        disk_bytes += measure_graph_bytes(graph)
    return Plan(len(source), pending=n_pending, seconds=seconds, disk_bytes=round(disk_bytes), sample=sample)


def iterate_pending(source: Source, known: Pending | None) -> Iterator[Item]:
    """Yield the items that a job would compute; all items if there is no store yet."""
    if known is None:
        yield from source
        return
    for item, row in known.match(source):
        if row is None:
            yield item


def choose_sample_batch_size(config: RunConfig, session: Session, preprocessor: Preprocessor) -> int:
    """Return a batch size with which the sample occupies all that infers."""
    if preprocessor.spec.lengths_vary:
        largest = TEXTS_PER_SAMPLE_BATCH
    else:
        largest = -(-SAMPLE_ITEMS // session.runs)
    return min(config.batch_sizes.batch_size, largest)


def draw_sample(items: Iterable[Item], total: int, count: int) -> list[Item]:
    """Draw `count` of `total` items with a seed, or all if there are fewer; they keep their order."""
    positions = np.random.default_rng(SAMPLE_SEED).choice(total, min(count, total), replace=False)
    drawn = set(positions.tolist())
    return [item for position, item in enumerate(items) if position in drawn]


def warm_up(
    session: Session, preprocessor: Preprocessor, arrays: Sequence[NDArray[Any]], batch_sizes: Sequence[int]
) -> None:
    """Infer batches of each size on all that infers: kernels are chosen and memory is allocated as in the job."""
    largest = max(arrays, key=lambda array: array.size)
    with ThreadPoolExecutor(session.runs) as pool:
        for batch_size in batch_sizes:
            feed = preprocessor.collate([largest] * batch_size)
            list(pool.map(session.run, [feed] * session.runs))


def record_sample(results: Iterator[Result], sample: Ledger, total: int, config: RunConfig) -> None:
    """Count the results of the sample in its ledger, and report progress."""
    started = time.perf_counter()
    config.report(Progress(0, total))
    for result in results:
        status = "ok"
        if result.duplicate_of:
            status = "duplicate"
        elif result.vectors is None:
            status = "failed"
        sample.count(result.item.id, status, result.reason)
        sample.computed += 1
        sample.truncated += result.truncated
        sample.note_memory()
        config.report(Progress(done=sample.items, total=total, computed=sample.computed, stage=sample.limiting_stage))
    sample.computing_seconds = time.perf_counter() - started
    sample.seconds = sample.computing_seconds


def forecast_seconds_per_item(sample: Ledger) -> float:
    """Return the time per item of cores that never wait.

    Stages on the processor take turns; inference on a device of its own runs at the same time as the others.
    """
    if sample.provider in ON_PROCESSOR:
        seconds = sample.stages.core_seconds(sample.cores, sample.runs) / sample.cores
    else:
        seconds = max(sample.stages.busy(sample.cores, sample.runs).values())
    return seconds / sample.computed


def forecast_bytes_per_item(columns: Sequence[Column], items: Sequence[Item], sample: Ledger) -> float:
    """Return the bytes per item on disk; failed items have no features."""
    feature_bytes = sum(column.width * np.dtype(column.dtype).itemsize for column in columns)
    failed_fraction = sample.failed / sample.items
    id_bytes = sum(len(item.id.encode()) for item in items) / len(items)
    return feature_bytes * (1 - failed_fraction) + BYTES_PER_ITEM + ID_COPIES * id_bytes


def measure_graph_bytes(graph: ExportedGraph) -> int:
    """Return the bytes of a graph, of what belongs to it, and of the files of its input."""
    input_bytes = sum(len(content) for content in graph.input_spec.files().values())
    return sum(path.stat().st_size for path in graph.list_files()) + input_bytes
