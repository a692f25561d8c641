"""Held-out splits are never trained on unless they are asked for, and each is scored apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from topwork import Extractor, FeatureStore, TransferClassifier, extract_features
from topwork.errors import InputError
from topwork.pipelines.estimators.evaluation import evaluate

OPTIONS: dict[str, Any] = {"layer": "layer1", "head": "logreg", "cv": 0, "precision": "fp32", "provider": "cpu"}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten images to train on, six and four that are held out; the labels of the split "test" are exchanged."""
    import numpy as np
    from PIL import Image

    root = tmp_path_factory.mktemp("photos")
    colours = {"red": (220, 20, 20), "blue": (20, 20, 220)}
    exchanged = {"red": "blue", "blue": "red"}
    generator = np.random.default_rng(0)
    for split, count in {"train": 5, "val": 3, "test": 2}.items():
        for label, colour in colours.items():
            folder = root / split / (exchanged[label] if split == "test" else label)
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                noise = generator.integers(0, 30, (16, 16, 3))
                pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return root


@pytest.fixture(scope="module", params=["source", "store"])
def data(request: pytest.FixtureRequest, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    if request.param == "source":
        return str(photos)
    extractor = Extractor("topwork:tiny", layer="layer1", precision="fp32", provider="cpu")
    store = FeatureStore.create(tmp_path_factory.mktemp("store") / "features", extractor)
    extract_features(str(photos), store)
    return store


def test_fit_leaves_held_out_splits_out_and_says_so(data: Any) -> None:
    classifier = TransferClassifier("topwork:tiny", **OPTIONS).fit(data)
    assert classifier.n_rows_ == 10
    assert classifier.left_out_ == {"test": 4, "val": 6}


def test_fit_on_splits_that_are_named(data: Any) -> None:
    classifier = TransferClassifier("topwork:tiny", **OPTIONS)
    assert classifier.fit(data, split="validation").n_rows_ == 6
    assert classifier.fit(data, split=["train", "val"]).n_rows_ == 16
    with pytest.raises(InputError, match=r"'dev'.*test, train, val"):
        classifier.fit(data, split="dev")


def test_each_held_out_split_is_scored_apart(data: Any) -> None:
    classifier = TransferClassifier("topwork:tiny", **OPTIONS).fit(data)
    scores = evaluate(classifier, data)["splits"]
    assert {name: (part["accuracy"], part["n"]) for name, part in scores.items()} == {"test": (0.0, 4), "val": (1.0, 6)}
    assert evaluate(classifier, data, "val") == scores["val"]
    assert classifier.score(data, split="test") == 0.0
    assert classifier.score(data, split=["train", "val"]) == 1.0
    with pytest.raises(InputError, match=r"test, val.*split="):
        classifier.score(data)


def test_only_held_out_items_are_asked_about(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "test").symlink_to(photos / "val")
    classifier = TransferClassifier("topwork:tiny", **OPTIONS)
    with pytest.raises(InputError, match=r"test.*--split"):
        classifier.fit(str(tmp_path))
    assert classifier.fit(str(tmp_path), split="test").n_rows_ == 6


def test_labels_and_weights_are_given_for_all_items(data: Any) -> None:
    classifier = TransferClassifier("topwork:tiny", **OPTIONS)
    labels = ["x", "y"] * 10
    weights = [0.0] * 4 + [1.0] * 16
    assert classifier.fit(data, labels, sample_weight=weights).n_rows_ == 10
    assert set(classifier.classes_) == {"x", "y"}
    with pytest.raises(InputError, match="20 items"):
        classifier.fit(data, labels[:10])


def test_items_of_python_have_no_splits(write_images: Callable[..., Path]) -> None:
    root = write_images(each=2)
    paths = sorted(root.rglob("*.png"))
    classifier = TransferClassifier("topwork:tiny", **OPTIONS).fit(paths, [path.parent.name for path in paths])
    assert classifier.left_out_ == {}
    assert "splits" not in evaluate(classifier, str(root))
