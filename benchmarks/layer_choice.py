"""How good the layer is that a probe chooses: compared with every fixed layer, raw inputs and random weights.

Every draw trains on other items, and all accuracies are those of items that neither chose nor trained.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import topwork
from contest import arguments, use_work_folder
from data_sets import banking77, hymenoptera, minilm, unpacked
from familiar import digit_images
from page import machine, table
from scipy.stats import weightedtau
from sklearn.datasets import load_digits
from topwork.heads.registry import CLASSIFICATION, DEFAULT, resolve_head
from topwork.pipelines.estimators.candidate_features import open_candidates, split_columns
from topwork.pipelines.estimators.cut_search import Features, search_cut
from topwork.pipelines.selection.raw_inputs import describe_inputs
from trained_cases import cifar_network, in_folders, mobilenet

PAGE = Path(__file__).resolve().parent.parent / "docs" / "layer-choice.md"
DRAWS = 5
FOUR_CASES = "## The four cases"
"""Heading of the section that `four_cases.py` measures."""
SCORES = ("logme", "h_score", "regularised_h_score", "transrate", "neighbor_score", "effective_rank")


@dataclass(frozen=True)
class Task:
    """Items with labels, a backbone, and how many items a draw trains on; `n_test` others are predicted.

    `per_class` draws so many of each class; with `is_divided` the first items are those to train on.
    """

    backbone: Callable[..., topwork.Backbone]
    items: Callable[[], tuple[Sequence[Any], Sequence[Any]]]
    n_train: int
    n_test: int
    per_class: int | None = None
    is_divided: bool = False


def tasks(options: argparse.Namespace) -> dict[str, Task]:
    """Return the tasks by name."""
    data, work = options.data, options.work
    digits = partial(topwork.load_backbone, "topwork:tiny")
    return {
        "digits, 10 of each": Task(digits, lambda: (digit_images(), load_digits().target), 100, 1697, per_class=10),
        "digits": Task(digits, lambda: (digit_images(), load_digits().target), 900, 897),
        "CIFAR-10": Task(
            lambda **kwargs: cifar_network(data, "exact"),
            lambda: in_folders(unpacked(data / "cifar10-test.tar.gz", work) / "test", 4000),
            2000,
            2000,
        ),
        "hymenoptera": Task(lambda **kwargs: mobilenet(data, "exact"), lambda: both_splits(data, work), 244, 153),
        "Banking77": Task(
            partial(topwork.load_backbone, f"hf:{minilm()}"), lambda: banking77(data, "train", 5000), 2500, 2500
        ),
    }


def both_splits(data: Path, work: Path) -> tuple[Sequence[Any], Sequence[Any]]:
    folder = hymenoptera(data, work)
    (train, y_train), (val, y_val) = (in_folders(folder / name, None) for name in ("train", "val"))
    return [*train, *val], [*y_train, *y_val]


def main() -> None:
    parser = arguments(__doc__)
    parser.set_defaults(page=PAGE)
    parser.add_argument("--only", default="", help="measure only tasks whose name contains this")
    parser.add_argument("--costs", action="store_true", help="measure what a choice costs as well, on quiet cores")
    options = parser.parse_args()
    use_work_folder(options.work)
    folder = options.work / "layer-choice"
    folder.mkdir(exist_ok=True)
    for name, task in tasks(options).items():
        if options.only in name:
            measure_task(name, task, folder, with_costs=options.costs)
    write_page(options.page, {name: read_result(folder, name) for name in tasks(options)})


def read_result(folder: Path, name: str) -> dict[str, Any]:
    path = folder / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def measure_task(name: str, task: Task, folder: Path, *, with_costs: bool) -> None:
    """Measure a task and keep what was found; features that were computed before are read."""
    result = read_result(folder, name)
    items, labels = task.items()
    labels = np.unique(np.asarray(labels), return_inverse=True)[1]
    if "draws" not in result:
        table_of = collect(name, task, items, folder)
        draws = [draw_rows(task, labels, seed) for seed in range(DRAWS)]
        result["draws"] = [asdict(judge(table_of, labels, train, test)) for train, test in draws]
        result["layers"] = [candidate.layers[0] for candidate in table_of.own]
        result["n_train"] = len(draws[0][0])
        result["depths"] = [candidate.depth for candidate in table_of.own]
    if with_costs:
        result["costs"] = measure_costs(task, items, labels)
    (folder / f"{name}.json").write_text(json.dumps(result), encoding="utf-8")


@dataclass
class Collected:
    """Features of all items: those of the candidates, of a network with random weights, and of no network."""

    matrices: dict[str, Any]
    random: dict[str, Any]
    raw: Any
    candidates: list[Any]

    @property
    def own(self) -> list[Any]:
        """The candidates with the model's own pooling."""
        return [candidate for candidate in self.candidates if candidate.pool == "auto"]


def collect(name: str, task: Task, items: Sequence[Any], folder: Path) -> Collected:
    backbone = task.backbone()
    extractor, candidates = open_candidates(
        backbone, None, None, "auto", normalize=False, precision="fp32", provider="auto", on_error="record"
    )
    path = folder / f"{name.partition(',')[0]}.npz"
    if not path.is_file():
        own = extractor.transform(items)
        untrained = topwork.Extractor(**extractor.get_params() | {"backbone": make_random(backbone)})
        source = extractor.open(items)
        raw = describe_inputs(source, extractor.graph.input_spec, 10**8)
        np.savez(path, own=own, random=untrained.transform(items), raw=raw)
        print(f"{name}: {own.shape} features", flush=True)
    found = np.load(path)
    matrices = split_columns(found["own"], extractor.columns)
    random = split_columns(found["random"], extractor.columns)
    return Collected(matrices, random, found["raw"], candidates)


def make_random(backbone: topwork.Backbone) -> Any:
    """Return the same network with random weights."""
    if backbone.spec is not None:
        from dataclasses import replace

        return replace(backbone.spec, weights="random", weights_key="")
    from resnet20 import resnet20

    return resnet20(None, "exact")


def draw_rows(task: Task, labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rows to train on, and others to predict."""
    if task.is_divided:
        return np.split(np.arange(len(labels)), [task.n_train])
    order = np.random.default_rng(seed).permutation(len(labels))
    if task.per_class is None:
        return order[: task.n_train], order[task.n_train :][: task.n_test]
    train = np.concatenate([order[labels[order] == label][: task.per_class] for label in np.unique(labels)])
    return train, np.setdiff1d(order, train)[: task.n_test]


@dataclass(frozen=True)
class Draw:
    """Accuracies on new items, in one draw; `layers` are those of each layer with the model's own pooling."""

    chosen: str
    best: str
    estimate: float
    low: float
    high: float
    auto: float
    layers: list[float]
    probed: list[float]
    raw: float
    random: float
    transferability: list[dict[str, float]]


def judge(found: Collected, labels: np.ndarray, train: np.ndarray, test: np.ndarray) -> Draw:
    """Choose by some rows, train on them, and predict others."""

    def score(matrix: np.ndarray) -> float:
        head = resolve_head(DEFAULT, CLASSIFICATION).fit(matrix[train], labels[train])
        return float((head.predict(matrix[test]) == labels[test]).mean())

    given = {name: matrix[train] for name, matrix in found.matrices.items()}
    features = Features(given, labels[train], None, found.candidates)
    search = search_cut(features, CLASSIFICATION)
    everything = Features(found.matrices, labels, None, found.candidates)
    untrained = Features({name: matrix[train] for name, matrix in found.random.items()}, labels[train], None)
    random_search = search_cut(Features(untrained.matrices, labels[train], None, found.candidates), CLASSIFICATION)
    random_everything = Features(found.random, labels, None, found.candidates)
    scores = [topwork.measure_transferability(features.join(candidate), labels[train]) for candidate in found.own]
    return Draw(
        chosen=search.chosen.name,
        best=search.choice.best,
        estimate=search.score,
        low=search.interval.low,
        high=search.interval.high,
        auto=score(everything.join(search.chosen)),
        layers=[score(everything.join(candidate)) for candidate in found.own],
        probed=[search.scores[candidate.name].score for candidate in found.own],
        raw=score(found.raw),
        random=score(random_everything.join(random_search.chosen)),
        transferability=[one.to_dict() for one in scores],
    )


def measure_costs(task: Task, items: Sequence[Any], labels: np.ndarray) -> dict[str, float]:
    """Return the seconds that a fit with a chosen layer takes, and the features of the deepest layer."""
    train, _ = draw_rows(task, labels, 0)
    chosen = [items[row] for row in train]
    backbone = task.backbone()
    extractor = topwork.Extractor(backbone, precision="fp32", on_error="record")
    extractor.transform(chosen[:64])
    started = time.perf_counter()
    extractor.transform(chosen)
    deepest = time.perf_counter() - started
    classifier = topwork.TransferClassifier(backbone, layer="auto", precision="fp32", cv=0, on_error="record")
    started = time.perf_counter()
    classifier.fit(chosen, labels[train])
    return {"deepest": deepest, "auto": time.perf_counter() - started}


def write_page(page: Path, results: dict[str, dict[str, Any]]) -> None:
    """Write what was found, with the curve of each data set."""
    done = {name: result for name, result in results.items() if result}
    draw_curves(done, page.with_suffix(".svg"))
    costs = [cost_row(name, result["n_train"], **result["costs"]) for name, result in done.items() if "costs" in result]
    text = TEMPLATE.format(
        draws=DRAWS,
        curves=page.with_suffix(".svg").name,
        rows=table(COLUMNS, [row_of(name, result["draws"], result["layers"]) for name, result in done.items()]),
        choices=table(
            ["data", "chosen in each draw"],
            [[name, "; ".join(draw["chosen"] for draw in result["draws"])] for name, result in done.items()],
        ),
        taus=table(["data", *SCORE_NAMES, "the probe's own"], tau_rows(done)),
        costs=table(COST_COLUMNS, costs) if costs else "Not measured yet: `--costs` does, on quiet cores.",
        machine=machine(),
    )
    kept = page.read_text(encoding="utf-8").partition(FOUR_CASES)[2] if page.is_file() else ""
    page.write_text(text + (f"\n{FOUR_CASES}{kept}" if kept else ""), encoding="utf-8")
    print(text)


def keep_section(page: Path, heading: str, body: str) -> None:
    """Replace the last section of the page, which another script measures."""
    before = page.read_text(encoding="utf-8").partition(heading)[0].rstrip()
    page.write_text(f"{before}\n\n{heading}\n\n{body}\n", encoding="utf-8")
    print(body)


def cost_row(name: str, n_items: int, *, deepest: float, auto: float) -> list[Any]:
    """Return what a choice costs beside the features of the deepest layer, and beside the promised limit."""
    return [name, n_items, f"{auto / deepest:.1f}", f"{auto / (2 * deepest + 60):.2f}"]


def draw_curves(results: dict[str, dict[str, Any]], path: Path) -> None:
    """Draw the accuracy on new items over depth: of each layer, the chosen features, raw inputs and random weights."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    pyplot.rcParams["svg.hashsalt"] = "topwork"
    figure, all_axes = pyplot.subplots(1, len(results), figsize=(3 * len(results), 3.2), layout="constrained")
    for axes, (name, result) in zip(np.atleast_1d(all_axes), results.items(), strict=True):
        draws = result["draws"]
        scores = np.array([draw["layers"] for draw in draws])
        axes.plot(result["depths"], scores.mean(axis=0), marker="o", label="one layer, own pooling")
        low, high = scores.min(axis=0), scores.max(axis=0)
        axes.fill_between(result["depths"], low, high, alpha=0.15, linewidth=0)
        chosen = np.mean([draw["auto"] for draw in draws])
        axes.axhline(chosen, color="#c2410c", label="chosen by the probe")
        for key, style in (("raw", "--"), ("random", ":")):
            axes.axhline(np.mean([draw[key] for draw in draws]), color="grey", linestyle=style, label=BASELINES[key])
        axes.set_title(name)
        axes.set_xlabel("share of computation")
    np.atleast_1d(all_axes)[0].set_ylabel("accuracy on new items")
    np.atleast_1d(all_axes)[-1].legend(loc="lower right", fontsize="small")
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


COST_COLUMNS = ["data", "items", "fit / features of the deepest layer", "fit / (twice these features + 60 s)"]
BASELINES = {"raw": "raw inputs", "random": "random weights"}
SCORE_NAMES = ("LogME", "H-score", "regularised H-score", "TransRate", "nearest neighbours", "effective rank")
TEMPLATE = """# Which layer

Written by `python benchmarks/layer_choice.py`. `topwork probe` and `layer="auto"` compare the layers of a backbone on
your own items. This page says how good their choice is, on data whose answer can be found exhaustively.

A network learns general features first and those of its own task last. Where a new task is like the one that the
network was trained on, the last layer is the best; where it is not, an earlier one is, and it costs less. Which of
these your task is cannot be read from its name: it is measured.

## How good the choice is

In each of {draws} draws other items are trained on, and all accuracies are those of items that took part in nothing:
neither the choice nor the training. *Chosen* are the features that `layer="auto"` takes, *best fixed layer* is the
layer with the highest mean accuracy on the new items, which nobody knows beforehand; both with the default head.
*Estimate* is what the probe promises of its choice, and the last column counts the draws in which the accuracy on new
items is inside the promised interval of 95 %. Of Banking77, with 32 items in each of 77 classes, it promises too
little: its heads train on four fifths of the items, and are simpler than the default one. The backbones are
`topwork:tiny` for digits, ResNet-20 of CIFAR-10, MobileNetV2 0.35 of ImageNet for hymenoptera, and MiniLM for
Banking77.

{rows}

![Accuracy on new items over the depth of the cut]({curves})

{choices}

## What predicts it without training a head

The weighted Kendall tau (Vigna 2015) of each score of transferability with the accuracy on new items, over the layers
with the backbone's own pooling, in the mean of the draws; 1 is the same order, 0 none. The last column is the probe's
cross-validation.

{taus}

## What it costs

The time of a fit with `layer="auto"`, everything included but the first export of the graphs, as a multiple of the
time that the features of the deepest layer of the same items take, and of what it may take: twice that and a minute. On
{machine}.

{costs}
"""
COLUMNS = ["data", "chosen", "best fixed layer", "last layer", "raw inputs", "random weights", "estimate", "inside"]


def row_of(name: str, draws: list[dict[str, Any]], layers: list[str]) -> list[str]:
    """Return a row of the table, with means over the draws."""
    means = np.mean([draw["layers"] for draw in draws], axis=0)
    best = int(means.argmax())
    mean = {key: np.mean([draw[key] for draw in draws]) for key in ("auto", "raw", "random", "estimate")}
    inside = sum(draw["low"] <= draw["auto"] <= draw["high"] for draw in draws)
    return [
        name,
        f"{mean['auto']:.3f}",
        f"{means[best]:.3f} ({layers[best]})",
        f"{means[-1]:.3f}",
        f"{mean['raw']:.3f}",
        f"{mean['random']:.3f}",
        f"{mean['estimate']:.3f}",
        f"{inside} of {len(draws)}",
    ]


def tau_rows(done: dict[str, dict[str, Any]]) -> list[list[str]]:
    """Return the weighted Kendall tau of each score with the accuracy, within each data set and in the mean."""
    rows = []
    values = []
    for name, result in done.items():
        taus = [
            np.mean(
                [
                    weightedtau([one[score] for one in draw["transferability"]], draw["layers"]).statistic
                    for draw in result["draws"]
                ]
            )
            for score in SCORES
        ]
        taus.append(np.mean([weightedtau(draw["probed"], draw["layers"]).statistic for draw in result["draws"]]))
        values.append(taus)
        rows.append([name, *(f"{tau:.2f}" for tau in taus)])
    return [*rows, ["mean", *(f"{tau:.2f}" for tau in np.mean(values, axis=0))]]


if __name__ == "__main__":
    main()
