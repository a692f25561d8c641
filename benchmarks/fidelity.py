"""Effects of precisions and fast decoding on the features of trained backbones, on downstream accuracy and on speed.

Features are compared with float32 features of exactly decoded images: relative L2 error per item. A head is trained on
the features of the training set and evaluated on those of the test set, both computed in the same way.
"""

from __future__ import annotations

import statistics
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import topwork
from contest import arguments, relative_errors, use_work_folder
from page import table, write_section
from topwork.errors import TopworkError
from topwork.extract.runtime.providers import PRECISIONS
from trained_cases import Case, Examples, cases

BY_SCORE = "auto, by the score"
"""The fastest precision with which a head is as good on held-out items of the training set."""
EXACT = ("fp32", "exact")
"""What all else is compared with: precision and decode mode."""
COLUMNS = [
    "precision",
    "decoding",
    "times as fast",
    "error, 99 %",
    "error, worst",
    "accuracy",
    "change",
]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--items", type=int, help="at most so many items of each set")
    parser.add_argument("--cases", default="", help="only cases whose name contains this")
    options = parser.parse_args()
    use_work_folder(options.work)
    warnings.simplefilter("ignore")  # of a provider that is passed over
    chosen = {name: case for name, case in cases(options).items() if options.cases in name}
    for name, case in chosen.items():
        rows = rows_of(name, case, options.repeats)
        text = TEMPLATE.format(name=name, repeats=options.repeats, rows=table(COLUMNS, rows))
        write_section(f"Fidelity, {name}", text, options.page, ("timm", "scikit-learn"))


@dataclass
class Way:
    """A case in one precision and decode mode: its extractor, and what came out."""

    extractor: topwork.Extractor
    train: np.ndarray
    test: np.ndarray
    seconds: list[float]


def rows_of(name: str, case: Case, repeats: int) -> Iterator[list[Any]]:
    """Yield a row for each precision and decode mode of a case."""
    train, test = case.examples("train"), case.examples("test")
    backbones = {decode: case.backbone(decode) for decode in case.decodes}
    ways: dict[tuple[str, str], Way | str] = {}
    for precision, decode in keys(case):
        print(f"{name}: {precision}, {decode}", file=sys.stderr, flush=True)
        ways[precision, decode] = computed(case, backbones[decode], precision, train, test)
    take_times([way for way in ways.values() if isinstance(way, Way)], test, repeats)
    for (precision, decode), way in ways.items():
        told = f"{precision}: {chosen(way)}" if "auto" in precision and isinstance(way, Way) else precision
        yield [told, decode, *cells(case, way, ways[EXACT], train[1], test[1])]


def keys(case: Case) -> list[tuple[str, str]]:
    """Return precisions and decode modes, first what the others are compared with."""
    found = [(precision, decode) for decode in case.decodes for precision in (*PRECISIONS, BY_SCORE)]
    return sorted(found, key=lambda key: key != EXACT)


def computed(case: Case, backbone: topwork.Backbone, precision: str, train: Examples, test: Examples) -> Way | str:
    """Return the features, or why there are none on this machine."""
    options = {"normalize": case.normalize, "on_error": "raise"}
    try:
        if precision == BY_SCORE:
            model = topwork.TransferClassifier(backbone, fidelity="score", head="centroid", cv=0, **options)
            extractor = model.fit(*train).extractor_
        else:
            extractor = topwork.Extractor(backbone, precision=precision, **options).fit(train[0])
        return Way(extractor, extractor.transform(train[0]), extractor.transform(test[0]), [])
    except TopworkError as error:
        return f"not here: {error}"


def chosen(way: Way) -> str:
    """Return the precision without the digest of its details."""
    return str(way.extractor.precision_.partition(":")[0])


def take_times(ways: list[Way], test: Examples, repeats: int) -> None:
    """Compute the test set's features again, by turns."""
    for _ in range(repeats):
        for way in ways:
            started = time.perf_counter()
            way.extractor.transform(test[0])
            way.seconds.append(time.perf_counter() - started)


def cells(case: Case, way: Way | str, exact: Way | str, labels: Any, truth: Any) -> list[str]:
    assert isinstance(exact, Way)
    if isinstance(way, str):
        return ["", way]
    errors = relative_errors(*(np.concatenate([found.train, found.test]) for found in (way, exact)))
    accuracy, before = (case.head().fit(found.train, labels).score(found.test, truth) for found in (way, exact))
    speed = statistics.median(exact.seconds) / statistics.median(way.seconds)
    shown = [f"{speed:.2f}", f"{np.percentile(errors, 99):.1e}", f"{max(errors):.1e}"]
    return [*shown, f"{accuracy:.4f}", f"{accuracy - before:+.4f}"]


TEMPLATE = """`fidelity.py`: {name}, with trained weights, compared with float32 and exact decoding: how many times as
fast the test set's features are there, from files or texts (medians of {repeats} runs by turns), the relative L2 error
of the features (99th percentile and worst item), and the accuracy of a logistic regression on them. `auto` takes the
fastest precision whose errors on up to 256 training items are small enough, if it is worth it; by the score, with which
a linear head is as good on held-out training items (`fidelity="score"`).

{rows}
"""

if __name__ == "__main__":
    main()
