"""Compute a job on a Ray cluster: workers write parts of the store, and this process alone adds them to its log.

The items to compute go to Ray Data a window at a time. A worker holds one session; it computes a window and writes a
part whose number no other has, so that a window that is computed twice, as its worker was lost, leaves a part that
nobody names. The parts are added to the log in the order of the items, several in an entry.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import tempfile
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import DecodeError, InputError, MissingPackageError, TopworkError
from ...hardware import available_cores, limit_cores
from ..engine.batching import DEFAULT_BATCH_SIZES, BatchSizes
from ..engine.engine import compute_features, iterate_windows
from ..engine.ledger import Stages
from ..engine.tuning import locate_tuning, read_tuning
from ..graphs.exported_graph import INPUTS_FOLDER, ExportedGraph
from ..preprocess.by_kind import preprocessor_for
from ..sources.file import FileContent
from ..sources.sound import Span
from ..store.part import WrittenPart, format_part_name, parse_part_number, rows_to_table, write_unnamed_part
from ..store.remote_copy import find_copy, find_remote_url, open_copy
from ..store.segment import NO_PLACE
from .recording import PartBuilder

if TYPE_CHECKING:
    import pyarrow
    from numpy.typing import NDArray

    from ..engine.run_config import RunConfig
    from ..sources.item import Item, Source
    from ..store.content import StoreContent
    from ..store.remote_copy import RemoteCopy
    from ..store.state import StoredColumn
    from .recording import Recorder

WINDOWS_PER_ROUND = 1024
"""Windows that are handed to Ray at a time; they are kept in its object store until they are computed."""
BYTES_PER_ROUND = 2**30
"""Items whose contents only this process can read are handed over up to this size."""
SECONDS_BETWEEN_COMMITS = 1.0
THREADS_OF_RAY_DATA = ("StreamingExecutor", "iter_threaded")
"""Beginnings of the names of those that schedule and that fetch."""
SECONDS_FOR_THREADS = 60.0
"""The longest wait for one of them."""
READING_THREADS = 16
"""Threads that read the contents of items which only this process can read."""
PLAIN_TYPES = (str, bytes, int, float, bool, type(None), Path, FileContent, Span)
"""Types of arguments with which a function can be called in another process of another machine."""


@dataclass(frozen=True)
class RayEngine:
    """How a job runs on Ray.

    Parameters
    ----------
    address : str, optional
        Of a running cluster, such as ``"auto"`` or ``"10.0.0.1:6379"``; by default that of ``RAY_ADDRESS``, else Ray is
        started on this machine for the time of the job.
    concurrency : int or (int, int), optional
        Number of workers, or the least and the most of them; by default as many as the cluster has room for.
    num_cpus_per_worker : int
        Cores that a worker uses, which computes as many batches at a time.
    num_gpus_per_worker : float
        GPUs, or a share of one, that a worker needs.

    Raises
    ------
    InputError
        If a parameter is not one of these.
    """

    address: str | None = None
    concurrency: int | tuple[int, int] | None = None
    num_cpus_per_worker: int = 1
    num_gpus_per_worker: float = 0.0

    def __post_init__(self) -> None:
        sizes = (self.concurrency,) if isinstance(self.concurrency, int) else tuple(self.concurrency or (1,))
        if len(sizes) > 2 or not all(isinstance(size, int) and size > 0 for size in sizes) or sizes[0] > sizes[-1]:
            raise InputError(
                f"concurrency={self.concurrency!r} of RayEngine: expected a number of workers, or the least and the "
                "most"
            )
        if not isinstance(self.num_cpus_per_worker, int) or self.num_cpus_per_worker < 1:
            raise InputError(
                f"num_cpus_per_worker={self.num_cpus_per_worker!r} of RayEngine: expected a positive number"
            )
        if not self.num_gpus_per_worker >= 0:
            raise InputError(
                f"num_gpus_per_worker={self.num_gpus_per_worker!r} of RayEngine: expected a number, 0 or more"
            )

    def compute(self, job: Recorder, source: Source) -> None:
        """Compute the items that are not in the store of a job, and add them to it."""
        config = job.counter.config
        ledger = job.counter.ledger
        sizes = choose_sizes(job)
        with connected(self.address) as ray:
            pool = self.choose_pool(ray.cluster_resources())
            task = PartTask(
                graph=PackedGraph.pack(job.writer.store.graph),
                place=find_place(job.writer.store),
                columns=job.writer.state.columns,
                config=replace(config, progress=None),
                sizes=sizes,
                cores=self.num_cpus_per_worker,
                working_folder=os.getcwd(),
            )
            shared = ray.put(task)
            numbers = start_numbering(ray, find_free_number(job))
            ledger.cores = self.num_cpus_per_worker * pool[-1]
            ledger.runs = ledger.cores
            commits = Commits(job, sizes)
            started = time.perf_counter()
            spec = job.writer.store.graph.input_spec
            windows = iterate_windows(job.counter.iterate_pending(source), sizes.count_items_of_part(spec))
            job.counter.report()
            try:
                while blocks := commits.put_round(ray, windows):
                    outcomes = ray.data.from_arrow_refs(blocks).map_batches(
                        PartWorker,
                        fn_constructor_args=([shared], numbers),
                        batch_size=1,
                        compute=make_strategy(ray, pool, len(blocks)),
                        num_cpus=self.num_cpus_per_worker,
                        num_gpus=self.num_gpus_per_worker or None,
                    )
                    with contextlib.closing(iterate_outcomes(outcomes)) as computed:
                        for outcome in computed:
                            commits.add(outcome)
            except Exception as error:
                cause = find_cause(error)
                if cause is error:
                    raise
                raise cause from error
            finally:
                commits.write()
            ledger.computing_seconds = time.perf_counter() - started
            job.writer.reserve_parts(end_numbering(ray, numbers))
            commits.count_duplicates()

    def choose_pool(self, resources: Mapping[str, float]) -> tuple[int, int]:
        """Return the least and the most workers on a cluster with some resources."""
        if isinstance(self.concurrency, int):
            return self.concurrency, self.concurrency
        if self.concurrency is not None:
            return self.concurrency
        room = resources.get("CPU", 1.0) // self.num_cpus_per_worker
        if self.num_gpus_per_worker:
            room = min(room, resources.get("GPU", 0.0) // self.num_gpus_per_worker)
        size = max(1, int(room))
        return size, size


def iterate_outcomes(outcomes: Any) -> Generator[Outcome, None, None]:
    """Iterate over the outcomes that workers computed, in their order.

    No batch is fetched ahead of the next one: the thread that does so goes on for ever where an iteration ends early.
    """
    for batch in outcomes.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        for content in batch["outcome"]:
            yield pickle.loads(content.as_py())


def make_strategy(ray: Any, pool: tuple[int, int], n_windows: int) -> Any:
    """Return a pool of workers as Ray Data takes it: no more of them than there are windows."""
    least, most = (min(size, n_windows) for size in pool)
    return ray.data.ActorPoolStrategy(min_size=least, max_size=most)


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """Yield the module of Ray, connected to the cluster at an address, else to one that is started for the block.

    A connection that is there already is used, and kept.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingPackageError("engine='ray' needs the package ray: pip install 'topwork[ray]'") from error
    if ray.is_initialized():
        with quiet_data(ray):
            yield ray
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else it reports its use to its makers
    options: dict[str, Any] = {"address": address}
    if address is None and "RAY_ADDRESS" not in os.environ:  # without an address Ray joins any cluster of this machine
        options = {"address": "local", "include_dashboard": False}
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(f"Ray at {address!r}: {error}. Expected the address of a running cluster") from error
    try:
        with quiet_data(ray):
            yield ray
    finally:
        wait_for_threads()
        ray.shutdown()


def wait_for_threads() -> None:
    """Wait for the threads of Ray Data, which end soon after an iteration.

    One that calls Ray after its shutdown ends the process.
    """
    for thread in threading.enumerate():
        if thread.name.startswith(THREADS_OF_RAY_DATA):
            thread.join(SECONDS_FOR_THREADS)


@contextlib.contextmanager
def quiet_data(ray: Any) -> Iterator[None]:
    """Let Ray Data keep the order of its rows, and print nothing but warnings."""
    context = ray.data.DataContext.get_current()
    former = context.execution_options.preserve_order, context.enable_progress_bars
    logger = logging.getLogger("ray.data")
    level = logger.level
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        context.execution_options.preserve_order, context.enable_progress_bars = former
        logger.setLevel(level)


def find_cause(error: BaseException) -> BaseException:
    """Return the error of a worker that Ray has wrapped; an error of topwork, if there is one."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, TopworkError):
            return cause
        cause = cause.__cause__ or getattr(cause, "cause", None)
    return error


def choose_sizes(job: Recorder) -> BatchSizes:
    """Return the batch sizes asked for, else of the run that is resumed, else as tuned on this machine before."""
    config = job.counter.config
    if not config.has_automatic_batches:
        return config.batch_sizes
    previous = job.writer.batching() if job.counter.pending.n_known else None
    if previous is not None:
        return previous
    tuned = read_tuning(locate_tuning(job.writer.store.graph, config.provider))
    return DEFAULT_BATCH_SIZES if tuned is None else tuned.sizes


@dataclass(frozen=True)
class PackedGraph:
    """The files of a graph, by name, and the tokeniser files and the like of its input."""

    name: str
    files: dict[str, NDArray[np.uint8]]
    inputs: dict[str, bytes]

    @classmethod
    def pack(cls, graph: ExportedGraph) -> PackedGraph:
        """Read the files of a graph."""
        files = {path.name: np.fromfile(path, np.uint8) for path in graph.list_files()}
        return cls(graph.path.name, files, dict(graph.input_spec.files()))

    def unpack(self, folder: Path) -> ExportedGraph:
        """Write the files into an empty folder."""
        for name, content in self.files.items():
            content.tofile(folder / name)
        if self.inputs:
            (folder / INPUTS_FOLDER).mkdir()
        for name, text in self.inputs.items():
            (folder / INPUTS_FOLDER / name).write_bytes(text)
        return ExportedGraph(folder / self.name)


@dataclass(frozen=True)
class PartTask:
    """What a worker has to know."""

    graph: PackedGraph
    place: str
    columns: tuple[StoredColumn, ...]
    config: RunConfig
    sizes: BatchSizes
    cores: int
    working_folder: str


@dataclass(frozen=True)
class Outcome:
    """What became of a window: the part that was written, and the figures of its ledger.

    `statuses` are the numbers of items by status; `evidence` is the content of the file of measurements that the
    provider of the worker passed.
    """

    part: WrittenPart
    statuses: Mapping[str, int]
    failures: Sequence[tuple[str, str]]
    truncated: int
    stages: Stages
    provider: str
    evidence: bytes


class PartWorker:
    """A process of the cluster: computes windows of items with one session, and writes each as a part of the store."""

    def __init__(self, shared: list[Any], numbers: Any) -> None:
        import ray

        self.task: PartTask = ray.get(shared[0])
        self.numbers = numbers
        limit_cores(self.task.cores)
        with contextlib.suppress(OSError):  # a folder that only the driver has
            os.chdir(self.task.working_folder)
        config = self.task.config
        with tempfile.TemporaryDirectory(prefix="topwork-") as folder:
            graph = self.task.graph.unpack(Path(folder))
            self.session = graph.open(config.provider, available_cores())
            graph.check_batch_size(self.session, self.task.sizes.batch_size)
            graph.write_measurements()
            self.evidence = graph.measurements_path.read_bytes()
            self.preprocessor = preprocessor_for(graph.input_spec, config.max_pixels)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Compute the windows of a batch of rows, and return their outcomes."""
        return {"outcome": [pickle.dumps(self.compute(pickle.loads(content))) for content in batch["items"]]}

    def compute(self, items: Sequence[Item]) -> Outcome:
        """Compute a window, and write it as a part."""
        task = self.task
        stages = Stages()
        part = PartBuilder([stored.column for stored in task.columns])
        truncated = 0
        with contextlib.closing(
            compute_features(items, self.session, self.preprocessor, sizes=task.sizes, stages=stages)
        ) as results:
            for result in results:
                part.add(result)
                truncated += result.truncated
        started = time.perf_counter()
        written = self.write(part)
        stages.write += time.perf_counter() - started
        statuses = [row.status for row in part.rows]
        return Outcome(
            part=written,
            statuses={status: statuses.count(status) for status in ("ok", "failed", "duplicate")},
            failures=[(row.id, row.reason or "") for row in part.rows if row.status == "failed"],
            truncated=truncated,
            stages=stages,
            provider=self.session.provider,
            evidence=self.evidence,
        )

    def write(self, part: PartBuilder) -> WrittenPart:
        """Write a part under a number that no other part has."""
        import ray

        matrices = {stored.key: matrix for stored, matrix in zip(self.task.columns, part.matrices(), strict=True)}
        table = rows_to_table(part.rows)
        url = find_remote_url(self.task.place)
        while True:
            number = ray.get(self.numbers.take.remote())
            with contextlib.suppress(FileExistsError):
                if url is not None:
                    return send_part(open_copy(url), format_part_name(number), table, matrices)
                return write_unnamed_part(Path(self.task.place), format_part_name(number), table, matrices)


def send_part(copy: RemoteCopy, part: str, table: pyarrow.Table, matrices: Mapping[str, NDArray[Any]]) -> WrittenPart:
    """Write a part to object storage; raise a FileExistsError if another process has begun one of that name."""
    if not copy.reserve_part(part):
        raise FileExistsError(copy.place(part))
    with tempfile.TemporaryDirectory(prefix="topwork-") as folder:
        written = write_unnamed_part(Path(folder), part, table, matrices)
        copy.send_all(written.files, Path(folder))
    return written


def find_free_number(job: Recorder) -> int:
    """Return a number above those of all parts, named in the log or left by interrupted jobs in object storage."""
    newest = job.writer.state.newest_part
    copy = find_copy(job.writer.store.path)
    if copy is not None:
        numbers = [name.removeprefix("p") for name in copy.list_names("parts")]
        newest = max([newest, *(int(number) for number in numbers if number.isdecimal())])
    return newest + 1


def find_place(store: StoreContent) -> str:
    """Return the path or URL at which other machines find a store."""
    copy = find_copy(store.path)
    return str(store.path.resolve()) if copy is None else copy.url


class Numbering:
    """Gives every part another number."""

    def __init__(self, first: int) -> None:
        self.following = first

    def take(self) -> int:
        """Return the next number."""
        self.following += 1
        return self.following - 1


def start_numbering(ray: Any, first: int) -> Any:
    """Start the numbering of parts on this machine, which is lost only together with the job."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=here)(Numbering).remote(first)


def end_numbering(ray: Any, numbers: Any) -> int:
    """Give no more numbers, and return the highest: workers that were thought lost may still write their parts."""
    highest: int = ray.get(numbers.take.remote())
    ray.kill(numbers)
    return highest


@dataclass
class Commits:
    """The outcomes of windows, in their order, which are added to the store every few seconds.

    `n_changed` are the numbers of known items with other content in the windows whose outcomes are awaited, `numbers`
    those of the parts that were added, `n_duplicates` the duplicates that workers found within their windows.
    """

    job: Recorder
    sizes: BatchSizes
    outcomes: list[Outcome] = field(default_factory=list)
    n_changed: deque[int] = field(default_factory=deque)
    numbers: list[int] = field(default_factory=list)
    n_duplicates: int = 0
    last: float = field(default_factory=time.monotonic)

    def put_round(self, ray: Any, windows: Iterator[list[Item]]) -> list[Any]:
        """Put the next windows into the object store, as many as are handed over at a time; return references."""
        changed = self.job.counter.pending.changed
        blocks: list[Any] = []
        n_bytes = 0
        for window in islice(windows, WINDOWS_PER_ROUND):
            block = pack_window(window)
            n_bytes += block.nbytes
            blocks.append(ray.put(block))
            self.n_changed.append(sum(item.id in changed for item in window))
            if n_bytes > BYTES_PER_ROUND:
                break
        return blocks

    def add(self, outcome: Outcome) -> None:
        """Add the outcome of the next window; one that stops the job is not added."""
        ledger = self.job.counter.ledger
        ledger.provider = outcome.provider
        ledger.truncated += outcome.truncated
        ledger.replaced += self.n_changed.popleft()
        ledger.stages.add(outcome.stages)
        self.n_duplicates += outcome.statuses["duplicate"]
        self.job.counter.count_window(outcome.statuses, outcome.failures)
        self.outcomes.append(outcome)
        if time.monotonic() - self.last > SECONDS_BETWEEN_COMMITS:
            self.write()

    def write(self) -> None:
        """Add the parts of all outcomes to the log, in one entry."""
        self.last = time.monotonic()
        outcomes, self.outcomes = self.outcomes, []
        if not outcomes:
            return
        self.job.writer.keep_measurements(outcomes[0].evidence)
        parts = [outcome.part for outcome in outcomes]
        self.job.writer.add_parts(parts, self.sizes)
        self.numbers.extend(parse_part_number(part.folder) for part in parts)
        self.job.counter.ledger.note_memory()

    def count_duplicates(self) -> None:
        """Count the items as duplicates whose original is in another window, of which their worker knew nothing."""
        items = self.job.writer.index.settle()
        is_duplicate = items.numbers("original") != NO_PLACE
        n_duplicates = int((is_duplicate & np.isin(items.numbers("part"), self.numbers)).sum())
        n_more = n_duplicates - self.n_duplicates
        self.job.counter.ledger.duplicate += n_more
        self.job.counter.ledger.ok -= n_more


def pack_window(items: Sequence[Item]) -> Any:
    """Return a table of one row with the items of a window, each in a form that another machine can read."""
    import pyarrow as pa

    with ThreadPoolExecutor(READING_THREADS) as pool:
        portable = list(pool.map(make_portable, items))
    return pa.table({"items": pa.array([pickle.dumps(portable)], pa.large_binary())})


def make_portable(item: Item) -> Item:
    """Return an item that another process can read: with its content, if it is only available in this one."""
    if is_portable(item.read):
        return item
    try:
        return replace(item, read=partial(return_value, item.read()))
    except (OSError, DecodeError) as error:
        return replace(item, read=partial(raise_error, error))


def is_portable(value: Any) -> bool:
    """Return whether a value means the same to another process: a plain value, or a function of a module with such."""
    if isinstance(value, partial):
        return all(map(is_portable, (value.func, *value.args, *value.keywords.values())))
    if isinstance(value, FunctionType):
        return value.__closure__ is None and "<" not in value.__qualname__
    return isinstance(value, PLAIN_TYPES)


def return_value(value: Any) -> Any:
    """Return an item's content."""
    return value


def raise_error(error: Exception) -> Any:
    """Fail as the item did where it was read."""
    raise error
