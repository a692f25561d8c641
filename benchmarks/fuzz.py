"""Damage images and archives at random: each ends as ok or failed, nothing crashes, hangs or leaves the folder.

``python benchmarks/fuzz.py --count 2000 --seed 0`` writes each case below a folder of its own, opens it as a source,
reads its items and prepares them, in a process whose memory and time are limited. An audit hook of Python notes every
path that is opened. ``--keep`` keeps the cases that crashed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import numpy as np
from damage import BAIT, Case, cases, images

LIMIT = 20.0
"""Seconds for one case."""
MEMORY = 3 * 2**30
"""Bytes of address space of the process that reads."""
WATCHED = ("open", "os.", "shutil.", "subprocess.", "socket.", "ctypes.dlopen", "tempfile.", "glob.")
PATHLESS = ("os.putenv", "os.unsetenv", "os.fork", "os.register_at_fork")


@dataclass(frozen=True)
class Outcome:
    """What became of a case: ok, failed or crashed, why, and the paths outside its folder that were touched."""

    end: str
    reason: str = ""
    outside: tuple[str, ...] = ()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="a folder for the files that crash")
    parser.add_argument("--verbose", action="store_true", help="tell how each case ended")
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    for case, outcome in outcomes(cases(options.count, options.seed)):
        counts[outcome.end] += 1
        counts["outside"] += bool(outcome.outside)
        bad = outcome.end == "crashed" or outcome.outside
        if bad or options.verbose:
            print(f"{case.number} {case.name}: {outcome.end}: {outcome.reason} {outcome.outside}", file=sys.stderr)
        if bad and options.keep:
            options.keep.mkdir(parents=True, exist_ok=True)
            (options.keep / f"{case.number}-{case.name}").write_bytes(case.content)
    shown = ", ".join(f"{counts[end]:,} {end}" for end in ("ok", "failed", "crashed", "outside"))
    print(f"{options.count:,} mutated: {shown}")
    sys.exit(1 if counts["crashed"] or counts["outside"] else 0)


def outcomes(given: Iterator[Case]) -> Iterator[tuple[Case, Outcome]]:
    """Let a process of its own read each case; one that crashes or hangs is replaced."""
    with tempfile.TemporaryDirectory() as outer:
        (Path(outer) / BAIT).write_bytes(images()["plain.png"])
        before = sorted(os.listdir(outer))
        reader = Reader(Path(outer))
        for case in given:
            yield case, reader.outcome(case)
        reader.stop()
        root = reader.root.name
        assert sorted(os.listdir(outer)) == sorted([*before, root]), "something was written beside the folder"


class Reader:
    """A process that reads cases below a folder."""

    def __init__(self, outer: Path) -> None:
        self.root = outer / "root"
        self.root.mkdir()
        self._start()

    def outcome(self, case: Case) -> Outcome:
        """Let it read a case, and wait for what becomes of that."""
        self.connection.send((case.name, case.content))
        if not self.connection.poll(LIMIT):
            self._replace()
            return Outcome("crashed", f"it takes longer than {LIMIT:g} s")
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
        for left in self.root.iterdir():
            left.unlink()
        self._start()

    def _start(self) -> None:
        context = get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(target=serve, args=(theirs, self.root), daemon=True)
        self.process.start()
        theirs.close()
        assert self.connection.recv() == "ready"


def serve(connection: Connection, root: Path) -> None:
    """Read what comes, until nothing does."""
    limit_memory()
    touched = Touched(root)
    read(root, "warm.png", images()["plain.png"])
    read(root, "warm.png", b"no image")  # Pillow looks for a plug-in that knows it: all are imported now
    sys.addaudithook(touched.note)
    connection.send("ready")
    while True:
        name, content = connection.recv()
        touched.start()
        try:
            end, reason = read(root, name, content)
        except BaseException as error:
            end, reason = "crashed", f"{type(error).__name__}: {error} {traceback.format_exc()}"
        connection.send(Outcome(end, reason, touched.outside()))


def limit_memory() -> None:
    try:
        import resource
    except ImportError:  # of Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


class Touched:
    """The paths outside a folder that Python opens, lists, makes or removes, and what it starts or connects to."""

    def __init__(self, root: Path) -> None:
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
        paths = [os.fsdecode(value) for value in arguments if isinstance(value, (str, bytes, os.PathLike))]
        if event.startswith(("subprocess.", "socket.")):
            self.found.add(f"{event} {arguments}")
        for path in paths[: 2 if event in ("os.rename", "os.link", "os.symlink") else 1]:
            if not os.path.join(os.path.realpath(path), "").startswith(self.allowed):
                self.found.add(f"{event} {path}")


def read(root: Path, name: str, content: bytes) -> tuple[str, str]:
    """Write a case below the folder, read it as a source, prepare its items, and say how that ended."""
    from topwork.errors import DecodeError, SourceError
    from topwork.extract.preprocess.by_kind import preprocessor_for
    from topwork.extract.sources.opening import open_source
    from topwork.models.image_spec import ImageSpec

    spec = ImageSpec(size=(32, 32), resize=36)
    preprocessor = preprocessor_for(spec, max_pixels=4_000_000)
    file = root / name
    file.write_bytes(content)
    reasons = []
    try:
        for item in open_source(file if file.name.endswith((".tar", ".tar.gz")) else root):
            try:
                array = preprocessor.prepare(item.read()).array
                assert (array.shape, array.dtype) == ((32, 32, 3), np.uint8), f"{array.dtype} of {array.shape}"
            except (OSError, DecodeError) as error:
                reasons.append(str(error))
    except SourceError as error:
        reasons.append(str(error))
    finally:
        file.unlink()
    return ("failed", "; ".join(reasons)) if reasons else ("ok", "")


if __name__ == "__main__":
    main()
