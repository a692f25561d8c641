"""Predict from a large store: memory that does not grow with the rows, and a file that kills do not change.

``python benchmarks/predictions.py`` makes a store of 200,000 rows and a bundle of 1,500 classes, and predicts from the
store on the command line: 20,000 rows, all rows, and all rows once more with the process killed five times on the way.
``RssAnon`` is sampled from ``/proc``, so this runs on Linux only. Needs about 8 GB of disk.
"""

from __future__ import annotations

import argparse
import hashlib
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import topwork
from sklearn.linear_model import LogisticRegression
from topwork import FeatureStore, TransferClassifier

WIDTH = 64
TRAINED_PER_CLASS = 2
INTERVAL = 0.05
"""Seconds between samples of memory."""
MIB = 1024
GROWTH = 1.1
HASHED_AT_ONCE = 2**20


def main() -> None:
    options = parsed()
    with tempfile.TemporaryDirectory(dir=options.work) as name:
        folder = Path(name)
        make_inputs(folder, options)
        few, _ = predict(folder, "few", "few.csv")
        many, seconds = predict(folder, "many", "many.csv")
        kills = predict_with_kills(folder, options.kills)
        is_equal = digest(folder / "many.csv") == digest(folder / "killed.csv")
    print(f"RssAnon: {few:.0f} MiB for {options.few} rows, {many:.0f} MiB for {options.rows}: {many / few:.2f} times")
    print(f"{options.rows / seconds:.0f} rows of {options.classes} classes a second")
    print(f"killed {kills} times: the file is {'equal' if is_equal else 'NOT equal'} to that of an uninterrupted run")
    sys.exit(not is_equal or kills < options.kills or many > GROWTH * few)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--few", type=int, default=20_000)
    parser.add_argument("--classes", type=int, default=1_500)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--work", type=Path, help="folder for temporary files")
    return parser.parse_args()


def make_inputs(folder: Path, options: argparse.Namespace) -> None:
    """Write stores of many rows and of few, and a bundle that was trained on some of them."""
    import torch

    values = np.random.default_rng(0).normal(size=(options.rows, WIDTH)).astype(np.float32)
    backbone = topwork.load_backbone(
        torch.nn.Sequential(torch.nn.Linear(WIDTH, WIDTH)), input_spec=topwork.TensorSpec((WIDTH,))
    )
    extractor = topwork.Extractor(backbone, precision="fp32", provider="cpu").fit(values[:8])
    for name, count in (("few", options.few), ("many", options.rows)):
        topwork.extract_features(values[:count], FeatureStore.create(folder / name, extractor))
    store = FeatureStore.open(folder / "few")
    n_trained = TRAINED_PER_CLASS * options.classes
    labels: list[str | None] = [f"article {row % options.classes:04d}" for row in range(n_trained)]
    labels += [None] * (options.few - n_trained)
    head = LogisticRegression(max_iter=5)
    TransferClassifier.from_store(store, head=head, cv=0).fit(store, labels).save(folder / "bundle")


def start(folder: Path, store: str, out: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-W", "ignore", "-m", "topwork", "predict", folder / "bundle", folder / store]
    return subprocess.Popen([*map(str, command), "--out", str(folder / out)], stdout=subprocess.DEVNULL)


def predict(folder: Path, store: str, out: str) -> tuple[float, float]:
    """Return the peak of ``RssAnon`` of a whole run, in MiB, and its seconds."""
    started = time.perf_counter()
    process = start(folder, store, out)
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, anonymous_memory(process.pid))
        time.sleep(INTERVAL)
    if process.returncode:
        sys.exit(f"predict ended with code {process.returncode}")
    return peak, time.perf_counter() - started


def anonymous_memory(pid: int) -> float:
    """Return ``RssAnon`` of a process in MiB, 0 if it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    lines = [line for line in status.splitlines() if line.startswith("RssAnon:")]
    return int(lines[0].split()[1]) / MIB if lines else 0.0


def predict_with_kills(folder: Path, kills: int) -> int:
    """Kill the run at even shares of its output, let it end, and return how often it was killed."""
    whole = (folder / "many.csv").stat().st_size
    unfinished = folder / ".killed.csv.unfinished"
    done = 0
    for number in range(1, kills + 1):
        process = start(folder, "many", "killed.csv")
        while process.poll() is None and size_of(unfinished) < whole * number / (kills + 1):
            time.sleep(INTERVAL)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            done += 1
        process.wait()
    start(folder, "many", "killed.csv").wait()
    return done


def size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def digest(path: Path) -> str:
    sha = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(HASHED_AT_ONCE):
            sha.update(block)
    return sha.hexdigest()


if __name__ == "__main__":
    main()
