"""A process that lives: it loads a bundle and predicts thousands of times, and forks children that predict.

Bundles that live as well: one process replaces a bundle again and again, is killed now and then, and others read it.

``python benchmarks/soak.py`` makes a bundle and photographs, then for each way to compute (ONNX Runtime on the
processor, OpenVINO as its plug-in, OpenVINO as its own package) starts a process that loads the bundle and predicts
from the files 2,000 times, one in which 16 threads share a classifier and predict 1,000 times each, and one that
predicts, drops what it loaded, and forks 50 times. Every round, thread and child must yield the bytes of the first
prediction.

Before, for both ways to replace a bundle (in one step, and in two where the system cannot exchange folders), a process
saves two bundles in turn over one another, is killed with SIGKILL at random moments and started again, until it has
been killed ``--kills`` times. Two processes load the bundle and predict meanwhile: every read must yield the whole of
one of the two, and nothing but the bundle may be left after the last save.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

REPLACING = ("one step", "two steps")
READERS = 2
SECONDS_BEFORE_KILL = 1.5
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
        for replacing in REPLACING if options.kills else ():
            code = run_child("replacements", replacing, folder, options)
            print(f"{replacing}: {options.kills} killed saves: {describe_code(code, 'old or new')}", flush=True)
            failed = failed or code != 0
        for way in options.ways:
            make_bundle(folder, way)
            counts = {
                "rounds": options.rounds,
                f"predictions in each of {THREADS} threads": options.shared,
                "forks": options.forks,
            }
            for task, count in counts.items():
                code = run_child(task, way, folder, options)
                print(f"{way}: {count} {task}: {describe_code(code, 'equal bytes')}", flush=True)
                failed = failed or code != 0
    sys.exit(failed)


def run_child(task: str, way: str, folder: Path, options: argparse.Namespace) -> int:
    """Run a task in a process of its own, and return its exit code."""
    command = [sys.executable, "-X", "faulthandler", __file__, "--child", task, way, str(folder)]
    for name in ("rounds", "shared", "forks", "kills"):
        command += [f"--{name}", str(getattr(options, name))]
    return subprocess.run(command, check=False).returncode


def describe_code(code: int, success: str) -> str:
    """Return what an exit code stands for."""
    return success if code == 0 else f"exit code {code}"


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--shared", type=int, default=1000, help="predictions in each thread")
    parser.add_argument("--forks", type=int, default=50)
    parser.add_argument("--kills", type=int, default=100, help="saves that are killed, in each way to replace a bundle")
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

    if task == "replacements":
        return count_wrong_replacements(way, folder, options.kills)
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


def count_wrong_replacements(way: str, folder: Path, kills: int) -> int:
    """Replace a bundle while it is read, with kills; return how many reads, saves or leftovers were wrong."""
    import topwork
    from topwork import atomic

    if way == "two steps":
        atomic.exchange = lambda one, other: False
    place = folder / way.replace(" ", "-")
    place.mkdir()
    versions = [make_version(place / f"version{number}", layer) for number, layer in enumerate(("layer2", "layer3"))]
    item = [np.full((60, 80, 3), 90, np.uint8)]
    expected = [read_whole(version, item) for version in versions]
    loaded = [topwork.load(version) for version in versions]
    bundle = place / "bundles" / "bundle"
    loaded[0].save(bundle)
    readers = [start(lambda: read_until_end(bundle, item, expected, place / "end")) for _ in range(READERS)]

    # Kill the writer, and look at what it leaves.
    chance = random.Random(way)
    wrong = 0
    for _ in range(kills):
        writer = start(lambda: save_for_ever(loaded, bundle))
        time.sleep(chance.uniform(0, SECONDS_BEFORE_KILL))
        os.kill(writer, signal.SIGKILL)
        wrong += os.waitstatus_to_exitcode(os.waitpid(writer, 0)[1]) != -signal.SIGKILL
        wrong += read_whole(bundle, item) not in expected
    loaded[0].save(bundle, overwrite=True)
    wrong += [path.name for path in bundle.parent.iterdir()] != [bundle.name]
    (place / "end").touch()
    return wrong + sum(os.waitpid(reader, 0)[1] != 0 for reader in readers)


def make_version(path: Path, layer: str) -> Path:
    """Save a small bundle of its own layer."""
    import topwork

    colours = np.random.default_rng(0).integers(0, 256, (PHOTOGRAPHS, 60, 80, 3), dtype=np.uint8)
    classifier = topwork.TransferClassifier("topwork:tiny", layer=layer, head="linear", cv=0, provider="cpu")
    classifier.fit(list(colours), ["a", "b"] * (PHOTOGRAPHS // 2)).save(path)
    return path


def read_whole(bundle: Path, item: list[np.ndarray]) -> bytes:
    """Load a bundle, and return what its graph and its head compute."""
    import topwork

    loaded = topwork.load(bundle)
    return bytes(loaded.extractor_.transform(item).tobytes() + loaded.predict_proba(item).tobytes())


def read_until_end(bundle: Path, item: list[np.ndarray], expected: list[bytes], end: Path) -> int:
    """Read a bundle until a file appears; return how often it was neither of two."""
    wrong = 0
    reads = 0
    while not end.exists():
        wrong += read_whole(bundle, item) not in expected
        reads += 1
    print(f"  a reader: {reads} reads, {wrong} wrong", flush=True)
    return wrong


def save_for_ever(loaded: list[Any], bundle: Path) -> int:
    """Save two estimators in turn over one another."""
    while True:
        for estimator in loaded:
            estimator.save(bundle, overwrite=True)


def start(task: Callable[[], int]) -> int:
    """Run a task in a forked process, whose exit code is 1 if it returns another number than 0; return its number."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = int(task() > 0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return child


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
    child = os.fork()
    if child == 0:
        signal.alarm(SECONDS_PER_CHILD)
        os._exit(predict() != expected)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


if __name__ == "__main__":
    main()
