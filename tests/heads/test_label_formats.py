"""Labels of every form become arrays, equal to those of scikit-learn; labels that cannot be compared are errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse
from sklearn.preprocessing import MultiLabelBinarizer
from topwork.errors import InputError
from topwork.heads.label_formats import read_labels, require_known_labels

NAMES = [["warm"], ["cold", "plant"], [], ["cold"]]


@pytest.mark.parametrize("make", [list, lambda names: [set(own) for own in names], pd.Series, pa.array])
def test_lists_of_names_become_the_matrix_of_scikit_learn(make: Any) -> None:
    binarizer = MultiLabelBinarizer()
    labels = read_labels(make(NAMES))
    np.testing.assert_array_equal(labels.values, binarizer.fit_transform(NAMES))
    assert labels.names == binarizer.classes_.tolist()
    assert labels.is_labelled.all()


@pytest.mark.parametrize(
    "column",
    [
        np.array([[3], [1], [3]]),
        np.array([["b"], ["a"], ["b"]], object),
        [["b"], ["a"], ["b"]],
        pd.DataFrame({"label": ["b", "a", "b"]}),
        scipy.sparse.csr_matrix([[1], [0], [1]]),
    ],
)
def test_column_is_one_label_for_each_item(column: Any) -> None:
    labels = read_labels(column)
    assert labels.values.shape == (3,)
    assert labels.names is None
    assert labels.values[0] == labels.values[2] != labels.values[1]


def test_rows_of_numbers_are_a_matrix_with_the_names_of_a_table() -> None:
    rows = [[0, 1], [1, 1], [1, 0]]
    for labels in (rows, np.array(rows), scipy.sparse.csc_array(rows)):
        read = read_labels(labels)
        np.testing.assert_array_equal(read.values, rows)
        assert read.names is None
    read = read_labels(pd.DataFrame(rows, columns=["cold", "warm"]))
    np.testing.assert_array_equal(read.values, rows)
    assert read.names == ["cold", "warm"]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (pd.Series([1, None, 2], dtype="Int64"), [1, 2]),
        (pd.Series([2**60 + 1, None], dtype="Int64"), [2**60 + 1]),
        (pd.Series([1, None, 2]), [1, 2]),
        (np.array([1.5, np.nan]), [1.5]),
        (pd.Series(["a", None], dtype="category"), ["a"]),
        (pd.Series(["a", None], dtype="string"), ["a"]),
        (pd.Series([True, None], dtype="boolean"), [True]),
        (pa.array([1, None, 2]), [1, 2]),
        ([None, "a", float("nan")], ["a"]),
        ([[0, 1], None, [1, 0]], [[0, 1], [1, 0]]),
    ],
)
def test_labels_beside_gaps_keep_their_type(labels: Any, expected: list[Any]) -> None:
    read = read_labels(labels)
    taken = read.take_labelled()
    assert taken.dtype.kind == np.asarray(expected).dtype.kind
    assert taken.tolist() == expected
    assert len(read.is_labelled) == len(labels)


@pytest.mark.parametrize("integers", [[2**63, -1], [2**64, 0], [-(2**63) - 1, "a"], np.array([2**65], object)])
def test_integers_that_no_type_holds_are_errors(integers: Any) -> None:
    with pytest.raises(InputError, match="int64"):
        read_labels(integers)


def test_mixed_lists_and_names_are_an_error() -> None:
    with pytest.raises(InputError, match="list, str"):
        read_labels([["a"], "b"])


@pytest.mark.parametrize(
    ("given", "learned", "message"),
    [
        ([0, 1], ["0", "1"], "numbers.*text"),
        ([0.0, 1.0], ["0", "1"], "numbers.*text"),
        (["0"], [0, 1], "text.*numbers"),
        ([True], ["True"], "numbers.*text"),
        (["Cat"], ["cat", "dog"], "'Cat'.*'cat'"),
        (["cat", "dog "], ["cat", "dog"], "'dog '.*'dog'"),
        (["cafe\u0301"], ["caf\u00e9"], "spelling"),
        (["bird"], ["cat", "dog"], "none of the labels"),
    ],
)
def test_labels_that_no_class_equals_are_errors(given: list[Any], learned: list[Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        require_known_labels(np.array(given), np.array(learned))


@pytest.mark.parametrize(
    ("given", "learned"), [([0.0, 1.0], [0, 1]), ([True], [0, 1]), (["cat", "bird"], ["cat", "dog"]), ([], ["a"])]
)
def test_labels_of_which_one_is_a_class_are_compared(given: list[Any], learned: list[Any]) -> None:
    require_known_labels(np.array(given), np.array(learned))
