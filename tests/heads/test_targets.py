"""Labels of any kind become arrays that estimators can work with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from topwork.errors import InputError
from topwork.heads.linear.linear_probe import LinearProbe
from topwork.heads.mlp.mlp_head import MLPHead
from topwork.heads.targets import (
    are_missing,
    encode_labels,
    encode_with_classes,
    to_label_array,
    validate_labels,
    weigh_labels,
    weigh_rows,
)


@pytest.mark.parametrize(
    ("y", "kind"),
    [
        (["a", "b"], "U"),
        ([True, False], "b"),
        ([-3, 4], "i"),
        ([0.5, 1.0], "f"),
        (np.array([True, False], object), "b"),
        (np.array([1, -2], object), "i"),
        (np.array(["a", "b"], object), "U"),
        ([1, "a"], "O"),
        ([True, 2], "O"),
        ([1, 2.5], "f"),
        ([np.int64(1), 2], "i"),
        (np.array([True, 2], object), "O"),
        (pd.array([1, 2, 1], dtype="Int64"), "i"),
        (pd.array([True, False], dtype="boolean"), "b"),
        (pd.Series(["a", "b"], dtype="category"), "U"),
        ([("a", 1), ("b", 2)], "U"),
    ],
)
def test_labels_have_their_own_type(y: Any, kind: str) -> None:
    assert to_label_array(y).dtype.kind == kind


def test_numbers_beside_texts_stay_numbers() -> None:
    assert to_label_array([1, "a", 1]).tolist() == [1, "a", 1]


def test_objects_are_coded_by_type_and_by_how_they_are_written() -> None:
    labels = np.empty(6, object)
    labels[:] = ["b", 2, True, (1, 2), 2, "a"]
    classes, codes = encode_labels(labels)
    assert classes[codes].tolist() == labels.tolist()
    assert [type(label) for label in classes[codes].tolist()] == [type(label) for label in labels.tolist()]
    assert sorted(set(codes.tolist())) == list(range(5))


def test_labels_that_cannot_be_hashed_are_refused() -> None:
    labels = np.empty(2, object)
    labels[:] = [{}, {}]
    with pytest.raises(InputError, match="unhashable"):
        encode_labels(labels)


def test_places_and_what_is_unknown() -> None:
    classes = np.array(["a", "b", "c"])
    assert encode_with_classes(np.array(["c", "a", "c"]), classes).tolist() == [2, 0, 2]
    with pytest.raises(InputError, match=r"y holds \['x'\]"):
        encode_with_classes(np.array(["a", "x"]), classes)


def test_several_columns_are_labels_of_zeros_and_ones() -> None:
    assert validate_labels([[0, 1], [1, 1]]).shape == (2, 2)
    with pytest.raises(ValueError, match="1d array"):
        validate_labels([[0, 2], [1, 3]])


def test_weights_of_classes() -> None:
    classes, places, weights = np.array(["a", "b"]), np.array([0, 0, 0, 1]), np.ones(4)
    assert weigh_rows(None, classes, places, weights).tolist() == [1, 1, 1, 1]
    balanced = weigh_rows("balanced", classes, places, weights)
    assert balanced[:3].sum() == pytest.approx(balanced[3])
    assert weigh_rows({"b": 5}, classes, places, weights).tolist() == [1, 1, 1, 5]
    for wrong in ("even", {"x": 1, "b": 2}, {"a": 0, "b": 1}, {"a": np.inf, "b": 1}):
        with pytest.raises(InputError, match="class_weight"):
            weigh_rows(wrong, classes, places, weights)


def test_weights_of_labels() -> None:
    labels = np.arange(3)
    targets = np.array([[1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 1, 1]])
    weights = np.array([1.0, 1.0, 2.0, 1.0])
    balanced = weigh_labels("balanced", labels, targets=targets, weights=weights)
    assert balanced[:, 1].tolist() == weights.tolist()  # a label that always applies has nothing to balance
    for label in (0, 2):
        is_one = targets[:, label] == 1
        assert balanced[is_one, label].sum() == pytest.approx(balanced[~is_one, label].sum())
    given = weigh_labels({2: 5.0}, labels, targets=targets, weights=weights)
    assert given.tolist() == [[1, 1, 1], [1, 1, 1], [2, 2, 10], [1, 1, 5]]


def test_missing_labels_are_found_whatever_they_are() -> None:
    for labels in ([None, "a"], [float("nan"), 1.0], [pd.NA, True], pd.Series([None, "a"], dtype="category")):
        assert are_missing(to_label_array(labels)).tolist() == [True, False]
    assert are_missing(np.array([[1.0, np.nan]])).tolist() == [[False, True]]
    assert not are_missing(np.array(["None", "nan"])).any()


@pytest.mark.parametrize("head", [LinearProbe(), MLPHead(epochs=2, random_state=0)])
def test_heads_give_labels_of_pandas_back(head: Any) -> None:
    X = np.random.default_rng(0).standard_normal((40, 3))
    for labels in (pd.array([3, -1] * 20, dtype="Int64"), pd.array([True, False] * 20, dtype="boolean")):
        assert set(head.fit(X, labels).predict(X).tolist()) <= set(np.asarray(labels).tolist())
        assert head.classes_.dtype.kind in "ib"
    with pytest.raises(InputError, match="several types"):
        head.fit(X, [1, "x"] * 20)
