"""Ray: a cluster of two nodes makes the store that one process makes, whatever dies on the way."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from topwork.errors import InputError, StoppedError
from topwork.extract.engine import batching
from topwork.extract.engine.ledger import Ledger
from topwork.extract.extractor.extractor import Extractor
from topwork.extract.jobs.job import extract_features
from topwork.extract.jobs.ray_engine import THREADS_OF_RAY_DATA, RayEngine, connected, is_portable, make_portable
from topwork.extract.sources.file import file_item
from topwork.extract.sources.item import Item
from topwork.extract.store.feature_store import FeatureStore
from topwork.models.audio_spec import AudioSpec
from topwork.models.loading import load_backbone
from topwork.progress import Progress

from ...small_photos import write_photos
from ...sounds import write_sounds

pytest.importorskip("ray")

N_IMAGES = 240
BATCH_SIZE = 8
JOB_OF_SMALL_PARTS = f"""
from topwork.extract.engine import batching
from topwork.extract.jobs import ray_engine
from topwork.pipelines.cli.main import main
batching.ITEMS_PER_WINDOW = {BATCH_SIZE}
ray_engine.SECONDS_BETWEEN_COMMITS = 0
main()
"""
"""The command line, with parts of one batch that are added to the log as they come."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Start a cluster of two nodes with a core each."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        cluster.add_node(num_cpus=1)
        yield cluster
        cluster.shutdown()


@pytest.fixture(autouse=True, scope="module")
def small_parts() -> Iterator[None]:
    """Let a batch be a part."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batching, "ITEMS_PER_WINDOW", BATCH_SIZE)
        yield


@pytest.fixture(scope="module")
def tiny() -> Extractor:
    return Extractor("topwork:tiny", layer=["layer2", "last"], precision="fp32", provider="cpu")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of images; every 17th is broken, and every 23rd a copy of the first."""
    return write_photos(tmp_path_factory.mktemp("photos"), N_IMAGES)


def extract(photos: Any, store: FeatureStore, engine: RayEngine | None = None, **options: Any) -> Ledger:
    options = {"on_error": "record", "provider": "cpu", "batch_size": BATCH_SIZE, **options}
    return extract_features(photos, store, engine=engine, **options)


def account(ledger: Ledger) -> dict[str, Any]:
    names = ("items", "ok", "failed", "duplicate", "truncated", "replaced", "failures", "precision", "provider")
    return {name: getattr(ledger, name) for name in names}


def state(store: FeatureStore) -> dict[str, Any]:
    """Return all that a store says; matrices as bytes."""
    store = FeatureStore.open(store.path)
    return {
        "ids": store.ids,
        "labels": store.labels,
        "failures": store.failures(),
        **{name: store.index.column(name) for name in ("status", "reason", "digest")},
        "matrices": [np.asarray(store.matrix(column.name)).tobytes() for column in store.columns],
    }


@pytest.fixture(scope="module")
def whole(photos: Path, tiny: Extractor, tmp_path_factory: pytest.TempPathFactory) -> tuple[FeatureStore, Ledger]:
    """Return the store that one process makes, and its ledger."""
    store = FeatureStore.create(tmp_path_factory.mktemp("whole") / "features", tiny)
    return store, extract(photos, store)


@pytest.fixture
def store(tmp_path: Path, tiny: Extractor) -> FeatureStore:
    return FeatureStore.create(tmp_path / "features", tiny)


@pytest.fixture
def engine(cluster: Any) -> RayEngine:
    return RayEngine(address=cluster.address)


def find_workers(cluster: Any) -> list[int]:
    """Return the processes of a cluster that compute."""
    import psutil

    raylets = [
        process.pid for node in cluster.list_all_nodes() for kind, process in node.live_processes() if kind == "raylet"
    ]
    processes = [each for raylet in raylets for each in psutil.Process(raylet).children(recursive=True)]
    found = []
    for each in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if "PartWorker" in " ".join(each.cmdline()):
                found.append(each.pid)
    return found


def once_after(count: int, act: Callable[[], None]) -> Callable[[Progress], None]:
    """Return a listener that acts once, when so many items are computed."""
    acted: list[bool] = []

    def listen(progress: Progress) -> None:
        if progress.computed >= count and not acted:
            acted.append(True)
            act()

    return listen


def test_two_nodes_make_the_store_of_one_process(
    photos: Path, whole: tuple[FeatureStore, Ledger], store: FeatureStore, engine: RayEngine
) -> None:
    ledger = extract(photos, store, engine)
    assert account(ledger) == account(whole[1])
    assert ledger.cores == 2
    assert state(store) == state(whole[0])
    assert store.verify() == []
    again = extract(photos, store, engine)
    assert (again.computed, account(again) | {"provider": "cpu"}) == (0, account(whole[1]))


def test_a_lost_worker_costs_nothing(
    photos: Path, whole: tuple[FeatureStore, Ledger], store: FeatureStore, engine: RayEngine, cluster: Any
) -> None:
    def kill_worker() -> None:
        os.kill(find_workers(cluster)[0], signal.SIGKILL)

    ledger = extract(photos, store, engine, progress=once_after(40, kill_worker))
    assert account(ledger) == account(whole[1])
    assert state(store) == state(whole[0])
    assert store.verify() == []


def test_a_part_that_a_lost_worker_wrote_is_in_nobodys_way(
    photos: Path, whole: tuple[FeatureStore, Ledger], store: FeatureStore, engine: RayEngine
) -> None:
    def write_late() -> None:
        (store.path / "parts" / f"p{N_IMAGES // BATCH_SIZE + 1:06d}").mkdir()

    extract(photos, store, engine, progress=once_after(N_IMAGES, write_late))
    assert state(store) == state(whole[0])
    assert store.verify() == []


@pytest.mark.coverage
def test_a_lost_node_costs_nothing(
    photos: Path, whole: tuple[FeatureStore, Ledger], store: FeatureStore, engine: RayEngine, cluster: Any
) -> None:
    def remove_node() -> None:
        cluster.remove_node(cluster.worker_nodes.copy().pop(), allow_graceful=False)

    try:
        ledger = extract(photos, store, engine, progress=once_after(40, remove_node))
    finally:
        cluster.add_node(num_cpus=1)
    assert account(ledger) == account(whole[1])
    assert state(store) == state(whole[0])


@pytest.mark.coverage
def test_a_lost_driver_costs_nothing_that_was_committed(
    photos: Path, whole: tuple[FeatureStore, Ledger], store: FeatureStore, engine: RayEngine, cluster: Any
) -> None:
    options = ["--provider", "cpu", "--batch-size", str(BATCH_SIZE), "--engine", "ray", "--address", cluster.address]
    command = [sys.executable, "-c", JOB_OF_SMALL_PARTS, "extract", str(photos), "--store", str(store.path), *options]
    process = subprocess.Popen([*command, "--json"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and len(list((store.path / "log").glob("0*.json"))) < 4:
        time.sleep(0.001)
    process.kill()
    assert process.wait() == -signal.SIGKILL, "the job ended before it could be killed"
    committed = sum(FeatureStore.open(store.path).index.counts().values())
    assert 0 < committed < N_IMAGES
    done = subprocess.run([*command, "--json"], check=True, capture_output=True, text=True)
    ledger = json.loads(done.stdout)
    assert ledger["computed"] == N_IMAGES - committed
    names = ("items", "ok", "failed", "duplicate")
    assert [ledger[name] for name in names] == [getattr(whole[1], name) for name in names]
    assert state(store) == state(whole[0])


def test_the_error_policy_stops_the_job_and_keeps_what_was_done(
    photos: Path, store: FeatureStore, engine: RayEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No thread that called Ray is left when it is shut down."""
    import ray

    callers: set[threading.Thread] = set()
    left: list[str] = []
    shutdown = ray.shutdown

    def note_callers(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            callers.add(threading.current_thread())
            return function(*arguments, **options)

        return call

    def shutdown_noting() -> None:
        left.extend(thread.name for thread in callers - {threading.main_thread()} if thread.is_alive())
        shutdown()

    monkeypatch.setattr(ray, "wait", note_callers(ray.wait))
    monkeypatch.setattr(ray, "get", note_callers(ray.get))
    monkeypatch.setattr(ray, "shutdown", shutdown_noting)
    with pytest.raises(StoppedError, match="at most 2% of 240 may fail"):
        extract(photos, store, engine, on_error="limit:2%")
    assert len(callers) > 1
    assert left == []
    assert 0 < len(FeatureStore.open(store.path).ids) < N_IMAGES
    assert extract(photos, store, engine).items == N_IMAGES


@pytest.mark.parametrize("name", THREADS_OF_RAY_DATA)
def test_ray_is_shut_down_once_the_threads_of_its_data_have_ended(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    alive: list[bool] = []
    thread = threading.Thread(target=time.sleep, args=(0.3,), name=f"{name}-1")
    monkeypatch.setattr(ray, "init", lambda **_: thread.start())
    monkeypatch.setattr(ray, "shutdown", lambda: alive.append(thread.is_alive()))
    with connected(None):
        pass
    assert alive == [False]


def test_ray_is_started_where_no_address_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray itself would join whatever cluster runs on this machine."""
    import ray

    addresses: list[str] = []
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", lambda address, **_: addresses.append(address))
    with connected(None):
        pass
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    with connected(None):
        pass
    assert addresses == ["local", None]


def test_changed_and_relabelled_items_of_python(store: FeatureStore, tiny: Extractor, engine: RayEngine) -> None:
    rng = np.random.default_rng(3)
    images = list(rng.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8))
    ids = [f"image {number}" for number in range(20)]
    extract(images, store, engine, ids=ids)
    images[3] = images[3] // 2
    ledger = extract(images, store, engine, ids=ids, labels=["a"] * 20)
    assert (ledger.computed, ledger.replaced, store.labels) == (1, 1, ["a"] * 20)
    both = np.hstack([store.matrix(column.name) for column in store.columns])
    np.testing.assert_allclose(both, tiny.transform(images), rtol=1e-5, atol=1e-6)


@pytest.mark.coverage
def test_windows_of_sounds_are_those_of_one_process(tmp_path: Path, engine: RayEngine) -> None:
    write_sounds(tmp_path / "sounds", 2, seconds=1.2)
    with tarfile.open(tmp_path / "sounds.tar", "w") as archive:
        archive.add(tmp_path / "sounds", "")
    spec = AudioSpec(rate=8_000, window=0.5, hop=0.25, long="windows")
    backbone = load_backbone(torch.nn.Linear(4_000, 3), input_spec=spec)
    extractor = Extractor(backbone, layer="last", precision="fp32", provider="cpu")
    stores = {
        name: FeatureStore.create(tmp_path / name, extractor) for name in ("alone", "files of Ray", "archive of Ray")
    }
    extract(tmp_path / "sounds", stores["alone"])
    extract(tmp_path / "sounds", stores["files of Ray"], engine)
    extract(tmp_path / "sounds.tar", stores["archive of Ray"], engine)
    for store in stores.values():
        assert state(store)["matrices"] == state(stores["alone"])["matrices"]
        assert store.ids == stores["alone"].ids


def test_items_are_sent_in_a_form_that_another_machine_reads(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(b"content")
    of_file = file_item("text.txt", str(path))
    assert make_portable(of_file) is of_file
    local = Item("text", lambda: path.read_bytes())
    assert not is_portable(local.read)
    sent = make_portable(local)
    path.unlink()
    assert (sent.read(), sent.id) == (b"content", "text")
    gone = make_portable(local)
    with pytest.raises(FileNotFoundError):
        gone.read()


@pytest.mark.parametrize(
    "options",
    [
        {"concurrency": 0},
        {"concurrency": (3, 2)},
        {"concurrency": (1, 2, 3)},
        {"num_cpus_per_worker": 0},
        {"num_gpus_per_worker": -1},
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        RayEngine(**options)


def test_wrong_engines_are_refused(photos: Path, store: FeatureStore) -> None:
    with pytest.raises(InputError, match="expected 'ray'"):
        extract(photos, store, engine="spark")  # type: ignore[arg-type]
