"""Stores in notebooks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from topwork import FeatureStore

from ...html_reading import HOSTILE, HOSTILE_DIRECTION, check_harmless


def test_store_shows_rows_labels_and_columns(tmp_path: Path) -> None:
    labels = ["cat"] * 5 + ["dog"] * 3 + [None] * 2
    store = FeatureStore.import_features(tmp_path / "store", np.eye(10, dtype=np.float32), labels=labels)
    values = [number / 10 for number in range(10)]
    store.set_labels(dict(zip(store.ids, values, strict=True)), name="weight")
    shown = check_harmless(FeatureStore.open(store.path)._repr_html_()).texts
    assert shown[0] == "FeatureStore"
    assert shown[shown.index("rows") + 1] == "10"
    assert shown[shown.index("label") + 1] == "8 rows: cat (5), dog (3)"
    assert shown[shown.index("weight") + 1] == "10 rows: 10 different values"
    assert shown[-3:] == ["features", "10", "float32"]
    assert "split" not in shown
    some = check_harmless(store[np.arange(3)]._repr_html_()).texts
    assert some[some.index("rows") + 1] == "3"


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    features = np.eye(4, dtype=np.float32)
    labels = [HOSTILE, HOSTILE_DIRECTION] * 2
    store = FeatureStore.import_features(tmp_path / HOSTILE, features, labels=labels, name="features")
    store.set_labels(dict.fromkeys(store.ids, HOSTILE), name=HOSTILE)
    shown = check_harmless(FeatureStore.open(store.path)._repr_html_()).texts
    assert HOSTILE in shown
    assert any(text.endswith(HOSTILE) for text in shown)  # the path
    assert any(HOSTILE_DIRECTION.replace("\u202e", "\\u202e") in text for text in shown)
