"""What ``auto`` chooses, compared with an exhaustive search over providers, precisions and batch sizes.

``auto`` chooses as in a long job: the precision on 256 items (`choose_precision`), provider and batch size on the first
items (`measure_tuning`). The search computes the same items with every provider in every precision whose features are
close enough, in batches of several sizes, and with one batch at a time or one for each core. All of them are timed by
turns, inference alone.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import topwork
from contest import arguments, use_work_folder
from data_sets import banking77, hymenoptera, minilm
from page import table, write_section
from topwork.extract.engine.batching import DEFAULT_BATCH_SIZES, BatchSizes
from topwork.extract.engine.engine import infer
from topwork.extract.engine.run_config import RunConfig
from topwork.extract.engine.sampling import draw_items
from topwork.extract.engine.tuning import Bench, Tuning, measure_tuning
from topwork.extract.graphs.exported_graph import ExportedGraph
from topwork.extract.graphs.fidelity import MAX_JUDGED_ITEMS, Fidelity
from topwork.extract.precision.choice import choose_precision, find_candidates
from topwork.extract.precision.lowered import locate_lowered_graph
from topwork.extract.precision.trial import CALIBRATION_ITEMS, Trial
from topwork.extract.preprocess.by_kind import preprocessor_for
from topwork.extract.preprocess.preprocessor import Preprocessor
from topwork.extract.runtime.session import Session
from topwork.extract.sources.opening import open_source
from topwork.hardware import available_cores
from trained_cases import cifar_network, efficientnet_lite, in_folders, mobilenet

LONG = 10**7
"""Items of the job that ``auto`` chooses for."""
TIMED = 128
"""Items that are timed."""
FACTORS = (1 / 4, 1 / 2, 1, 2)
"""Multiples of the default batch size."""
SLACK = 0.6
"""Share of the best speed in a first round below which a configuration is not timed again."""
GOAL = 0.95


class Configuration(NamedTuple):
    """One way to compute a network."""

    provider: str
    precision: str
    tuning: Tuning

    def __str__(self) -> str:
        sizes = self.tuning.sizes
        at_a_time = f"{self.tuning.runs} at a time"
        return f"{self.precision.partition(':')[0]}, {self.provider}, batches of {sizes.batch_size}, {at_a_time}"


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--networks", default="", help="only networks whose name contains this")
    options = parser.parse_args()
    use_work_folder(options.work)
    warnings.simplefilter("ignore")
    rows = []
    for name, load in networks(options).items():
        if options.networks in name:
            rows.append([name, *compare(name, load(), items_of(name, options), options.repeats)])
    columns = ["network", "`auto` takes", "the fastest that is close enough", "ways", "share of its speed", "at least"]
    text = TEMPLATE.format(rows=table(columns, rows), repeats=options.repeats)
    write_section("What auto chooses", text, options.page, ("timm",))


def networks(options: argparse.Namespace) -> dict[str, Callable[[], topwork.Backbone]]:
    """Return eight networks: four with trained weights, the others of timm with random ones."""
    random = partial(topwork.load_backbone, weights="random")
    return {
        "MobileNetV2 0.35": lambda: mobilenet(options.data, "exact"),
        "ResNet-20": lambda: cifar_network(options.data, "exact"),
        "EfficientNet-Lite0": lambda: efficientnet_lite(0, "exact"),
        "MiniLM": lambda: topwork.load_backbone(f"hf:{minilm()}"),
        "ResNet-50 (random)": lambda: random("timm:resnet50"),
        "ViT-S/16 (random)": lambda: random("timm:vit_small_patch16_224"),
        "MobileNetV3-Large (random)": lambda: random("timm:mobilenetv3_large_100"),
        "ConvNeXt-Tiny (random)": lambda: random("timm:convnext_tiny"),
    }


def items_of(name: str, options: argparse.Namespace) -> Sequence[Any]:
    """Return texts, or photographs."""
    if name == "MiniLM":
        return banking77(options.data, "train", 2000)[0]
    return in_folders(hymenoptera(options.data, options.work) / "train", None)[0]


def compare(name: str, backbone: topwork.Backbone, items: Sequence[Any], repeats: int) -> list[Any]:
    """Return what ``auto`` takes, what the fastest is, of how many, and the share of its speed."""
    extractor = topwork.Extractor(backbone, precision="fp32").fit(items)
    graph, preprocessor = extractor.graph, extractor.preprocessor
    draw = partial(draw_items, items, max_pixels=extractor.max_pixels)
    started = time.perf_counter()
    chosen = choose_precision(graph, RunConfig(), draw, n_items=LONG)
    bench = Bench(chosen, "auto", preprocessor_for(graph.input_spec, extractor.max_pixels))
    source = open_source(items, kind=graph.input_spec.kind)
    tuning = measure_tuning(bench, source, LONG)
    assert tuning is not None
    taken = Configuration(bench.open_session(tuning.runs).provider, chosen.metadata.precision, tuning)
    print(f"{name}: auto takes {taken} after {time.perf_counter() - started:.1f} s", file=sys.stderr, flush=True)

    prepared = [ways[0] for ways in draw([graph.input_spec], MAX_JUDGED_ITEMS + CALIBRATION_ITEMS)]
    sessions = {(found.provider, found.precision): found for found in judge_all(graph, prepared) if found.passes}
    ways = {taken: bench.open_session(tuning.runs)}
    for provider, precision in sessions:
        for runs in sorted({1, available_cores()}):
            session = locate_lowered_graph(graph, precision).open(provider, runs)
            for factor in FACTORS:
                way = Configuration(provider, precision, Tuning(scale(factor), runs))
                ways.setdefault(way, session)
    timed = prepared[: TIMED * (8 if preprocessor.spec.lengths_vary else 1)]
    seconds: dict[Configuration, list[float]] = {way: [] for way in ways}
    for round_ in range(repeats + 1):
        best = min((min(found) for found in seconds.values() if found), default=0.0)
        for way, session in ways.items():
            if round_ and way != taken and min(seconds[way]) * SLACK > best:
                continue
            if not round_:
                infer(timed[: way.tuning.sizes.batch_size * way.tuning.runs], session, preprocessor, way.tuning.sizes)
            began = time.perf_counter()
            infer(timed, session, preprocessor, way.tuning.sizes)
            seconds[way].append(time.perf_counter() - began)
    medians = {way: statistics.median(found) for way, found in seconds.items() if len(found) > 1}
    fastest = min(medians, key=medians.__getitem__)
    share = duel(ways, timed, preprocessor, fastest, taken, repeats + 2)
    print(f"{name}: fastest {fastest}, share {share:.3f}", file=sys.stderr, flush=True)
    return [taken, fastest, len(ways), f"{share:.2f}", GOAL]


def duel(
    ways: Mapping[Configuration, Session],
    timed: Sequence[Any],
    preprocessor: Preprocessor,
    fastest: Configuration,
    taken: Configuration,
    rounds: int,
) -> float:
    """Return the speed of one way, of another's: measured anew, as the fastest of many noisy times is too short."""
    seconds: dict[Configuration, list[float]] = {fastest: [], taken: []}
    for _ in range(rounds):
        for way, found in seconds.items():
            began = time.perf_counter()
            infer(timed, ways[way], preprocessor, way.tuning.sizes)
            found.append(time.perf_counter() - began)
    return statistics.median(seconds[fastest]) / statistics.median(seconds[taken])


def judge_all(graph: ExportedGraph, prepared: Sequence[Any]) -> list[Fidelity]:
    """Judge every precision on every provider, int8 in blocks even where something else passes, and float32."""
    judging, calibrating = prepared[:MAX_JUDGED_ITEMS], prepared[-CALIBRATION_ITEMS:]
    trial = Trial(graph, "auto", judging, judging, calibrating, is_automatic=True)
    found = [fidelity for family in [*find_candidates("auto"), "fp32"] for fidelity in trial.judge(family)]
    return [*found, *trial.judge_products()]


def scale(factor: float) -> BatchSizes:
    """Return the default batch sizes, multiplied."""
    tokens = DEFAULT_BATCH_SIZES.tokens or 0
    return replace(
        DEFAULT_BATCH_SIZES,
        batch_size=round(factor * DEFAULT_BATCH_SIZES.batch_size),
        tokens=round(factor * tokens),
    )


TEMPLATE = """`fastest.py`: what `auto` chooses in a long job on photographs or texts, and the fastest of all ways whose
features are close enough: each provider in each precision (int8 in blocks, too), in batches of a quarter to twice
the default size, one or two at a time. Inference alone; medians of {repeats} rounds after a first, by turns. The share
is the speed of the choice divided by that of the fastest, both measured anew in two rounds more.

{rows}
"""

if __name__ == "__main__":
    main()
