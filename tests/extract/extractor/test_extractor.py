"""``Extractor``: scikit-learn's interface, all kinds of items, features that depend on nothing else."""

from __future__ import annotations

import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import topwork
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from topwork.errors import InputError, LayerError, StoppedError
from topwork.extract.extractor.extractor import Extractor
from topwork.extract.graphs.layer import Layer
from torch import Tensor, nn

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
        "normalize": False,
        "precision": "auto",
        "provider": "auto",
        "batch_size": -1,
        "on_error": "nonsense",
        "max_pixels": extractor.max_pixels,
        "progress": False,
    }


def test_clone_of_a_used_extractor_yields_the_same_features(
    images: np.ndarray, by_layer: dict[str, np.ndarray]
) -> None:
    used = Extractor("topwork:tiny", layer="layer2")
    used.fit_transform(images[:1])
    np.testing.assert_array_equal(clone(used).fit_transform(images), by_layer["layer2"])


@pytest.mark.parametrize("order", [["layer2", "last"], ["last", "layer2"]], ids="-".join)
def test_layers_are_concatenated_in_the_order_given(
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
        ({"pool": []}, "pool"),
        ({"layer": "layer2", "pool": "cls"}, "'cls' does not apply to 'layer2'"),
        ({"precision": "fp8"}, "precision='fp8' of Extractor"),
        ({"batch_size": 0}, "batch_size=0 of Extractor"),
        ({"batch_size": 2.5}, "batch_size=2.5 of Extractor"),
        ({"on_error": "ignore"}, "on_error='ignore' of Extractor"),
        ({"provider": "quantum"}, "provider='quantum' of Extractor"),
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


ALL_CUTS = (["layer2", "last"], ["avg", "max"])
OTHER_CUTS = [("layer2", "avg"), ("last", "avg"), (["layer2", "last"], "avg"), ("layer2", ["avg", "max"])]


@pytest.mark.parametrize(
    ("layer", "pool"), [ALL_CUTS, *(pytest.param(*cut, marks=pytest.mark.coverage) for cut in OTHER_CUTS)], ids=str
)
def test_normalized_columns_are_unit_vectors_in_the_same_direction(
    images: np.ndarray, layer: str | list[str], pool: str | list[str]
) -> None:
    plain, unit = (Extractor("topwork:tiny", layer, pool, normalize=flag) for flag in (False, True))
    expected, found = plain.fit_transform(images), unit.fit_transform(images)
    assert [column.normalize for column in unit.columns] == [True] * len(unit.columns)
    assert [column.name for column in unit.columns] == [column.name for column in plain.columns]
    edges = np.cumsum([column.width for column in unit.columns])[:-1]
    for ours, theirs in zip(np.split(found, edges, 1), np.split(expected, edges, 1), strict=True):
        np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, rtol=1e-5)
        np.testing.assert_allclose(ours, theirs / np.linalg.norm(theirs, axis=1, keepdims=True), rtol=1e-4, atol=1e-5)
        assert np.linalg.norm(theirs, axis=1).min() > 1.1


def test_vector_of_zeros_stays_zero_when_it_is_normalized() -> None:
    module = nn.Sequential(nn.Linear(3, 4, bias=False), nn.ReLU())
    backbone = topwork.load_backbone(module, input_spec=topwork.TensorSpec((3,)))
    assert Extractor(backbone, normalize=True).transform([np.zeros(3)]).tolist() == [[0.0] * 4]


def test_set_params_of_normalize_takes_effect(images: np.ndarray, by_layer: dict[str, np.ndarray]) -> None:
    extractor = Extractor("topwork:tiny", layer="layer2").fit(images)
    assert np.linalg.norm(extractor.set_params(normalize=True).transform(images), axis=1) == pytest.approx(1)
    np.testing.assert_array_equal(extractor.set_params(normalize=False).transform(images), by_layer["layer2"])


def test_pool_is_auto_and_takes_what_applies(images: np.ndarray, by_layer: dict[str, np.ndarray]) -> None:
    assert (Extractor().pool, topwork.TransferClassifier().pool) == ("auto", "auto")
    extractor = Extractor("topwork:tiny", layer=["layer2", "last"])
    assert [(column.name, column.pool) for column in extractor.columns] == [("layer2", "avg"), ("last", "none")]
    averaged = Extractor("topwork:tiny", layer="layer2", pool="avg").fit_transform(images)
    np.testing.assert_allclose(by_layer["layer2"], averaged, **CLOSE)


class MapAndTokens(nn.Module):
    """A network with a map below its tokens, whose first token is put there by the network."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.norm, self.fc = nn.Conv2d(3, 6, 4, 4), nn.LayerNorm(6), nn.Linear(6, 2)
        self.cls = nn.Parameter(torch.ones(1, 1, 6))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)  # (batch, 64, 6)
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], 1)
        return self.fc(self.norm(x)[:, 0])


def test_auto_differs_by_layer_and_its_graph_can_be_used_again(images: np.ndarray) -> None:
    backbone = topwork.load_backbone(MapAndTokens(), input_spec=topwork.ImageSpec((32, 32), 32))
    extractor = Extractor(backbone, layer=["patch", "norm"])
    found = extractor.fit_transform(images)
    assert [(column.layer, column.pool) for column in extractor.columns] == [("patch", "avg"), ("norm", "cls")]
    again = Extractor.from_graph(extractor.graph)
    assert again.columns == extractor.columns
    np.testing.assert_array_equal(again.fit_transform(images), found)
    np.testing.assert_array_equal(again.set_params(pool="auto").fit_transform(images), found)


class Series(nn.Module):
    """A network of time series: convolutions over time, and a classifier on their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn, self.conv2 = nn.Conv1d(3, 8, 5), nn.BatchNorm1d(8), nn.Conv1d(8, 16, 5, stride=2)
        self.fc = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv2(torch.relu(self.bn(self.conv1(x)))).mean(2))


def layers_of(backbone: topwork.Backbone) -> dict[str, Layer]:
    return {layer.name: layer for layer in topwork.layers(backbone)}


def test_convolutions_over_time_are_maps_with_their_channels_first() -> None:
    torch.manual_seed(0)
    module, series = Series().eval(), np.random.default_rng(0).normal(size=(5, 3, 40)).astype(np.float32)
    backbone = topwork.load_backbone(module, input_spec=topwork.TensorSpec((3, 40)))
    found = layers_of(backbone)
    for name, shape in {"conv1": (8, 36), "bn": (8, 36), "conv2": (16, 16)}.items():
        assert (found[name].shape, found[name].kind, found[name].channel_axis) == (shape, "map", 0), name
    assert (found["last"].shape, found["last"].kind) == ((16,), "vector")
    extractor = Extractor(backbone, layer=["bn", "conv2", "last"], pool=["avg", "max"])
    with torch.no_grad():
        bn = module.bn(module.conv1(torch.from_numpy(series)))
        conv2 = module.conv2(torch.relu(bn))
        expected = torch.cat([bn.mean(2), bn.amax(2), conv2.mean(2), conv2.amax(2), conv2.mean(2)], 1).numpy()
    np.testing.assert_allclose(extractor.fit_transform(series), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(LayerError, match="'avg2x2' does not apply to 'conv2'"):
        Extractor(backbone, layer="conv2", pool="avg2x2").fit(series)


def test_dense_model_expects_rows_of_a_table() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(7, 32), nn.ReLU(), nn.Linear(32, 5), nn.ReLU(), nn.Linear(5, 2))
    backbone = topwork.load_backbone(module, input_spec=topwork.TensorSpec((7,)))
    rows = np.random.default_rng(0).normal(size=(6, 7))
    assert {(layer.kind, len(layer.shape)) for layer in topwork.layers(backbone)} == {("vector", 1)}
    extractor = Extractor(backbone, layer=["1", "last"])
    with torch.no_grad():
        values = [module[:2](torch.from_numpy(rows).float()), module[:4](torch.from_numpy(rows).float())]
    np.testing.assert_allclose(extractor.fit_transform(rows), torch.cat(values, 1).numpy(), rtol=1e-4, atol=1e-5)
    assert [column.name for column in extractor.columns] == ["1", "last"]


@pytest.mark.parametrize("kind", ["array", "list", "paths", "folder", "npy"])
def test_every_kind_of_source_of_tensors_yields_the_same_features(kind: str, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(4, 7)).astype(np.float32)
    (tmp_path / "rows").mkdir()
    paths = [tmp_path / "rows" / f"{number}.npy" for number in range(4)]
    for path, row in zip(paths, rows, strict=True):
        np.save(path, row)
    np.save(tmp_path / "all.npy", rows)
    sources = {
        "array": rows,
        "list": list(rows),
        "paths": paths,
        "folder": tmp_path / "rows",
        "npy": tmp_path / "all.npy",
    }
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(7, 3), nn.Tanh())
    extractor = Extractor(topwork.load_backbone(module, input_spec=topwork.TensorSpec((7,))))
    with torch.no_grad():
        expected = module(torch.from_numpy(rows)).numpy()
    np.testing.assert_allclose(extractor.fit_transform(sources[kind]), expected, rtol=1e-4, atol=1e-5)


def test_tensor_of_another_shape_fails_alone() -> None:
    backbone = topwork.load_backbone(nn.Sequential(nn.Linear(7, 3), nn.ReLU()), input_spec=topwork.TensorSpec((7,)))
    extractor = Extractor(backbone, on_error="record")
    with pytest.warns(UserWarning, match="2 of 4 items failed"):
        found = extractor.fit_transform([np.zeros(7), np.zeros(6), np.full(7, np.nan), np.ones(7)])
    assert (found.shape, extractor.kept_.tolist()) == ((2, 3), [0, 3])
    assert [reason for _, reason in extractor.failures_] == [
        "float64 of shape (6,); expected numbers of shape (7,)",
        "values that are not finite",
    ]


Texts = tuple[list[str], list[str]]


@pytest.mark.parametrize("kind", ["strings", "array", "paths", "folder", "table"])
def test_every_kind_of_source_of_text_yields_the_same_features(
    kind: str, text_folder: Path, texts: Texts, tmp_path: Path
) -> None:
    sentences, extractor = texts[0][:6], Extractor(f"hf:{text_folder}")
    (tmp_path / "texts").mkdir()
    paths = [tmp_path / "texts" / f"{number}.txt" for number in range(6)]
    for path, sentence in zip(paths, sentences, strict=True):
        path.write_text(sentence)
    (tmp_path / "table.csv").write_text("text\n" + "\n".join(sentences))
    sources: dict[str, Any] = {
        "strings": sentences,
        "array": np.array(sentences),
        "paths": paths,
        "folder": tmp_path / "texts",
        "table": tmp_path / "table.csv",
    }
    found = extractor.fit_transform(sources[kind])
    expected = np.vstack([extractor.transform([sentence]) for sentence in sentences])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_text_is_pooled_over_its_own_tokens(text_folder: Path, texts: Texts) -> None:
    pools = ["mean", "cls", "max", "gem", "cls+mean"]
    extractor = Extractor(f"hf:{text_folder}", pool=pools, precision="fp32")
    backbone = topwork.load_backbone(f"hf:{text_folder}")
    found = extractor.fit_transform(texts[0])
    assert [(column.pool, column.width) for column in extractor.columns] == [
        ("mean", 32), ("cls", 32), ("max", 32), ("gem", 32), ("cls+mean", 64)
    ]  # fmt: skip
    for sentence, row in zip(texts[0][::7], found[::7], strict=True):
        ids = torch.from_numpy(extractor.preprocessor.prepare(sentence).array)[None]
        with torch.no_grad():
            tokens = backbone.run((ids, torch.ones_like(ids)))[0].numpy()
        mean = tokens.mean(0)
        cls = tokens[0]
        gem = (np.maximum(tokens, 1e-6) ** 3).mean(0) ** (1 / 3)
        expected = np.concatenate([mean, cls, tokens.max(0), gem, cls, mean])
        np.testing.assert_allclose(row, expected, rtol=1e-3, atol=1e-5)


def test_single_pooling_of_text_has_its_features_alone(text_folder: Path, texts: Texts) -> None:
    both = Extractor(f"hf:{text_folder}", pool=["mean", "cls", "max", "gem", "cls+mean"], precision="fp32")
    alone = Extractor.from_graph(both.graph, precision="fp32").set_params(pool="cls+mean")
    assert alone.n_features_out_ == 64
    np.testing.assert_allclose(alone.transform(texts[0][:5]), both.transform(texts[0][:5])[:, 128:], **CLOSE)


def test_tokens_of_any_number_cannot_be_flattened(text_folder: Path, texts: Texts) -> None:
    with pytest.raises(LayerError, match=r"'flatten' does not apply to 'last'.*applicable: mean, max, gem, cls"):
        Extractor(f"hf:{text_folder}", pool="flatten").fit(texts[0])


def test_longest_text_can_be_made_shorter(text_folder: Path) -> None:
    short = Extractor(topwork.load_backbone(f"hf:{text_folder}", max_length=5))
    whole = Extractor(f"hf:{text_folder}")
    np.testing.assert_allclose(short.transform(["cat dog fish bird"]), whole.transform(["cat dog fish"]), 1e-4, 1e-5)
    assert short.graph.metadata.fingerprint != whole.graph.metadata.fingerprint
