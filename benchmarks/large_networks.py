"""A text encoder of more than 2 GiB, from the export to a bundle's predictions: seconds, and peak anonymous memory.

``RssAnon`` of each step's process is sampled from ``/proc``, so this runs on Linux only; mapped files do not count.
"""

from __future__ import annotations

import shutil
import sys
from typing import Any

from contender_large import LAYERS, STEPS, VOCABULARY
from contest import arguments, report_of, use_work_folder
from memory import MIB, measure_run
from page import table, write_section

SHOWN = {
    "export": "load, export, certificate",
    "extract": "features of {items} texts, graph exported before",
    "store": "the same into a new store, with a copy of the graph; opened again",
    "fit": "head trained on the texts, bundle saved",
    "predict": "bundle loaded, {items} texts predicted, without torch",
}
MAX_RATIO = 2.5
"""Peak anonymous memory over the bytes of the weights."""


def main() -> None:
    parser = arguments(__doc__, repeats=1)
    parser.add_argument("--layers", type=int, default=LAYERS)
    parser.add_argument("--vocabulary", type=int, default=VOCABULARY)
    options = parser.parse_args()
    work = options.work / "large"
    shutil.rmtree(work, ignore_errors=True)  # else the graph of an earlier run would be taken
    use_work_folder(work)
    shape = ["--work", work, "--layers", options.layers, "--vocabulary", options.vocabulary]
    gigabytes = report_of(["contender_large.py", "make", *shape])["gigabytes"]
    rows: list[list[Any]] = []
    for step in STEPS:
        if step not in SHOWN:
            continue
        peak, found = measure_run(["contender_large.py", step, *shape])
        peak_gigabytes = peak * MIB**2 / 1e9
        print(f"{step}: {found}, {peak_gigabytes:.2f} GB", file=sys.stderr, flush=True)
        ratio = peak_gigabytes / gigabytes
        rows.append(
            [SHOWN[step].format(**found), f"{found['seconds']:.0f} s", f"{peak_gigabytes:.2f} GB", f"{ratio:.2f}"]
        )
    head = ["step", "seconds", "largest `RssAnon`", f"over the weights (at most {MAX_RATIO})"]
    body = TEMPLATE.format(gigabytes=gigabytes, layers=options.layers, table=table(head, rows))
    write_section("Large networks", body, options.page, ("transformers",))


TEMPLATE = """`large_networks.py`: an encoder of the shape of XLM-RoBERTa-large ({layers} layers, {gigabytes:.2f} GB of
random weights), in float32 on the provider that `auto` takes; each step in a process of its own, one run.

{table}
"""

if __name__ == "__main__":
    main()
