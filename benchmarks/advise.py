"""Which of the four cases `advise` names, in draws of sets whose case is known, and how its thresholds were chosen.

The thresholds are chosen on Banking77 and hymenoptera alone. Both are like what their backbones were trained on, and
what twice the labels bring is measured there: by the other half of the items, on further ones. CIFAR-10 and digits take
no part in that. What was measured is kept in the work folder; `--only` measures some of it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

import numpy as np
from contest import arguments, use_work_folder
from feature_sets import banking77_minilm, draw_rows
from layer_choice import Collected, collect, tasks
from page import table, write_section
from topwork import LayerProbe
from topwork.heads.registry import CLASSIFICATION, resolve_head
from topwork.pipelines.estimators.cut_search import Features, search_cut
from topwork.pipelines.selection.advise import (
    CURVE_HEAD,
    ERRORS_OF_DROP,
    LARGE_CLASS,
    LARGE_GAIN,
    MAX_DROP,
    advise,
    draw_learning_curve,
    measure_similarity,
)
from topwork.pipelines.selection.probe import RANDOM, RAW, BackboneProbe, measure_gain

SIMILAR_SETS = {"hymenoptera": ((40, 100, 200, 396), 5), "Banking77": ((616, 1250), 2)}
"""Items, and draws, in which the drop to the last layer is measured."""
SIZES = {"hymenoptera": ((20, 40, 60, 80, 100, 120, 160), 12), "Banking77": ((308, 616, 1250, 2500, 5000), 3)}
"""Items, and draws, in which the gain of twice as many is predicted and measured."""
CASES = {
    "CIFAR-10, 10 of each": ("CIFAR-10", 10, ("small", "similar")),
    "CIFAR-10, 20 of each": ("CIFAR-10", 20, ("small", "similar")),
    "CIFAR-10, 200 of each": ("CIFAR-10", 200, ("large", "similar")),
    "digits, 10 of each": ("digits", 10, ("small", "different")),
    "digits, 140 of each": ("digits", 140, ("large", "different")),
}
"""Data, items of a class, and the case."""
DRAWS = 5
DROPS = (0.0, 0.01, 0.02, 0.05)
ERRORS = (0.0, 1.0, 1.5, 2.0)
GAINS = (0.005, 0.0075, 0.01, 0.015, 0.02)
CLASSES = (10, 20, 50, 100)
POINT = 0.01
"""Gain of twice the labels that is worth their price."""


class DrawnProbe(LayerProbe):
    """A probe of some rows, whose features were computed before."""

    def fit_rows(self, found: Collected, labels: np.ndarray, rows: np.ndarray) -> DrawnProbe:
        """Compare the layers on some rows."""
        self.found, self.labels, self.rows = found, np.unique(labels[rows], return_inverse=True)[1], rows
        return self.fit(None)

    def take(self, matrices: dict[str, np.ndarray]) -> Features:
        """Return the features of these rows."""
        drawn = {name: matrix[self.rows] for name, matrix in matrices.items()}
        return Features(drawn, self.labels, None, self.found.candidates, n_labelled=len(self.rows))

    def _probe(self, name: str, *_: Any) -> BackboneProbe:
        features = self.take(self.found.matrices)
        search = search_cut(features, CLASSIFICATION)
        return BackboneProbe(name, None, features, search, CLASSIFICATION)

    def _measure_baselines(self, winner: BackboneProbe, chosen: Any) -> list[Any]:
        search = search_cut(self.take(self.found.random), CLASSIFICATION)
        scores = winner.compare({RAW: self.found.raw[self.rows]})
        scores[RANDOM] = search.scores[search.choice.best]
        own = winner.search.scores[chosen.name]
        return [measure_gain(name, baseline, own) for name, baseline in scores.items()]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--only", default="", help="measure only what has a name that contains this")
    options = parser.parse_args()
    use_work_folder(options.work)
    folder = options.work / "advise"
    folder.mkdir(exist_ok=True)
    jobs: dict[str, Callable[[], Any]] = {
        **{
            f"drop, {name}, {size}": lambda name=name, size=size, n_draws=n_draws: measure_drops(
                options, name, size, n_draws
            )
            for name, (sizes, n_draws) in SIMILAR_SETS.items()
            for size in sizes
        },
        **{
            f"gain, {name}, {size}": lambda name=name, size=size, n_draws=n_draws: measure_gains(
                options, name, size, n_draws
            )
            for name, (sizes, n_draws) in SIZES.items()
            for size in sizes
        },
        **{f"case, {name}": lambda name=name: measure_case(options, name) for name in CASES},
    }
    for name, measure in jobs.items():
        path = folder / f"{name}.json"
        if options.only in name and not path.is_file():
            path.write_text(json.dumps(measure()), encoding="utf-8")
            print(f"{name}: measured", flush=True)
    paths = {name: folder / f"{name}.json" for name in jobs}
    results = {name: json.loads(path.read_text("utf-8")) for name, path in paths.items() if path.is_file()}
    if len(results) < len(jobs):
        print(f"not yet measured: {', '.join(name for name in jobs if name not in results)}")
        return
    write_section("Advice", describe(results), options.page)


def collect_named(options: argparse.Namespace, name: str) -> tuple[Collected, np.ndarray]:
    """Return the features of all items of a set, and their labels."""
    task = tasks(options)[name]
    items, labels = task.items()
    folder = options.work / "layer-choice"
    folder.mkdir(exist_ok=True)
    return collect(name, task, items, folder), np.unique(np.asarray(labels), return_inverse=True)[1]


def measure_drops(options: argparse.Namespace, name: str, size: int, n_draws: int) -> list[dict[str, Any]]:
    """Measure how much worse the last layer is than the best, in draws of some items."""
    found, labels = collect_named(options, name)
    measured = []
    for seed in range(n_draws):
        rows = np.random.default_rng(seed).permutation(len(labels))[:size]
        similarity = measure_similarity(DrawnProbe(baselines=False).fit_rows(found, labels, rows))
        measured.append({"size": size, "drop": similarity.drop, "error": similarity.drop_error})
        print(name, measured[-1], flush=True)
    return measured


def measure_gains(options: argparse.Namespace, name: str, size: int, n_draws: int) -> list[dict[str, Any]]:
    """Predict what twice the items bring, and measure it; features are those of the last layer."""
    if name == "Banking77":
        features = banking77_minilm(options.data, options.work)
        X, y, fixed_test = features.X, features.y, (features.X_test, features.y_test)
    else:
        found, y = collect_named(options, name)
        X, fixed_test = found.matrices[found.own[-1].columns[0]], None
    measured = []
    for seed in range(n_draws):
        order = np.random.default_rng(seed).permutation(len(y))
        X_test, y_test = fixed_test or (X[order[2 * size :]], y[order[2 * size :]])
        half, everything = order[:size], order[: 2 * size]
        heads = [resolve_head(CURVE_HEAD).fit(X[rows], y[rows]) for rows in (half, everything)]
        scores = [head.score(X_test, y_test) for head in heads]
        curve = draw_learning_curve(X[half], np.unique(y[half], return_inverse=True)[1], None)
        facts = {"slope": curve.slope.gain, "predicted": curve.predict_gain(size).gain}
        facts["measured"] = scores[1] - scores[0]
        measured.append({"size": size, "of_class": size / len(np.unique(y))} | facts)
        print(name, measured[-1], flush=True)
    return measured


def measure_case(options: argparse.Namespace, name: str) -> list[dict[str, Any]]:
    """Return what is advised in each draw."""
    data, per_class, _ = CASES[name]
    found, labels = collect_named(options, data)
    measured = []
    for seed in range(DRAWS):
        advice = advise(DrawnProbe().fit_rows(found, labels, draw_rows(labels, per_class, seed)))
        measured.append(advice.to_dict())
        print(name, advice, flush=True)
    return measured


def describe(results: dict[str, Any]) -> str:
    drops = {name: join(results, f"drop, {name}, ") for name in SIMILAR_SETS}
    gains = {name: join(results, f"gain, {name}, ") for name in SIZES}
    cases = {name: results[f"case, {name}"] for name in CASES}
    return TEMPLATE.format(
        draws=DRAWS,
        cases=table(CASE_COLUMNS, [describe_case(name, draws) for name, draws in cases.items()]),
        drops=table(["", *(f"{errors:g} x error" for errors in ERRORS)], describe_drops(drops)),
        gains=table(GAIN_COLUMNS, [row for name, draws in gains.items() for row in describe_gains(name, draws)]),
        wrong=table(["", *(f"{100 * gain:g} points" for gain in GAINS)], describe_wrong(gains)),
        max_drop=100 * MAX_DROP,
        errors=ERRORS_OF_DROP,
        large_gain=100 * LARGE_GAIN,
        large_class=LARGE_CLASS,
    )


def join(results: dict[str, Any], prefix: str) -> list[dict[str, Any]]:
    """Return the draws of all sizes."""
    return [draw for name, draws in results.items() if name.startswith(prefix) for draw in draws]


CASE_COLUMNS = (
    *("data", "case", "right", "of these certain", "wrong", "of these certain"),
    *("drop to the last layer", "twice as many would add", "over random", "over raw"),
)


def describe_case(name: str, draws: list[dict[str, Any]]) -> list[str]:
    """Return in how many draws the case is right, and the measurements in their mean."""
    expected = list(CASES[name][-1])
    right = [draw for draw in draws if draw["case"] == expected]
    wrong = [draw for draw in draws if draw["case"] != expected]
    counts = [str(count) for part in (right, wrong) for count in (len(part), sum(draw["certain"] for draw in part))]
    drops = [100 * draw["similarity"]["drop"] for draw in draws]
    slopes = [100 * draw["size"]["slope"]["gain"] for draw in draws]
    gains = [np.mean([100 * draw["similarity"][f"gain_over_{key}"] for draw in draws]) for key in ("random", "raw")]
    ranges = [f"{min(values):.1f} to {max(values):.1f}" for values in (drops, slopes)]
    return [name, ", ".join(expected), *counts, *ranges, *(f"{gain:+.1f}" for gain in gains)]


def describe_drops(drops: dict[str, list[dict[str, Any]]]) -> list[list[str]]:
    """Return in how many draws a set that is similar is called different, by thresholds."""
    draws = [draw for of_set in drops.values() for draw in of_set]
    rows = []
    for most in DROPS:
        wrong = [sum(draw["drop"] > max(most, errors * draw["error"]) for draw in draws) for errors in ERRORS]
        rows.append([f"{100 * most:g} points", *(f"{count} of {len(draws)}" for count in wrong)])
    return rows


GAIN_COLUMNS = ("data", "items", "a class", "measured", "predicted", "slope of the curve")


def describe_gains(name: str, draws: list[dict[str, Any]]) -> list[list[str]]:
    """Return what twice the items brought, and what was predicted, in the mean of draws."""
    rows = []
    for size in dict.fromkeys(draw["size"] for draw in draws):
        own = [draw for draw in draws if draw["size"] == size]
        measured = np.array([draw["measured"] for draw in own])
        mean, error = find_mean(measured)
        means = [np.mean([draw[key] for draw in own]) for key in ("predicted", "slope")]
        cells = [f"{100 * mean:.1f} ± {100 * error:.1f}", *(f"{100 * value:.1f}" for value in means)]
        rows.append([name, f"{size:,}", f"{own[0]['of_class']:.0f}", *cells])
    return rows


def find_mean(values: np.ndarray) -> tuple[float, float]:
    """Return the mean of draws and its standard error."""
    return float(values.mean()), float(values.std(ddof=1) / len(values) ** 0.5)


def describe_wrong(gains: dict[str, list[dict[str, Any]]]) -> list[list[str]]:
    """Return in how many draws a set is called large though twice the items brought a point or more, by thresholds."""
    helped = []
    for draws in gains.values():
        for size in dict.fromkeys(draw["size"] for draw in draws):
            own = [draw for draw in draws if draw["size"] == size]
            mean, error = find_mean(np.array([draw["measured"] for draw in own]))
            if mean - error >= POINT:
                helped += own
    rows = []
    for of_class in CLASSES:
        wrong = [sum(one["of_class"] >= of_class and one["predicted"] < gain for one in helped) for gain in GAINS]
        rows.append([f"{of_class} a class", *(f"{count} of {len(helped)}" for count in wrong)])
    return rows


TEMPLATE = """`python benchmarks/advise.py`: the case that `topwork advise` names in each of {draws} draws.
CIFAR-10 with ResNet-20 of CIFAR-10 is like what the backbone was trained on, digits with `topwork:tiny` are not.
*Certain* is what the advice calls so. Drops and gains are in points of accuracy: lowest and highest of the
draws, or the mean.

{cases}

The thresholds were chosen on Banking77 with MiniLM and hymenoptera with MobileNetV2 0.35 alone.

*Similarity.* Both sets are like what their backbone was trained on. The last layer may be worse than the best other one
by {max_drop:g} points, or by {errors:g} standard errors of the paired difference: the smallest number of the table with
which no draw is called different. With it any number of points is right on these sets, so they do not decide between
those; {max_drop:g} was kept. Draws of both sets, of several sizes, that are called different:

{drops}

*Size.* What twice the items bring was measured by a logistic regression on the features of the last layer, trained on
some items and on twice as many, and judged by others. The prediction is the power law of the error, from learning
curves of the smaller half; the last column is the slope of these curves over their last two doublings.

{gains}

Where each class has {large_class} items or more, the predictions are within a point of the measurements on both sets,
but not below, so no data set is called large that has fewer. Where twice the items brought more than a point, by more
than the standard error, a set is not large. Draws in which it is called so, by the threshold of the predicted gain and
by items a class; {large_gain:g} point is used, the largest threshold with no more wrong draws than a smaller one:

{wrong}
"""


if __name__ == "__main__":
    main()
