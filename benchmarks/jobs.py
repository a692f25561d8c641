"""Overhead of a job: writing the store, and running again when there is nothing left to do.

Writing is timed by the job itself, and compared with the same computation that ends in a matrix. A finished job is run
again from the command line, and the whole process is timed; the peer is a walk over the same files that reads the size
and time of each.
"""

from __future__ import annotations

import argparse
import shutil
import statistics

from contest import Outcome, arguments, contest, report_of, use_work_folder
from data_sets import cifar
from page import table, write_section

FILES = 50_000
COMPUTED = 10_000
"""Files of the extraction whose writing is measured."""
BACKBONE = "topwork:tiny"
"""The cheapest there is: the share of writing is the largest."""
WRITING, SECONDS = 0.03, 2.0
WALK = """
import json, os, sys, time

def walk(folder):
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from walk(entry.path)
            else:
                status = entry.stat()
                yield entry.path, status.st_size, status.st_mtime_ns

started = time.perf_counter()
items = len(list(walk(sys.argv[1])))
print(json.dumps({"seconds": time.perf_counter() - started, "items": items}))
"""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--files", type=int, default=FILES)
    parser.add_argument("--computed", type=int, default=COMPUTED)
    options = parser.parse_args()
    use_work_folder(options.work)
    write_section("Jobs", body(writing(options), again(options), options), options.page)


def writing(options: argparse.Namespace) -> dict[str, Outcome]:
    """Return the outcomes of a job, and of the same computation without a store."""
    folder = cifar(options.data, options.work, options.computed)
    command = ["contender_topwork.py", folder, "--backbone", BACKBONE, "--work", options.work, "--precision", "fp32"]
    contest({"preparation": [*command, "--way", "prepare"]}, 1)
    return contest({way: [*command, "--way", way] for way in ("store", "matrix")}, options.repeats)


def again(options: argparse.Namespace) -> dict[str, Outcome]:
    """Return the outcomes of a finished job that is run again, and of a walk over its files."""
    folder, store = cifar(options.data, options.work, options.files), options.work / "finished"
    job = [
        "-m",
        "topwork",
        "extract",
        folder,
        "--store",
        store,
        "--backbone",
        BACKBONE,
        "--precision",
        "fp32",
        "--json",
    ]
    shutil.rmtree(store, ignore_errors=True)
    report_of(job)
    found = contest({"finished job": job, "walk": ["-c", WALK, folder]}, options.repeats)
    assert all(run["computed"] == 0 for run in found["finished job"].runs)
    return found


def body(writing: dict[str, Outcome], again: dict[str, Outcome], options: argparse.Namespace) -> str:
    costs = table(["job", "images/s", "opening", "writing", "at most", "times the matrix"], [costs_of(writing)])
    job, walk = again["finished job"], again["walk"]
    row = [f"{job['wall']:.2f} s", f"{walk['seconds']:.2f} s", f"{job['wall'] / walk['seconds']:.1f}", f"{SECONDS} s"]
    return TEMPLATE.format(
        computed=f"{options.computed:,}",
        files=f"{job['items']:,}",
        repeats=options.repeats,
        costs=costs,
        again=table(["finished job", "walk", "ratio", "at most"], [row]),
    )


def costs_of(outcomes: dict[str, Outcome]) -> list[str]:
    store, matrix = outcomes["store"], outcomes["matrix"]
    share = statistics.median(run["write"] / run["whole"] for run in store.runs)
    ratio = store["seconds"] / matrix["seconds"]
    return [f"`{BACKBONE}`", store.told, f"{store['opening']:.1f} s", f"{share:.1%}", f"{WRITING:.0%}", f"{ratio:.3f}"]


TEMPLATE = """`jobs.py`: images of CIFAR-10, one file each, through the smallest network there is; medians of {repeats}
runs. Writing the store as a share of a job over {computed} files, as the job itself times it, and the time of the job
beside that of the same computation which ends in a matrix:

{costs}

A finished job over {files} files, run again from the command line in a new process, beside a walk over the same files
that asks each for its size and time:

{again}
"""

if __name__ == "__main__":
    main()
