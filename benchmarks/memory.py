"""Peak anonymous memory of a job: the same for many items as for few, and for large images apart from the decoder.

``RssAnon`` of the job's process is sampled from ``/proc``, so this runs on Linux only; mapped files do not count.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from contest import HERE, arguments, contest, parsed, use_work_folder
from data_sets import cifar, photographs
from page import table, write_section

COUNTS = (2_000, 20_000, 50_000)
SIZES = {(500, 400): 500, (2000, 1500): 200}
"""Number of photographs of each size."""
JOBS = {
    "topwork:tiny, fp32": ["--backbone", "topwork:tiny", "--precision", "fp32"],
    "topwork:tiny, auto": ["--backbone", "topwork:tiny"],
    "MobileNetV3-Small 0.5, auto": ["--backbone", "timm:mobilenetv3_small_050", "--weights", "random"],
}
INTERVAL = 0.005
"""Seconds between samples."""
GROWTH = 1.05
"""Goal for the ratio of the second count's peak to the first one's."""
PEER = "Pillow"
MIB = 1024


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument(
        "--counts", type=lambda text: [int(n) for n in text.split(",")], default=list(COUNTS), help="two or more"
    )
    parser.add_argument("--photographs", type=float, default=1.0, help="share of the photographs that are taken")
    options = parser.parse_args()
    use_work_folder(options.work)
    items = [cifar(options.data, options.work, count) for count in options.counts]
    photos = [made(size, round(count * options.photographs), options) for size, count in SIZES.items()]
    tiny = next(iter(JOBS))
    jobs = [(job, folder) for job in JOBS for folder in items] + [(tiny, folder) for folder in photos]
    contest({f"{job}, {folder.name}: preparation": command(job, folder, options, "prepare") for job, folder in jobs}, 1)
    contenders = {(job, folder): command(job, folder, options) for job, folder in jobs}
    contenders |= {(PEER, folder): ["contender_decoding.py", folder] for folder in photos}
    peaks = measured(contenders, options.repeats)
    counts = {job: [peaks[job, folder] for folder in items] for job in JOBS}
    sizes = {job: [peaks[job, folder] for folder in photos] for job in (tiny, PEER)}
    write_section("Memory", body(counts, sizes, options), options.page, ("timm",))


def made(size: tuple[int, int], count: int, options: argparse.Namespace) -> Path:
    return photographs(options.data, options.work, count, size)


def command(job: str, folder: Path, options: argparse.Namespace, timed: str = "store") -> list[Any]:
    return ["contender_topwork.py", folder, *JOBS[job], "--work", options.work, "--way", timed]


def measured(contenders: Mapping[Any, Sequence[Any]], repeats: int) -> dict[Any, float]:
    """Return the median of each contender's peaks, in MiB, of runs by turns."""
    peaks: dict[Any, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, command in contenders.items():
            peaks[name].append(peak(command))
            print(f"{name[0]}, {name[1].name}: {peaks[name][-1]:.1f} MiB", file=sys.stderr, flush=True)
    return {name: median(values) for name, values in peaks.items()}


def peak(command: Sequence[Any]) -> float:
    """Run a contender; return the largest anonymous memory of its process, in MiB."""
    return measure_run(command)[0]


def measure_run(command: Sequence[Any]) -> tuple[float, dict[str, Any]]:
    """Run a contender; return the largest anonymous memory of its process, in MiB, and what it reports."""
    largest = 0.0
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, *map(str, command)], stdout=output, stderr=errors, text=True, cwd=HERE
        )
        while process.poll() is None:
            largest = max(largest, anonymous(process.pid))
            time.sleep(INTERVAL)
        output.seek(0)
        errors.seek(0)
        return largest, parsed(process.returncode, output.read(), errors.read())


def anonymous(pid: int) -> float:
    """Return a process's ``RssAnon`` in MiB; 0 once it has ended."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    line = next((line for line in status.splitlines() if line.startswith("RssAnon")), "RssAnon: 0 kB")
    return int(line.split()[1]) / MIB


def body(counts: dict[str, list[float]], sizes: dict[str, list[float]], options: argparse.Namespace) -> str:
    growth = [
        [job, *shown(*peaks), f"{peaks[1] / peaks[0]:.3f}", GROWTH, f"{bytes_per_item(peaks, options.counts):.0f}"]
        for job, peaks in counts.items()
    ]
    (small, large), (decoded_small, decoded_large) = sizes.values()
    return TEMPLATE.format(
        repeats=options.repeats,
        counts=table(
            ["job", *(f"{count:,} items" for count in options.counts), "second / first", "at most", "bytes per item"],
            growth,
        ),
        sizes=table(
            ["job", *(f"{width} x {height}" for width, height in SIZES), "difference"],
            [[job, *shown(*peaks, peaks[1] - peaks[0])] for job, peaks in sizes.items()],
        ),
        ratio=f"{(large - (decoded_large - decoded_small)) / small:.3f}",
    )


def bytes_per_item(peaks: Sequence[float], counts: Sequence[int]) -> float:
    """Return by how much the peak grows for each item from the last but one count to the last."""
    return (peaks[-1] - peaks[-2]) * 2**20 / (counts[-1] - counts[-2])


def shown(*peaks: float) -> list[str]:
    return [f"{found:.1f}" for found in peaks]


TEMPLATE = """`memory.py`: the largest `RssAnon` of the job's process, in MiB, with starting and the opening of the
session; medians of {repeats} runs. Images of CIFAR-10, peak for few and for many. In the first seconds of a job pools
of memory fill up, of Arrow above all; what each item takes is seen between the last two counts:

{counts}

Photographs of two sizes; the peer is Pillow alone, which decodes and resizes them on as many threads. But for the
difference that Pillow makes, a job with large images takes {ratio} of the memory that it takes with small ones.

{sizes}
"""

if __name__ == "__main__":
    main()
