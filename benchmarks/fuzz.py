"""Damage what comes from outside at random: each case ends as ok or with a clear error, and nothing else happens.

``python benchmarks/fuzz.py --format onnx --count 2000 --seed 0`` makes damaged images, tables, archives, ONNX files or
bundles, reads each as topwork does, and prints a row of a table: how many were read, how many failed with an error of
topwork, how many crashed the process, took longer than 20 seconds (ONNX files: 60) or ended in any other error, and
how many touched what lies outside their folder. An audit hook of Python notes paths that are opened (of formats whose
reading imports modules: that are written), processes and connections. A case may use 3 GiB of memory: 1 GiB above the
largest item.

``--first`` and ``--seconds`` divide a long run into pieces; ``--keep`` keeps the cases that end badly.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from damage import BAIT, Case, cases, images
from fuzz_formats import FORMATS, quiet

MEMORY = 3 * 2**30
"""Bytes of address space that a case may use in addition to those of the process."""
ENDS = ("ok", "failed", "crashed", "outside")
WATCHED = ("open", "os.", "shutil.", "subprocess.", "socket.", "ctypes.dlopen", "tempfile.", "glob.")
PATHLESS = ("os.putenv", "os.unsetenv", "os.fork", "os.register_at_fork")
READING = ("os.listdir", "os.scandir", "glob.", "ctypes.dlopen")
OWN_PROCESSES = ("lscpu",)
"""With which scikit-learn counts the cores."""
WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@dataclass(frozen=True)
class Outcome:
    """What became of a case: ok, failed or crashed, why, and the paths outside its folder that were touched.

    `peak` are the bytes of memory that it used at most.
    """

    end: str
    reason: str = ""
    outside: tuple[str, ...] = ()
    peak: int = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--format", choices=list(FORMATS), action="append", help="by default all")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="end after so many for each format")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="a folder for the cases that end badly")
    parser.add_argument("--verbose", action="store_true", help="tell how each case ended")
    options = parser.parse_args()
    print("| format | cases | ok | failed | crashed | outside | slowest | most memory |", flush=True)
    print("|---|---|---|---|---|---|---|---|", flush=True)
    is_bad = [run(name, options) for name in options.format or FORMATS]
    sys.exit(any(is_bad))


def run(name: str, options: argparse.Namespace) -> bool:
    """Run the cases of a format, print what became of them, and return whether some ended badly."""
    counts: Counter[str] = Counter()
    slowest = 0.0
    peak = 0
    numbers = range(options.first, options.count)
    start = time.monotonic()
    with open_reader(name) as reader:
        for case in cases(FORMATS[name].make, numbers, options.seed):
            before = time.monotonic()
            outcome = reader.outcome(case)
            slowest = max(slowest, time.monotonic() - before)
            peak = max(peak, outcome.peak)
            counts[outcome.end] += 1
            counts["outside"] += bool(outcome.outside)
            tell(name, case, outcome, options)
            if time.monotonic() - start > options.seconds:
                print(f"{name}: go on with --first {case.number + 1}", file=sys.stderr)
                break
    n_cases = sum(counts[end] for end in ("ok", "failed", "crashed"))
    shown = " | ".join(f"{counts[end]:,}" for end in ENDS)
    print(f"| {name} | {n_cases:,} | {shown} | {slowest:.1f} s | {peak / 2**20:,.0f} MiB |", flush=True)
    return bool(counts["crashed"] or counts["outside"])


def tell(name: str, case: Case, outcome: Outcome, options: argparse.Namespace) -> None:
    """Report and keep a case that ended badly."""
    is_bad = outcome.end == "crashed" or outcome.outside
    if is_bad or options.verbose:
        print(f"{name} {case.number}: {outcome.end}: {outcome.reason} {outcome.outside}", file=sys.stderr, flush=True)
    if is_bad and options.keep:
        write_files(case.files, options.keep / f"{name}-{case.number}")


def write_files(files: dict[str, bytes], folder: Path) -> None:
    """Write files below a folder."""
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


@contextmanager
def open_reader(name: str) -> Iterator[Reader]:
    """Start a process that reads cases; afterwards nothing must lie beside its folder."""
    with tempfile.TemporaryDirectory() as outer:
        (Path(outer) / BAIT).write_bytes(images()["plain.png"])
        reader = Reader(name, Path(outer))
        yield reader
        reader.stop()
        found = sorted(os.listdir(outer))
        assert found == [BAIT, reader.root.name], f"something was written beside the folder: {found}"


class Reader:
    """A process that reads cases of a format below a folder; one that crashes or hangs is replaced."""

    def __init__(self, name: str, outer: Path) -> None:
        self.name = name
        self.root = outer / "root"
        self._start()

    def outcome(self, case: Case) -> Outcome:
        """Let it read a case, and wait for what becomes of that."""
        self.connection.send(case.files)
        limit = FORMATS[self.name].seconds
        if not self.connection.poll(limit):
            self._replace()
            return Outcome("crashed", f"it takes longer than {limit:g} s")
        try:
            found: Outcome = self.connection.recv()
            return found
        except EOFError:
            self.process.join()
            code = self.process.exitcode
            self._replace()
            return Outcome("crashed", f"the process ended with {code}")

    def stop(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.join()

    def _replace(self) -> None:
        self.stop()
        shutil.rmtree(self.root)
        self._start()

    def _start(self) -> None:
        self.root.mkdir()
        context = get_context("spawn")
        self.connection, theirs = context.Pipe()
        original = FORMATS[self.name].original()
        arguments = (theirs, self.root, self.name, original)
        self.process: SpawnProcess = context.Process(target=serve, args=arguments, daemon=True)
        self.process.start()
        theirs.close()
        assert self.connection.recv() == "ready"


def serve(connection: Connection, root: Path, name: str, original: dict[str, bytes]) -> None:
    """Read what comes, until nothing does; the case without damage first, which imports what is needed."""
    os.environ.update(TOPWORK_CACHE=str(root / "cache"), TMPDIR=str(root))
    tempfile.tempdir = None
    sys.dont_write_bytecode = True
    first = read(root, name, original)
    assert first.end == "ok", first.reason
    clear(root)
    read(root, "image", {"warm.png": b"nothing"})  # Pillow imports all plug-ins that may know it
    clear(root)
    "".encode("cp437")  # the encoding of names in zips, whose module is imported at its first use
    limit_memory()
    touched = Touched(root, only_writes=FORMATS[name].imports)
    sys.addaudithook(touched.note)
    connection.send("ready")
    while True:
        files = connection.recv()
        connection.send(watch(touched, root, name, files))


def watch(touched: Touched, root: Path, name: str, files: dict[str, bytes]) -> Outcome:
    """Read a case, and note what it touches and how much memory it needs."""
    before = start_peak()
    touched.start()
    outcome = read(root, name, files)
    outside = touched.outside()
    peak = max(0, read_memory("VmHWM") - before)
    clear(root)
    return replace(outcome, outside=outside, peak=peak)


def read(root: Path, name: str, files: dict[str, bytes]) -> Outcome:
    """Write the files of a case below a folder, read them, and say how that ended."""
    from topwork.errors import TopworkError

    folder = root / "case"
    write_files(files, folder)
    try:
        reasons = quiet(FORMATS[name].read, folder)
    except TopworkError as error:
        reasons = [str(error)]
    except BaseException as error:
        return Outcome("crashed", f"{type(error).__name__}: {error} {traceback.format_exc()}")
    return Outcome("failed", "; ".join(reasons)) if reasons else Outcome("ok")


def clear(root: Path) -> None:
    """Remove what lies below a folder."""
    for left in root.iterdir():
        shutil.rmtree(left)


def start_peak() -> int:
    """Let the largest memory be measured from now on, and return the bytes in use; 0 where that is not Linux."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return 0
    return read_memory("VmRSS")


def read_memory(field: str) -> int:
    """Return bytes of a field of the status of this process; 0 where that is not Linux."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    found = re.search(rf"{field}:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0


def limit_memory() -> None:
    """Limit the address space of this process to what it has and what a case may use."""
    try:
        import resource
    except ImportError:  # of Windows
        return
    limit = read_memory("VmSize") + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


class Touched:
    """The paths outside a folder that Python opens, lists, makes or removes, and what it starts or connects to.

    With `only_writes`, those that it only reads are left out.
    """

    def __init__(self, root: Path, only_writes: bool = False) -> None:
        self.only_writes = only_writes
        self.allowed = os.path.join(os.path.realpath(root), "")
        self.watching = False
        self.found: set[str] = set()

    def start(self) -> None:
        """Begin to watch."""
        self.found, self.watching = set(), True

    def outside(self) -> tuple[str, ...]:
        """End watching, and return what was touched."""
        self.watching = False
        return tuple(sorted(self.found))

    def note(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Take in an event of :func:`sys.audit`."""
        if not self.watching or not event.startswith(WATCHED) or event in PATHLESS:
            return
        if self.only_writes and is_reading(event, arguments):
            return
        if event in ("os.remove", "os.rmdir") and arguments[-1] >= 0:  # in a folder whose removal was noted
            return
        paths = [os.fsdecode(value) for value in arguments if isinstance(value, (str, bytes, os.PathLike))]
        if event == "subprocess.Popen" and arguments[0] in OWN_PROCESSES:
            return
        if event.startswith(("subprocess.", "socket.")):
            self.found.add(f"{event} {arguments}")
        for path in paths[: 2 if event in ("os.rename", "os.link", "os.symlink") else 1]:
            if not os.path.join(os.path.realpath(path), "").startswith(self.allowed):
                self.found.add(f"{event} {path}")


def is_reading(event: str, arguments: tuple[Any, ...]) -> bool:
    """Return whether an event of :func:`sys.audit` changes no file."""
    if event == "open":
        return not arguments[2] & WRITE_FLAGS
    return event.startswith(READING)


if __name__ == "__main__":
    main()
