"""Refitting with unusual labels, rows and parents: no head is evaluated on rows that it has learned from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from topwork import FeatureStore, MLPHead, TransferClassifier, TransferRegressor, refit
from topwork.errors import InputError
from topwork.pipelines.estimators.holdout_rule import HoldOutRule

ROWS = 300
IDS = [f"item-{number:03d}" for number in range(ROWS)]
HELD = HoldOutRule().select(IDS, [None] * ROWS)
LABELS = [f"c{number % 5}" for number in range(ROWS)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """Return foreign features in which classes are easily distinguished; they are not to be changed."""
    generator = np.random.default_rng(0)
    X = generator.standard_normal((ROWS, 20)) + 2 * generator.standard_normal((5, 20))[np.arange(ROWS) % 5]
    return FeatureStore.import_features(tmp_path_factory.mktemp("edges") / "store", X.astype(np.float32), IDS, LABELS)


@pytest.fixture(scope="module")
def parent(store: FeatureStore) -> Any:
    """Return a classifier that has held a fifth of the rows out; it is not to be changed."""
    return refit(TransferClassifier.from_store(store, head="linear", cv=0).fit(store), store)


def test_overfitted_parent_does_not_start_a_child_that_is_evaluated_on_its_rows(store: FeatureStore) -> None:
    labels = np.random.default_rng(1).integers(10, size=ROWS)
    head = MLPHead(early_stopping=False, random_state=0)
    child = refit(TransferClassifier.from_store(store, head=head, cv=0).fit(store, labels), store, labels)
    assert child.lineage_["metrics"]["parent"] > 0.7
    assert child.lineage_["metrics"]["held_out"] < 0.3
    assert not child.lineage_["warm"]


def test_learned_ids_are_inherited(store: FeatureStore, parent: Any) -> None:
    rare = {IDS[row]: "rare" for row in np.flatnonzero(HELD)[:3]}
    first = refit(parent, store, rare)
    assert first.lineage_["held_out"]["n"] == HELD.sum() - 3  # a class is not held out whole
    second = refit(first, store, rare | {IDS[int(np.flatnonzero(~HELD)[0])]: "rare"})
    assert second.lineage_["held_out"]["n"] == HELD.sum()
    assert second.lineage_["metrics"]["parent_may_have_learned_them"]
    assert not second.lineage_["warm"]
    third = refit(second, store)
    assert not third.lineage_["metrics"]["parent_may_have_learned_them"]
    splits = pd.DataFrame({"id": IDS, "split": np.where(np.arange(ROWS) < 100, "test", "train")})
    fresh = refit(TransferClassifier.from_store(store, cv=0).fit(store), store, splits)
    assert refit(fresh, store, splits).lineage_["warm"]
    splits["split"] = np.where(np.arange(ROWS) < 110, "test", "train")
    assert refit(fresh, store, splits).lineage_["metrics"]["parent_may_have_learned_them"]


def test_parent_that_learned_under_other_ids_may_have_learned_the_rows(store: FeatureStore, tmp_path: Path) -> None:
    other = FeatureStore.import_features(tmp_path / "other", np.asarray(store.matrix("features")), labels=LABELS)
    child = refit(refit(TransferClassifier.from_store(other, cv=0).fit(other), other), store)
    assert child.lineage_["metrics"]["parent_may_have_learned_them"]


def test_values_are_held_out_though_each_is_another(store: FeatureStore) -> None:
    values = np.asarray(store.matrix("features"))[:, 0].astype(float)
    child = refit(TransferRegressor.from_store(store, cv=0).fit(store, values), store, values)
    assert child.lineage_["held_out"]["n"] == HELD.sum()
    assert child.lineage_["metrics"]["held_out"] > 0.9


@pytest.mark.parametrize("nothing", [None, float("nan"), pd.NA])
def test_missing_label_is_no_class(nothing: Any, store: FeatureStore, parent: Any) -> None:
    labels = [nothing] * 5 + LABELS[5:]
    for given in (labels, pd.Series(labels, index=IDS), dict(zip(IDS, labels, strict=True))):
        child = refit(parent, store, given)
        assert child.lineage_["unlabelled"] == 5
        assert child.classes_.tolist() == [f"c{number}" for number in range(5)]
    with pytest.warns(UserWarning, match="5 of 300"):
        fitted = TransferClassifier.from_store(store, cv=0).fit(store, labels)
    assert fitted.classes_.tolist() == [f"c{number}" for number in range(5)]


def test_series_goes_by_its_index_and_a_table_by_its_ids(store: FeatureStore, parent: Any) -> None:
    expected = refit(parent, store, LABELS).lineage_["labels"]
    series = pd.Series(LABELS, index=IDS).sample(frac=1, random_state=0)
    assert refit(parent, store, series).lineage_["labels"] == expected
    assert refit(parent, store, pd.DataFrame({"id": IDS, "label": LABELS}).iloc[::-1]).lineage_["labels"] == expected
    assert refit(parent, store, pd.Series(LABELS)).lineage_["labels"] == expected
    with pytest.raises(InputError, match=IDS[0]):
        refit(parent, store, pd.Series(["c0", "c1"], index=IDS[:1] * 2))


def test_labels_that_do_not_go_together_are_refused(store: FeatureStore, parent: Any) -> None:
    numbers = FeatureStore.open(store.path)
    with pytest.raises(InputError, match="2 columns"):
        refit(parent, store, np.eye(2, dtype=int)[np.arange(ROWS) % 2])
    several = TransferClassifier.from_store(store, cv=0).fit(store, np.eye(5, dtype=int)[np.arange(ROWS) % 5])
    with pytest.raises(InputError, match="5 columns"):
        refit(several, numbers)
    with pytest.raises(InputError, match="label_column"):
        refit(parent, store, label_column="label")
    with pytest.raises(InputError, match="bool, str"):
        refit(parent, store, {IDS[0]: True})


def test_missing_rows_to_evaluate_on_are_warned_of(store: FeatureStore, parent: Any) -> None:
    splits = pd.DataFrame({"id": IDS, "split": ["test"] * 50 + ["train"] * 250})
    child = refit(parent, store, splits, held_out=None)
    assert child.lineage_["held_out"]["by"] == "id"  # as its parent's
    by_split = refit(TransferClassifier.from_store(store, cv=0).fit(store), store, splits)
    assert by_split.lineage_["held_out"] == {"by": "split", "share": 0.0, "seed": 0, "n": 50}
    with pytest.warns(UserWarning, match="splits dev, eval"):
        assert refit(by_split, store).lineage_["metrics"] == {}


def test_whole_numbers_next_to_empty_cells_stay_integers(store: FeatureStore, tmp_path: Path) -> None:
    numbers = FeatureStore.import_features(
        tmp_path / "numbers", np.asarray(store.matrix("features")), IDS, [number % 5 for number in range(ROWS)]
    )
    parent = TransferClassifier.from_store(numbers, cv=0).fit(numbers)
    changes = pd.Series([1.0, np.nan, 3.0], index=IDS[:3])
    child = refit(parent, numbers, changes)
    assert child.classes_.tolist() == [0, 1, 2, 3, 4]
    assert child.classes_.dtype.kind == "i"
    assert child.lineage_["unlabelled"] == 1


def test_labels_of_several_types_hold_rows_out(store: FeatureStore) -> None:
    mixed = [1 if label == "c1" else True if label == "c2" else label for label in LABELS]
    child = refit(TransferClassifier.from_store(store, cv=0).fit(store, mixed), store, mixed)
    assert child.lineage_["held_out"]["n"] == HELD.sum()


def test_several_labels_of_a_table_go_by_position(store: FeatureStore) -> None:
    several = pd.DataFrame(np.eye(5, dtype=int)[np.arange(ROWS) % 5])
    child = refit(TransferClassifier.from_store(store, cv=0).fit(store, several), store, several)
    assert child.multilabel_


def test_series_labels_foreign_features_by_its_index(store: FeatureStore, tmp_path: Path) -> None:
    series = pd.Series(LABELS, index=IDS).iloc[::-1]
    other = FeatureStore.import_features(tmp_path / "other", np.asarray(store.matrix("features")), IDS, series)
    assert other.labels == LABELS


def test_class_that_a_fold_cannot_calibrate_is_no_error(store: FeatureStore) -> None:
    labels = ["rare" if number in (3, 200) else label for number, label in enumerate(LABELS)]
    classifier = TransferClassifier.from_store(store, head="logreg", calibrate=True).fit(store, labels)
    assert "rare" in classifier.classes_
