"""The main job: from a source to a store, computing only what the store lacks."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

from ...errors import IdentityError, InputError, warn_caller
from ...hardware import available_cores
from ...progress import Listener
from ...progress_display import shows_progress
from ..engine.batching import BatchSizes
from ..engine.engine import compute_features
from ..engine.ledger import Ledger
from ..engine.run_config import RunConfig, choose_config
from ..engine.tuning import tune
from ..preprocess.by_kind import preprocessor_for
from ..preprocess.decode import MAX_PIXELS
from ..preprocess.preprocessor import Preprocessor
from ..runtime.providers import parse_family
from ..runtime.session import Session
from ..sources.item import Source
from ..sources.opening import open_items
from ..sources.selected import ShareSource
from ..sources.views import ViewedSource
from ..store.feature_store import FeatureStore
from ..store.labels import BY_SOURCE, source_label_table
from ..store.pending import Pending
from ..store.shards import Shard, finish_shard, list_shards, open_shard
from ..store.writer import StoreWriter, open_writer
from .ray_engine import RayEngine
from .recording import Counter, Recorder


@shows_progress("extract")
def extract_features(
    source: Any,
    store: FeatureStore | str | Path,
    *,
    labels: Iterable[Any] | None = None,
    ids: Iterable[Any] | None = None,
    views: int | None = None,
    retry: bool = False,
    prune: bool = False,
    rehash: bool = False,
    recompute: bool = False,
    on_error: str = "raise",
    provider: str = "auto",
    batch_size: int | Literal["auto"] = "auto",
    max_pixels: int = MAX_PIXELS,
    progress: Listener | bool | None = None,
    config: RunConfig | None = None,
    patience: float = 0.0,
    compact: bool = True,
    shard: str | None = None,
    engine: RayEngine | Literal["ray"] | None = None,
) -> Ledger:
    """Add the features of a source's items to a store.

    Items that the store has are left alone unless their content changed. A job that was interrupted resumes where it
    stopped, and ends with the same ids, ledger and matrices as an uninterrupted one.

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
        How many augmented versions of each image that may be trained on are stored with it, see
        :class:`topwork.extract.sources.views.ViewedSource`; by default as many as the store has.
    retry : bool
        Whether items that failed before are computed again.
    prune : bool
        Whether items of the store that are not in this source are removed, once all of the source is there; otherwise
        they are kept.
    rehash : bool
        Whether the content of every known item is compared with that in the store. By default a file is taken as
        unchanged if its size and modification time are; ``cp -p``, ``rsync -a`` and archives can keep both.
    recompute : bool
        Whether the items of this source are computed again, changed or not.
    on_error : str
        ``"raise"`` stops at the first item that fails, ``"record"`` records it in the ledger and continues,
        ``"limit:N%"`` stops when more than this share of the source has failed.
    provider : str
        Where the graph runs; see :class:`topwork.Extractor`.
    batch_size : int or "auto"
        Items per batch. In a long job ``"auto"`` measures it on the first items for some seconds, and remembers it
        on this machine; a resumed job takes the sizes of the run before.
    max_pixels : int
        A larger image fails instead of being decoded.
    progress : callable or bool, optional
        True shows a bar on a terminal or in a notebook. A function is called with a :class:`topwork.progress.Progress`
        when computing begins and after every input.
    config : RunConfig, optional
        Instead of `on_error`, `provider`, `batch_size`, `max_pixels` and `progress`.
    patience : float
        Seconds to wait for another process that is writing.
    compact : bool
        Whether the new parts are merged with the others at the end, so that a matrix is one memory map. Without it a
        few items are added to a large store sooner.
    shard : str, optional
        Compute one of several shares of the source, from ``"0/64"`` to ``"63/64"``, beside other processes that
        compute the others, into a store of its own within the store; :meth:`FeatureStore.merge` joins them. What
        the store has already is not computed. The ledger is that of the share.
    engine : RayEngine or "ray", optional
        Compute on the workers of a Ray cluster, which write parts of the store: its folder must be one that all of them
        share. By default this process computes.

    Returns
    -------
    Ledger
        What became of every input of the source, where the time went, and how much memory it took.

    Raises
    ------
    IdentityError
        If the configuration asks for another precision than that of the store.
    InputError
        If the store is to be pruned and none of its items is in the source, which is taken for a mistake; or by a
        shard, which does not know the others.
    StoppedError
        By the error policy. Whole parts that were done are kept.
    StoreLockedError
        If another process is writing.
    """
    # Gather the options, and open the store and the source.
    given = RunConfig(
        provider=provider,
        batch_size=batch_size,
        on_error=on_error,
        max_pixels=max_pixels,
        progress=progress if callable(progress) else None,
        owner="extract_features",
    )
    config = choose_config(given, config, "extract_features")
    if engine == "ray":
        engine = RayEngine()
    if not isinstance(engine, RayEngine | None):
        raise InputError(f"engine={engine!r} of extract_features: expected 'ray', a RayEngine, or None")
    if not isinstance(store, FeatureStore):
        store = FeatureStore.open(store)
    check_precision(store, config)
    spec = store.graph.input_spec
    opened: Source = open_items(source, spec, labels, ids=ids)
    whole = store
    if shard is not None:
        if prune:
            raise InputError("prune=True of a shard, which does not know all items: merge the shards first")
        share = Shard.parse(shard)
        n_items = len(opened)
        opened = ShareSource(opened, share.number, share.count)
        store = FeatureStore.open(open_shard(whole, share))
    elif list_shards(store):
        warn_caller(
            f"{store.place} has shards that are not merged: what they have is computed again. Run `topwork store "
            "merge`."
        )
    ledger = Ledger(ignored=opened.ignored, fingerprint=store.fingerprint)
    started = time.perf_counter()
    store.refresh()
    ledger.precision = store.columns[0].precision
    n_views = whole.n_views if views is None else views
    if n_views:
        opened = ViewedSource(opened, n_views, spec.kind)
    base = None if shard is None else whole.index
    pending = Pending(store.index, retry, rehash=rehash, recompute=recompute, base=base)
    counter = Counter(pending, config, ledger, len(opened))
    # Look for something to do; readers and finished jobs need no lock.
    earlier = Ledger()
    is_done = counter.pending.is_all_done(opened, earlier)
    has_rows_to_prune = prune and len(store.index.settle()) > earlier.items
    if is_done and not counter.pending.relabelled and not has_rows_to_prune:
        counter.count_all(earlier)
    else:
        with open_writer(store, patience) as writer:
            update_store(writer, counter, opened, prune=prune, was_done=is_done, engine=engine)
            if compact:
                writer.compact_if_possible()
    if shard is not None:
        finish_shard(store, n_items)
    # Close the account.
    ledger.absent = 0 if shard else len(store.index.settle()) - ledger.items
    ledger.note_memory()
    ledger.seconds = time.perf_counter() - started
    return ledger


def check_precision(store: FeatureStore, config: RunConfig) -> None:
    """Raise an IdentityError if a run asks for another precision than that of the store's features."""
    own = store.graph.metadata.precision
    if config.precision not in ("auto", own, parse_family(own)):
        raise IdentityError(
            f"precision={config.precision!r} of RunConfig, but the features of {store.place} are computed in {own}: "
            "use precision='auto', or another store"
        )


def update_store(
    writer: StoreWriter, counter: Counter, source: Source, *, prune: bool, was_done: bool, engine: RayEngine | None
) -> None:
    """Bring a store up to date with a source: features, labels and splits, pruned items.

    `was_done` says that nothing was to be computed before the lock was held; another process may have written since.
    """
    pending = counter.pending
    pending.find_changed(source, writer.index)
    if prune and not pending.n_known and len(writer.index.settle()):
        raise InputError(f"none of the items of {writer.store.path} is in this source; nothing was pruned")
    earlier = Ledger()
    if was_done and pending.is_all_done(source, earlier):
        counter.count_all(earlier)
    elif engine is not None:
        engine.compute(Recorder(writer, counter), source)
    else:
        compute_pending(Recorder(writer, counter), source)
    if pending.relabelled:  # labels that the user set take precedence
        writer.set_labels(source_label_table(pending.relabelled), BY_SOURCE)
    if prune:
        counter.ledger.pruned = writer.prune(source)


def compute_pending(job: Recorder, source: Source) -> None:
    """Compute the items that are not in the store, a part at a time."""
    config = job.counter.config
    ledger = job.counter.ledger
    preprocessor = preprocessor_for(job.writer.store.graph.input_spec, config.max_pixels)
    sizes, session = choose_batches(job, source, preprocessor)
    job.writer.store.graph.check_batch_size(session, sizes.batch_size)
    items_per_part = sizes.count_items_of_part(preprocessor.spec)
    ledger.provider = session.provider
    ledger.cores = available_cores()
    ledger.runs = session.runs
    job.writer.keep_evidence(session)
    started = time.perf_counter()
    job.counter.report()
    computing = compute_features(
        job.counter.iterate_pending(source),
        session,
        preprocessor,
        sizes=sizes,
        stages=ledger.stages,
        lookup=job.find_known,
        workers=config.workers,
    )
    with closing(computing) as results:
        for result in results:
            job.add(result)
            if len(job.part.rows) == items_per_part:
                job.write_part(sizes)
        if job.part.rows:
            job.write_part(sizes)
    ledger.computing_seconds = time.perf_counter() - started


def choose_batches(job: Recorder, source: Source, preprocessor: Preprocessor) -> tuple[BatchSizes, Session]:
    """Return the batch sizes asked for, else of the run that is resumed, else by tuning; and the loaded graph."""
    config = job.counter.config
    pending = job.counter.pending
    graph = job.writer.store.graph
    if not config.has_automatic_batches:
        return config.batch_sizes, graph.open(config.provider, available_cores())
    if pending.n_known:
        previous = job.writer.batching()
        if previous is not None:
            return previous, graph.open(config.provider, available_cores())
    n_pending = len(source) - pending.n_known + len(pending.changed)
    return tune(graph, config, preprocessor, source, n_pending)
