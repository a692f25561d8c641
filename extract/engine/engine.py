"""Read, decode and infer at the same time; results keep the order of the items.

A pool of threads, one per core, takes whatever is to be done next, decoding or inferring, so that no core waits and
none does two things at once: a session on the processor runs one batch on each core, see
:class:`topwork.extract.runtime.session.Session`. Where a session runs fewer batches at a time, or on a device of its
own, inference has a pool of its own.

Items are divided into windows by position: item ``i`` of a run belongs to window ``i // size`` whatever became of the
items before it, and a part of a store ends where a window ends, so a job that resumes after an interruption computes
the same batches again. Where all items have the same shape a window is a batch. Within a window text is divided into
batches by length, and sounds of one length are a batch.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from math import ceil
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ...errors import DecodeError
from ...hardware import available_cores
from ...url_secrets import hide_secrets
from ..preprocess.preprocessor import Prepared, Preprocessor
from ..runtime.providers import ON_PROCESSOR
from ..runtime.session import Session
from ..sources.item import Item, content_digest
from .averaging import average_windows
from .batching import DEFAULT_BATCH_SIZES, BatchSizes, make_batches
from .ledger import Stages
from .result import Result, Vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

THREADS_FOR_DEVICE = 2
"""Threads that call a device of its own, so that it never waits for the next batch."""
ITEMS_AHEAD_PER_WORKER = 2
"""Items for each worker to decode while a device of its own computes, so that none waits for the next window."""
TEXT_WINDOWS_INFERRED = 2
"""Windows of text that are inferred at a time; each consists of many batches."""


@dataclass(frozen=True)
class KnownFeatures:
    """Features of a content that need not be computed, and the id of the item that had the content first."""

    item_id: str
    vectors: Vectors


FeatureLookup: TypeAlias = Callable[[Sequence[str]], Mapping[str, KnownFeatures]]
"""Takes digests of contents, and returns the features that are available, by digest."""


@dataclass(frozen=True)
class DecodedItem:
    """An item that was read and prepared, or the reason why it could not be, and the seconds that it took."""

    item: Item
    digest: str = ""
    prepared: Prepared | None = None
    reason: str | None = None
    read_seconds: float = 0.0
    decode_seconds: float = 0.0


def compute_features(
    items: Iterable[Item],
    session: Session,
    preprocessor: Preprocessor,
    *,
    sizes: BatchSizes = DEFAULT_BATCH_SIZES,
    stages: Stages | None = None,
    lookup: FeatureLookup | None = None,
    workers: int | None = None,
) -> Generator[Result]:
    """Compute the features of items, and yield the results in the order of the items.

    Items are consumed a few windows ahead of the results. The seconds of each stage are added to `stages`; `workers`
    threads, by default one per core, read, decode and infer.
    """
    workers = workers or available_cores()
    inference_threads = count_inference_threads(session, workers)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="topwork-worker")
    inference_pool = pool
    if inference_threads:
        inference_pool = ThreadPoolExecutor(inference_threads, thread_name_prefix="topwork-inference")
    run = _Run(
        session=session,
        preprocessor=preprocessor,
        sizes=sizes,
        stages=stages or Stages(),
        lookup=lookup,
        pool=pool,
        inference_pool=inference_pool,
        items_ahead=count_items_ahead(session, workers),
    )
    try:
        if preprocessor.spec.averages_windows:
            block = sizes.count_items_of_part(preprocessor.spec)
            yield from average_windows(items, preprocessor.spec, block, run.results)
        else:
            yield from run.results(items)
    finally:
        for each in {pool, inference_pool}:
            each.shutdown(wait=True, cancel_futures=True)


def count_inference_threads(session: Session, workers: int) -> int:
    """Return the number of threads that only infer: 0 where every worker may infer."""
    if session.provider not in ON_PROCESSOR:
        return THREADS_FOR_DEVICE
    if session.runs < workers:
        return session.runs
    return 0


def count_items_ahead(session: Session, workers: int) -> int:
    """Return the smallest number of items to decode behind the oldest window; 0 where the processor infers, too."""
    return 0 if session.provider in ON_PROCESSOR else ITEMS_AHEAD_PER_WORKER * workers


class _Window:
    """Items that are computed together.

    ``origins`` holds for each content where its vectors come from: features that are known, or the window, this one or
    an earlier one, that computes them. ``first`` holds the first item of each content that this window computes.
    """

    def __init__(self, decoding: list[Future[list[DecodedItem]]]) -> None:
        self.decoding = decoding
        self.decoded: list[DecodedItem] = []
        self.first: dict[str, DecodedItem] = {}
        self.origins: dict[str, KnownFeatures | _Window] = {}
        self.batches: list[tuple[list[str], Future[tuple[list[Vectors], float]]]] = []
        self.vectors: dict[str, Vectors] = {}

    def features(self, digest: str) -> KnownFeatures | None:
        """Return the features of a content once the window that computes them is done; None for a failed item."""
        origin = self.origins.get(digest)
        if isinstance(origin, _Window):
            return KnownFeatures(origin.first[digest].item.id, origin.vectors[digest])
        return origin


@dataclass(frozen=True)
class _Run:
    """One run: windows being decoded, then windows being inferred, then results."""

    session: Session
    preprocessor: Preprocessor
    sizes: BatchSizes
    stages: Stages
    lookup: FeatureLookup | None
    pool: ThreadPoolExecutor
    inference_pool: ThreadPoolExecutor
    items_ahead: int
    computing: dict[str, _Window] = field(default_factory=dict)
    """The window that is computing a content, by digest."""

    def results(self, items: Iterable[Item]) -> Iterator[Result]:
        """Keep every worker busy, and yield the results of the oldest window."""
        if self.preprocessor.spec.pads_batches:
            items_per_window = self.sizes.window
            windows_inferred = TEXT_WINDOWS_INFERRED
        else:
            items_per_window = self.sizes.batch_size
            windows_inferred = self.session.runs + 1
        # Decode one window more than are inferred; small batches of many workers need more.
        windows_decoded = max(windows_inferred + 1, 1 + ceil(self.items_ahead / items_per_window))
        windows = iterate_windows(items, items_per_window)
        decoding: deque[_Window] = deque()
        inferring: deque[_Window] = deque()
        while True:
            for window in islice(windows, windows_decoded - len(decoding)):
                decoding.append(self._start_decoding(window))
            # Infer the oldest decoded window, or wait for the oldest that is inferred.
            if decoding and len(inferring) < windows_inferred:
                oldest = decoding.popleft()
                self._start_inference(oldest)
                inferring.append(oldest)
            elif inferring:
                yield from self._finish(inferring.popleft())
            else:
                return

    def _start_decoding(self, items: list[Item]) -> _Window:
        step = self.preprocessor.items_per_call
        chunks = [items[start : start + step] for start in range(0, len(items), step)]
        return _Window([self.pool.submit(decode_items, chunk, self.preprocessor) for chunk in chunks])

    def _start_inference(self, window: _Window) -> None:
        """Wait until a window is decoded, and start the inference of each new content, once."""
        for chunk in window.decoding:
            window.decoded.extend(chunk.result())
        for decoded in window.decoded:
            self.stages.read += decoded.read_seconds
            self.stages.decode += decoded.decode_seconds
        new = self._find_new_contents(window)
        longest_first = reversed(make_batches(new, self.sizes))  # no core waits for a long batch at the end
        for digests in longest_first:
            arrays = [new[digest].array for digest in digests]
            job = self.inference_pool.submit(infer_batch, arrays, self.session, self.preprocessor)
            window.batches.append((digests, job))

    def _find_new_contents(self, window: _Window) -> dict[str, Prepared]:
        """Find where the features of each content come from, and return the contents that this window computes."""
        first = find_first_items(window.decoded)
        # Contents that an earlier window is computing, then those whose features are known.
        for digest in first:
            if digest in self.computing:
                window.origins[digest] = self.computing[digest]
        if self.lookup is not None:
            others = [digest for digest in first if digest not in window.origins]
            window.origins.update(self.lookup(others))
        # The rest is computed by this window.
        new: dict[str, Prepared] = {}
        for digest, decoded in first.items():
            if digest not in window.origins and decoded.prepared is not None:
                new[digest] = decoded.prepared
                window.first[digest] = decoded
        for digest in new:
            window.origins[digest] = window
            self.computing[digest] = window
        return new

    def _finish(self, window: _Window) -> Iterator[Result]:
        """Wait until a window is inferred, and yield the results of its items."""
        for digests, job in window.batches:
            vectors, seconds = job.result()
            self.stages.infer += seconds
            window.vectors.update(zip(digests, vectors, strict=True))
        for decoded in window.decoded:
            is_first = window.first.get(decoded.digest) is decoded
            yield make_result(decoded, window.features(decoded.digest), is_first)
        for digest in window.first:
            del self.computing[digest]
        window.origins.clear()  # it refers to the window itself, whose arrays would wait for the garbage collector


def find_first_items(items: Iterable[DecodedItem]) -> dict[str, DecodedItem]:
    """Return the first item of each content that could be decoded, by digest."""
    first: dict[str, DecodedItem] = {}
    for item in items:
        if item.prepared is not None:
            first.setdefault(item.digest, item)
    return first


def iterate_windows(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield consecutive items as lists of one size; the last one may be shorter."""
    remaining = iter(items)
    while True:
        window = list(islice(remaining, size))
        if not window:
            return
        yield window


def decode_items(items: Sequence[Item], preprocessor: Preprocessor) -> list[DecodedItem]:
    """Read and prepare items; each gets an equal share of the seconds that preparing took."""
    read = [read_item(item) for item in items]
    started = time.perf_counter()
    contents = [content for _, content in read if content is not None]
    prepared = iter(preprocessor.prepare_all(contents))
    seconds = (time.perf_counter() - started) / len(read)
    decoded: list[DecodedItem] = []
    for item, content in read:
        if content is None:
            decoded.append(item)
            continue
        outcome = next(prepared)
        if isinstance(outcome, DecodeError):
            decoded.append(replace(item, reason=str(outcome), decode_seconds=seconds))
        else:
            decoded.append(replace(item, prepared=outcome, decode_seconds=seconds))
    return decoded


def read_item(item: Item) -> tuple[DecodedItem, Any]:
    """Read an item; return it with the digest of its content, and the content, None if it cannot be read."""
    started = time.perf_counter()
    try:
        content = item.read()
    except OSError as error:
        return DecodedItem(item, reason=hide_secrets(f"{type(error).__name__}: {error.strerror or error}")), None
    except DecodeError as error:
        return DecodedItem(item, reason=str(error)), None
    digest = content_digest(content)
    return DecodedItem(item, digest, read_seconds=time.perf_counter() - started), content


def make_result(decoded: DecodedItem, features: KnownFeatures | None, is_first: bool) -> Result:
    """Return the result of an item, given the features of its content; None if it could not be decoded."""
    if decoded.prepared is None or features is None:
        return Result(decoded.item, decoded.digest, reason=decoded.reason)
    if not all(np.isfinite(vector).all() for vector in features.vectors):
        return Result(decoded.item, decoded.digest, reason="the model's features are not finite")
    return Result(
        decoded.item,
        decoded.digest,
        vectors=features.vectors,
        duplicate_of=None if is_first else features.item_id,
        truncated=decoded.prepared.truncated,
    )


def infer(
    prepared: Sequence[Prepared], session: Session, preprocessor: Preprocessor, sizes: BatchSizes = DEFAULT_BATCH_SIZES
) -> list[Vectors]:
    """Compute the vectors of prepared items, in their order."""
    batches = make_batches(dict(enumerate(prepared)), sizes)
    threads = count_inference_threads(session, session.runs) or session.runs
    with ThreadPoolExecutor(threads) as pool:
        jobs = []
        for positions in batches:
            arrays = [prepared[position].array for position in positions]
            jobs.append(pool.submit(infer_batch, arrays, session, preprocessor))
    vectors: dict[int, Vectors] = {}
    for positions, job in zip(batches, jobs, strict=True):
        batch_vectors, _ = job.result()
        vectors.update(zip(positions, batch_vectors, strict=True))
    return [vectors[position] for position in range(len(prepared))]


def infer_batch(
    arrays: Sequence[NDArray[Any]], session: Session, preprocessor: Preprocessor
) -> tuple[list[Vectors], float]:
    """Return the vectors of each array of a batch, and the seconds that inference took."""
    feed = preprocessor.collate(arrays)
    started = time.perf_counter()
    outputs = session.run(feed)  # one matrix (batch, features) per output
    seconds = time.perf_counter() - started
    return list(zip(*outputs, strict=True)), seconds
