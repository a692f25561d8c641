"""Beyond one machine: what Ray adds to a job, how fast parts are committed, and stores of many million rows.

``python benchmarks/scale.py`` measures

- ``ray``: the speed of a job on the workers of a local Ray, against that of one process on the same cores, by turns;
  the time until Ray and its workers run stands apart;
- ``commits``: items per second that the driver of a Ray job adds to a store, in parts of 1,024 rows, of which an entry
  of the log names a thousand;
- ``store``: stores of synthetic parts that were never merged: opened without an index and with one, looked up and
  read, each in a new process, with the memory that it took;
- ``heads``: a linear probe on such a store, with its features in memory and mapped from a file.

From these the number of workers follows at which the driver is the bottleneck.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from contest import arguments, use_work_folder
from data_sets import cifar
from page import table, write_section
from topwork.hardware import used_memory

ROWS_PER_PART = 1024
PARTS_PER_ENTRY = 1000
N_ENTRIES = 20
SIZES = (1_000_000, 5_000_000, 20_000_000)
N_IMAGES = 20_000
N_LOOKUPS = 10_000
N_READ = 100_000
ROWS_TO_TRAIN_ON = 2_000_000
SHARE_OF_NOISE = 0.2
"""Of labels that are drawn at random."""
MEMORY_OF_MAPPED = 500_000_000
FIGURES = (("gather", 1, ".1f"), ("fit", 1, ".1f"), ("memory", 1e9, ".1f"))
"""Of a fit: name, divisor and format."""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--parts", default="ray,commits,store,heads", help="what to measure")
    parser.add_argument("--rows", default=",".join(map(str, SIZES)), help="rows of the stores")
    parser.add_argument("--way", help="run one contender, and print its figures as JSON")
    options = parser.parse_args()
    use_work_folder(options.work)
    if options.way is not None:
        print(json.dumps(WAYS[options.way](options)))
        return
    parts = {"ray": describe_ray, "commits": describe_commits, "store": describe_stores, "heads": describe_heads}
    for part in options.parts.split(","):
        body = f"`python benchmarks/{Path(__file__).name} --parts {part}`. {parts[part](options)}"
        write_section(f"Scale: {part}", body, options.page, ("pyarrow", "ray"))


def run(way: str, options: argparse.Namespace, rows: int = 0) -> dict[str, Any]:
    """Run a contender in a new process, and return its figures."""
    command = [sys.executable, __file__, "--way", way, "--work", str(options.work), "--data", str(options.data)]
    done = subprocess.run([*command, "--rows", str(rows)], check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


# Ray.


def describe_ray(options: argparse.Namespace) -> str:
    """Return the section about a job on a local Ray."""
    found: dict[str, list[dict[str, Any]]] = {"one process": [], "ray": []}
    for _ in range(options.repeats):
        for way, runs in found.items():
            runs.append(run(way, options))
    speed = {way: statistics.median(one["items_per_second"] for one in runs) for way, runs in found.items()}
    start = {way: statistics.median(one["start_seconds"] for one in runs) for way, runs in found.items()}
    ratios = [one["items_per_second"] / ray["items_per_second"] - 1 for one, ray in zip(*found.values(), strict=True)]
    rows = [[way, f"{speed[way]:,.0f}", f"{start[way]:.1f} s"] for way in found]
    return (
        f"{N_IMAGES:,} CIFAR-10 images, `timm:resnet18` with random weights at 64 x 64 in fp32, batches of 16, one "
        f"process of {os.cpu_count()} cores against as many workers of one core; medians of {options.repeats} runs, by "
        "turns, in parts of 256. The speed is that from the first part on; until then Ray and its workers start.\n\n"
        f"{table(['', 'images/s', 'until the first part'], rows)}\n\n"
        f"Overhead of Ray: {statistics.median(ratios):.1%} (runs: {', '.join(f'{ratio:.1%}' for ratio in ratios)}; "
        "goal 15 %)."
    )


def run_job(options: argparse.Namespace, engine: Any) -> dict[str, Any]:
    """Extract the images, and return the speed from the first part on."""
    import topwork
    from topwork.extract.engine import batching

    moments: list[tuple[int, float]] = []

    def listen(progress: Any) -> None:
        if progress.computed and progress.computed % batching.ITEMS_PER_WINDOW == 0:
            moments.append((progress.computed, time.perf_counter()))

    batching.ITEMS_PER_WINDOW = 256  # so that the windows that workers compute beside the first weigh little

    images = cifar(options.data, options.work, N_IMAGES)
    backbone = topwork.BackboneSpec(
        "timm:resnet18", weights="random", preprocessing=topwork.InputOverrides(size=64, crop=1.0)
    )
    extractor = topwork.Extractor(backbone, precision="fp32", provider="cpu")
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        store = topwork.FeatureStore.create(Path(folder) / "features", extractor)
        started = time.perf_counter()
        topwork.extract_features(
            images, store, provider="cpu", batch_size=16, engine=engine, progress=listen, compact=False
        )
    (first, begin), (last, end) = moments[0], moments[-1]
    return {
        "items_per_second": (last - first) / (end - begin),
        "start_seconds": begin - started,
    }


# Commits.


def describe_commits(options: argparse.Namespace) -> str:
    """Return the section about the driver's part of a job."""
    runs = [run("commits", options) for _ in range(options.repeats)]
    speed = statistics.median(one["items_per_second"] for one in runs)
    return (
        f"Outcomes of parts of {ROWS_PER_PART:,} rows as they come from workers, pickled, are counted and added to the "
        f"log, {PARTS_PER_ENTRY:,} parts in an entry that is forced to the disk: **{speed:,.0f} items/s** (median of "
        f"{options.repeats} runs of {N_ENTRIES * PARTS_PER_ENTRY * ROWS_PER_PART:,} items; goal 1,000,000). Workers "
        "compute, write and digest their parts themselves. A worker of 1,000 items/s is one of a fast GPU, so the "
        f"driver is the bottleneck from about {speed / 1000:,.0f} such workers on, and from {speed / 100:,.0f} workers "
        "of 100 items/s."
    )


def run_commits(options: argparse.Namespace) -> dict[str, Any]:
    """Add parts to a store as the driver of a Ray job does, without writing them."""
    import topwork
    from topwork.extract.engine.batching import DEFAULT_BATCH_SIZES
    from topwork.extract.engine.ledger import Ledger, Stages
    from topwork.extract.engine.run_config import RunConfig
    from topwork.extract.jobs import ray_engine
    from topwork.extract.jobs.recording import Counter, Recorder
    from topwork.extract.store.part import WrittenPart, format_part_name
    from topwork.extract.store.pending import Pending
    from topwork.extract.store.writer import StoreWriter

    n_parts = N_ENTRIES * PARTS_PER_ENTRY
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        extractor = topwork.Extractor("topwork:tiny", precision="fp32", provider="cpu")
        store = topwork.FeatureStore.create(Path(folder) / "features", extractor)
        writer = StoreWriter(store)
        writer.keep_measurements(b"[]")
        config = RunConfig(on_error="record")
        counter = Counter(Pending(writer.index), config, Ledger(), n_parts * ROWS_PER_PART)
        commits = ray_engine.Commits(Recorder(writer, counter), DEFAULT_BATCH_SIZES)
        commits.n_changed.extend([0] * n_parts)
        ray_engine.SECONDS_BETWEEN_COMMITS = float("inf")
        sha = "0" * 64
        outcomes = []
        for number in range(1, n_parts + 1):
            part = format_part_name(number)
            written = WrittenPart(part, ROWS_PER_PART, {f"{part}/items.parquet": sha, f"{part}/c0001.npy": sha})
            statuses = {"ok": ROWS_PER_PART, "failed": 0, "duplicate": 0}
            outcomes.append(pickle.dumps(ray_engine.Outcome(written, statuses, [], 0, Stages(), "cpu", b"[]")))
        started = time.perf_counter()
        for number, outcome in enumerate(outcomes, 1):
            commits.add(pickle.loads(outcome))
            if number % PARTS_PER_ENTRY == 0:
                commits.write()
        seconds = time.perf_counter() - started
    return {"items_per_second": n_parts * ROWS_PER_PART / seconds, "seconds": seconds}


# Large stores.


def describe_stores(options: argparse.Namespace) -> str:
    """Return the section about stores of many million rows."""
    sizes = [int(size) for size in options.rows.split(",")]
    rows = []
    figures = []
    for size in sizes:
        run("prepare", options, size)
        first = run("open", options, size)
        again = run("open", options, size)
        figures.append((first, again))
        rows.append(
            [
                f"{size:,}",
                f"{first['open']:.1f} s, {first['memory'] / 1e9:.1f} GB",
                f"{again['open']:.1f} s, {again['memory'] / 1e9:.1f} GB",
                f"{again['look_up']:.2f} s",
                f"{again['read']:.2f} s",
            ]
        )
    lines = [
        f"{name} {slope * 1e8:,.0f} {unit}"
        for name, index, field, unit, scale in (
            ("building the index", 0, "open", "s", 1),
            ("its memory", 0, "memory", "GB", 1e9),
            ("opening", 1, "open", "s", 1),
            ("its memory", 1, "memory", "GB", 1e9),
        )
        for slope in [fit_slope(sizes, [pair[index][field] / scale for pair in figures])]
    ]
    return (
        f"Synthetic parts of {ROWS_PER_PART:,} rows of 80 float32, ids of 24 letters, never merged; "
        f"{PARTS_PER_ENTRY:,} parts in an entry. Opening counts the items; then {N_LOOKUPS:,} ids are looked up, and "
        f"{N_READ:,} rows read in order. Memory is the highest that was used (RssAnon: without what is mapped from "
        "files).\n\n"
        + table(["rows", "first opening: index built", "opening", "look-up", "read"], rows)
        + f"\n\nBy the slopes of these lines, at 100,000,000 rows: {', '.join(lines)}."
    )


def fit_slope(sizes: list[int], values: list[float]) -> float:
    """Return the slope of a line through points, per row."""
    if len(sizes) < 2:
        return values[0] / sizes[0]
    return float(np.polyfit(sizes, values, 1)[0])


def prepare_store(options: argparse.Namespace) -> dict[str, Any]:
    """Make a store of synthetic parts, unless there is one."""
    import topwork
    from topwork.extract.store.part import Row, WrittenPart, format_part_name, rows_to_table, write_matrix, write_table
    from topwork.extract.store.writer import StoreWriter
    from topwork.identity import digest_of_file

    size = int(options.rows)
    root = options.work / f"synthetic-{size}"
    done = root / "done"
    if done.is_file():
        (root / "index.arrow").unlink(missing_ok=True)
        return {}
    extractor = topwork.Extractor("topwork:tiny", precision="fp32", provider="cpu")
    store = topwork.FeatureStore.create(root, extractor)
    writer = StoreWriter(store)
    width = store.columns[0].width
    values = np.random.default_rng(0).random((ROWS_PER_PART, width), np.float32)
    parts = []
    n_parts = -(-size // ROWS_PER_PART)
    for number in range(1, n_parts + 1):
        part = format_part_name(number)
        (root / part).mkdir(parents=True)
        first = (number - 1) * ROWS_PER_PART
        rows = [
            Row(
                f"class{row % 10}/{row:012d}.jpg",
                f"{row * 2654435761 % 2**64:016x}" * 4,
                "ok",
                row=row - first,
                size=1,
                mtime_ns=row,
            )
            for row in range(first, min(first + ROWS_PER_PART, size))
        ]
        write_table(root / part / "items.parquet", rows_to_table(rows))
        write_matrix(root / part / "c0001.npy", values[: len(rows)])
        files = {f"{part}/{name}": digest_of_file(root / part / name) for name in ("items.parquet", "c0001.npy")}
        parts.append(WrittenPart(part, len(rows), files))
        if len(parts) == PARTS_PER_ENTRY or number == n_parts:
            writer.add_parts(parts)
            parts = []
    done.touch()
    return {}


def open_large_store(options: argparse.Namespace) -> dict[str, Any]:
    """Open a store, look up ids and read rows; the index is written if there is none."""
    from topwork import FeatureStore
    from topwork.extract.store.writer import open_writer

    size = int(options.rows)
    root = options.work / f"synthetic-{size}"
    memory = PeakMemory()
    started = time.perf_counter()
    store = FeatureStore.open(root)
    if not (root / "index.arrow").is_file():
        with open_writer(store) as writer:
            assert len(writer.index.settle()) == size
    assert store.index.counts() == {"ok": size}
    opened = time.perf_counter()
    rows = np.random.default_rng(1).integers(0, size, N_LOOKUPS)
    found = store.index.find([f"class{row % 10}/{row:012d}.jpg" for row in rows])
    looked_up = time.perf_counter()
    assert len(found) == len(set(rows.tolist()))
    block = store.matrix("last")[size // 2 : size // 2 + N_READ]
    assert block.shape == (min(N_READ, size - size // 2), store.columns[0].width)
    return {
        "open": opened - started,
        "look_up": looked_up - opened,
        "read": time.perf_counter() - looked_up,
        "memory": memory.peak,
    }


# Heads.


def describe_heads(options: argparse.Namespace) -> str:
    """Return the section about a head on a store whose features do not fit into memory."""
    run("prepare", options, ROWS_TO_TRAIN_ON)
    run("open", options, ROWS_TO_TRAIN_ON)
    found: dict[str, list[dict[str, Any]]] = {"in memory": [], "mapped": []}
    for _ in range(options.repeats):
        for way, runs in found.items():
            runs.append(run(way, options, ROWS_TO_TRAIN_ON))
    rows = [
        [way, *(f"{statistics.median(one[name] for one in runs) / scale:{form}}" for name, scale, form in FIGURES)]
        for way, runs in found.items()
    ]
    ratios = [other["fit"] / one["fit"] for one, other in zip(*found.values(), strict=True)]
    accuracies = {one["accuracy"] for runs in found.values() for one in runs}
    return (
        f"`LinearProbe` with three classes on {ROWS_TO_TRAIN_ON:,} synthetic rows of 80 float32, a fifth of whose "
        f"labels are random ({ROWS_TO_TRAIN_ON * 320 / 1e9:.1f} GB), of a store that was never merged; medians of "
        f"{options.repeats} runs, by turns. Gathering copies the rows of all parts into one matrix: in memory, or "
        f"where half of what is free is not enough ({MEMORY_OF_MAPPED / 1e9:.1f} GB are said to be free) into a file "
        "that is mapped into memory. Memory as above.\n\n"
        + table(["", "gathering (s)", "fit (s)", "memory (GB)"], rows)
        + f"\n\nThe fit takes {statistics.median(ratios):.2f} times as long from the file, which the memory of this "
        f"machine holds; accuracies are {'equal' if len(accuracies) == 1 else 'NOT equal'}."
    )


def train_on_large_store(options: argparse.Namespace, free: int | None) -> dict[str, Any]:
    """Fit a linear probe to the features of a store, with so many bytes of memory said to be free."""
    from topwork import FeatureStore, LinearProbe, large_arrays

    if free is not None:
        large_arrays.available_memory = lambda: free
    store = FeatureStore.open(options.work / f"synthetic-{int(options.rows)}")
    features = store.matrix("last")
    labels = np.tile(np.asarray(features[:ROWS_PER_PART, :3]).argmax(1), -(-len(features) // ROWS_PER_PART))
    generator = np.random.default_rng(0)
    labels = np.where(generator.random(len(labels)) < SHARE_OF_NOISE, generator.integers(0, 3, len(labels)), labels)
    memory = PeakMemory()
    started = time.perf_counter()
    matrix = np.asarray(features)
    gathered = time.perf_counter()
    head = LinearProbe(1.0).fit(matrix, labels[: len(matrix)])
    fitted = time.perf_counter()
    return {
        "gather": gathered - started,
        "fit": fitted - gathered,
        "memory": memory.peak,
        "accuracy": float((head.predict(matrix[:N_READ]) == labels[:N_READ]).mean()),
    }


class PeakMemory(threading.Thread):
    """Watches the memory of this process, without what is mapped from files."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self.start()

    def run(self) -> None:
        """Look every few milliseconds."""
        while True:
            self.peak = max(self.peak, used_memory() or 0)
            time.sleep(0.01)


def run_with_ray(options: argparse.Namespace) -> dict[str, Any]:
    """Extract the images on a local Ray."""
    import topwork

    return run_job(options, topwork.RayEngine())


WAYS = {
    "one process": lambda options: run_job(options, None),
    "ray": run_with_ray,
    "commits": run_commits,
    "prepare": prepare_store,
    "open": open_large_store,
    "in memory": lambda options: train_on_large_store(options, None),
    "mapped": lambda options: train_on_large_store(options, MEMORY_OF_MAPPED),
}

if __name__ == "__main__":
    main()
