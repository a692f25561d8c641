"""Text, end to end: Banking77's training texts to features, compared with sentence-transformers and fastembed.

All of them run all-MiniLM-L6-v2 from a local folder: mean pooling over the mask, L2-normalized. fastembed reads it from
an ONNX file written by ``torch.onnx.export``. Each peer uses the best of a few batch sizes.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

import numpy as np
from contest import Outcome, arguments, contest, fastest, report_of, use_work_folder
from data_sets import banking77, minilm
from page import table, write_section

PEERS = ("sentence-transformers", "fastembed")
OURS = ("auto", "fp32")
GOALS = {"auto": "4 with AMX; fastembed 8", "fp32": "1"}
BATCH_SIZES = (16, 32, 64, 128, 256)
TEXTS = 10_003
PROBED = 1000
"""Texts by which a batch size is chosen."""
ALIKE = 0.99
"""Smallest cosine between a contender's vectors and those of sentence-transformers."""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--texts", type=int, default=TEXTS)
    options = parser.parse_args()
    use_work_folder(options.work)
    everything, some = (texts_of(count, options) for count in (options.texts, min(PROBED, options.texts)))
    report_of(["contender_texts.py", "export", "--model", minilm(), "--work", options.work])
    contest({f"{way}: preparation": ours(way, everything, options, "prepare") for way in OURS}, 1)
    sizes = {name: fastest({size: peer(name, size, some, options) for size in BATCH_SIZES}) for name in PEERS}
    contenders = {name: [*peer(name, sizes[name], everything, options), *kept(name, options)] for name in PEERS}
    contenders |= {way: [*ours(way, everything, options), *kept(way, options)] for way in OURS}
    found = contest(contenders, options.repeats)
    likeness = {name: cosine(name, options) for name in contenders}
    write_section("Texts", body(found, sizes, likeness, options), options.page, ("sentence-transformers", "fastembed"))


def texts_of(count: int, options: argparse.Namespace) -> Path:
    """Return a table with so many of the training texts."""
    path = options.work / f"banking77-{count}.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("text",), *((text,) for text in banking77(options.data, "train", count)[0])])
    return path


def peer(name: str, batch_size: int, source: Path, options: argparse.Namespace) -> list[Any]:
    command = ["contender_texts.py", name, "--source", source, "--batch-size", batch_size]
    return [*command, "--model", minilm(), "--work", options.work]


def ours(way: str, source: Path, options: argparse.Namespace, timed: str = "store") -> list[Any]:
    command = ["contender_topwork.py", source, "--backbone", f"hf:{minilm()}", "--normalize", "--precision", way]
    return [*command, "--work", options.work, "--way", timed]


def kept(name: str, options: argparse.Namespace) -> list[Any]:
    """Let a contender leave its features for comparison; those of an earlier run are removed."""
    path = features_of(name, options)
    path.unlink(missing_ok=True)
    return ["--features", path]


def features_of(name: str, options: argparse.Namespace) -> Path:
    return options.work / f"texts, {name}.npy"


def cosine(name: str, options: argparse.Namespace) -> float | None:
    """Return the smallest cosine to the vectors of sentence-transformers; who computes others is refused."""
    paths = [features_of(each, options) for each in (name, PEERS[0])]
    if not all(path.is_file() for path in paths):
        return None
    found, expected = map(np.load, paths)
    smallest = float((found * expected).sum(axis=1).min())
    if smallest < ALIKE:
        raise SystemExit(f"{name} computes other vectors: a cosine of {smallest:.3f} to those of {PEERS[0]}")
    return smallest


def body(
    found: dict[str, Outcome], sizes: dict[str, int], likeness: dict[str, float | None], options: argparse.Namespace
) -> str:
    peers = [[name, sizes[name], found[name].told, "", cell(likeness[name])] for name in PEERS]
    jobs = [job(way, found, likeness[way]) for way in OURS]
    return TEMPLATE.format(
        texts=options.texts,
        repeats=options.repeats,
        sizes=", ".join(map(str, BATCH_SIZES)),
        rows=table(
            ["contender", "batch", "texts/s", "opening", "smallest cosine", *PEERS, "at least"], [*peers, *jobs]
        ),
    )


def job(way: str, found: dict[str, Outcome], likeness: float | None) -> list[Any]:
    """Return what a job took, and how many times as fast as each peer it is."""
    ours = found[way]
    if ours.failure:
        return [f"topwork, {way}", "", ours.told]
    name = f"topwork, {way}: {ours['precision']}, {ours['provider']}"
    ratios = [ours.ratio_to(found[peer]) for peer in PEERS]
    return [name, "", ours.told, f"{ours['opening']:.1f} s", cell(likeness), *ratios, GOALS[way]]


def cell(likeness: float | None) -> str:
    return "" if likeness is None else f"{likeness:.5f}"


TEMPLATE = """`texts.py`: {texts} training texts of Banking77; medians of {repeats} runs. All run all-MiniLM-L6-v2 with
its trained weights; a peer in its best batch size of {sizes}. The ratios say how many times as fast as each
peer the job is, once its session is open, and in brackets with the opening; writing the store belongs to it. The cosine
is that to the vectors of sentence-transformers.

{rows}
"""

if __name__ == "__main__":
    main()
