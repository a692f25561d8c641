"""The main job: from a source to a store, running only what is not there yet."""

from __future__ import annotations

import errno
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

from ...errors import IdentityError, InputError
from ...hardware import available_cores
from ..engine.engine import Result, run
from ..engine.ledger import Ledger
from ..engine.progress import Listener
from ..engine.run_config import RunConfig, choose_config
from ..engine.tuning import tune
from ..preprocess.by_kind import preprocessor_for
from ..preprocess.decode import MAX_PIXELS
from ..runtime.providers import parse_family
from ..sources.item import Source
from ..sources.opening import open_source
from ..sources.views import ViewedSource
from ..store.feature_store import FeatureStore
from ..store.labels import BY_SOURCE, source_label_table
from ..store.part import Row
from ..store.pending import Pending
from ..store.writer import StoreWriter, open_writer
from .recording import Counter, Recorder

FULL = (errno.ENOSPC, errno.EDQUOT)


def extract_features(
    source: Any,
    store: FeatureStore | str | Path,
    *,
    labels: Iterable[Any] | None = None,
    ids: Iterable[Any] | None = None,
    views: int | None = None,
    retry: bool = False,
    prune: bool = False,
    on_error: str = "raise",
    provider: str = "auto",
    batch_size: int | Literal["auto"] = "auto",
    max_pixels: int = MAX_PIXELS,
    progress: Listener | None = None,
    config: RunConfig | None = None,
    patience: float = 0.0,
) -> Ledger:
    """Add the features of a source's items to a store.

    Items that the store knows are left alone unless their content changed; a job that was interrupted goes on where it
    stopped and ends with the same ids, ledger and matrices.

    Parameters
    ----------
    source : str, path or sequence
        A folder (its sub-folders name the labels), a ``.tar[.gz]``, a table, an ``.npy``, or a sequence of items; see
        :func:`topwork.extract.sources.opening.open_source`.
    store : FeatureStore or path
        As made by :meth:`FeatureStore.create`.
    labels, ids : iterable, optional
        For a sequence of items: a label, and an id, for each.
    views : int, optional
        How many augmented versions of each image that may be trained on are stored beside it, see
        :class:`topwork.extract.sources.views.ViewedSource`; by default as many as the store has.
    retry : bool
        Whether items that failed before are computed again.
    prune : bool
        Whether items of the store that are not in this source are removed, once all of the source is there; otherwise
        they are kept.
    on_error : str
        ``"raise"`` stops at the first item that fails, ``"record"`` enters it into the ledger and goes on,
        ``"limit:N%"`` stops when more than this share of the source has failed.
    provider : str
        Where the graph runs; see :class:`topwork.Extractor`.
    batch_size : int or "auto"
        Items per batch. In a long job ``"auto"`` measures it on the first items for up to five seconds, and remembers
        it on this machine; a resumed job takes the sizes of the run before.
    max_pixels : int
        A larger image fails instead of being decoded.
    progress : callable, optional
        Called with a :class:`topwork.extract.engine.progress.Progress`, when computing begins and after every input.
    config : RunConfig, optional
        Instead of `on_error`, `provider`, `batch_size`, `max_pixels` and `progress`.
    patience : float
        Seconds to wait for another process that is writing.

    Returns
    -------
    Ledger
        What became of every input of the source, where the time went, and how much memory it took.

    Raises
    ------
    IdentityError
        If the configuration asks for another precision than that of the store.
    InputError
        If the store is to be pruned and none of its items is in the source, which is no wish but a mistake.
    StoppedError
        By the error policy. Whole parts that were done are kept.
    StoreLockedError
        If another process is writing.
    """
    given = RunConfig(
        provider=provider,
        batch_size=batch_size,
        on_error=on_error,
        max_pixels=max_pixels,
        progress=progress,
        owner="extract_features",
    )
    config = choose_config(given, config, "extract_features")
    store = store if isinstance(store, FeatureStore) else FeatureStore.open(store)
    require_precision_of(store, config)
    kind = store.graph.input_spec.kind
    opened: Source = open_source(source, labels, ids=ids, kind=kind)
    started, ledger = time.perf_counter(), Ledger(ignored=opened.ignored, fingerprint=store.fingerprint)
    store.refresh()
    if views := store.n_views if views is None else views:
        opened = ViewedSource(opened, views, kind)
    ledger.precision = store.columns[0].precision
    counter = Counter(Pending(store.index, retry), config, ledger, len(opened))
    is_done = counter.pending.is_all_done(opened, ends := Ledger())
    if is_done and not counter.pending.relabelled and not (prune and len(store.index.settle()) > ends.items):
        counter.take(ends)  # readers and finished jobs need no lock
    else:
        with open_writer(store, patience) as writer:
            counter.pending.find_changed(opened, writer.index)
            if prune and not counter.pending.n_known and len(writer.index.settle()):
                raise InputError(f"none of the items of {store.path} is in this source; nothing was pruned")
            if is_done and counter.pending.is_all_done(opened, ends := Ledger()):
                counter.take(ends)
            else:
                _compute(Recorder(writer, counter), opened, config)
            _relabel(writer, counter.pending)
            ledger.pruned = writer.prune(opened) if prune else 0
            _compact(writer)
    ledger.absent = len(store.index.settle()) - ledger.items
    ledger.note_memory()
    ledger.seconds = time.perf_counter() - started
    return ledger


def _compact(writer: StoreWriter) -> None:
    """Merge the parts, if there is room for that: what was computed is in the store anyway."""
    try:
        writer.compact()
    except OSError as error:
        if error.errno not in FULL:
            raise
        warnings.warn(
            f"the disk is too full to merge the parts of {writer.store.path}; its rows are read from where they are. "
            "Make room, then run `topwork store compact`.",
            stacklevel=3,
        )


def _relabel(writer: StoreWriter, pending: Pending) -> None:
    """Enter labels and splits that the source names anew; those that the user set stay before them."""
    if pending.relabelled:
        writer.set_labels(source_label_table(pending.relabelled), BY_SOURCE)


def require_precision_of(store: FeatureStore, config: RunConfig) -> None:
    """Raise an IdentityError if a run asks for another precision than that of the store's features."""
    own = store.graph.metadata.precision
    if config.precision not in ("auto", own, parse_family(own)):
        raise IdentityError(
            f"precision={config.precision!r} of RunConfig, but the features of {store.path} are computed in {own}: "
            "use precision='auto', or another store"
        )


def _compute(job: Recorder, source: Source, config: RunConfig) -> None:
    """Run the items that are not in the store, a part at a time."""
    store = job.writer.store
    ledger = job.counter.ledger
    cores = available_cores()
    preprocessor = preprocessor_for(store.graph.input_spec, config.max_pixels)
    previous = job.writer.batching() if job.counter.pending.n_known else None
    if not config.has_automatic_batches:
        sizes = config.batch_sizes
        session = store.graph.open(config.provider, cores)
    elif previous is not None:
        sizes = previous  # the run that is resumed made batches of these sizes
        session = store.graph.open(config.provider, cores)
    else:
        left = len(source) - job.counter.pending.n_known + len(job.counter.pending.changed)
        sizes, session = tune(store.graph, config, preprocessor, source, left)
    ledger.provider, ledger.cores, ledger.runs = session.provider, cores, session.runs
    job.writer.keep_canaries(session)
    pending = job.counter.to_compute(source)
    started = time.perf_counter()
    job.counter.tell()
    computing = run(pending, session, preprocessor, sizes, ledger.stages, job.known, config.workers)
    with closing(computing) as results:
        for window in _windows(results, sizes.window, job):
            job.commit(window, sizes)
    ledger.computing_seconds = time.perf_counter() - started


def _windows(results: Iterator[Result], size: int, job: Recorder) -> Iterator[list[Row]]:
    """Turn results into rows, a part's worth at a time."""
    rows: list[Row] = []
    for result in results:
        rows.append(job.row(result))
        if len(rows) == size:
            yield rows
            rows = []
    if rows:
        yield rows
