"""Learning curves of stores: their own labels, splits, groups and columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from sklearn.datasets import load_digits
from topwork import FeatureStore, few_shot_curve
from topwork.errors import InputError

OPTIONS: dict[str, Any] = {"head": "centroid", "shots": (1, 4, "all"), "draws": 3}


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    """Digits; the first ten have no label, and the last hundred are a test split."""
    X, y = load_digits(return_X_y=True)
    found = FeatureStore.import_features(tmp_path / "store", X[:400].astype(np.float32))
    kept = [str(number) for number in range(10, 400)]
    splits = ["test" if number >= 300 else "train" for number in range(10, 400)]
    found.set_labels(pyarrow.table({"id": kept, "label": y[10:400], "split": splits}))
    return FeatureStore.open(found.path)


def test_store_is_read_with_its_labels_and_without_its_test_split(store: FeatureStore) -> None:
    X, y = load_digits(return_X_y=True)
    for split, rows in ((None, slice(10, 300)), ("test", slice(300, 400))):
        expected = few_shot_curve(X[rows].astype(np.float32), y[rows], **OPTIONS)
        found = few_shot_curve(store, split=split, **OPTIONS)
        assert [point.scores.tolist() for point in found] == [point.scores.tolist() for point in expected]
    assert few_shot_curve(store, **OPTIONS).slope is not None


def test_given_labels_and_groups_are_those_of_rows(store: FeatureStore) -> None:
    X, y = load_digits(return_X_y=True)
    labels = [None if row % 5 == 0 else str(y[row]) for row in range(400)]
    groups = np.arange(400) // 2
    rows = [row for row in range(300) if row % 5]
    expected = few_shot_curve(X[rows].astype(np.float32), y[rows], groups=groups[rows], **OPTIONS)
    found = few_shot_curve(store, labels, groups=groups, **OPTIONS)
    assert [point.scores.tolist() for point in found] == [point.scores.tolist() for point in expected]


def test_one_column_is_used_and_must_exist(store: FeatureStore) -> None:
    assert len(few_shot_curve(store, layer="features", **OPTIONS)) == 3
    with pytest.raises(InputError, match=r"'pixels'.*features"):
        few_shot_curve(store, layer="pixels", **OPTIONS)
    with pytest.raises(InputError, match="layer and split"):
        few_shot_curve(np.eye(4), list("abab"), layer="features")


def test_store_without_labels_is_an_error(tmp_path: Path) -> None:
    empty = FeatureStore.import_features(tmp_path / "store", np.eye(4, dtype=np.float32))
    with pytest.raises(InputError, match="no row"):
        few_shot_curve(empty)
