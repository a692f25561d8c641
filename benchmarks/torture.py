"""Interrupt jobs at random, then run them again: they end as an uninterrupted run does.

``python benchmarks/torture.py --runs 60 --faults 20 --seed 0`` runs ``topwork extract`` over images and texts, kills it
with SIGKILL at random moments, some runs several times in a row, and lets the disk fail (ENOSPC, EIO) at a random
write. After each interruption the store must be valid and contain the first rows of the complete one; then the same
command runs to its end, and ids, labels, ledger and matrices must be bit-identical to those of an uninterrupted run.
"""

from __future__ import annotations

import argparse
import errno
import math
import os
import random
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_sets import minilm
from faults import Disk, Fault, can_fail
from interruptions import Command, Place
from small_sources import write_images, write_texts
from store_content import Content, progress

KILLS = {1: 6, 2: 3, 3: 2}
"""How often a run is killed, with weights."""
WINDOW = 16
"""Items of a part."""
TOLD = 3
"""Exit code of a command that the machine is to blame for."""


@dataclass(frozen=True)
class Whole:
    """A command, and what an uninterrupted run of it yields: how long it takes, and what it writes."""

    command: Command
    content: Content
    account: dict[str, Any]
    seconds: float
    writes: list[str]

    @property
    def parts(self) -> int:
        """How many parts the command makes."""
        return math.ceil(self.account["items"] / self.command.window)


@dataclass
class Run:
    """What became of one run: where it was interrupted, and what was not as it should be."""

    interruptions: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def main() -> None:
    options = parsed()
    runs: list[Run] = []
    with tempfile.TemporaryDirectory() as work:
        os.environ.setdefault("TOPWORK_CACHE", str(Path(work) / "cache"))
        given = commands(Path(work), options)
        export(given, Path(work))
        wholes = [uninterrupted(command, Path(work)) for command in given]
        for number in range(options.runs + options.faults):
            chance, whole = random.Random(f"{options.seed} {number}"), wholes[number % len(wholes)]
            place = Place(whole.command, Path(work) / f"run{number}")
            runs.append(killed(whole, place, chance) if number < options.runs else failed(whole, place, chance))
            tell(number, whole, runs[-1])
            keep(place, runs[-1], options.keep)
    interrupted = sum(bool(run.interruptions) for run in runs)
    identical = sum(bool(run.interruptions) and not run.problems for run in runs)
    print(f"{interrupted} interrupted, {identical} identical")
    sys.exit(0 if interrupted == identical == len(runs) else 1)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=60, help="how many are killed")
    parser.add_argument("--faults", type=int, default=20, help="on how many the disk fails")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", type=int, default=800)
    parser.add_argument("--texts", type=int, default=320)
    parser.add_argument("--precision", default="auto", help="of the images' features; the texts' are in fp32")
    parser.add_argument("--text-model", type=Path, help="a folder; by default that of all-MiniLM-L6-v2")
    parser.add_argument("--keep", type=Path, help="a folder for the stores that are not as they should be")
    options = parser.parse_args()
    if options.faults and not can_fail():
        parser.error("--faults needs Linux on x86-64 or ARM")
    return options


def commands(work: Path, options: argparse.Namespace) -> list[Command]:
    model = options.text_model or minilm()
    images, texts = work / "photographs", work / "texts.csv"
    write_images(images, options.images)
    write_texts(texts, options.texts)
    tiny = ("--backbone", "topwork:tiny", "--layer", "layer2,last", "--precision", options.precision)
    bert = ("--backbone", f"hf:{model}", "--precision", "fp32", "--provider", "cpu")
    return [Command("images", images, tiny, WINDOW), Command("texts", texts, bert, WINDOW)]


def export(given: list[Command], work: Path) -> None:
    """Run each command once, at the same time, so that their graphs are in the cache."""
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda command: Place(command, work / command.name / "first").to_the_end(), given))


def uninterrupted(command: Command, work: Path) -> Whole:
    """Run a command without any interruption, once to see what it writes, once to see how long it takes."""
    place = Place(command, work / command.name / "whole")
    writes: list[str] = []
    if can_fail():
        writes = place.fail(None)[0].writes
    place.clear()
    started = time.perf_counter()
    account = place.to_the_end()
    seconds = time.perf_counter() - started
    content = Content.of(place.store)
    print(f"{command.name}: {account['items']} items in {seconds:.1f} s, {len(writes)} writes", flush=True)
    return Whole(command, content, account, seconds, writes)


def killed(whole: Whole, place: Place, chance: random.Random) -> Run:
    """Kill a job, perhaps several times, and run it to its end."""
    run, kills = Run(), chance.choices(list(KILLS), list(KILLS.values()))[0]
    while len(run.interruptions) < kills:
        seconds = chance.uniform(0, whole.seconds)
        if place.kill_after(seconds):
            note(run, f"killed after {seconds:.2f} s: {progress(place.store, whole.parts)}", place, whole)
        elif run.interruptions:
            break  # little was left to do
        else:
            place.clear()
    return finished(run, place, whole)


def failed(whole: Whole, place: Place, chance: random.Random) -> Run:
    """Let a job's disk fail, and run it to its end."""
    run = Run()
    while not run.interruptions:
        fault = drawn(whole.writes, chance)
        disk, code = place.fail(fault)
        if disk.failed:
            note(run, f"{fault}, {disk.failed[0]}: {progress(place.store, whole.parts)}", place, whole)
            run.problems += badly_told(disk, code, place.said())
        else:
            place.clear()
    return finished(run, place, whole)


def drawn(writes: list[str], chance: random.Random) -> Fault:
    """Draw a fault: any write, or first a kind of write, since most of them are of the same few kinds."""
    kind = chance.choice(sorted(set(writes))) if chance.random() < 0.5 else ""
    first = chance.choice([number for number, write in enumerate(writes, 1) if kind in ("", write)])
    error = chance.choice((errno.ENOSPC, errno.EIO))
    return Fault(first, error, error == errno.ENOSPC or chance.random() < 0.5)


def badly_told(disk: Disk, code: int, said: str) -> list[str]:
    """Return what is wrong with how a command ended on a disk that failed."""
    if code not in (0, TOLD) or "Traceback" in said:
        return [f"the command ended with {code} after {len(disk.failed)} faults: {said[-2000:]}"]
    return []


def note(run: Run, interruption: str, place: Place, whole: Whole) -> None:
    """Enter an interruption, and what is not as it should be of what it left."""
    run.interruptions.append(interruption)
    if place.store.exists():
        run.problems += [f"after {interruption}: {problem}" for problem in unsound(place.store, whole.content)]


def unsound(path: Path, whole: Content) -> list[str]:
    """Return what a reader of an interrupted job's store finds wrong."""
    from topwork.extract.store.feature_store import FeatureStore

    try:
        damaged, found = FeatureStore.open(path).verify(), Content.of(path)
    except Exception as error:
        return [f"{type(error).__name__}: {error}"]
    expected = whole.first(len(found.ids), len(found.failures))
    return [*damaged, *found.differences(expected)]


def finished(run: Run, place: Place, whole: Whole) -> Run:
    """Run the command to its end, and compare with the uninterrupted run."""
    try:
        account = place.to_the_end()
    except RuntimeError as error:
        run.problems.append(str(error))
        return run
    run.problems += [f"ledger: {name}" for name in account if account[name] != whole.account[name]]
    wrong = unsound(place.store, whole.content) or Content.of(place.store).differences(whole.content)
    run.problems += [f"in the end: {problem}" for problem in wrong]
    return run


def tell(number: int, whole: Whole, run: Run) -> None:
    print(f"{number} {whole.command.name}, {'; '.join(run.interruptions)}", flush=True)
    for problem in run.problems:
        print(f"    {problem}", flush=True)


def keep(place: Place, run: Run, folder: Path | None) -> None:
    """Remove a run's store, or keep it where it can be looked at."""
    if run.problems and folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.move(place.folder, folder / place.folder.name)
    shutil.rmtree(place.folder, ignore_errors=True)


if __name__ == "__main__":
    main()
