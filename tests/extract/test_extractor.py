"""``Extractor``: scikit-learn's interface, all kinds of items, features that depend on nothing else."""

from __future__ import annotations

import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from topwork.errors import InputError, LayerError, StoppedError
from topwork.extract.extractor import Extractor

WriteImages = Callable[..., Path]
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (9, 37, 45, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def by_layer(images: np.ndarray) -> dict[str, np.ndarray]:
    return {layer: Extractor("topwork:tiny", layer=layer).fit_transform(images) for layer in ("layer2", "last")}


def test_constructing_and_cloning_loads_nothing() -> None:
    extractor = Extractor("timm:no_such_network", layer="nowhere", pool=["max"], batch_size=-1, on_error="nonsense")
    copy = clone(extractor)
    assert copy.get_params() == extractor.get_params()
    assert copy.get_params() == {
        "backbone": "timm:no_such_network",
        "layer": "nowhere",
        "pool": ["max"],
        "precision": "auto",
        "provider": "auto",
        "batch_size": -1,
        "on_error": "nonsense",
        "max_pixels": extractor.max_pixels,
    }


def test_clone_of_a_used_extractor_yields_the_same_features(
    images: np.ndarray, by_layer: dict[str, np.ndarray]
) -> None:
    used = Extractor("topwork:tiny", layer="layer2")
    used.fit_transform(images[:1])
    np.testing.assert_array_equal(clone(used).fit_transform(images), by_layer["layer2"])


@pytest.mark.parametrize("order", [["layer2", "last"], ["last", "layer2"]], ids="-".join)
def test_layers_stand_side_by_side_in_the_order_given(
    images: np.ndarray, by_layer: dict[str, np.ndarray], order: list[str]
) -> None:
    extractor = Extractor("topwork:tiny", layer=order)
    found = extractor.fit_transform(images)
    assert found.dtype == np.float32
    assert extractor.n_features_out_ == found.shape[1]
    np.testing.assert_allclose(found, np.hstack([by_layer[layer] for layer in order]), **CLOSE)
    names = [f"{layer}_{i}" for layer in order for i in range(by_layer[layer].shape[1])]
    assert extractor.get_feature_names_out().tolist() == names


def test_two_poolings_have_columns_and_names_of_their_own(images: np.ndarray) -> None:
    both = Extractor("topwork:tiny", layer="layer2", pool=["avg", "max"])
    alone = [Extractor("topwork:tiny", layer="layer2", pool=pool).fit_transform(images) for pool in ("avg", "max")]
    np.testing.assert_allclose(both.fit_transform(images), np.hstack(alone), **CLOSE)
    names = both.get_feature_names_out()
    assert (names[0], names[-1]) == ("layer2.avg_0", f"layer2.max_{alone[1].shape[1] - 1}")
    assert len(set(names)) == len(names)


def test_set_params_takes_effect(images: np.ndarray, by_layer: dict[str, np.ndarray]) -> None:
    extractor = Extractor("topwork:tiny", layer="last").fit(images)
    np.testing.assert_array_equal(extractor.transform(images), by_layer["last"])
    extractor.set_params(layer="layer2")
    np.testing.assert_array_equal(extractor.fit_transform(images), by_layer["layer2"])
    assert len(extractor.get_feature_names_out()) == by_layer["layer2"].shape[1]


@pytest.mark.parametrize("used", [False, True])
def test_pickle_round_trip_keeps_features(images: np.ndarray, by_layer: dict[str, np.ndarray], used: bool) -> None:
    extractor = Extractor("topwork:tiny", layer="layer2")
    if used:
        extractor.fit_transform(images[:1])
    again = pickle.loads(pickle.dumps(extractor))
    np.testing.assert_array_equal(again.transform(images), by_layer["layer2"])


def test_features_depend_neither_on_batch_size_nor_on_order(
    images: np.ndarray, by_layer: dict[str, np.ndarray]
) -> None:
    for batch_size in (1, 4):
        found = Extractor("topwork:tiny", layer="layer2", batch_size=batch_size).fit_transform(images)
        np.testing.assert_allclose(found, by_layer["layer2"], **CLOSE)
    backwards = Extractor("topwork:tiny", layer="layer2").fit_transform(images[::-1])
    np.testing.assert_allclose(backwards[::-1], by_layer["layer2"], **CLOSE)


def test_an_image_given_twice_has_two_rows(images: np.ndarray, by_layer: dict[str, np.ndarray]) -> None:
    found = Extractor("topwork:tiny", layer="last").fit_transform(images[[0, 1, 0, 0]])
    np.testing.assert_allclose(found, by_layer["last"][[0, 1, 0, 0]], **CLOSE)


def test_images_that_differ_only_in_their_palette_have_their_own_features() -> None:
    flat = []
    for colour in ((255, 0, 0), (0, 0, 255)):
        image = Image.new("P", (40, 40))
        image.putpalette(colour)
        flat.append(image)
    extractor = Extractor("topwork:tiny", layer="last")
    together = extractor.fit_transform(flat)
    alone = extractor.transform([image.convert("RGB") for image in flat])
    np.testing.assert_allclose(together, alone, **CLOSE)
    assert not np.allclose(together[0], together[1])


@pytest.mark.parametrize("kind", ["paths", "strings", "images", "arrays", "list of arrays", "folder", "archive"])
def test_every_kind_of_input_yields_the_same_features(write_images: WriteImages, tmp_path: Path, kind: str) -> None:
    root = write_images(each=2)
    paths = sorted(root.rglob("*.png"))
    archive = tmp_path / "images.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(root, ".")
    with tarfile.open(archive) as tar:
        in_archive = [root / name for name in tar.getnames() if name.endswith(".png")]
    arrays = [np.asarray(Image.open(path)) for path in paths]
    given: dict[str, Any] = {
        "paths": paths,
        "strings": [str(path) for path in paths],
        "images": [Image.open(path) for path in paths],
        "arrays": np.stack(arrays),
        "list of arrays": arrays,
        "folder": root,
        "archive": str(archive),
    }
    order = [paths.index(path) for path in in_archive] if kind == "archive" else range(4)
    extractor = Extractor("topwork:tiny", layer="last").fit(given[kind])
    expected = np.vstack([extractor.transform(array[None]) for array in arrays])
    np.testing.assert_allclose(extractor.transform(given[kind]), expected[list(order)], **CLOSE)


def test_failures_are_left_out_warned_of_and_named(write_images: WriteImages) -> None:
    paths = sorted(write_images(each=2).rglob("*.png"))
    paths[1].write_bytes(b"")
    strict, lenient = (Extractor("topwork:tiny", on_error=policy) for policy in ("raise", "record"))
    with pytest.raises(StoppedError, match="the file is empty"):
        strict.fit_transform(paths)
    with pytest.warns(UserWarning, match="1 of 4 items failed"):
        found = lenient.fit_transform(paths)
    assert lenient.kept_.tolist() == [0, 2, 3]
    assert lenient.failures_ == [(paths[1].as_posix(), "the file is empty")]
    np.testing.assert_allclose(found, strict.transform([paths[i] for i in (0, 2, 3)]), **CLOSE)
    assert lenient.transform(paths[2:]).shape[0] == 2
    assert (lenient.kept_.tolist(), lenient.failures_) == ([0, 1], [])


def test_no_items_are_no_rows() -> None:
    extractor = Extractor("topwork:tiny", layer="last")
    assert extractor.fit_transform([]).shape == (0, extractor.n_features_out_)


def test_graph_that_was_exported_before_yields_the_same_features(
    images: np.ndarray, by_layer: dict[str, np.ndarray]
) -> None:
    graph = Extractor("topwork:tiny", layer=["layer2", "last"]).graph
    found = Extractor.from_graph(graph)
    np.testing.assert_allclose(found.transform(images), np.hstack([by_layer["layer2"], by_layer["last"]]), **CLOSE)
    np.testing.assert_allclose(found.set_params(layer="last").fit_transform(images), by_layer["last"], **CLOSE)
    with pytest.raises(InputError, match="layer1"):
        found.set_params(layer="layer1").fit(images)


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({"layer": "nowhere"}, "nowhere"),
        ({"layer": []}, "layer"),
        ({"pool": "median"}, "median"),
        ({"precision": "fp8"}, "precision='fp8' of Extractor"),
        ({"batch_size": 0}, "batch_size=0 of Extractor"),
        ({"batch_size": 2.5}, "batch_size=2.5 of Extractor"),
        ({"on_error": "ignore"}, "on_error='ignore'"),
        ({"provider": "quantum"}, "provider 'quantum'"),
        ({"backbone": 3}, "backbone is a int"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_wrong_parameter_is_named_at_the_first_use(parameters: dict[str, Any], error: str, images: np.ndarray) -> None:
    with pytest.raises((InputError, LayerError), match=error):
        Extractor(**parameters).fit_transform(images[:1])


def test_a_pipeline_can_search_for_the_layer() -> None:
    generator = np.random.default_rng(0)
    bright = generator.integers(128, 256, (12, 32, 32, 3), dtype=np.uint8)
    dark = generator.integers(0, 128, (12, 32, 32, 3), dtype=np.uint8)
    X, y = np.concatenate([bright, dark]), np.array(["bright"] * 12 + ["dark"] * 12)
    pipeline = make_pipeline(Extractor("topwork:tiny"), LogisticRegression(max_iter=1000))
    search = GridSearchCV(pipeline, {"extractor__layer": ["layer2", ["layer2", "last"]]}, cv=3).fit(X, y)
    assert search.cv_results_["mean_test_score"].tolist() == [1.0, 1.0]
    widths = [len(search.best_estimator_[0].get_feature_names_out()), search.best_estimator_[-1].coef_.shape[1]]
    assert widths[0] == widths[1]
    assert search.predict(X[[0, -1]]).tolist() == ["bright", "dark"]
