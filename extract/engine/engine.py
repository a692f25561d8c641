"""Read, decode and infer at the same time; items keep their order.

As many threads as there are cores take what is to be done next, decoding or inferring, so that no core waits and none
has two things to do: a session for the processor runs one batch on each core, see
:class:`topwork.extract.runtime.session.Session`. Where it runs fewer at a time, or on a device of its own, threads of
its own call it.

Windows are made by position: item ``i`` of a run belongs to window ``i // size`` whatever became of its neighbours, and
a part of a store ends where a window ends, so a job that goes on after an interruption computes the same batches again.
Where items are of one shape a window is a batch; texts are put into batches by their length within a window.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ...errors import DecodeError
from ...hardware import available_cores
from ..preprocess.preprocessor import Prepared, Preprocessor
from ..runtime.providers import ON_PROCESSOR
from ..runtime.session import Session
from ..sources.item import Item, content_digest
from .batching import DEFAULT_BATCH_SIZES, BatchSizes, make_batches
from .ledger import Stages

if TYPE_CHECKING:
    from numpy.typing import NDArray

Vectors: TypeAlias = "tuple[NDArray[np.float32], ...]"
"""One vector for each output of the graph."""


@dataclass(frozen=True)
class Original:
    """An item whose features for a content are at hand."""

    id: str
    vectors: Vectors


Known: TypeAlias = Callable[[Sequence[str]], Mapping[str, Original]]
"""Returns, of some contents, by digest, those whose features are at hand."""


@dataclass(frozen=True)
class Result:
    """What became of one item.

    Parameters
    ----------
    item : Item
    digest : str
        SHA-256 of the content, "" if it could not be read.
    vectors : tuple of ndarray, or None
        One float32 vector for each output; None if the item failed.
    reason : str or None
        Why it failed.
    duplicate_of : str or None
        Id of an earlier item with the same content.
    truncated : bool
        Whether something of the item did not fit into the network's input.
    """

    item: Item
    digest: str
    vectors: Vectors | None = None
    reason: str | None = None
    duplicate_of: str | None = None
    truncated: bool = False


@dataclass(frozen=True)
class _Decoded:
    item: Item
    digest: str = ""
    prepared: Prepared | None = None
    reason: str | None = None
    seconds: tuple[float, float] = (0.0, 0.0)


def run(
    items: Iterable[Item],
    session: Session,
    preprocessor: Preprocessor,
    sizes: BatchSizes,
    stages: Stages,
    known: Known = lambda digests: {},
    workers: int | None = None,
) -> Generator[Result]:
    """Compute the features of items.

    Parameters
    ----------
    items : iterable of Item
        Taken a few windows ahead.
    session : Session
    preprocessor : Preprocessor
    sizes : BatchSizes
    stages : Stages
        Its seconds are counted up.
    known : callable
        Takes digests of contents, and returns an item and its vectors for those that need not be computed again.
    workers : int, optional
        Threads that read, decode and infer; one per core by default.

    Yields
    ------
    Result
        In the order of the items.
    """
    workers = workers or available_cores()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="topwork-worker")
    own = _own_threads(session, workers)
    inferring = ThreadPoolExecutor(own, thread_name_prefix="topwork-inference") if own else pool
    try:
        yield from _Run(session, preprocessor, sizes, stages, known, pool, inferring).results(items)
    finally:
        for each in {pool, inferring}:
            each.shutdown(wait=True, cancel_futures=True)


def _own_threads(session: Session, workers: int) -> int:
    """Return how many threads only infer: none where every worker may, two for a device, so that it never waits."""
    if session.provider not in ON_PROCESSOR:
        return 2
    return session.runs if session.runs < workers else 0


class _Window:
    """Items that are worked on together.

    ``original`` says of each content where its vectors come from: what is known already, or the window, this one or an
    earlier one, that computes them.
    """

    def __init__(self, decoding: list[Future[list[_Decoded]]]) -> None:
        self.decoding = decoding
        self.decoded: list[_Decoded] = []
        self.first: dict[str, _Decoded] = {}
        self.original: dict[str, Original | _Window] = {}
        self.batches: list[tuple[list[str], Future[tuple[list[Vectors], float]]]] = []
        self.vectors: dict[str, Vectors] = {}

    def original_of(self, digest: str) -> Original | None:
        """Return the item that has this content, once its window is computed."""
        found = self.original.get(digest)
        return Original(found.first[digest].item.id, found.vectors[digest]) if isinstance(found, _Window) else found


@dataclass(frozen=True)
class _Run:
    """One run: windows being decoded, then windows being inferred, then results."""

    session: Session
    preprocessor: Preprocessor
    sizes: BatchSizes
    stages: Stages
    known: Known
    pool: ThreadPoolExecutor
    inferring: ThreadPoolExecutor
    computing: dict[str, _Window] = field(default_factory=dict)
    """For each content that is being computed, where."""

    def results(self, items: Iterable[Item]) -> Iterator[Result]:
        """Keep every worker busy, and yield the results of the oldest window."""
        varies, at_once = self.preprocessor.spec.lengths_vary, self.preprocessor.items_per_call
        size, inferred = (self.sizes.window, 2) if varies else (self.sizes.batch_size, self.session.runs + 1)
        source = iter(items)
        windows = iter(lambda: list(islice(source, size)), [])
        decoding, inferring = deque[_Window](), deque[_Window]()
        while True:
            for window in islice(windows, inferred + 1 - len(decoding)):
                chunks = (window[i : i + at_once] for i in range(0, len(window), at_once))
                jobs = [self.pool.submit(_decode_items, chunk, self.preprocessor) for chunk in chunks]
                decoding.append(_Window(jobs))
            if decoding and len(inferring) < inferred:
                inferring.append(self._started(decoding.popleft()))
            elif inferring:
                yield from self._finished(inferring.popleft())
            else:
                return

    def _started(self, window: _Window) -> _Window:
        """Wait until a window is decoded, and start the inference of each content that is new, once."""
        window.decoded = [decoded for job in window.decoding for decoded in job.result()]
        for decoded in window.decoded:
            self.stages.read += decoded.seconds[0]
            self.stages.decode += decoded.seconds[1]
        new = self._new_contents(window)
        for digests in reversed(make_batches(new, self.sizes)):  # the longest first: no core waits for one at the end
            arrays = [new[digest].array for digest in digests]
            job = self.inferring.submit(_infer_batch, arrays, self.session, self.preprocessor)
            window.batches.append((digests, job))
        return window

    def _new_contents(self, window: _Window) -> dict[str, Prepared]:
        """Find out where the features of each content come from, and return what this window has to compute."""
        contents: dict[str, Prepared] = {}
        for decoded in window.decoded:
            if decoded.prepared is not None and decoded.digest not in contents:
                contents[decoded.digest] = decoded.prepared
                window.first[decoded.digest] = decoded
        window.original.update({digest: self.computing[digest] for digest in contents if digest in self.computing})
        window.original.update(self.known([digest for digest in contents if digest not in window.original]))
        for digest in window.original:
            del contents[digest], window.first[digest]
        window.original.update(dict.fromkeys(contents, window))
        self.computing.update(dict.fromkeys(contents, window))
        return contents

    def _finished(self, window: _Window) -> Iterator[Result]:
        """Wait until a window is inferred, and yield what became of its items."""
        for digests, batch in window.batches:
            vectors, seconds = batch.result()
            self.stages.infer += seconds
            window.vectors.update(zip(digests, vectors, strict=True))
        for decoded in window.decoded:
            yield _result(decoded, window.original_of(decoded.digest), window.first.get(decoded.digest) is decoded)
        for digest in window.first:
            del self.computing[digest]
        window.original.clear()  # it names the window itself, whose pixels would wait for the garbage collector


def _decode_items(items: Sequence[Item], preprocessor: Preprocessor) -> list[_Decoded]:
    """Read and prepare items; the time of preparing is shared among them."""
    loaded = [_read(item) for item in items]
    started = time.perf_counter()
    prepared = iter(preprocessor.prepare_all([content for _, content in loaded if content is not None]))
    seconds = (time.perf_counter() - started) / len(loaded)
    return [_decoded(read, next(prepared), seconds) if content is not None else read for read, content in loaded]


def _read(item: Item) -> tuple[_Decoded, Any]:
    """Return an item's digest and content, or the reason why there is none, and None."""
    started = time.perf_counter()
    try:
        content = item.read()
    except OSError as error:
        return _Decoded(item, reason=f"{type(error).__name__}: {error.strerror or error}"), None
    except DecodeError as error:
        return _Decoded(item, reason=str(error)), None
    digest = content_digest(content)
    return _Decoded(item, digest, seconds=(time.perf_counter() - started, 0.0)), content


def _decoded(read: _Decoded, prepared: Prepared | DecodeError, seconds: float) -> _Decoded:
    spent = (read.seconds[0], seconds)
    if isinstance(prepared, DecodeError):
        return replace(read, reason=str(prepared), seconds=spent)
    return replace(read, prepared=prepared, seconds=spent)


def infer(
    prepared: Sequence[Prepared], session: Session, preprocessor: Preprocessor, sizes: BatchSizes = DEFAULT_BATCH_SIZES
) -> list[Vectors]:
    """Return the vectors of items that are prepared, in their order.

    Parameters
    ----------
    prepared : sequence of Prepared
    session : Session
    preprocessor : Preprocessor
    sizes : BatchSizes, optional
    """
    found: dict[int, Vectors] = {}
    groups = make_batches(dict(enumerate(prepared)), sizes)
    with ThreadPoolExecutor(session.runs) as pool:
        jobs = [pool.submit(_infer_batch, [prepared[i].array for i in g], session, preprocessor) for g in groups]
    for places, job in zip(groups, jobs, strict=True):
        found.update(zip(places, job.result()[0], strict=True))
    return [found[place] for place in range(len(prepared))]


def _infer_batch(
    arrays: Sequence[NDArray[Any]], session: Session, preprocessor: Preprocessor
) -> tuple[list[Vectors], float]:
    """Return one vector for each array and output, and the seconds it took."""
    feed, started = preprocessor.collate(arrays), time.perf_counter()
    outputs = session.run(feed)
    return list(zip(*outputs, strict=True)), time.perf_counter() - started


def _result(decoded: _Decoded, original: Original | None, is_first: bool) -> Result:
    if decoded.prepared is None or original is None:
        return Result(decoded.item, decoded.digest, reason=decoded.reason)
    if not all(np.isfinite(vector).all() for vector in original.vectors):
        return Result(decoded.item, decoded.digest, reason="the network's features are not finite")
    duplicate_of, truncated = None if is_first else original.id, decoded.prepared.truncated
    return Result(decoded.item, decoded.digest, original.vectors, None, duplicate_of, truncated)
