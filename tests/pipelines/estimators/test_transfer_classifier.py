"""``TransferClassifier``: labels keep their types, features are computed once, scikit-learn's rules hold."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from topwork import (
    Extractor,
    FeatureStore,
    Table,
    TensorSpec,
    TransferClassifier,
    extract_features,
    load,
    load_backbone,
)
from topwork.errors import IdentityError, InputError, StoppedError
from topwork.extract.graphs.exported_graph import ExportedGraph
from topwork.heads.registry import HEADS
from topwork.models.input_spec import InputOverrides
from topwork.models.loading import BackboneSpec

KINDS = {"str": ["flower", "roof", "sky"], "negative int": [-5, 0, 7], "bool": [False, True, True]}
UNUSABLE = {
    "backbone": ("nowhere:net", InputError),
    "layer": ("layer9", InputError),
    "pool": ("median", InputError),
    "head": ("nothing", InputError),
    "precision": ("int3", InputError),
    "provider": ("abacus", InputError),
    "batch_size": (0, InputError),
    "on_error": ("ignore", InputError),
}


def labels_of(kind: str, names: NDArray[np.str_]) -> NDArray[Any]:
    return np.array(KINDS[kind])[np.searchsorted(KINDS["str"], names)]


@pytest.fixture
def folder(photos: Path, tmp_path: Path) -> Path:
    """Return a copy of the photographs with two broken files among them."""
    copy = shutil.copytree(photos, tmp_path / "photos")
    (copy / "flower" / "3.png").write_bytes(b"no image")
    (copy / "sky" / "a.jpg").write_bytes(b"")
    return copy


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, photos: Path, graph: ExportedGraph) -> FeatureStore:
    store = FeatureStore.create(tmp_path_factory.mktemp("features") / "store", Extractor.from_graph(graph))
    extract_features(photos, store)
    return FeatureStore.open(store.path)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("kind", KINDS)
def test_predict_returns_the_labels_and_dtype_that_fit_was_given(
    kind: str, head: str, graph: ExportedGraph, paths: list[Path], names: NDArray[np.str_]
) -> None:
    labels = labels_of(kind, names)
    classifier = TransferClassifier(graph, "layer2", head=head, cv=0).fit(paths, labels.tolist())
    predicted = classifier.predict(paths)
    assert predicted.dtype == classifier.classes_.dtype == labels.dtype
    assert classifier.classes_.tolist() == sorted(set(KINDS[kind]))
    assert np.mean(predicted == labels) > 0.9
    assert classifier.score(paths, labels) == np.mean(predicted == labels)


def test_paths_folder_and_store_give_the_same_classifier(
    graph: ExportedGraph, photos: Path, paths: list[Path], names: NDArray[np.str_], store: FeatureStore
) -> None:
    heads = [
        TransferClassifier(graph, "layer2", head="logreg").fit(*arguments).head_.steps[-1][1]
        for arguments in ((paths, names), (photos,), (str(photos),), (store,), (store, names))
    ]
    for head in heads[1:]:
        assert np.array_equal(head.coef_, heads[0].coef_)
        assert head.classes_.tolist() == ["flower", "roof", "sky"]


def test_arrays_and_images_are_items(graph: ExportedGraph, pixels: NDArray[np.uint8], names: NDArray[np.str_]) -> None:
    classifier = TransferClassifier(graph, "layer2", head="centroid", cv=0).fit(list(pixels), names)
    assert classifier.score(pixels, names) > 0.9
    assert classifier.predict(pixels[:1]).tolist() == [classifier.predict(pixels)[0]]


def test_layers_lie_side_by_side_in_the_order_given(
    graph: ExportedGraph, photos: Path, paths: list[Path], names: NDArray[np.str_], store: FeatureStore
) -> None:
    classifier = TransferClassifier(graph, ["layer3", "layer1"], head=LogisticRegression(max_iter=500), cv=0)
    expected = np.concatenate([store.matrix("layer3"), store.matrix("layer1")], axis=1)
    coefficients = LogisticRegression(max_iter=500).fit(expected, names).coef_
    assert np.allclose(classifier.fit(photos).head_.coef_, coefficients, atol=1e-5)
    assert np.array_equal(classifier.fit(store).head_.coef_, coefficients)
    assert np.allclose(classifier.predict_proba(paths), classifier.predict_proba(store), atol=1e-5)


def test_second_fit_with_a_store_computes_nothing(
    graph: ExportedGraph, paths: list[Path], names: NDArray[np.str_], tmp_path: Path
) -> None:
    first = TransferClassifier(graph, "layer2", store=tmp_path / "store", cv=0).fit(paths, names)
    entries = FeatureStore.open(tmp_path / "store").log.entries()
    second = TransferClassifier(graph, "layer2", head="lda", store=str(tmp_path / "store"), cv=0).fit(paths, names)
    opened = FeatureStore.open(tmp_path / "store")
    assert opened.log.entries() == entries
    assert [entry.action for entry in entries] == ["compact"]
    assert opened.ids == [path.as_posix() for path in paths]
    assert first.score(opened) == first.score(paths, names)
    assert second.score(opened) > 0.9


def test_only_the_items_given_are_trained_on_when_the_store_holds_more(
    graph: ExportedGraph, paths: list[Path], names: NDArray[np.str_], tmp_path: Path
) -> None:
    stored = TransferClassifier(graph, "layer2", head="logreg", store=tmp_path / "store", cv=0).fit(paths, names)
    order = np.random.default_rng(1).permutation(len(paths))[:12]
    chosen = [paths[i] for i in order]
    stored.fit(chosen, names[order])
    fresh = TransferClassifier(graph, "layer2", head="logreg", cv=0).fit(chosen, names[order])
    assert stored.n_rows_ == 12
    assert np.allclose(stored.head_.steps[-1][1].coef_, fresh.head_.steps[-1][1].coef_, atol=1e-5)


def test_store_of_another_backbone_or_layer_is_refused(store: FeatureStore, photos: Path) -> None:
    darker = BackboneSpec("topwork:tiny", preprocessing=InputOverrides(mean=(0.2, 0.2, 0.2)))
    for classifier, X in (
        (TransferClassifier(darker, "layer2"), store),
        (TransferClassifier(darker, "layer2", store=store.path), photos),
    ):
        with pytest.raises(IdentityError, match=r"mean is .0\.2"):
            classifier.fit(X)
    with pytest.raises(IdentityError, match="no column 'last'"):
        TransferClassifier("topwork:tiny", "last").fit(store)


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("given", ["folder", "paths"])
@pytest.mark.filterwarnings("ignore:2 of 25 items failed")
def test_failed_items_are_dropped_with_their_labels(
    given: str, stored: bool, graph: ExportedGraph, folder: Path, tmp_path: Path
) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    good = [
        path for path in files if path.name not in ("a.jpg", "3.png") or path.match("roof/*") or path.match("sky/3.*")
    ]
    names = [path.parent.name for path in files]
    stored_in = tmp_path / "s" if stored else None
    classifier = TransferClassifier(graph, "layer2", head="logreg", store=stored_in, on_error="record")
    classifier.fit(*((folder,) if given == "folder" else (files, names)))
    expected = TransferClassifier(graph, "layer2", head="logreg").fit(good, [path.parent.name for path in good])
    assert classifier.n_rows_ == len(good) == 23
    assert [Path(name).name for name, _ in classifier.failures_] == ["3.png", "a.jpg"]
    assert all(reason for _, reason in classifier.failures_)
    assert np.allclose(classifier.head_.steps[-1][1].coef_, expected.head_.steps[-1][1].coef_, atol=1e-5)
    assert classifier.score(folder) == expected.score(good, [path.parent.name for path in good])


def test_broken_item_stops_fit_and_predict_by_default(graph: ExportedGraph, folder: Path, photos: Path) -> None:
    with pytest.raises(StoppedError, match=r"flower/3\.png failed"):
        TransferClassifier(graph, "layer2", cv=0).fit(folder)
    with pytest.raises(StoppedError, match=r"flower/3\.png failed"):
        TransferClassifier(graph, "layer2", cv=0).fit(photos).predict(folder)


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.filterwarnings("ignore:2 of 2 items failed")
def test_nothing_to_learn_from_is_an_error_that_says_so(stored: bool, graph: ExportedGraph, tmp_path: Path) -> None:
    broken = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in broken:
        path.write_bytes(b"no image")
    stored_in = tmp_path / "s" if stored else None
    classifier = TransferClassifier(graph, "layer2", head="logreg", store=stored_in, on_error="record", cv=0)
    with pytest.raises(InputError, match="failed"):
        classifier.fit(broken, ["a", "b"])
    with pytest.raises(InputError, match=r"no item|0 items"):
        classifier.fit([], [])


def test_no_items_have_no_predictions(graph: ExportedGraph, photos: Path) -> None:
    classifier = TransferClassifier(graph, "layer2", cv=0).fit(photos)
    assert classifier.predict([]).shape == (0,)
    assert classifier.predict_proba([]).shape == (0, 3)


def test_one_item_of_each_class_and_one_to_predict(graph: ExportedGraph, paths: list[Path]) -> None:
    classifier = TransferClassifier(graph, "layer2", head="centroid").fit([paths[0], paths[-1]], ["flower", "sky"])
    assert classifier.predict([paths[-1]]).tolist() == ["sky"]


def test_one_class_is_an_error_of_the_input(graph: ExportedGraph, paths: list[Path]) -> None:
    with pytest.raises(ValueError, match="class"):
        TransferClassifier(graph, "layer2", cv=0).fit(paths[:3], ["a", "a", "a"])


@pytest.mark.parametrize(
    ("y", "message"), [(["a"], "24 items but 1 labels"), (None, "24 of 24 items have no label; pass y")]
)
def test_labels_must_be_one_for_each_item(y: Any, message: str, graph: ExportedGraph, paths: list[Path]) -> None:
    with pytest.raises(InputError, match=message):
        TransferClassifier(graph, "layer2", cv=0).fit(paths, y)


def test_missing_label_is_counted(graph: ExportedGraph, paths: list[Path]) -> None:
    with pytest.warns(UserWarning, match="1 of 3 items have no label"):
        fitted = TransferClassifier(graph, "layer2", head="centroid", cv=0).fit(paths[:3], ["a", None, "b"])
    assert (fitted.n_rows_, fitted.n_unlabelled_) == (2, 1)


def test_second_fit_equals_a_fresh_one(graph: ExportedGraph, paths: list[Path], names: NDArray[np.str_]) -> None:
    used = TransferClassifier(graph, ["layer1", "layer3"]).fit(paths, names == "sky")
    used.set_params(layer="layer2").fit(paths[::2], names[::2])
    fresh = TransferClassifier(graph, "layer2").fit(paths[::2], names[::2])
    assert np.array_equal(used.predict_proba(paths), fresh.predict_proba(paths))
    assert used.classes_.tolist() == fresh.classes_.tolist()
    assert (used.n_rows_, used.failures_) == (fresh.n_rows_, fresh.failures_) == (12, [])


def test_clone_and_parameters_follow_scikit_learn(graph: ExportedGraph, photos: Path) -> None:
    head = LogisticRegression(C=2.0, max_iter=500)
    classifier = TransferClassifier(graph, ["layer1", "layer2"], "avg", head, on_error="record", cv=0).fit(photos)
    copy = clone(classifier)
    assert copy.get_params(deep=False).keys() == classifier.get_params(deep=False).keys()
    assert (copy.layer, copy.head.C, copy.on_error) == (["layer1", "layer2"], 2.0, "record")
    assert not hasattr(copy, "head_")
    assert not hasattr(head, "coef_")
    copy.set_params(layer="layer3", head__C=0.5)
    assert (copy.layer, copy.head.C, head.C) == ("layer3", 0.5, 2.0)
    assert copy.fit(photos).head_.coef_.shape == (3, 80)


@pytest.mark.parametrize("name", UNUSABLE)
def test_constructor_only_stores_and_fit_complains(
    name: str, graph: ExportedGraph, paths: list[Path], names: NDArray[np.str_]
) -> None:
    value, error = UNUSABLE[name]
    classifier = TransferClassifier(**{"backbone": graph, "layer": "layer2", name: value})
    assert getattr(classifier, name) is value
    with pytest.raises(error):
        classifier.fit(paths, names)


def test_regressor_is_no_head_of_a_classifier(graph: ExportedGraph, paths: list[Path]) -> None:
    with pytest.raises(InputError, match="Ridge"):
        TransferClassifier(graph, "layer2", head=Ridge(), cv=0).fit(paths[:2], [1, 2])


@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function", "score", "save", "to_onnx"])
def test_use_before_fit_is_scikit_learns_error(method: str, tmp_path: Path) -> None:
    with pytest.raises(NotFittedError):
        getattr(TransferClassifier(), method)(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("head", HEADS)
def test_methods_are_those_of_the_head(head: str, graph: ExportedGraph, photos: Path, paths: list[Path]) -> None:
    before = TransferClassifier(graph, "layer2", head=head, cv=0)
    for classifier in (before, clone(before).fit(photos)):
        assert hasattr(classifier, "predict_proba") == (head not in ("ridge", "svm"))
        assert hasattr(classifier, "decision_function") == (head not in ("knn", "gp"))
    if hasattr(classifier, "predict_proba"):
        probabilities = classifier.predict_proba(paths)
        assert np.allclose(probabilities.sum(axis=1), 1)
        assert np.mean(classifier.classes_[probabilities.argmax(axis=1)] == classifier.predict(paths)) > 0.9


def test_grid_search_chooses_among_heads_and_layers(
    graph: ExportedGraph, paths: list[Path], names: NDArray[np.str_]
) -> None:
    grid = {"head": ["centroid", LogisticRegression(C=1e-9)], "layer": ["layer1", "layer2"]}
    search = GridSearchCV(TransferClassifier(graph, cv=0), grid, cv=2, error_score="raise").fit(paths, names)
    assert len(search.cv_results_["params"]) == 4
    assert search.best_params_["head"] == "centroid"
    assert search.best_score_ > 0.8
    assert search.predict(paths[:2]).tolist() == ["flower", "flower"]


def test_classifier_from_a_store_takes_all_of_its_layers(store: FeatureStore, paths: list[Path]) -> None:
    classifier = TransferClassifier.from_store(store, head="lda").fit(store)
    assert [column.name for column in classifier.extractor_.columns] == ["layer1", "layer2", "layer3"]
    assert classifier.predict(paths).tolist() == classifier.predict(store).tolist()


def test_parallel_search_fills_one_store_once(
    graph: ExportedGraph, paths: list[Path], names: NDArray[np.str_], tmp_path: Path
) -> None:
    classifier = TransferClassifier(graph, "layer2", store=tmp_path / "store", cv=0)
    search = GridSearchCV(classifier, {"head": ["centroid", "lda"]}, cv=2, n_jobs=2, error_score="raise")
    search.fit(paths, names)
    assert sorted(FeatureStore.open(tmp_path / "store").ids) == sorted(path.as_posix() for path in paths)


Texts = tuple[list[str], list[str]]


@pytest.mark.parametrize("head", HEADS)
def test_strings_are_items(head: str, text_graph: ExportedGraph, texts: Texts) -> None:
    sentences, labels = texts
    classifier = TransferClassifier(text_graph, ["encoder.layer.0", "last"], head=head, cv=0).fit(sentences, labels)
    assert classifier.score(sentences, labels) > 0.6  # by chance it would be 0.33
    assert classifier.predict(sentences[:1]).tolist() == classifier.predict(sentences)[:1].tolist()
    assert classifier.classes_.tolist() == ["animals", "kitchen", "weather"]


def test_backbone_for_text_is_loaded_by_the_name_of_its_folder(text_folder: Path, texts: Texts) -> None:
    sentences, labels = texts
    classifier = TransferClassifier(f"hf:{text_folder}", normalize=True).fit(sentences, labels)
    assert [(c.pool, c.normalize) for c in classifier.extractor_.columns] == [("mean", True)]
    assert classifier.score(sentences, labels) > 0.6  # by chance it would be 0.33
    assert max(d.relative_l2 for d in classifier.extractor_.graph.certificate.deviations) < 1e-4


def test_table_store_and_strings_give_the_same_classifier(
    text_graph: ExportedGraph, texts: Texts, text_table: Path, tmp_path: Path
) -> None:
    sentences, labels = texts
    renamed = tmp_path / "renamed.tsv"
    renamed.write_text("topic\tquestion\n" + "".join(f"{y}\t{x}\n" for x, y in zip(*texts, strict=True)))
    store = FeatureStore.create(tmp_path / "store", Extractor.from_graph(text_graph))
    extract_features(text_table, store)
    expected = TransferClassifier(text_graph, "last", cv=0).fit(sentences, labels)
    for X in (text_table, str(text_table), Table(text_table), Table(renamed, text="question", label="topic"), store):
        classifier = TransferClassifier(text_graph, "last", cv=0).fit(X)
        assert classifier.classes_.tolist() == expected.classes_.tolist()
        np.testing.assert_allclose(classifier.predict_proba(sentences), expected.predict_proba(sentences), atol=1e-4)
        assert classifier.score(X) == classifier.score(sentences, labels)


def test_fit_on_text_with_a_store_computes_nothing_again(
    text_graph: ExportedGraph, texts: Texts, tmp_path: Path
) -> None:
    first = TransferClassifier(text_graph, "last", store=tmp_path / "store", cv=0).fit(*texts)
    entries = FeatureStore.open(tmp_path / "store").log.entries()
    second = TransferClassifier(text_graph, "last", store=tmp_path / "store", cv=0).fit(*texts)
    assert FeatureStore.open(tmp_path / "store").log.entries() == entries
    assert second.predict(texts[0]).tolist() == first.predict(texts[0]).tolist()


def test_strings_that_fail_are_dropped_with_their_labels(text_graph: ExportedGraph, tmp_path: Path) -> None:
    rows = [("cat", "animals"), (None, "weather"), ("rain", "weather"), ("dog", "animals"), (None, "animals")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": x, "label": y}) + "\n" for x, y in rows))
    classifier = TransferClassifier(text_graph, "last", head="centroid", on_error="record", cv=0)
    with pytest.warns(UserWarning, match="2 of 5 items failed"):
        classifier.fit(tmp_path / "rows.jsonl")
    assert classifier.n_rows_ == 3
    assert [reason for _, reason in classifier.failures_] == ["this row of the table is empty"] * 2
    assert classifier.predict(["cat", "rain", "dog"]).tolist() == ["animals", "weather", "animals"]


def test_series_of_numbers_are_items(tmp_path: Path) -> None:
    import torch
    from torch import nn

    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv1d(2, 8, 5), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    generator = np.random.default_rng(0)
    time = np.linspace(0, 6, 50)
    slow = [np.stack([np.sin(time + phase), np.cos(time)]) for phase in generator.uniform(0, 1, 12)]
    fast = [np.stack([np.sin(9 * time + phase), np.cos(time)]) for phase in generator.uniform(0, 1, 12)]
    X, y = np.array(slow + fast), ["slow"] * 12 + ["fast"] * 12
    np.savez(tmp_path / "series.npz", X=X, y=y)
    backbone = load_backbone(module, input_spec=TensorSpec((2, 50)))
    classifier = TransferClassifier(backbone).fit(tmp_path / "series.npz")
    assert classifier.predict(X).tolist() == y
    assert classifier.score(tmp_path / "series.npz") == 1
    classifier.save(tmp_path / "bundle")
    assert load(tmp_path / "bundle").predict_proba(X).tolist() == classifier.predict_proba(X).tolist()
    classifier.to_onnx(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    assert session.run(None, {"input": X.astype(np.float32)})[0].tolist() == y
