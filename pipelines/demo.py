"""The demonstration: hand-written digits, ten labels for each class, and a backbone that has never seen a digit."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..extract.extractor.extractor import Extractor
from ..extract.jobs.job import extract_features
from ..extract.runtime.session import open_session
from ..extract.store.feature_store import FeatureStore
from ..heads.folds import draw_rows_of_each_class
from ..heads.registry import resolve_head
from ..models.loading import BackboneSpec
from .estimators.transfer_classifier import TransferClassifier

if TYPE_CHECKING:
    from numpy.typing import NDArray

LAYERS = ("layer1", "layer2", "layer3")
POOL = "avg2x2"
HEAD = "logreg"
SHOTS = 10
DRAWS = 8
TRAINING = 1000
"""Digits in the folder ``train/``; the others were written by other people."""


@dataclass(frozen=True)
class Score:
    """Accuracy of a head on one kind of features, over several draws of the labelled items."""

    features: str
    width: int
    mean: float
    spread: float


def run_demo(folder: Path, say: Callable[[str], None]) -> None:
    """Run the whole of topwork once, on scikit-learn's digits; needs no network.

    Parameters
    ----------
    folder : Path
        Where images, stores, bundle and ONNX file are written.
    say : callable
        Takes each line of the report. Every number in it is measured in this run.
    """
    digits = write_digits(folder / "digits")
    say(
        f"1,797 digits as PNG files in {folder / 'digits'}; {SHOTS} labels for each class, {DRAWS} draws, head {HEAD}\n"
    )
    pretrained = _store(folder, "pretrained", BackboneSpec("topwork:tiny"))
    untrained = _store(folder, "random", BackboneSpec("topwork:tiny", weights="random"))
    say(f"one pass of topwork:tiny for three layers: {pretrained.seconds:.1f} s, {pretrained.rate:.0f} images/s\n")
    scores = _scores(digits, pretrained.store, untrained.store)
    say(_table(scores))
    best = max(scores[-len(LAYERS) :], key=lambda score: score.mean)
    deeper = "" if best is scores[-1] else ": the deepest is not the best for a task so unlike the backbone's own"
    say(f"\nBest layer: {best.features}{deeper}.\n")
    _finish(folder, pretrained, best.features, [digit.path for digit in digits], say)


@dataclass(frozen=True)
class _Extraction:
    store: FeatureStore
    seconds: float
    rate: float


@dataclass(frozen=True)
class Digit:
    """One of scikit-learn's digits, and the file it was written to."""

    path: Path
    pixels: NDArray[np.float64]


def write_digits(folder: Path) -> list[Digit]:
    """Write the digits as PNG files, ``train/3/0012.png`` and ``test/3/1500.png``.

    Parameters
    ----------
    folder : Path
        Made here.

    Returns
    -------
    list of Digit
        In the order in which a source lists the files.
    """
    from PIL import Image
    from sklearn.datasets import load_digits

    data, digits = load_digits(), []
    for number, (pixels, label) in enumerate(zip(data.images, data.target, strict=True)):
        path = folder / ("train" if number < TRAINING else "test") / str(label) / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 255 / 16).round().astype(np.uint8)).save(path)
        digits.append(Digit(path, pixels.ravel()))
    return sorted(digits, key=lambda digit: digit.path.parts)


def _store(folder: Path, name: str, spec: BackboneSpec) -> _Extraction:
    extractor = Extractor(spec, LAYERS, POOL).fit(None)
    store = FeatureStore.create(folder / f"features-{name}", extractor)
    ledger = extract_features(folder / "digits", store)
    return _Extraction(FeatureStore.open(store.path), ledger.seconds, ledger.items_per_second)


def _scores(digits: list[Digit], pretrained: FeatureStore, untrained: FeatureStore) -> list[Score]:
    """Score raw pixels, the same network with random weights, and each layer, all on the same draws."""
    labels = np.array(pretrained.labels)
    pixels = np.stack([digit.pixels for digit in digits]).astype(np.float32)  # (n, 64)
    scores = [_score("raw pixels", pixels, labels)]
    scores += [_score(f"random {layer}", np.asarray(untrained.matrix(layer)), labels) for layer in LAYERS]
    return scores + [_score(layer, np.asarray(pretrained.matrix(layer)), labels) for layer in LAYERS]


def _score(name: str, features: NDArray[np.float32], labels: NDArray[Any]) -> Score:
    accuracies = [
        resolve_head(HEAD).fit(features[train], labels[train]).score(features[~train], labels[~train])
        for train in _draws(labels)
    ]
    return Score(name, features.shape[1], float(np.mean(accuracies)), float(np.std(accuracies)))


def _draws(labels: NDArray[Any]) -> Iterator[NDArray[np.bool_]]:
    """Yield masks of the labelled items: the same number of each class, drawn at random."""
    generator = np.random.default_rng(0)
    for _ in range(DRAWS):
        train = np.zeros(len(labels), bool)
        train[draw_rows_of_each_class(labels, SHOTS, generator)] = True
        yield train


def _table(scores: list[Score]) -> str:
    lines = [f"{'features':14}{'width':>7}{'accuracy':>10}{'spread':>9}"]
    lines += [f"{s.features:14}{s.width:>7}{s.mean:>10.3f}{s.spread:>9.3f}" for s in scores]
    return "\n".join(lines)


def _finish(folder: Path, pretrained: _Extraction, layer: str, paths: list[Path], say: Callable[[str], None]) -> None:
    """Fit on the best layer, save, refit from the cache, export, and run the exported file."""
    classifier = TransferClassifier.from_store(pretrained.store, layer, head=HEAD, cv=0).fit(pretrained.store)
    classifier.save(folder / "bundle")
    refit = statistics.median(_refit_seconds(pretrained.store.path, layer) for _ in range(3))
    say(f"Extracting took {pretrained.seconds:.2f} s; refitting all {len(paths):,} rows from the cache {refit:.2f} s.")
    classifier.to_onnx(folder / "model.onnx")
    agreeing, count = _run_fused(folder / "model.onnx", classifier, paths[::18])
    size = (folder / "model.onnx").stat().st_size / 1e6
    say(f"Bundle in {folder / 'bundle'}; backbone and head as one file in {folder / 'model.onnx'} ({size:.1f} MB),")
    say(f"which run by ONNX Runtime alone gives the classifier's label on {agreeing} of {count} images.")


def _refit_seconds(store: Path, layer: str) -> float:
    """Open the store and train a head, as a nightly job would."""
    started = time.perf_counter()
    opened = FeatureStore.open(store)
    TransferClassifier.from_store(opened, layer, head=HEAD, cv=0).fit(opened)
    return time.perf_counter() - started


def _run_fused(model: Path, classifier: TransferClassifier, paths: list[Path]) -> tuple[int, int]:
    """Run the fused file on some images and count the labels that agree."""
    preprocessor = classifier.extractor_.preprocessor
    feed = preprocessor.collate([preprocessor.prepare(path.read_bytes()).array for path in paths])
    found = open_session(model, "cpu").run(feed)[0]
    return int((np.asarray(found) == classifier.predict(paths)).sum()), len(paths)
