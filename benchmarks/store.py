"""Reading a store of a million rows, skipping items that it knows, and its index; compared with other libraries."""

from __future__ import annotations

import argparse

from contest import Outcome, arguments, contest, report_of, use_work_folder
from page import table, write_section

ROWS = 1_000_000
OPEN, SUM, TAKE, KNOWN, BYTES, SPEED = 0.3, 1.1, 3.0, 20.0, 130, 100_000
READERS = {
    "topwork": "`FeatureStore`",
    "numpy": '`numpy.load(mmap_mode="r")`',
    "parquet": "Parquet, by pyarrow",
    "joblib": '`joblib.Memory(mmap_mode="r")`',
}


def main() -> None:
    parser = arguments(__doc__, repeats=5)
    parser.add_argument("--rows", type=int, default=ROWS)
    options = parser.parse_args()
    use_work_folder(options.work)
    report_of(command("prepare", options))
    found = contest({way: command(way, options) for way in READERS}, options.repeats)
    known = contest({way: command(way, options) for way in ("known", "listed")}, options.repeats)
    index = contest({way: command(way, options) for way in ("rebuilt", "sqlite")}, options.repeats)
    write_section("Store", body(found, known, index, options), options.page, ["joblib", "pyarrow"])


def command(way: str, options: argparse.Namespace) -> list[object]:
    """Return the command of a contender."""
    return ["contender_store.py", way, options.work / f"rows-{options.rows}", "--rows", options.rows]


def body(
    found: dict[str, Outcome], known: dict[str, Outcome], index: dict[str, Outcome], options: argparse.Namespace
) -> str:
    """Return the section."""
    readers = [[name, *costs(found[way], found["numpy"])] for way, name in READERS.items()]
    pairs = (("`index.arrow`", index["rebuilt"]), ("SQLite", index["sqlite"]))
    rows = [[name, f"{options.rows / made['seconds']:,.0f}", f"{made['bytes']:.0f}"] for name, made in pairs]
    job, listed = known["known"]["seconds"], known["listed"]["seconds"]
    return TEMPLATE.format(
        rows=f"{options.rows:,}",
        repeats=options.repeats,
        readers=table(["", "opening", "sum", "times numpy", "take", "times numpy"], readers),
        bounds=f"{OPEN} s, {SUM} and {TAKE:.0f}",
        known=f"{job:.1f} s ({job / listed:.1f} times a pass that asks a dictionary in memory; at most {KNOWN:.0f} s)",
        index=table(["index", "rows/s rebuilt", "bytes per row beside the id"], rows),
        index_bounds=f"{SPEED:,} rows/s and {BYTES} bytes",
    )


def costs(outcome: Outcome, peer: Outcome) -> list[str]:
    """Return times, and their ratios to numpy's."""
    if outcome.failure:
        return [outcome.told]
    cells = [f"{1000 * outcome['open']:.0f} ms"]
    for name in ("sum", "take"):
        cells += [f"{1000 * outcome[name]:.1f} ms", f"{outcome[name] / peer[name]:.2f}"]
    return cells


TEMPLATE = """`store.py`: {rows} rows of 384 float32 features, with ids such as `photos/class_012/IMG_0012345.jpg`;
medians of {repeats} runs, each in a new process, with the files in the system's memory. Opening yields the number of
rows and the matrix; the sum is over all of it; 10,000 random items are taken by id, by numpy (which has no ids) by row:

{readers}

The bounds for `FeatureStore` are {bounds}. joblib's opening makes the dictionary from ids to rows.

A job whose items are all in the store, unchanged: {known}.
The items come from a generator, so that it is not the file system that is measured.

{index}

Required are {index_bounds}. Both are made from the store's `items.parquet`, with look-ups by id and by
content.
"""

if __name__ == "__main__":
    main()
