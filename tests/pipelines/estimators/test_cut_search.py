"""The search for layer and pooling: by features at hand, and as ``layer="auto"`` of estimators."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.base import clone
from sklearn.datasets import load_digits
from topwork import FeatureStore, TransferClassifier, TransferRegressor, load
from topwork.errors import InputError
from topwork.extract.graphs.exported_graph import ExportedGraph
from topwork.heads.registry import CLASSIFICATION
from topwork.pipelines.estimators.cut_search import Candidate, Features, search_cut

Array = NDArray[Any]


@pytest.fixture(scope="module")
def digits() -> tuple[list[Array], Array]:
    """Return ten images of each digit, then 20 others of each, as images of 32 pixels."""
    given = load_digits()
    rows = np.concatenate([np.flatnonzero(given.target == label)[:30] for label in range(10)])
    rows = rows.reshape(10, 30)
    rows = np.concatenate([rows[:, :10].ravel(), rows[:, 10:].ravel()])
    images = [Image.fromarray((given.images[row] / 16 * 255).astype(np.uint8)).resize((32, 32)) for row in rows]
    return [np.asarray(image.convert("RGB")) for image in images], given.target[rows]


@pytest.fixture(scope="module")
def fitted(digits: tuple[list[Array], Array], graph_cache: Path) -> TransferClassifier:
    images, labels = digits
    return TransferClassifier(layer="auto", head="logreg", cv=0).fit(images[:100], labels[:100])


def test_middle_layer_is_chosen_where_the_task_is_unlike_the_training(
    fitted: TransferClassifier, digits: tuple[list[Array], Array]
) -> None:
    images, labels = digits
    assert fitted.search_.chosen.depth < 1.0
    assert fitted.extractor_.layer == fitted.search_.chosen.layers
    last = TransferClassifier(head="logreg", cv=0).fit(images[:100], labels[:100])
    score = fitted.score(images[100:], labels[100:])
    assert score > last.score(images[100:], labels[100:]) + 0.05
    low, high = fitted.search_.interval
    assert low < score < high
    assert fitted.layer == "auto"
    assert clone(fitted).layer == "auto"


def test_bundle_has_the_layer_that_was_chosen(
    fitted: TransferClassifier, digits: tuple[list[Array], Array], tmp_path: Path
) -> None:
    images, _ = digits
    fitted.save(tmp_path / "bundle")
    loaded = load(tmp_path / "bundle")
    assert tuple(loaded.layer) == fitted.search_.chosen.layers
    np.testing.assert_array_equal(loaded.predict(images[:30]), fitted.predict(images[:30]))


def test_new_store_gets_the_chosen_column_and_a_given_one_is_searched(
    fitted: TransferClassifier, digits: tuple[list[Array], Array], tmp_path: Path
) -> None:
    images, labels = digits
    images, labels = images[:100], labels[:100]
    classifier = clone(fitted).set_params(store=tmp_path / "store").fit(images, labels)
    store = FeatureStore.open(tmp_path / "store")
    assert tuple(column.layer for column in store.columns) == fitted.search_.chosen.layers
    again = clone(classifier).fit(images, labels)
    assert again.search_.chosen.columns == tuple(column.name for column in store.columns)
    store.set_labels(dict(zip(store.ids, labels.tolist(), strict=True)))
    from_store = TransferClassifier.from_store(store, layer="auto", head="logreg", cv=0).fit(store)
    np.testing.assert_array_equal(from_store.predict(images), again.predict(images))


def test_store_of_several_layers_is_searched_without_its_backbone(
    graph: ExportedGraph, paths: list[Path], names: NDArray[np.str_], tmp_path: Path
) -> None:
    TransferClassifier(graph, ["layer1", "layer2", "layer3"], store=tmp_path / "store", cv=0).fit(paths, names)
    store = FeatureStore.open(tmp_path / "store")
    values = np.arange(len(paths), dtype=float)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        regressor = TransferRegressor.from_store(store, layer="auto", cv=0).fit(store, values)
    assert set(regressor.search_.scores) >= {"layer1 (avg)", "layer2 (avg)", "layer3 (avg)"}
    assert set(regressor.search_.chosen.layers) <= {"layer1", "layer2", "layer3"}


def test_poolings_and_concatenations_of_the_best_layers_are_compared() -> None:
    generator = np.random.default_rng(0)
    targets = np.repeat(np.arange(4), 50)
    halves = np.stack([targets % 2, targets // 2], axis=1) + generator.normal(0, 0.2, (200, 2))
    noise = generator.normal(size=(200, 2))
    matrices = {"a": halves[:, :1], "b": halves[:, 1:], "c": noise, "a.max": noise, "b.max": noise, "c.max": noise}
    candidates = [
        Candidate((name[0],), "max" if name.endswith("max") else "auto", (name,), 1, "abc".index(name[0]) / 2)
        for name in matrices
    ]
    found = search_cut(Features(matrices, targets, None, candidates), CLASSIFICATION)
    assert found.chosen.layers == ("a", "b")
    assert found.chosen.name == "a + b"
    assert found.chosen.cost == (0.5, 2)
    assert {"a (max)", "b (max)"} <= set(found.scores)
    assert found.score > 0.9
    with pytest.raises(InputError, match="no layer to compare"):
        search_cut(Features({}, targets, None), CLASSIFICATION)


def test_unsuitable_head_is_named_before_anything_is_computed() -> None:
    with pytest.raises(InputError, match="head 'svn' does not exist"):
        TransferClassifier("nowhere:net", layer="auto", head="svn").fit([], [])


def test_rows_of_a_held_out_split_choose_nothing(
    digits: tuple[list[Array], Array], tmp_path: Path, graph_cache: Path
) -> None:
    images, labels = digits
    for number, (image, label) in enumerate(zip(images[:100], labels[:100].tolist(), strict=True)):
        split = "val" if number % 5 == 0 else "train"
        path = tmp_path / "digits" / split / str(label) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    classifier = TransferClassifier(layer="auto", head="logreg", cv=0).fit(tmp_path / "digits")
    assert classifier.search_.n_items == 80
    assert classifier.left_out_ == {"val": 20}
