"""The four cases of transfer learning in one table: frozen features, and what training more layers gains.

``python benchmarks/four_cases.py`` trains, for each task and seed, a head on frozen features, the layers above the cut
that topwork chooses, the whole network from cached pixels, the network without its late layers, and the whole network
in plain PyTorch with as many epochs. Accuracies are those of items that took part in nothing. Each run is kept in
``four_cases.jsonl``, so that an interrupted one goes on; the table is a section of ``docs/layer-choice.md``.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import topwork
import torch
from contest import arguments, use_work_folder
from data_sets import unpacked
from layer_choice import FOUR_CASES, PAGE, Task, draw_rows, keep_section, tasks
from page import machine, table
from topwork.extract.graphs.pooling import name_pooled
from topwork.models.torchvision_operators import ensure_torchvision_operators
from topwork.pipelines.finetuning.training_parameters import AUTOMATIC_RATES
from torch import nn
from trained_cases import cifar_network, in_folders

RESULTS = Path(__file__).with_suffix(".jsonl")
EPOCHS = 20
BATCH_SIZE = 64
LEARNING_RATES = AUTOMATIC_RATES["adamw"]
"""Those that topwork chooses from by default; plain PyTorch is measured with each."""
ALL_OF_CIFAR = "CIFAR-10, 50,000"
FEWER_EPOCHS = {ALL_OF_CIFAR: 4, "Banking77": 6}
NAMED = {
    ALL_OF_CIFAR: {"from_layer": "layer1", "learning_rate": LEARNING_RATES[-1]},
    "Banking77": {"from_layer": "encoder.layer.3", "learning_rate": LEARNING_RATES[0]},
}
"""What is not compared, as that takes too long."""
SEEDS = 5
LATE_LAYERS = {"digits": "layer2", "CIFAR-10": "layer2", "hymenoptera": "blocks.5", "Banking77": "encoder.layer.3"}
"""The last layer that is kept where late ones are removed."""


def main() -> None:
    parser = arguments(__doc__)
    parser.set_defaults(page=PAGE)
    parser.add_argument("--only", default="", help="measure only these tasks, separated by semicolons")
    parser.add_argument("--ways", default=";".join(WAYS), help="measure only these ways, separated by semicolons")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="number of seeds")
    options = parser.parse_args()
    use_work_folder(options.work)
    ensure_torchvision_operators()
    known = read_results()
    chosen = list_tasks(options)
    if options.only:
        chosen = {name: chosen[name] for name in options.only.split(";")}
    for seed, (name, task) in itertools.product(range(options.seeds), chosen.items()):
        missing = [way for way in options.ways.split(";") if (name, way, seed) not in known]
        if missing:
            items, labels = task.items()
            labels = np.unique(np.asarray(labels), return_inverse=True)[1]
        for way in missing:
            measure(name, way, seed, task, items, labels)
    keep_section(options.page, FOUR_CASES, describe(read_results(), list_tasks(options)))


def list_tasks(options: argparse.Namespace) -> dict[str, Task]:
    """Return the tasks of the comparison of layers, and all of CIFAR-10."""
    data, work = options.data, options.work

    def everything() -> tuple[Sequence[Any], Sequence[Any]]:
        (train, y_train), (test, y_test) = (
            in_folders(unpacked(data / f"cifar10-{name}.tar.gz", work) / name, None) for name in ("train", "test")
        )
        return [*train, *test], [*y_train, *y_test]

    network = partial(cifar_network, data, "exact")
    return {**tasks(options), ALL_OF_CIFAR: Task(network, everything, 50_000, 10_000, is_divided=True)}


def measure(name: str, way: str, seed: int, task: Task, items: Sequence[Any], labels: np.ndarray) -> None:
    """Train in one way on the rows of a seed, and append the accuracy on others."""
    train, test = draw_rows(task, labels, seed)
    given = [items[row] for row in train]
    started = time.perf_counter()
    predict, facts = WAYS[way](name, task.backbone(), given, labels[train], seed)
    seconds = time.perf_counter() - started
    accuracy = float(np.mean(predict([items[row] for row in test]) == labels[test]))
    result = {"task": name, "way": way, "seed": seed, "accuracy": accuracy, "seconds": round(seconds, 1), **facts}
    print(json.dumps(result), flush=True)
    with RESULTS.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(result) + "\n")


Trained = tuple[Callable[[Sequence[Any]], np.ndarray], dict[str, Any]]
"""A function that predicts the classes of items, and facts about the training."""


def train_head(name: str, backbone: Any, items: Sequence[Any], labels: np.ndarray, seed: int) -> Trained:
    """Train the default head on the features that ``layer="auto"`` takes."""
    classifier = topwork.TransferClassifier(backbone, layer="auto", precision="fp32", cv=0, on_error="record")
    classifier.fit(items, labels)
    advice = topwork.advise(items, labels, backbone, on_error="record")
    return classifier.predict, {"layer": classifier.search_.chosen.name, "advice": "; ".join(advice.case)}


def finetune(name: str, backbone: Any, items: Sequence[Any], labels: np.ndarray, seed: int, **options: Any) -> Trained:
    """Train layers with topwork."""
    classifier = topwork.FineTunedClassifier(
        backbone,
        epochs=FEWER_EPOCHS.get(name, EPOCHS),
        batch_size=BATCH_SIZE,
        precision="fp32",
        on_error="record",
        random_state=seed,
        device="cpu",
        **{**NAMED.get(name, {}), **options},
    ).fit(items, labels)
    comparison = classifier.comparison_
    gain = None if comparison is None else [comparison.gain, comparison.standard_error]
    return classifier.predict, {
        "layer": classifier.from_layer_,
        "to": name_pooled(classifier.to_, classifier.pool_),
        "rate": classifier.learning_rate_,
        "gain": gain,
        "epochs": len(classifier.history_),
    }


def finetune_above(name: str, backbone: Any, items: Sequence[Any], labels: np.ndarray, seed: int) -> Trained:
    """Train the layers above the cut that topwork chooses."""
    return finetune(name, backbone, items, labels, seed)


def finetune_whole(name: str, backbone: Any, items: Sequence[Any], labels: np.ndarray, seed: int) -> Trained:
    """Train the whole network from cached pixels; texts have no such cut, and are trained above their first layer."""
    is_text = isinstance(items[0], str)
    return finetune(name, backbone, items, labels, seed, from_layer="encoder.layer.0" if is_text else "input")


def finetune_shortened(name: str, backbone: Any, items: Sequence[Any], labels: np.ndarray, seed: int) -> Trained:
    """Remove late layers, and train what is left above the cut that topwork chooses."""
    to = LATE_LAYERS[name.partition(",")[0]]
    if isinstance(items[0], str):
        return finetune(name, backbone, items, labels, seed, to=to, from_layer="encoder.layer.0")
    return finetune(name, backbone, items, labels, seed, to=to, pool="avg2x2")


def train_in_pytorch(
    name: str, backbone: Any, items: Sequence[Any], labels: np.ndarray, seed: int, rate: float
) -> Trained:
    """Train the whole network and a new head in plain PyTorch: AdamW, cosine, BatchNorm frozen, no augmentation."""
    torch.manual_seed(seed)
    extractor = topwork.Extractor(backbone, precision="fp32", provider="cpu")  # prepares the items, and nothing else
    module = copy.deepcopy(backbone.module).requires_grad_(True).train()
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.eval()
    prepare = make_preparation(backbone, extractor)
    width = int(extractor.fit(None).columns[0].width)
    network = nn.ModuleDict({"body": module, "head": nn.Linear(width, int(labels.max()) + 1)})
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.05)
    epochs = FEWER_EPOCHS.get(name, EPOCHS)
    n_steps = epochs * -(-len(items) // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, n_steps, pct_start=0.1)
    for _ in range(epochs):
        for index in np.array_split(np.random.default_rng(seed).permutation(len(items)), n_steps // epochs):
            outputs = network["head"](prepare(network["body"], [items[row] for row in index]))
            loss = nn.functional.cross_entropy(outputs, torch.from_numpy(labels[index]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()

    def predict(others: Sequence[Any]) -> np.ndarray:
        network.eval()
        with torch.no_grad():
            parts = [
                network["head"](prepare(network["body"], others[start : start + BATCH_SIZE])).argmax(1)
                for start in range(0, len(others), BATCH_SIZE)
            ]
        return torch.cat(parts).numpy()

    return predict, {}


def make_preparation(backbone: Any, extractor: topwork.Extractor) -> Callable[[nn.Module, Sequence[Any]], torch.Tensor]:
    """Return a function that computes the features of items with a module, gradients included."""
    from finetuning import TokenRows, compute_resnet20

    pixels = topwork.Extractor(backbone, layer="input", pool="none", precision="fp32", provider="cpu")
    cache: dict[int, torch.Tensor] = {}

    def read(items: Sequence[Any]) -> torch.Tensor:
        new = [item for item in items if id(item) not in cache]
        if new:
            size = backbone.input_spec.size
            values = pixels.fit_transform(new).reshape(len(new), 3, *size)
            cache.update(zip(map(id, new), torch.from_numpy(values), strict=True))
        return torch.stack([cache[id(item)] for item in items])

    def prepare(module: nn.Module, items: Sequence[Any]) -> torch.Tensor:
        if isinstance(items[0], str):
            rows = TokenRows(items).read(np.arange(len(items)))
            return module(*map(torch.from_numpy, rows))
        if hasattr(module, "linear"):
            return compute_resnet20(module, [read(items)])
        if hasattr(module, "fc"):
            return module.pool(module.layer3(module.layer2(module.layer1(module.stem(read(items)))))).flatten(1)
        return module(read(items))

    return prepare


WAYS: dict[str, Callable[..., Trained]] = {
    "frozen": train_head,
    "above": finetune_above,
    "whole": finetune_whole,
    "shortened": finetune_shortened,
    **{f"pytorch, {rate:g}": partial(train_in_pytorch, rate=rate) for rate in LEARNING_RATES},
}
HEADINGS = {
    "frozen": "frozen features",
    "above": "layers above the cut",
    "whole": "whole network",
    "shortened": "late layers removed",
    **{f"pytorch, {rate:g}": f"whole, plain PyTorch, {rate:g}" for rate in LEARNING_RATES},
}


def read_results() -> dict[tuple[str, str, int], dict[str, Any]]:
    """Return the runs that are known, by task, way and seed."""
    lines = RESULTS.read_text(encoding="utf-8").splitlines() if RESULTS.is_file() else []
    found = [json.loads(line) for line in lines]
    return {(result["task"], result["way"], result["seed"]): result for result in found}


def describe(results: dict[tuple[str, str, int], dict[str, Any]], known: dict[str, Task]) -> str:
    """Return the section: a row for each task, with means over the seeds and their number."""
    rows = []
    for name in known:
        cells = []
        for way in WAYS:
            scores = [found["accuracy"] for (task, one, _), found in results.items() if (task, one) == (name, way)]
            cells.append(describe_scores(scores))
        advice = sorted(
            {found["advice"] for (task, _, _), found in results.items() if task == name and "advice" in found}
        )
        if any(cells):
            rows.append([name, ", ".join(advice), *cells])
    low, high = LEARNING_RATES
    intro = (
        "`python benchmarks/four_cases.py`: accuracy on items that took part in nothing, mean and standard deviation "
        "over seeds (their number in brackets; a single one has no deviation). *Frozen features* are those of the "
        f'layer and pooling that `layer="auto"` takes. Layers are trained with {EPOCHS} epochs of AdamW. topwork '
        f"chooses the cut, the layer and pooling of the head, and between the learning rates {low:g} and {high:g}, by "
        "rows of its own. Where that takes too long, cut and rate are named, and there are fewer epochs: `layer1`, "
        f"0.001 and {FEWER_EPOCHS[ALL_OF_CIFAR]} for {ALL_OF_CIFAR}, `encoder.layer.3`, 0.0001 and "
        f"{FEWER_EPOCHS['Banking77']} for Banking77. The *whole* network of texts is trained above its first layer. "
        "Plain PyTorch, on all rows, with a head on the last layer, has a column for each rate. Where late layers are "
        "removed, the head sits on a layer that is named, of images pooled over a grid of 2 x 2. "
        f"*Advice* is what `topwork advise` said beforehand. On {machine()}."
    )
    return f"{intro}\n\n{table(['data', 'advice', *HEADINGS.values()], rows)}"


def describe_scores(scores: Sequence[float]) -> str:
    """Return mean, standard deviation and number of scores."""
    if not scores:
        return ""
    deviation = f" ± {np.std(scores, ddof=1):.3f}" if len(scores) > 1 else ""
    return f"{np.mean(scores):.3f}{deviation} ({len(scores)})"


if __name__ == "__main__":
    main()
