"""A process that lives: it loads a bundle and predicts thousands of times, and forks children that predict.

``python benchmarks/soak.py`` makes a bundle and photographs, then for each way to compute (ONNX Runtime on the
processor, OpenVINO as its plug-in, OpenVINO as its own package) starts a process that loads the bundle and predicts
from the files 2,000 times, one in which 16 threads share a classifier and predict 1,000 times each, and one that
predicts, drops what it loaded, and forks 50 times. Every round, thread and child must yield the bytes of the first
prediction.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

WAYS = ("cpu", "openvino", "package")
PHOTOGRAPHS = 8
SECONDS_PER_CHILD = 60
THREADS = 16


def main() -> None:
    options = parsed()
    if options.child:
        task, way, folder = options.child
        sys.exit(run(task, way, Path(folder), options) > 0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["TOPWORK_CACHE"] = str(folder / "cache")
        failed = False
        for way in options.ways:
            make_bundle(folder, way)
            counts = {
                "rounds": options.rounds,
                f"predictions in each of {THREADS} threads": options.shared,
                "forks": options.forks,
            }
            for task, count in counts.items():
                command = [sys.executable, "-X", "faulthandler", __file__, "--child", task, way, str(folder)]
                for name in ("rounds", "shared", "forks"):
                    command += [f"--{name}", str(getattr(options, name))]
                code = subprocess.run(command, check=False).returncode
                print(f"{way}: {count} {task}: {'equal bytes' if code == 0 else f'exit code {code}'}", flush=True)
                failed = failed or code != 0
    sys.exit(failed)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--shared", type=int, default=1000, help="predictions in each thread")
    parser.add_argument("--forks", type=int, default=50)
    parser.add_argument("--ways", type=lambda text: text.split(","), default=list(WAYS))
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    return parser.parse_args()


def make_bundle(folder: Path, way: str) -> None:
    """Save photographs, and a bundle that was trained on them with the provider of a way."""
    import topwork
    from PIL import Image

    generator = np.random.default_rng(0)
    files = []
    for number in range(PHOTOGRAPHS):
        coarse = generator.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        files.append(folder / f"{number}.jpg")
        Image.fromarray(coarse).resize((80, 60)).save(files[-1])
    provider = "cpu" if way == "cpu" else "openvino"
    classifier = topwork.TransferClassifier(
        "topwork:tiny", layer="layer2", head="linear", cv=0, precision="fp32", provider=provider
    )
    classifier.fit(files, ["a", "b"] * (PHOTOGRAPHS // 2)).save(folder / f"{way}.bundle")


def run(task: str, way: str, folder: Path, options: argparse.Namespace) -> int:
    """Run one task in this process; return how many rounds or children went wrong."""
    import topwork
    from topwork.extract.runtime import session

    if way == "package":
        session.openvino_devices = tuple  # as on a machine for which the plug-in has no device
    files = sorted(folder.glob("*.jpg"))

    def predict() -> bytes:
        probabilities: bytes = topwork.load(folder / f"{way}.bundle").predict_proba(files).tobytes()
        return probabilities

    first = predict()
    if task == "rounds":
        return sum(predict() != first for _ in range(options.rounds - 1))
    if task != "forks":
        return count_differences_in_threads(folder / f"{way}.bundle", files, options.shared)
    return sum(not is_equal_in_child(predict, first) for _ in range(options.forks))


def count_differences_in_threads(bundle: Path, files: list[Path], count: int) -> int:
    """Return how many predictions of threads that share a classifier are not those of one thread."""
    import topwork

    classifier = topwork.load(bundle)
    expected = [classifier.predict_proba(files[number:]).tobytes() for number in range(len(files))]

    def predict_often(first: int) -> int:
        wrong = 0
        for turn in range(first, first + count):
            number = turn % len(files)
            wrong += classifier.predict_proba(files[number:]).tobytes() != expected[number]
        return wrong

    with ThreadPoolExecutor(THREADS) as pool:
        return sum(pool.map(predict_often, range(THREADS)))


def is_equal_in_child(predict: Callable[[], bytes], expected: bytes) -> bool:
    """Predict in a forked child, and return whether it yields the expected bytes and ends."""
    import signal

    child = os.fork()
    if child == 0:
        signal.alarm(SECONDS_PER_CHILD)
        os._exit(predict() != expected)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


if __name__ == "__main__":
    main()
