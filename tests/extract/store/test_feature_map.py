"""Maps of stores: places, colours, samples, and what they say of themselves."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from topwork import FeatureStore
from topwork.errors import InputError, MissingPackageError
from topwork.extract.store.feature_map import COLOURS, project_by_pca, read_values

X, Y = load_digits(return_X_y=True)
N_ROWS = 300


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    """Digits with their labels; the first 20 have none."""
    labels = [None] * 20 + [str(label) for label in Y[20:N_ROWS].tolist()]
    return FeatureStore.import_features(tmp_path / "store", X[:N_ROWS].astype(np.float32), labels=labels)


@pytest.mark.parametrize("shape", [(60, 7), (20, 64), (3, 64), (60, 2)])
def test_components_are_those_of_scikit_learn(shape: tuple[int, int]) -> None:
    features = np.random.default_rng(0).normal(5, 1, shape) * np.arange(1, shape[1] + 1)
    reference = PCA(2, svd_solver="full").fit(features)
    coordinates, names = project_by_pca(features)
    np.testing.assert_allclose(np.abs(coordinates), np.abs(reference.transform(features)), rtol=1e-7, atol=1e-6)
    for name, share in zip(names, reference.explained_variance_ratio_, strict=True):
        assert f"({share:.0%} of" in name
    largest = np.abs(coordinates).argmax(axis=0)
    assert (coordinates[largest, [0, 1]] > 0).all()


def test_few_or_equal_rows_have_places() -> None:
    for features in (np.ones((1, 5)), np.ones((4, 5)), np.arange(4.0)[:, None]):
        coordinates, names = project_by_pca(features)
        assert coordinates.shape == (len(features), 2)
        assert np.isfinite(coordinates).all()
        assert "(0% of" in names[1]


def test_points_are_coloured_by_label(store: FeatureStore, pyplot: Any) -> None:
    display = store.plot_map()
    np.testing.assert_allclose(display.coordinates, project_by_pca(X[:N_ROWS].astype(np.float32))[0])
    assert display.ids == store.ids
    drawn = dict(zip(display.point_names_, display.points_, strict=True))
    assert len(drawn) == 11
    for label in range(10):
        rows = [row for row in range(20, N_ROWS) if Y[row] == label]
        points = drawn[f"{label} ({len(rows)})"]
        np.testing.assert_array_equal(points.get_offsets(), display.coordinates[rows])
    np.testing.assert_array_equal(drawn["no label (20)"].get_offsets(), display.coordinates[:20])
    colours = {tuple(points.get_facecolor()[0]) for points in display.points_}
    assert len(colours) == 11
    assert display.ax_.get_title() == "features, PCA: 300 rows"
    legend = display.ax_.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == display.point_names_
    assert legend.get_title().get_text() == "label"


def test_given_axes_are_used(store: FeatureStore, pyplot: Any) -> None:
    figure, axes = pyplot.subplots()
    display = store.plot_map("features", ax=axes)
    assert display.ax_ is axes
    assert display.figure_ is figure
    _, others = pyplot.subplots()
    assert display.plot(ax=others).ax_ is others
    assert len(others.collections) == 11


def test_sample_has_a_seed_and_is_said(store: FeatureStore, pyplot: Any) -> None:
    first = store.plot_map(max_rows=50)
    again = store.plot_map(max_rows=50)
    other = store.plot_map(max_rows=50, random_state=1)
    assert first.ids == again.ids != other.ids
    assert len(set(first.ids)) == 50
    assert first.ax_.get_title() == "features, PCA: 50 of 300 rows (drawn with the seed 0)"
    np.testing.assert_array_equal(first.coordinates, again.coordinates)


def test_rare_classes_are_grey(store: FeatureStore, pyplot: Any) -> None:
    names = [f"class {min(row // 10, 19):02}" for row in range(N_ROWS)]
    store.set_labels(dict(zip(store.ids, names, strict=True)), name="many")
    display = FeatureStore.open(store.path).plot_map(label="many")
    assert len(display.points_) == len(COLOURS) + 1
    assert display.point_names_[-1] == "others: 8 classes (80)"
    assert "class 19 (110)" in display.point_names_


def test_values_have_a_colour_bar(store: FeatureStore, pyplot: Any) -> None:
    values = X[50:N_ROWS, 20] + np.arange(N_ROWS - 50) / 1000
    store.set_labels(dict(zip(store.ids[50:], values.tolist(), strict=True)), name="darkness")
    display = FeatureStore.open(store.path).plot_map(label="darkness")
    assert display.point_names_ == ["no label", "values"]
    np.testing.assert_allclose(display.points_[1].get_array(), values)
    assert display.colorbar_.ax.get_ylabel() == "darkness"
    assert "grey ones have no label" in display.ax_.get_title()


def test_labels_are_values_if_all_are_numbers() -> None:
    numbers = [str(number / 2) for number in range(20)]
    found = read_values([None, *numbers])
    assert found is not None
    np.testing.assert_array_equal(found, [np.nan, *(number / 2 for number in range(20))])
    assert read_values(numbers[:10]) is None
    assert read_values([*numbers, "cat"]) is None
    assert read_values([*numbers, "inf"]) is None
    assert read_values([["a"]] * 20) is None
    assert read_values([None] * 20) is None


def test_store_without_labels_has_one_colour(tmp_path: Path, pyplot: Any) -> None:
    store = FeatureStore.import_features(tmp_path / "plain", X[:30].astype(np.float32))
    display = store.plot_map()
    assert display.point_names_ == ["no label"]
    assert display.ax_.get_legend() is None


def test_hostile_names_are_drawn(tmp_path: Path, pyplot: Any) -> None:
    names = ["$\\nonsense{$", "_hidden", "a\u202eb", "<b>", ["one", "two"]]
    labels = [names[row % 5] for row in range(30)]
    store = FeatureStore.import_features(tmp_path / "hostile", X[:30].astype(np.float32))
    store.set_labels(pyarrow.table({"id": store.ids, "label": [str(label) for label in labels]}))
    display = FeatureStore.open(store.path).plot_map()
    display.figure_.canvas.draw()
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert {"_hidden (6)", "a\\u202eb (6)", "<b> (6)"} <= set(texts)


def test_rows_of_a_store_are_drawn(store: FeatureStore, pyplot: Any) -> None:
    rows = np.arange(40, 100)
    display = store[rows].plot_map()
    assert display.ids == [store.ids[row] for row in rows.tolist()]


def test_wrong_arguments_are_named(store: FeatureStore, pyplot: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'tsne'.*pca, umap"):
        store.plot_map(method="tsne")
    with pytest.raises(InputError, match="max_rows=0"):
        store.plot_map(max_rows=0)
    with pytest.raises(InputError, match=r"'breed'.*label"):
        store.plot_map(label="breed")
    with pytest.raises(InputError, match=r"'pixels'.*features"):
        store.plot_map("pixels")
    with pytest.raises(InputError, match="no rows"):
        store[np.arange(0)].plot_map()


def test_missing_packages_are_named(store: FeatureStore, pyplot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(MissingPackageError, match="umap-learn"):
        store.plot_map(method="umap")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingPackageError, match=r"topwork\[plots\]"):
        store.plot_map()


def test_umap_gets_the_features_and_the_seed(store: FeatureStore, pyplot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {}

    class Projection:
        def __init__(self, **given: Any) -> None:
            options.update(given)

        def fit_transform(self, features: Any) -> Any:
            return features[:, 20:22]

    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=Projection))
    display = store.plot_map(method="umap", random_state=3)
    np.testing.assert_array_equal(display.coordinates, X[:N_ROWS, 20:22])
    assert (options["n_components"], options["random_state"]) == (2, 3)
    assert display.ax_.get_xlabel() == "UMAP 1"
