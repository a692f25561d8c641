"""Heads are trained on augmented versions, and evaluated without them; versions of one item stay together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import GroupKFold
from topwork.errors import InputError
from topwork.extract.extractor.extractor import Extractor
from topwork.extract.jobs.job import extract_features
from topwork.extract.store.feature_store import FeatureStore
from topwork.pipelines.estimators.evaluation import evaluate
from topwork.pipelines.estimators.transfer_classifier import TransferClassifier


@pytest.fixture
def store(photos: Path, tmp_path: Path) -> FeatureStore:
    store = FeatureStore.create(tmp_path / "store", Extractor("topwork:tiny", layer="layer2"))
    assert extract_features(photos, store, views=2).computed == 72
    return FeatureStore.open(store.path)


def test_views_are_rows_with_label_and_group_of_their_item(store: FeatureStore) -> None:
    assert (store.n_rows, store.n_views) == (72, 2)
    assert store.ids[:3] == ["flower/0.png", "flower/0.png@1", "flower/0.png@2"]
    assert store.groups[:4] == ["flower/0.png"] * 3 + ["flower/1.png"]
    assert store.labels[:3] == ["flower"] * 3
    matrix = store.matrix("layer2")
    assert len(np.unique(matrix[:3], axis=0)) == 3


def test_cross_validation_keeps_the_views_of_an_item_together(store: FeatureStore) -> None:
    groups = np.array(store.groups)
    for train, test in GroupKFold(3).split(store.matrix("layer2"), store.labels, groups):
        assert not set(groups[train]) & set(groups[test])


def test_job_goes_on_with_as_many_views_as_the_store_has(store: FeatureStore, photos: Path) -> None:
    ledger = extract_features(photos, store)
    assert (ledger.computed, ledger.items, ledger.absent) == (0, 72, 0)
    assert extract_features(photos, store, views=3).computed == 24
    assert FeatureStore.open(store.path).n_views == 3


def test_views_that_were_lost_are_computed_again(store: FeatureStore, photos: Path) -> None:
    ids, before = store.ids, np.array(store.matrix("layer2"))
    (store.path / str(store.state.compacted) / "c0001.npy").unlink()
    assert len(FeatureStore.open(store.path).repair().pending) == 72
    assert extract_features(photos, store).computed == 72
    assert FeatureStore.open(store.path).ids == ids
    np.testing.assert_array_equal(FeatureStore.open(store.path).matrix("layer2"), before)


def test_heads_are_evaluated_without_views(store: FeatureStore) -> None:
    classifier = TransferClassifier.from_store(store, head="centroid").fit(store)
    assert classifier.n_rows_ == 72
    assert evaluate(classifier, store)["n"] == 24
    right = classifier.predict(store) == np.array(store.labels)
    is_own = np.array([group == item_id for group, item_id in zip(store.groups, store.ids, strict=True)])
    assert classifier.score(store) == right[is_own].mean() == evaluate(classifier, store)["accuracy"]


@pytest.mark.parametrize("is_stored", [False, True])
def test_classifier_trains_on_views(photos: Path, tmp_path: Path, is_stored: bool) -> None:
    paths = sorted(photos.rglob("*.png"))
    labels = [path.parent.name.upper() for path in paths]
    place = tmp_path / "features" if is_stored else None
    classifier = TransferClassifier("topwork:tiny", layer="layer2", head="lda", store=place, views=2)
    classifier.fit(paths, labels)
    assert classifier.n_rows_ == 72
    assert classifier.score(paths, labels) > 0.9
    assert len(classifier.predict(paths)) == 24


def test_text_has_no_views(text_graph: object, text_table: Path) -> None:
    with pytest.raises(InputError, match="views"):
        TransferClassifier.from_graph(text_graph, views=2).fit(text_table)  # type: ignore[arg-type]
