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
LABELS_PER_CLASS = 10
N_DRAWS = 8
N_TRAINING_DIGITS = 1000
"""Digits in the folder ``train/``; the others were written by other people."""
MAX_PIXEL_VALUE = 16
"""Highest value of a pixel in scikit-learn's digits."""
N_REFITS = 3
FUSED_STEP = 18
"""Every 18th image is run through the fused file."""


@dataclass(frozen=True)
class Score:
    """Accuracy of a head on one kind of features, over several draws of the labelled items."""

    features: str
    width: int
    mean: float
    spread: float


@dataclass(frozen=True)
class Extraction:
    """A store of the digits' features, and the speed at which it was filled."""

    store: FeatureStore
    seconds: float
    images_per_second: float


def run_demo(folder: Path, say: Callable[[str], None]) -> None:
    """Run all steps of topwork once on scikit-learn's digits, without internet; `say` receives each line of the report.

    Every number in it is measured in this run. Images, stores, bundle and ONNX file are written to `folder`.
    """
    paths = write_digits(folder / "digits")
    say(
        f"1,797 digits as PNG files in {folder / 'digits'}; {LABELS_PER_CLASS} labels for each class, {N_DRAWS} draws, "
        f"head {HEAD}\n"
    )
    pretrained = extract_digits(folder, "pretrained", BackboneSpec("topwork:tiny"))
    untrained = extract_digits(folder, "random", BackboneSpec("topwork:tiny", weights="random"))
    say(
        f"one pass of topwork:tiny for three layers: {pretrained.seconds:.1f} s, "
        f"{pretrained.images_per_second:.0f} images/s\n"
    )

    best = compare_layers(paths, pretrained.store, untrained.store, say)
    use_layer(folder, pretrained, best, paths, say)


def write_digits(folder: Path) -> list[Path]:
    """Write the digits as PNG files, ``train/3/0012.png`` and ``test/3/1500.png``, to a new folder.

    Return their paths, in the order in which a source lists the files.
    """
    from PIL import Image
    from sklearn.datasets import load_digits

    data = load_digits()
    paths = []
    grey_images = (data.images * 255 / MAX_PIXEL_VALUE).round().astype(np.uint8)  # (n, 8, 8)
    for number, label in enumerate(data.target):
        split = "train" if number < N_TRAINING_DIGITS else "test"
        path = folder / split / str(label) / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(grey_images[number]).save(path)
        paths.append(path)
    return sorted(paths, key=lambda path: path.parts)


def extract_digits(folder: Path, name: str, spec: BackboneSpec) -> Extraction:
    """Extract the features of the digits in ``digits/`` into a new store ``features-{name}``."""
    extractor = Extractor(spec, LAYERS, POOL).fit(None)
    store = FeatureStore.create(folder / f"features-{name}", extractor)
    ledger = extract_features(folder / "digits", store)
    return Extraction(FeatureStore.open(store.path), ledger.seconds, ledger.items_per_second)


def compare_layers(
    paths: list[Path], pretrained: FeatureStore, untrained: FeatureStore, say: Callable[[str], None]
) -> str:
    """Score raw pixels and each layer with random and with pretrained weights, and return the best layer."""
    from sklearn.datasets import load_digits

    labels = np.array(pretrained.labels)
    numbers = [int(path.stem) for path in paths]
    pixels = load_digits().data[numbers].astype(np.float32)  # (n, 64)
    scores = [score_features("raw pixels", pixels, labels)]
    scores += score_layers(untrained, labels, prefix="random ")
    layer_scores = score_layers(pretrained, labels)
    say(format_scores(scores + layer_scores))
    best = max(layer_scores, key=lambda score: score.mean)
    note = ""
    if best is not layer_scores[-1]:
        note = ": the deepest is not the best for a task so unlike the backbone's own"
    say(f"\nBest layer: {best.features}{note}.\n")
    return best.features


def score_layers(store: FeatureStore, labels: NDArray[Any], prefix: str = "") -> list[Score]:
    """Score each layer of a store."""
    return [score_features(f"{prefix}{layer}", np.asarray(store.matrix(layer)), labels) for layer in LAYERS]


def score_features(name: str, features: NDArray[np.float32], labels: NDArray[Any]) -> Score:
    """Fit the head on each draw of labelled items, and score it on all other items."""
    accuracies = []
    for is_labelled in draw_labelled(labels):
        head = resolve_head(HEAD).fit(features[is_labelled], labels[is_labelled])
        accuracies.append(head.score(features[~is_labelled], labels[~is_labelled]))
    return Score(
        features=name,
        width=features.shape[1],
        mean=float(np.mean(accuracies)),
        spread=float(np.std(accuracies)),
    )


def draw_labelled(labels: NDArray[Any]) -> Iterator[NDArray[np.bool_]]:
    """Yield masks of the labelled items: the same number of each class, drawn at random with a fixed seed."""
    generator = np.random.default_rng(0)
    for _ in range(N_DRAWS):
        is_labelled = np.zeros(len(labels), bool)
        is_labelled[draw_rows_of_each_class(labels, LABELS_PER_CLASS, generator)] = True
        yield is_labelled


def format_scores(scores: list[Score]) -> str:
    """Return scores as a table with one line for each kind of features."""
    lines = [f"{'features':14}{'width':>7}{'accuracy':>10}{'spread':>9}"]
    for score in scores:
        lines.append(f"{score.features:14}{score.width:>7}{score.mean:>10.3f}{score.spread:>9.3f}")
    return "\n".join(lines)


def use_layer(folder: Path, pretrained: Extraction, layer: str, paths: list[Path], say: Callable[[str], None]) -> None:
    """Train on one layer, save, refit from the cache, export, and run the exported file."""
    classifier = TransferClassifier.from_store(pretrained.store, layer, head=HEAD, cv=0).fit(pretrained.store)
    classifier.save(folder / "bundle")
    refit_seconds = statistics.median(time_refit(pretrained.store.path, layer) for _ in range(N_REFITS))
    say(
        f"Extracting took {pretrained.seconds:.2f} s; refitting all {len(paths):,} rows from the cache "
        f"{refit_seconds:.2f} s."
    )
    export_classifier(folder, classifier, paths[::FUSED_STEP], say)


def export_classifier(
    folder: Path, classifier: TransferClassifier, paths: list[Path], say: Callable[[str], None]
) -> None:
    """Write backbone and head as one file, and compare its labels with the classifier's on some images."""
    model = folder / "model.onnx"
    classifier.to_onnx(model)
    n_equal = count_equal_labels(model, classifier, paths)
    size = model.stat().st_size / 1e6
    say(f"Bundle in {folder / 'bundle'}; backbone and head as one file in {model} ({size:.1f} MB),")
    say(f"which run by ONNX Runtime alone gives the classifier's label on {n_equal} of {len(paths)} images.")


def time_refit(store: Path, layer: str) -> float:
    """Return the seconds to open a store and train a head, as a nightly job would."""
    started = time.perf_counter()
    opened = FeatureStore.open(store)
    TransferClassifier.from_store(opened, layer, head=HEAD, cv=0).fit(opened)
    return time.perf_counter() - started


def count_equal_labels(model: Path, classifier: TransferClassifier, paths: list[Path]) -> int:
    """Return the number of images for which a fused file and a classifier predict the same label."""
    preprocessor = classifier.extractor_.preprocessor
    arrays = [preprocessor.prepare(path.read_bytes()).array for path in paths]
    labels = open_session(model, "cpu").run(preprocessor.collate(arrays))[0]
    return int((np.asarray(labels) == classifier.predict(paths)).sum())
