"""Searches for layers, poolings and parameters of heads with a store: the backbone runs once per image and layer."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from topwork import Extractor, FeatureStore, TransferClassifier, extract_features
from topwork.errors import IdentityError, InputError
from topwork.extract.engine import engine
from topwork.extract.graphs.exported_graph import ExportedGraph
from topwork.extract.store.lock import write_lock
from topwork.extract.store.log import Action
from topwork.hardware import INT8_SETS, instruction_sets
from topwork.heads.registry import resolve_head

pytestmark = pytest.mark.usefixtures("graph_cache")
LAYERS = ["layer1", "layer2", "layer3"]
THRESHOLDS = [None, 0.1, 0.2, 0.3, 0.4]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the images that the backbone computes in this process."""
    counted: Counter[str] = Counter()
    infer_batch = engine.infer_batch

    def count(arrays: Any, *others: Any) -> Any:
        counted["images"] += len(arrays)
        return infer_batch(arrays, *others)

    monkeypatch.setattr(engine, "infer_batch", count)
    return counted


@pytest.fixture(scope="module")
def flipped(names: NDArray[np.str_]) -> NDArray[np.str_]:
    """Return labels, some of them wrong, or every score would be 1."""
    return np.where(np.arange(len(names)) % 5 == 0, np.roll(names, 9), names)


def classifier(store: Path | None, **options: Any) -> TransferClassifier:
    return TransferClassifier("topwork:tiny", head="centroid", store=store, cv=0, **options)


@pytest.mark.parametrize(
    ("n_thresholds", "n_folds"), [(2, 2), pytest.param(5, 5, marks=pytest.mark.coverage)], ids=["small", "whole"]
)
def test_search_runs_the_backbone_once_for_each_layer_and_never_from_a_filled_store(
    n_thresholds: int,
    n_folds: int,
    paths: list[Path],
    flipped: NDArray[np.str_],
    runs: Counter[str],
    tmp_path: Path,
) -> None:
    grid = {"layer": LAYERS, "head_params": [{"shrink_threshold": value} for value in THRESHOLDS[:n_thresholds]]}

    def search() -> GridSearchCV:
        runs.clear()
        estimator = classifier(tmp_path / "store")
        return GridSearchCV(estimator, grid, cv=n_folds, error_score="raise").fit(paths, flipped)

    filling = search()
    assert runs["images"] == 3 * len(paths)
    filled = search()
    assert runs["images"] == 0
    assert filled.predict(paths).tolist() == filling.predict(paths).tolist()
    for key in ("mean_test_score", "split1_test_score"):
        np.testing.assert_array_equal(filled.cv_results_[key], filling.cv_results_[key])

    store = FeatureStore.open(tmp_path / "store")
    assert ([column.name for column in store.columns], store.n_rows, store.verify()) == (LAYERS, len(paths), [])
    assert dict(zip(store.ids, store.labels, strict=True)) == {
        path.as_posix(): label for path, label in zip(paths, flipped.tolist(), strict=True)
    }
    assert not store.state.fillings

    without = GridSearchCV(classifier(None, precision="fp32"), grid, cv=n_folds, error_score="raise").fit(
        paths, flipped
    )
    np.testing.assert_allclose(without.cv_results_["mean_test_score"], filled.cv_results_["mean_test_score"])


def test_workers_of_a_search_compute_each_image_once_for_each_layer(
    paths: list[Path], flipped: NDArray[np.str_], tmp_path: Path
) -> None:
    grid = {"layer": ["layer1", "layer3"], "pool": ["avg"], "head_params": [{}, {"shrink_threshold": 0.2}]}
    estimator = classifier(tmp_path / "store")
    parallel = GridSearchCV(estimator, grid, cv=2, n_jobs=2, error_score="raise").fit(paths, flipped)
    store = FeatureStore.open(tmp_path / "store")
    computed = Counter(
        {
            action: sum(entry.details["items"] for entry in store.log.history() if entry.action == action)
            for action in (Action.ADD_PART, Action.FILL_COLUMNS)
        }
    )
    assert computed == {Action.ADD_PART: len(paths), Action.FILL_COLUMNS: len(paths)}
    assert ({column.name for column in store.columns}, store.verify()) == ({"layer1", "layer3"}, [])
    serial = GridSearchCV(estimator, grid, cv=2, error_score="raise").fit(paths, flipped)
    np.testing.assert_array_equal(parallel.cv_results_["mean_test_score"], serial.cv_results_["mean_test_score"])


def test_predicted_items_are_kept_without_labels_and_views(
    paths: list[Path], names: NDArray[np.str_], runs: Counter[str], tmp_path: Path
) -> None:
    estimator = classifier(tmp_path / "store", views=1)
    estimator.set_params(layer="layer2").fit(paths[::2], names[::2])
    runs.clear()
    score = estimator.score(paths, names)
    assert runs["images"] == len(paths[1::2])
    predicted = estimator.predict(paths)
    assert (runs["images"], np.mean(predicted == names)) == (len(paths[1::2]), score)
    store = FeatureStore.open(tmp_path / "store")
    labels = dict(zip(store.groups, store.labels, strict=True))
    assert [labels[path.as_posix()] for path in paths[1::2]] == [None] * len(paths[1::2])
    assert (store.n_rows, store.verify()) == (2 * len(paths[::2]) + len(paths[1::2]), [])


def test_item_with_the_id_of_another_one_does_not_replace_it(
    paths: list[Path], names: NDArray[np.str_], tmp_path: Path
) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(paths[0].read_bytes())
    estimator = classifier(tmp_path / "store", layer="layer2").fit([path, *paths], [names[0], *names])
    before = np.array(FeatureStore.open(tmp_path / "store").matrix("layer2"))
    path.write_bytes(paths[-1].read_bytes())
    assert estimator.predict([path]).tolist() == [names[-1]]
    np.testing.assert_array_equal(FeatureStore.open(tmp_path / "store").matrix("layer2"), before)


def test_store_that_another_process_writes_to_is_only_read(
    paths: list[Path],
    names: NDArray[np.str_],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("topwork.pipelines.estimators.item_features.LOCK_PATIENCE_SECONDS", 0.1)
    estimator = classifier(tmp_path / "store", layer="layer2").fit(paths[::2], names[::2])
    with write_lock(tmp_path / "store"), pytest.warns(UserWarning, match="not kept in .*store"):
        assert estimator.predict(paths).tolist() == names.tolist()
    assert FeatureStore.open(tmp_path / "store").n_rows == len(paths[::2])


def test_folds_that_predict_use_the_store(
    paths: list[Path], names: NDArray[np.str_], runs: Counter[str], tmp_path: Path
) -> None:
    estimator = classifier(tmp_path / "store", layer="layer2")
    predicted = cross_val_predict(estimator, paths, names, cv=3)
    assert (runs["images"], np.mean(predicted == names) > 0.8) == (len(paths), True)


@pytest.mark.skipif(not set(INT8_SETS) & set(instruction_sets()), reason="this processor does not compute in int8")
def test_store_of_int8_features_gets_no_further_layer(
    paths: list[Path], names: NDArray[np.str_], tmp_path: Path
) -> None:
    estimator = TransferClassifier("topwork:tiny", "layer2", store=tmp_path / "store", precision="int8", cv=0)
    estimator.fit(paths, names)
    with pytest.raises(IdentityError, match="int8"):
        estimator.set_params(layer="layer3", precision="auto").fit(paths, names)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_rows_of_a_store_are_searched_without_the_items(
    n_jobs: int, graph: ExportedGraph, photos: Path, names: NDArray[np.str_], tmp_path: Path
) -> None:
    extractor = Extractor(graph, LAYERS)
    store = FeatureStore.create(tmp_path / "store", extractor)
    extract_features(photos, store)
    grid = {"layer": [*LAYERS, ["layer1", "layer3"]], "head": ["centroid", "lda"]}
    flipped = np.where(np.arange(len(names)) % 5 == 0, np.roll(names, 9), names)
    estimator = TransferClassifier.from_store(store, "layer1", cv=0)
    search = GridSearchCV(estimator, grid, cv=3, n_jobs=n_jobs, error_score="raise").fit(store, flipped)
    expected = [
        cross_val_score(
            resolve_head(point["head"]), Extractor(graph, point["layer"]).fit_transform(photos), flipped, cv=3
        ).mean()
        for point in search.cv_results_["params"]
    ]
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], expected)
    assert search.predict(store[::2]).tolist() == search.predict(store).tolist()[::2]
    assert search.best_estimator_.fit(store[1:], flipped[1:]).n_rows_ == len(names) - 1
    with pytest.raises(InputError, match="'a' of a store"):
        store["a"]
