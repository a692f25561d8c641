"""Train a linear probe from a memory map, and watch the anonymous memory of this process."""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

import numpy as np
from topwork.heads.linear.linear_probe import LinearProbe

COLUMNS, CLASSES, LIMIT = 512, 10, 2**30


def anonymous() -> int:
    line = next(each for each in Path("/proc/self/status").read_text().splitlines() if each.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


def written(path: Path, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a map of drawn features, made once, and their classes."""
    generator = np.random.default_rng(0)
    centres = 0.15 * generator.standard_normal((CLASSES, COLUMNS), np.float32)
    y = generator.integers(CLASSES, size=rows).astype(np.int8)
    if not path.is_file():
        unfinished = path.with_suffix(".unfinished.npy")
        X = np.lib.format.open_memmap(unfinished, "w+", np.float16, (rows, COLUMNS))
        for first in range(0, rows, 65536):
            part = y[first : first + 65536]
            X[first : first + 65536] = centres[part] + generator.standard_normal((len(part), COLUMNS), np.float32)
        X.flush()
        unfinished.rename(path)
    return np.load(path, mmap_mode="r"), y


def main() -> None:
    work, rows = Path(sys.argv[1]), int(sys.argv[2])
    X, y = written(work / f"streamed-{rows}x{COLUMNS}.npy", rows)
    sampled, ended = [anonymous()], threading.Event()

    def watch() -> None:
        while not ended.wait(0.05):
            sampled.append(anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    probe = LinearProbe(1e-4).fit(X, y)
    seconds = time.perf_counter() - start
    accuracy = probe.score(X[:: max(1, rows // 100_000)], y[:: max(1, rows // 100_000)])
    ended.set()
    watcher.join()
    if max(sampled) > LIMIT:
        sys.exit(f"{max(sampled) / 2**20:.0f} MiB of anonymous memory; expected at most {LIMIT / 2**20:.0f}")
    report = {"seconds": seconds, "items": rows, "passes": probe.n_iter_, "gigabytes": X.nbytes / 1e9}
    print(json.dumps({**report, "anonymous": max(sampled), "before": sampled[0], "accuracy": accuracy}))


if __name__ == "__main__":
    main()
