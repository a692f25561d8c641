"""Heads on foreign features: they learn from a store and predict for it, and say why they can do no more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from topwork import Extractor, FeatureStore, TransferClassifier, extract_features
from topwork.errors import IdentityError, InputError
from topwork.extract.graphs.exported_graph import ExportedGraph
from topwork.heads.registry import HEADS
from topwork.pipelines.estimators.evaluation import evaluate

MATRICES = {"img_emb": (np.float32, 5), "text_emb": (np.float16, 3)}
NAMES = ["left", "right"] * 20


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    """Return a store of two columns, as clip-retrieval leaves them, with two classes that are easily distinguished."""
    generator, is_right = np.random.default_rng(0), np.array(NAMES) == "right"
    for name, (dtype, width) in MATRICES.items():
        (tmp_path / "clip" / name).mkdir(parents=True)
        matrix = generator.normal(size=(40, width)) + 4 * is_right[:, None]
        np.save(tmp_path / "clip" / name / f"{name}_0.npy", matrix.astype(dtype))
    return FeatureStore.import_features(tmp_path / "store", tmp_path / "clip", range(40), NAMES)


@pytest.mark.parametrize("head", HEADS)
def test_head_learns_from_foreign_features(head: str, store: FeatureStore) -> None:
    classifier = TransferClassifier.from_store(store, head=head).fit(store)
    assert [column.name for column in classifier.extractor_.columns] == ["img_emb", "text_emb"]
    assert classifier.score(store) > 0.9
    assert classifier.predict(FeatureStore.open(store.path)).tolist() == classifier.predict(store).tolist()
    assert evaluate(classifier, store)["accuracy"] == classifier.score(store)


def test_features_are_those_of_the_chosen_columns(store: FeatureStore) -> None:
    for layer, names in (("text_emb", ["text_emb"]), (["text_emb", "img_emb"], ["text_emb", "img_emb"])):
        classifier = TransferClassifier.from_store(store, layer, head="centroid").fit(store)
        matrix = np.concatenate([store.matrix(name) for name in names], axis=1).astype(np.float32)
        is_right = np.array(NAMES) == "right"
        expected = np.stack([matrix[~is_right].mean(axis=0), matrix[is_right].mean(axis=0)])
        assert clone(classifier).fit(store).predict(store).tolist() == classifier.predict(store).tolist()
        nearest = np.linalg.norm(matrix[:, None] - expected, axis=2).argmin(axis=1)
        assert (classifier.predict(store) == np.array(["left", "right"])[nearest]).mean() > 0.9
        assert classifier.head_.n_features_in_ == matrix.shape[1]


def test_what_needs_the_backbone_says_that_it_is_unknown(store: FeatureStore, photos: Path, tmp_path: Path) -> None:
    classifier = TransferClassifier.from_store(store, head="lda").fit(store)
    before = sorted(tmp_path.iterdir())
    for use in (
        lambda: classifier.predict([np.zeros((8, 8, 3), np.uint8)]),
        lambda: classifier.predict_proba(photos),
        lambda: classifier.score(photos),
        lambda: classifier.save(tmp_path / "new" / "bundle"),
        lambda: classifier.to_onnx(tmp_path / "model.onnx"),
        lambda: clone(classifier).fit(photos),
        lambda: TransferClassifier("topwork:tiny", store=store.path).fit(photos),
        lambda: TransferClassifier("topwork:tiny").fit(store),
    ):
        with pytest.raises(IdentityError, match="foreign features: the backbone that computed them is unknown"):
            use()
    assert sorted(tmp_path.iterdir()) == before


def test_other_features_are_refused(store: FeatureStore, photos: Path, graph: ExportedGraph, tmp_path: Path) -> None:
    classifier = TransferClassifier.from_store(store, head="lda").fit(store)
    other = FeatureStore.import_features(tmp_path / "other", np.ones((3, 5)), name="img_emb")
    ours = FeatureStore.create(tmp_path / "ours", Extractor.from_graph(graph))
    extract_features(photos, ours)
    with pytest.raises(IdentityError, match=r"the backbone is not that of .*other: content is"):
        classifier.predict(other)
    with pytest.raises(IdentityError, match=r"the backbone is not that of .*ours: architecture is"):
        classifier.predict(ours)
    with pytest.raises(IdentityError, match="normalize is true, expected false"):
        TransferClassifier.from_store(store, normalize=True).fit(store)
    with pytest.raises(InputError, match="no column 'last'; expected of img_emb, text_emb"):
        TransferClassifier.from_store(store, "last").fit(store)
