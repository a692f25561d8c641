"""Start-up time: the command line, the import, and a cached extractor until its first batch is done.

Whole processes are timed. The peer of the command and the import is an interpreter that does nothing, the peer of the
first batch is PyTorch with timm.
"""

from __future__ import annotations

from contest import Outcome, arguments, contest, use_work_folder
from data_sets import photographs
from page import table, write_section

RUNS = 15
BATCH_RUNS = 5
BATCH = 32
SECONDS = 3.0
COMMANDS = {
    "`topwork --help`": ["-m", "topwork", "--help"],
    "`import topwork`": ["-c", "import topwork"],
    "nothing": ["-c", ""],
}


def main() -> None:
    parser = arguments(__doc__, repeats=RUNS)
    parser.add_argument("--batch-repeats", type=int, default=BATCH_RUNS, help="runs of a first batch")
    options = parser.parse_args()
    use_work_folder(options.work)
    folder = photographs(options.data, options.work, BATCH)
    batches = {way: ["contender_first_batch.py", way, folder] for way in ("topwork", "torch")}
    contest({"preparation": batches["topwork"]}, 1)  # exports, and chooses the precision
    first, started = contest(batches, options.batch_repeats), contest(COMMANDS, options.repeats)
    if any(run["torch"] for run in first["topwork"].runs):
        raise SystemExit("a cached extractor imported torch")
    rows = [*rows_of(started, "nothing"), *rows_of(first, "torch", f"{SECONDS} s")]
    columns = ["what", "seconds", "peer", "the peer's seconds", "ratio to the peer", "at most"]
    text = TEMPLATE.format(
        runs=options.repeats, batch_runs=options.batch_repeats, rows=table(columns, rows), batch=BATCH
    )
    write_section("Start-up", text, options.page, ("timm",))


def rows_of(outcomes: dict[str, Outcome], peer: str, limit: str = "") -> list[list[str]]:
    """Return each contender's time beside its peer's."""
    theirs, named, rows = outcomes[peer]["wall"], LABELS[peer], []
    for name, outcome in outcomes.items():
        if name != peer:
            ratio = f"{outcome['wall'] / theirs:.2f}"
            rows.append([LABELS.get(name, name), f"{outcome['wall']:.2f} s", named, f"{theirs:.3f} s", ratio, limit])
    return rows


LABELS = {"topwork": "first batch", "torch": "PyTorch and timm", "nothing": "a bare interpreter"}
TEMPLATE = """`startup.py`: from the start of a process to its end; medians of {runs} runs, for the first batch of
{batch_runs}. The first batch is {batch} JPEG files through ResNet-50, with topwork from a graph in the cache, without
torch being imported.

{rows}
"""

if __name__ == "__main__":
    main()
