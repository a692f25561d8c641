"""Read, decode and infer, as stages that run at the same time; items keep their order.

Windows are made by position: item ``i`` of a run belongs to window ``i // size`` whatever became of its neighbours, and
a part of a store ends where a window ends, so a job that goes on after an interruption computes the same batches again.
Where items are of one shape a window is a batch; texts are put into batches by their length within a window.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from ..errors import DecodeError
from .item import Item, content_digest
from .preprocess.prepared import Prepared
from .preprocess.preprocessor import Preprocessor
from .session import Session, available_cores

if TYPE_CHECKING:
    from numpy.typing import NDArray

BATCH_SIZE = 32
WINDOW_ITEMS = 1024
"""About as many items make one part of a store, and one window of texts."""


@dataclass(frozen=True)
class RunOptions:
    """How a run is carried out; none of it changes a feature.

    Parameters
    ----------
    batch_size : int
        Items that are inferred at once.
    workers : int or None
        Threads that read and decode; by default one per core.
    """

    batch_size: int = BATCH_SIZE
    workers: int | None = None

    @property
    def window(self) -> int:
        """Items of a window of whole batches."""
        return self.batch_size * max(1, WINDOW_ITEMS // self.batch_size)


@dataclass
class Stages:
    """Seconds spent in each stage, summed over threads."""

    read: float = 0.0
    decode: float = 0.0
    infer: float = 0.0
    write: float = 0.0


Vectors: TypeAlias = "tuple[NDArray[np.float32], ...]"
"""One vector for each output of the graph."""


@dataclass(frozen=True)
class Original:
    """An item whose features for a content are at hand."""

    id: str
    vectors: Vectors


Known: TypeAlias = Callable[[str], Original | None]


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
    seconds: tuple[float, float] = field(default=(0.0, 0.0))


def run(
    items: Iterable[Item],
    session: Session,
    preprocessor: Preprocessor,
    options: RunOptions,
    stages: Stages,
    known: Known = lambda digest: None,
) -> Iterator[Result]:
    """Compute the features of items.

    Parameters
    ----------
    items : iterable of Item
        Taken a few batches ahead.
    session : Session
    preprocessor : Preprocessor
    options : RunOptions
    stages : Stages
        Its seconds are counted up.
    known : callable
        Returns an item that has this content digest and its vectors, or None: it is not computed again.

    Yields
    ------
    Result
        In the order of the items.
    """
    size = options.window if preprocessor.lengths_vary else options.batch_size
    for window in _windows(_decode_ahead(items, preprocessor, options), size):
        for decoded in window:
            stages.read += decoded.seconds[0]
            stages.decode += decoded.seconds[1]
        yield from _Inference(session, preprocessor, options.batch_size, stages).results(window, known)


def _windows(items: Iterable[_Decoded], size: int) -> Iterator[list[_Decoded]]:
    window: list[_Decoded] = []
    for item in items:
        window.append(item)
        if len(window) == size:
            yield window
            window = []
    if window:
        yield window


def _decode_ahead(items: Iterable[Item], preprocessor: Preprocessor, options: RunOptions) -> Iterator[_Decoded]:
    """Decode on several threads, at most two batches ahead of the one that is wanted."""
    workers = options.workers or available_cores()
    waiting: deque[Future[_Decoded]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="topwork-decode")
    try:
        for item in items:
            waiting.append(pool.submit(_decode_item, item, preprocessor))
            if len(waiting) >= 2 * options.batch_size + workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _decode_item(item: Item, preprocessor: Preprocessor) -> _Decoded:
    started = time.perf_counter()
    try:
        content = item.read()
    except OSError as error:
        return _Decoded(item, reason=f"{type(error).__name__}: {error.strerror or error}")
    except DecodeError as error:
        return _Decoded(item, reason=str(error))
    digest, read = content_digest(content), time.perf_counter()
    try:
        prepared, reason = preprocessor.prepare(content), None
    except DecodeError as error:
        prepared, reason = None, str(error)
    return _Decoded(item, digest, prepared, reason, (read - started, time.perf_counter() - read))


@dataclass(frozen=True)
class _Inference:
    """The last stage."""

    session: Session
    preprocessor: Preprocessor
    batch_size: int
    stages: Stages

    def results(self, window: list[_Decoded], known: Known) -> list[Result]:
        """Run the good items of a window, each content once."""
        originals: dict[str, Original | None] = {}
        first: dict[str, _Decoded] = {}
        for decoded in window:
            if decoded.prepared is not None and decoded.digest not in originals:
                originals[decoded.digest] = known(decoded.digest)
                if originals[decoded.digest] is None:
                    first[decoded.digest] = decoded
        vectors = self._vectors([d.prepared for d in first.values() if d.prepared is not None])
        for (digest, decoded), computed in zip(first.items(), vectors, strict=True):
            originals[digest] = Original(decoded.item.id, computed)
        return [_result(d, originals.get(d.digest), first.get(d.digest) is d) for d in window]

    def _vectors(self, prepared: list[Prepared]) -> list[Vectors]:
        """Run batches of items of like length, and return the vectors in the items' order."""
        order = sorted(range(len(prepared)), key=lambda place: prepared[place].length)  # stable
        vectors: dict[int, Vectors] = {}
        for start in range(0, len(order), self.batch_size):
            places = order[start : start + self.batch_size]
            feed = self.preprocessor.collate([prepared[place].array for place in places])
            started = time.perf_counter()
            outputs = self.session.run(feed)
            self.stages.infer += time.perf_counter() - started
            vectors.update(zip(places, zip(*outputs, strict=True), strict=True))
        return [vectors[place] for place in range(len(prepared))]


def _result(decoded: _Decoded, original: Original | None, is_first: bool) -> Result:
    if decoded.prepared is None or original is None:
        return Result(decoded.item, decoded.digest, reason=decoded.reason)
    if not all(np.isfinite(vector).all() for vector in original.vectors):
        return Result(decoded.item, decoded.digest, reason="the network's features are not finite")
    duplicate_of, truncated = None if is_first else original.id, decoded.prepared.truncated
    return Result(decoded.item, decoded.digest, original.vectors, None, duplicate_of, truncated)
