"""Read, decode and infer, as stages that run at the same time; items keep their order.

Batches are made by position: item ``i`` of a run belongs to batch ``i // batch_size`` whatever became of its
neighbours, so a job that goes on after an interruption computes the same batches again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..errors import DecodeError
from ..models.input_spec import InputSpec
from .decode import MAX_PIXELS, allow_pixels, decode
from .item import Item, content_digest
from .resize import to_pixels
from .session import Session, available_cores

if TYPE_CHECKING:
    from numpy.typing import NDArray

BATCH_SIZE = 32


@dataclass(frozen=True)
class RunOptions:
    """How a run is carried out; none of it changes a feature.

    Parameters
    ----------
    batch_size : int
        Items that are inferred at once.
    max_pixels : int
        A larger image fails instead of being decoded.
    workers : int or None
        Threads that read and decode; by default one per core.
    """

    batch_size: int = BATCH_SIZE
    max_pixels: int = MAX_PIXELS
    workers: int | None = None


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
    """

    item: Item
    digest: str
    vectors: Vectors | None = None
    reason: str | None = None
    duplicate_of: str | None = None


@dataclass(frozen=True)
class _Decoded:
    item: Item
    digest: str = ""
    pixels: NDArray[np.uint8] | None = None
    reason: str | None = None
    seconds: tuple[float, float] = field(default=(0.0, 0.0))


def run(
    items: Iterable[Item],
    session: Session,
    spec: InputSpec,
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
    spec : ImageSpec
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
    allow_pixels(options.max_pixels)
    for batch in _batches(_decode_ahead(items, spec, options), options.batch_size):
        for decoded in batch:
            stages.read += decoded.seconds[0]
            stages.decode += decoded.seconds[1]
        yield from _infer(batch, session, stages, known)


def _batches(items: Iterable[_Decoded], size: int) -> Iterator[list[_Decoded]]:
    batch: list[_Decoded] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _decode_ahead(items: Iterable[Item], spec: InputSpec, options: RunOptions) -> Iterator[_Decoded]:
    """Decode on several threads, at most two batches ahead of the one that is wanted."""
    workers = options.workers or available_cores()
    waiting: deque[Future[_Decoded]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="topwork-decode")
    try:
        for item in items:
            waiting.append(pool.submit(_decode_item, item, spec, options.max_pixels))
            if len(waiting) >= 2 * options.batch_size + workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _decode_item(item: Item, spec: InputSpec, max_pixels: int) -> _Decoded:
    started = time.perf_counter()
    try:
        content = item.read()
    except OSError as error:
        return _Decoded(item, reason=f"{type(error).__name__}: {error.strerror or error}")
    digest, read = content_digest(content), time.perf_counter()
    try:
        pixels, reason = to_pixels(decode(content, spec, max_pixels), spec), None
    except DecodeError as error:
        pixels, reason = None, str(error)
    return _Decoded(item, digest, pixels, reason, (read - started, time.perf_counter() - read))


def _infer(batch: list[_Decoded], session: Session, stages: Stages, known: Known) -> list[Result]:
    """Run the good items of a batch, each content once."""
    originals: dict[str, Original | None] = {}
    first: dict[str, _Decoded] = {}
    for decoded in batch:
        if decoded.pixels is not None and decoded.digest not in originals:
            originals[decoded.digest] = known(decoded.digest)
            if originals[decoded.digest] is None:
                first[decoded.digest] = decoded
    vectors = _vectors([decoded.pixels for decoded in first.values()], session, stages)
    for (digest, decoded), computed in zip(first.items(), vectors, strict=True):
        originals[digest] = Original(decoded.item.id, computed)
    return [_result(decoded, originals.get(decoded.digest), first.get(decoded.digest) is decoded) for decoded in batch]


def _vectors(pixels: list[Any], session: Session, stages: Stages) -> list[Vectors]:
    if not pixels:
        return []
    started = time.perf_counter()
    outputs = session.run(np.stack(pixels))
    stages.infer += time.perf_counter() - started
    return list(zip(*outputs, strict=True))


def _result(decoded: _Decoded, original: Original | None, is_first: bool) -> Result:
    if decoded.pixels is None or original is None:
        return Result(decoded.item, decoded.digest, reason=decoded.reason)
    if not all(np.isfinite(vector).all() for vector in original.vectors):
        return Result(decoded.item, decoded.digest, reason="the network's features are not finite")
    return Result(decoded.item, decoded.digest, original.vectors, duplicate_of=None if is_first else original.id)
