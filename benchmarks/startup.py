"""Start-up time: the command line, the import, a cached extractor until its first batch is done, and short commands.

Whole processes are timed. The peer of the command and the import is an interpreter that does nothing, the peer of the
first batch is PyTorch with timm. The peer of a short command is a process that imports the same modules.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from contest import Outcome, arguments, contest, report_of, use_work_folder
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


KNOWN = 100
"""Items of the store that commands with little to do are run on."""
MAX_RATIO = 1.5


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
    for name, command in prepare_commands(options.data, options.work).items():
        modules = options.work / "modules.json"
        report_of(["contender_imports.py", "--list", modules, *command])
        contenders = {name: ["-m", "topwork", *command], "imports": ["contender_imports.py", modules]}
        rows += rows_of(contest(contenders, options.repeats), "imports", f"ratio {MAX_RATIO}")
    columns = ["what", "seconds", "peer", "the peer's seconds", "ratio to the peer", "at most"]
    text = TEMPLATE.format(
        runs=options.repeats, batch_runs=options.batch_repeats, rows=table(columns, rows), batch=BATCH
    )
    write_section("Start-up", text, options.page, ("timm",))


def prepare_commands(data: Path, work: Path) -> dict[str, list[str]]:
    """Make a store and a bundle, and return commands that have little to do with them."""
    folder = work / "start-up"
    shutil.rmtree(folder, ignore_errors=True)
    photos = photographs(data, work, KNOWN)
    table = folder / "photos.csv"
    folder.mkdir()
    paths = sorted(photos.glob("*.jpg"))
    table.write_text("".join(["path,label\n", *(f"{path},{number % 2}\n" for number, path in enumerate(paths))]))
    store, bundle = str(folder / "store"), str(folder / "bundle")
    extract = ["extract", str(table), "--store", store]
    report_of(["-m", "topwork", *extract, "--backbone", "timm:resnet18", "--weights", "random"])
    fit = ["fit", store, "--out", bundle, "--overwrite"]
    report_of(["-m", "topwork", *fit])
    return {
        f"`topwork extract` of {KNOWN} known files": extract,
        "`topwork predict` of one photograph": ["predict", bundle, str(paths[0])],
        f"`topwork fit` from a store of {KNOWN}": fit,
    }


def rows_of(outcomes: dict[str, Outcome], peer: str, limit: str = "") -> list[list[str]]:
    """Return each contender's time beside its peer's."""
    theirs, named, rows = outcomes[peer]["wall"], LABELS[peer], []
    for name, outcome in outcomes.items():
        if name != peer:
            ratio = f"{outcome['wall'] / theirs:.2f}"
            rows.append([LABELS.get(name, name), f"{outcome['wall']:.2f} s", named, f"{theirs:.3f} s", ratio, limit])
    return rows


LABELS = {
    "topwork": "first batch",
    "torch": "PyTorch and timm",
    "nothing": "a bare interpreter",
    "imports": "its imports",
}
TEMPLATE = """`startup.py`: from the start of a process to its end; medians of {runs} runs, for the first batch of
{batch_runs}. The first batch is {batch} JPEG files through ResNet-50, with topwork from a graph in the cache, without
torch being imported. A command's imports are all modules that it has imported in the end, those of topwork as well.

{rows}
"""

if __name__ == "__main__":
    main()
