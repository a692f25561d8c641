"""A local Ray cluster of two nodes against one process, and what is lost when its parts die.

``python benchmarks/cluster.py`` extracts 20,000 CIFAR-10 images in one process and on two nodes, and compares ids,
ledgers and matrices; then it lets a worker, a node and the driver die, each ten times at another moment, and compares
again. It exits with 1 if anything differs.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import topwork
from contest import arguments, use_work_folder
from data_sets import cifar
from topwork.progress import Progress

N_IMAGES = 20_000
N_DEATHS = 10
BATCH_SIZE = 64
DRIVER = """
from topwork.extract.jobs import ray_engine
from topwork.pipelines.cli.main import main
ray_engine.SECONDS_BETWEEN_COMMITS = 0
main()
"""
"""The command line, which adds parts to the log as they come."""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--deaths", type=int, default=N_DEATHS, help="how often each of them dies")
    parser.add_argument("--images", type=int, default=N_IMAGES)
    parser.add_argument("--parts", default="worker,node,driver", help="which of them die")
    options = parser.parse_args()
    use_work_folder(options.work)
    images = with_broken_and_copies(cifar(options.data, options.work, options.images), options.work)
    work = options.work / "cluster"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    whole, ledger = extract(images, work / "whole", None)
    n_wrong = 0
    with start_cluster() as cluster:
        engine = topwork.RayEngine(address=cluster.address)
        chosen = [(part, die) for part, die in DEATHS.items() if part in options.parts.split(",")]
        for part, die in [("", None), *chosen]:
            for number in range(1 if die is None else options.deaths):
                at = options.images * (number + 1) // (options.deaths + 2)
                listener = None if die is None else once_after(at, lambda die=die: die(cluster))
                store, found = extract(images, work / "ray", engine, listener)
                if die is remove_node:
                    cluster.add_node(num_cpus=1)
                n_wrong += report(
                    f"a {part} dies after {at:,} items" if die else "nothing dies", store, found, whole, ledger
                )
        for number in range(options.deaths if "driver" in options.parts else 0):
            store, found, committed = kill_driver(images, work / "ray", cluster, 2 + 2 * number)
            n_wrong += report(f"the driver dies, {committed:,} items committed", store, found, whole, ledger)
    sys.exit(1 if n_wrong else 0)


def with_broken_and_copies(images: Path, work: Path) -> Path:
    """Return a folder with links to images, every 997th of which is broken, and every 1,009th a copy of the first."""
    root = work / f"{images.name}-with-copies"
    shutil.rmtree(root, ignore_errors=True)
    paths = sorted(path for path in images.rglob("*") if path.is_file())
    for number, path in enumerate(paths):
        target = root / path.relative_to(images)
        target.parent.mkdir(parents=True, exist_ok=True)
        if number % 997 == 5:
            target.write_bytes(b"no image")
        else:
            os.link(paths[0] if number % 1009 == 11 else path, target)
    return root


@contextlib.contextmanager
def start_cluster() -> Iterator[Any]:
    """Start two nodes with a core each."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    try:
        yield cluster
    finally:
        cluster.shutdown()


def new_store(path: Path) -> topwork.FeatureStore:
    """Make an empty store."""
    shutil.rmtree(path, ignore_errors=True)
    extractor = topwork.Extractor("topwork:tiny", layer=["layer2", "last"], precision="fp32", provider="cpu")
    return topwork.FeatureStore.create(path, extractor)


def extract(images: Path, path: Path, engine: Any, progress: Any = None) -> tuple[topwork.FeatureStore, dict[str, Any]]:
    """Fill a new store, and return it with its ledger."""
    store = new_store(path)
    ledger = topwork.extract_features(
        images, store, on_error="record", provider="cpu", batch_size=BATCH_SIZE, engine=engine, progress=progress
    )
    return store, json.loads(json.dumps(ledger.to_json()))  # as the command line prints it


def once_after(count: int, act: Callable[[], None]) -> Callable[[Progress], None]:
    """Return a listener that acts once, when so many items are computed."""
    acted: list[bool] = []

    def listen(progress: Progress) -> None:
        if progress.computed >= count and not acted:
            acted.append(True)
            act()

    return listen


def kill_worker(cluster: Any) -> None:
    """Kill one of the processes that compute."""
    workers = [
        each for each in psutil.process_iter(["cmdline"]) if "PartWorker" in " ".join(each.info["cmdline"] or ())
    ]
    os.kill(workers[0].pid, signal.SIGKILL)


def remove_node(cluster: Any) -> None:
    """Let the second node die."""
    cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)


DEATHS = {"worker": kill_worker, "node": remove_node}


def kill_driver(
    images: Path, path: Path, cluster: Any, n_entries: int
) -> tuple[topwork.FeatureStore, dict[str, Any], int]:
    """Kill the process that adds parts when the log has some entries more, and run it again."""
    store = new_store(path)
    command = [
        sys.executable,
        "-c",
        DRIVER,
        "extract",
        str(images),
        "--store",
        str(path),
        "--json",
        "--provider",
        "cpu",
    ]
    command += ["--batch-size", str(BATCH_SIZE), "--engine", "ray", "--address", cluster.address]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and len(list((path / "log").glob("0*.json"))) < n_entries:
        time.sleep(0.001)
    process.kill()
    process.wait()
    store = topwork.FeatureStore.open(path)
    committed = sum(store.index.counts().values())
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    ledger = json.loads(done.stdout)
    assert ledger["computed"] + committed == ledger["items"]
    return topwork.FeatureStore.open(path), ledger, committed


def report(
    title: str,
    store: topwork.FeatureStore,
    ledger: dict[str, Any],
    whole: topwork.FeatureStore,
    expected: dict[str, Any],
) -> int:
    """Print whether a store and its ledger are those of one process; return the number of differences."""
    differences = [
        name for name in ("items", "ok", "failed", "duplicate", "failures") if ledger[name] != expected[name]
    ]
    differences += ["ids"] * (store.ids != whole.ids) + ["labels"] * (store.labels != whole.labels)
    for column in whole.columns:
        if not np.array_equal(store.matrix(column.name), whole.matrix(column.name)):
            differences.append(f"features of {column.name}")
    differences += store.verify()
    outcome = f"WRONG: {', '.join(differences)}" if differences else "equal bit for bit"
    counts = ", ".join(f"{ledger[name]} {name}" for name in ("ok", "failed", "duplicate"))
    print(f"{title}: {counts}; {outcome}", flush=True)
    return len(differences)


if __name__ == "__main__":
    main()
