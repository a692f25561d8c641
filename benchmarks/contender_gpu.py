"""Contenders of the GPU's benchmark, each in a process of its own: PyTorch, the parts of a job, heads, certificates."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import itertools
import json
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import topwork
import torch
from topwork.errors import TopworkError
from topwork.hardware import available_cores
from torch import Tensor, nn

MIN_SECONDS = 1.0
"""Seconds for which the device infers at least, if it is measured alone."""
CS = np.logspace(-6, 0, 10)
FOLDS = 5
TEST_ROWS = 10_000
ROWS_AT_ONCE = 2**16
LBFGS_OPTIONS = {"max_iter": 200, "history_size": 10, "tolerance_change": 1e-5, "line_search_fn": "strong_wolfe"}
TOKENS_OF_MAP = 197
WIDTH_OF_MAP = 768
CLASSES_OF_HEADS = 100


def main() -> None:
    options = parsed()
    warnings.simplefilter("ignore")  # of a provider that is passed over
    print(json.dumps(CONTENDERS[options.contender](options)))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("contender", choices=CONTENDERS)
    parser.add_argument("--source", type=Path, help="a folder of JPEG files, or a table with a column text")
    parser.add_argument("--backbone")
    parser.add_argument("--weights")
    parser.add_argument("--provider", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--device", default="cpu", help="torch's")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[32])
    parser.add_argument("--features", type=Path, help="where the features are put, for comparison")
    parser.add_argument("--normalize", action="store_true")
    parser.add_argument("--who", choices=SWEEPS, default="topwork")
    parser.add_argument("--dtype", choices=("float16", "float32"), default="float32")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--map-rows", type=int, default=64)
    parser.add_argument("--columns", type=int, default=64)
    parser.add_argument("--classes", type=int, default=10)
    return parser.parse_args()


# The job's parts.


def measure_parts(options: argparse.Namespace) -> dict[str, Any]:
    """Measure decoding on all cores and inference on the device, each alone; what cannot be measured is named."""
    from topwork.extract.engine.engine import decode_items
    from topwork.extract.preprocess.by_kind import preprocessor_for
    from topwork.extract.sources.opening import open_source

    # Decode.
    backbone = topwork.load_backbone(options.backbone, weights=options.weights)
    preprocessor = preprocessor_for(backbone.input_spec)
    items = list(open_source(make_source(options), kind=backbone.input_spec.kind))
    step = preprocessor.items_per_call
    chunks = [items[first : first + step] for first in range(0, len(items), step)]
    started = time.perf_counter()
    with ThreadPoolExecutor(available_cores()) as pool:
        decoded = [each for chunk in pool.map(decode_items, chunks, itertools.repeat(preprocessor)) for each in chunk]
    seconds = time.perf_counter() - started
    found: dict[str, Any] = {"seconds": seconds, "items": len(items), "decoding": len(items) / seconds}

    # Infer.
    prepared = [each.prepared for each in decoded if each.prepared is not None]
    try:
        return {**found, **measure_device(prepared, options), "missing": ""}
    except (TopworkError, ImportError) as error:
        return {**found, "missing": " ".join(f"{error}".split())[:200]}


def measure_device(prepared: Sequence[Any], options: argparse.Namespace) -> dict[str, Any]:
    """Export the graph, choose its precision, and measure inference in the best of some batch sizes."""
    started = time.perf_counter()
    extractor = make_extractor(options).fit(make_source(options))
    session = extractor.graph.open(options.provider)
    preparation = time.perf_counter() - started
    rates = {size: measure_inference(prepared, session, extractor.preprocessor, size) for size in options.batch_sizes}
    size = max(rates, key=rates.__getitem__)
    return {"device": rates[size], "batch_size": size, "preparation": preparation}


def make_source(options: argparse.Namespace) -> Any:
    is_text = options.source.suffix == ".csv"
    return topwork.Table(options.source, text="text") if is_text else str(options.source)


def make_extractor(options: argparse.Namespace) -> topwork.Extractor:
    backbone = topwork.BackboneSpec(options.backbone, options.weights)
    return topwork.Extractor(
        backbone, precision=options.precision, provider=options.provider, normalize=options.normalize
    )


def measure_inference(prepared: Sequence[Any], session: Any, preprocessor: Any, size: int) -> float:
    """Return the items per second of a session in batches of one size."""
    from topwork.extract.engine.batching import BatchSizes
    from topwork.extract.engine.engine import infer

    some, sizes, n_items = prepared[: 4 * size], BatchSizes(size), 0
    infer(some[:size], session, preprocessor, sizes)
    started = time.perf_counter()
    while time.perf_counter() - started < MIN_SECONDS:
        infer(some, session, preprocessor, sizes)
        n_items += len(some)
    return n_items / (time.perf_counter() - started)


# PyTorch.


@dataclass(frozen=True)
class TorchWay:
    """How PyTorch embeds a kind of items: what its workers make of them, and what the device makes of a batch."""

    items: Sequence[Any]
    order: Sequence[int]
    """The places of the items in the source."""
    load: Callable[[Any], Any]
    collate: Callable[[list[Any]], Any]
    embed: Callable[..., Tensor]


def embed_with_torch(options: argparse.Namespace) -> dict[str, Any]:
    """Time a ``DataLoader`` with a worker per core and pinned memory, in front of a compiled network in float16."""
    from torch.utils.data import DataLoader

    device, (size, *_) = torch.device(options.device), options.batch_sizes
    way = (make_text_way if options.source.suffix == ".csv" else make_image_way)(options, device)
    with torch.inference_mode():
        first = move(way.collate([way.load(item) for item in way.items[:size]]), device)
        last = move(way.collate([way.load(item) for item in way.items[-size:]]), device)
        for batch in (first, last, first, last):  # compiles
            way.embed(*batch)
        rate = measure_network(way.embed, first, device)
        loader = DataLoader(
            Loaded(way), size, num_workers=available_cores(), pin_memory=device.type == "cuda", collate_fn=way.collate
        )
        batches = iter(loader)  # starts the workers
        started = time.perf_counter()
        found = [way.embed(*move(batch, device)) for batch in batches]
        features = torch.cat(found).float().cpu().numpy()
        seconds = time.perf_counter() - started
    if options.features:
        np.save(options.features, features[np.argsort(way.order)])
    return {"seconds": seconds, "items": len(features), "device": rate, "batch_size": size}


class Loaded(torch.utils.data.Dataset[Any]):
    """Items as the workers load them."""

    def __init__(self, way: TorchWay) -> None:
        self.way = way

    def __len__(self) -> int:
        return len(self.way.items)

    def __getitem__(self, place: int) -> Any:
        return self.way.load(self.way.items[place])


def make_image_way(options: argparse.Namespace, device: torch.device) -> TorchWay:
    """Return torchvision's transform, and the network; pixels are normalised on the device."""
    from PIL import Image
    from topwork.models.torchvision_operators import ensure_torchvision_operators

    ensure_torchvision_operators()
    from torchvision import transforms

    backbone = topwork.load_backbone(options.backbone, weights=options.weights)
    spec = backbone.input_spec
    transform = transforms.Compose(
        [
            transforms.Resize(spec.resize, transforms.InterpolationMode(spec.interpolation)),
            transforms.CenterCrop(spec.size),
            transforms.PILToTensor(),
        ]
    )
    module = remove_classifier(backbone)
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    module = module.to(device, dtype, memory_format=torch.channels_last)
    mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) * 255 for values in (spec.mean, spec.std))

    def embed(pixels: Tensor) -> Tensor:
        normalised = (pixels.float() - mean) / std
        features: Tensor = module(normalised.to(dtype, memory_format=torch.channels_last))
        return features

    def load(path: Path) -> Tensor:
        with Image.open(path) as image:
            pixels: Tensor = transform(image.convert("RGB"))
        return pixels

    items = sorted(options.source.glob("*.jpg"))
    return TorchWay(
        items=items,
        order=range(len(items)),
        load=load,
        collate=lambda loaded: (torch.stack(loaded),),
        embed=compiled(embed, device, dynamic=False),
    )


def remove_classifier(backbone: Any) -> nn.Module:
    """Return the module without its classifier, with which it ends."""
    module: nn.Module = backbone.module
    if backbone.classifier:
        module.set_submodule(backbone.classifier, nn.Identity())
    return module


def make_text_way(options: argparse.Namespace, device: torch.device) -> TorchWay:
    """Return the tokeniser and the network of a folder of transformers, with the mean over tokens; long texts last."""
    from topwork.models.torchvision_operators import ensure_torchvision_operators

    ensure_torchvision_operators()  # transformers imports torchvision
    from transformers import AutoModel, AutoTokenizer

    folder = options.backbone.partition(":")[2]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    module = AutoModel.from_pretrained(folder).eval().to(device, dtype)

    def embed(tokens: Tensor, mask: Tensor) -> Tensor:
        states = module(input_ids=tokens, attention_mask=mask).last_hidden_state
        weights = mask[..., None].to(states.dtype)
        mean = (states * weights).sum(1) / weights.sum(1)
        return nn.functional.normalize(mean.float(), dim=1)

    def collate(texts: list[str]) -> Any:
        encoded = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        return encoded["input_ids"], encoded["attention_mask"]

    with options.source.open(encoding="utf-8", newline="") as stream:
        texts = [row["text"] for row in csv.DictReader(stream)]
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    return TorchWay(
        items=[texts[place] for place in order],
        order=order,
        load=str,
        collate=collate,
        embed=compiled(embed, device, dynamic=True),
    )


def compiled(embed: Callable[..., Tensor], device: torch.device, dynamic: bool) -> Callable[..., Tensor]:
    """Compile for a GPU; on the processor, where this is a test, it would take longer than everything else."""
    return torch.compile(embed, dynamic=dynamic) if device.type == "cuda" else embed


def move(batch: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    return [tensor.to(device, non_blocking=True) for tensor in batch]


def measure_network(embed: Callable[..., Tensor], batch: Sequence[Tensor], device: torch.device) -> float:
    """Return the items per second of a network on a batch that is on the device."""
    started, n_items = time.perf_counter(), 0
    while time.perf_counter() - started < MIN_SECONDS:
        embed(*batch)
        wait(device)
        n_items += len(batch[0])
    return n_items / (time.perf_counter() - started)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


# Heads.


def sweep(options: argparse.Namespace) -> dict[str, Any]:
    """Time ten penalties with five folds on drawn features, and judge the chosen one."""
    from sklearn.datasets import load_iris
    from sklearn.model_selection import StratifiedKFold

    X, y = draw_features(options, options.rows + TEST_ROWS)
    train, test = slice(options.rows), slice(options.rows, None)
    folds = list(StratifiedKFold(FOLDS).split(np.zeros(options.rows), y[train]))
    iris, species = load_iris(return_X_y=True)
    some = list(StratifiedKFold(FOLDS).split(iris, species))
    SWEEPS[options.who](iris.astype(np.float32), species, some, CS[:2], options.device)  # loads the libraries
    started = time.perf_counter()
    found, predict = SWEEPS[options.who](X[train], y[train], folds, CS, options.device)
    wait(torch.device(options.device))
    seconds = time.perf_counter() - started
    accuracy = float((predict(X[test]) == y[test]).mean())
    return {"seconds": seconds, "items": options.rows, "accuracy": accuracy, **found}


def draw_features(options: argparse.Namespace, n_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw features as ``feature_sets.synthetic`` does, on the device: clouds around centres in few directions."""
    device = options.device
    generator = torch.Generator(device).manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device)

    n_directions = min(options.columns, 64)
    directions = draw(n_directions, options.columns) / n_directions**0.5
    centres = 0.5 * draw(options.classes, n_directions)
    y = torch.randint(options.classes, (n_rows,), generator=generator, device=device)
    X = np.empty((n_rows, options.columns), options.dtype)
    for first in range(0, n_rows, ROWS_AT_ONCE):
        labels = y[first : first + ROWS_AT_ONCE]
        hidden = centres[labels] + draw(len(labels), n_directions)
        rows = hidden @ directions + 0.3 * draw(len(labels), options.columns)
        X[first : first + ROWS_AT_ONCE] = rows.to(getattr(torch, options.dtype)).cpu().numpy()
    return X, y.cpu().numpy()


Sweep = tuple[dict[str, Any], Callable[[np.ndarray], np.ndarray]]


def sweep_topwork(X: np.ndarray, y: np.ndarray, folds: Sequence[Any], Cs: np.ndarray, device: str) -> Sweep:
    from topwork.heads.linear.linear_probe import LinearProbeCV

    probe = LinearProbeCV(Cs, cv=folds, device=device).fit(X, y)
    losses = probe.cv_results_["mean_loss"]
    found = {"C": probe.C_, "loss": float(np.nanmin(losses)), "penalties": int(np.isfinite(losses).sum())}
    return found, probe.predict


def sweep_torch(X: np.ndarray, y: np.ndarray, folds: Sequence[Any], Cs: np.ndarray, device: str) -> Sweep:
    """Fit each penalty in each fold with ``torch.optim.LBFGS``, from the weights of the penalty before."""
    features, labels = torch.from_numpy(X).to(device).float(), torch.from_numpy(y).to(device)
    mean, scale = features.mean(0), features.std(0, correction=0)
    features = (features - mean) / scale
    losses, scores = (np.empty((len(Cs), len(folds))) for _ in range(2))
    for number, (train, held) in enumerate(folds):
        rows, held_rows = torch.from_numpy(train).to(device), torch.from_numpy(held).to(device)
        x, target, held_x, held_target = features[rows], labels[rows], features[held_rows], labels[held_rows]
        weights = make_weights(features, labels)
        for place, C in enumerate(Cs):
            fit_torch(weights, x, target, C)
            with torch.no_grad():
                logits = torch.addmm(weights[1], held_x, weights[0])
                losses[place, number] = nn.functional.cross_entropy(logits, held_target).item()
                scores[place, number] = (logits.argmax(1) == held_target).float().mean().item()
    best = int(scores.mean(1).argmax())
    weights = make_weights(features, labels)
    fit_torch(weights, features, labels, Cs[best])
    matrix, bias = (tensor.detach() for tensor in weights)

    def predict(rows: np.ndarray) -> np.ndarray:
        x = (torch.from_numpy(rows).to(device).float() - mean) / scale
        return torch.addmm(bias, x, matrix).argmax(1).cpu().numpy()

    found = {"C": float(Cs[best]), "loss": float(losses.mean(1).min()), "penalties": len(Cs)}
    return found, predict


def make_weights(features: Tensor, labels: Tensor) -> list[Tensor]:
    n_classes = int(labels.max()) + 1
    return [features.new_zeros(size, requires_grad=True) for size in ((features.shape[1], n_classes), (n_classes,))]


def fit_torch(weights: list[Tensor], x: Tensor, target: Tensor, C: float) -> None:
    """Minimise the mean loss and the penalty."""
    optimizer = torch.optim.LBFGS(weights, **LBFGS_OPTIONS)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(torch.addmm(weights[1], x, weights[0]), target)
        loss = loss + weights[0].square().sum() / (2 * C * len(x))
        loss.backward()
        return loss

    optimizer.step(closure)


SWEEPS = {"topwork": sweep_topwork, "torch": sweep_torch}


def train_heads(options: argparse.Namespace) -> dict[str, Any]:
    """Time an epoch of a perceptron on features, and one of fine-tuning the last block of a ViT-B from maps."""
    from topwork.heads.mlp.mlp_head import MLPHead

    X, y = draw_features(options, options.rows)
    seconds = {}
    for epochs in (1, 3):  # the first fit loads the libraries
        started = time.perf_counter()
        MLPHead(epochs=epochs, early_stopping=False, random_state=0, device=options.device).fit(X, y)
        seconds[epochs] = time.perf_counter() - started
    started = time.perf_counter()
    tuned = tune_last_block(options)
    found = {"perceptron": 3 * len(X) / seconds[3], "finetuning": tuned}
    return {**found, "seconds": seconds[3] + time.perf_counter() - started, "items": len(X)}


@dataclass(frozen=True)
class Maps:
    """Maps in memory, with labels."""

    maps: np.ndarray
    target: np.ndarray
    rows_of_block: int = 1

    @property
    def weight(self) -> np.ndarray:
        """Return the same weight for each row."""
        return np.ones(len(self.maps), np.float32)

    def __len__(self) -> int:
        return len(self.maps)

    def read(self, rows: np.ndarray) -> list[np.ndarray]:
        """Return the maps of some rows."""
        return [self.maps[rows]]


class LastBlock(nn.Module):
    """A block of a transformer, and a head on the mean of its tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.TransformerEncoderLayer(
            WIDTH_OF_MAP, nhead=12, dim_feedforward=4 * WIDTH_OF_MAP, dropout=0.0, batch_first=True, norm_first=True
        )
        self.head = nn.Linear(WIDTH_OF_MAP, CLASSES_OF_HEADS)

    def forward(self, maps: Tensor) -> Tensor:
        """Return the logits ``(batch, classes)`` of maps ``(batch, tokens, width)``."""
        outputs: Tensor = self.head(self.block(maps.float()).mean(1))
        return outputs


def tune_last_block(options: argparse.Namespace) -> float:
    """Return the rows per second of the second epoch."""
    from topwork.heads.module_training.options import ModuleTrainingOptions
    from topwork.heads.module_training.trainer import ModuleTrainer

    generator = np.random.default_rng(0)
    maps = generator.standard_normal((options.map_rows, TOKENS_OF_MAP, WIDTH_OF_MAP), np.float32).astype(np.float16)
    rows = Maps(maps, generator.integers(0, CLASSES_OF_HEADS, len(maps)))
    torch.manual_seed(0)
    trainer = ModuleTrainer(LastBlock(), rows, None, ModuleTrainingOptions(epochs=2, device=options.device))
    epochs: Iterator[Any] = trainer.run()
    next(epochs)
    wait(trainer.device)
    started = time.perf_counter()
    next(epochs)
    wait(trainer.device)
    return len(rows) / (time.perf_counter() - started)


# Certificates.


class Disturbed:
    """A runtime that computes other features than the graph: the first feature of every item is replaced."""

    def __init__(self, runtime: Any) -> None:
        self.runtime = runtime

    def get_inputs(self) -> list[Any]:
        """Return the graph's inputs."""
        inputs: list[Any] = self.runtime.get_inputs()
        return inputs

    def run(self, names: None, feed: Any) -> list[Any]:
        """Compute wrong features."""
        outputs = [np.array(output) for output in self.runtime.run(names, feed)]
        for output in outputs:
            output[:, : output.shape[1] // 2] *= -1
        return outputs


def certify(options: argparse.Namespace) -> dict[str, Any]:
    """Measure a provider in a precision by its canaries, and check that one that computes other features is refused."""
    started = time.perf_counter()
    graph = make_extractor(options).fit(None).graph
    session = graph.open(options.provider)
    measured = [
        measurement
        for measurement in graph.certificate.measurements
        if measurement.provider == session.provider and measurement.precision == session.precision
    ]
    wrong = dataclasses.replace(session, runtime=Disturbed(session.runtime))
    try:
        graph._provider_check.check(wrong)
        refused = ""
    except TopworkError as error:
        refused = type(error).__name__
    worst = max(measured, key=lambda measurement: measurement.relative_l2)
    return {
        "seconds": time.perf_counter() - started,
        "items": 0,
        "provider": session.provider,
        "precision": session.precision,
        "error": worst.relative_l2,
        "limit": worst.limit,
        "refused": refused,
    }


CONTENDERS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "parts": measure_parts,
    "torch": embed_with_torch,
    "sweep": sweep,
    "heads": train_heads,
    "certificate": certify,
}

if __name__ == "__main__":
    main()
