"""Heads by name: they resolve, learn real digits, can be cloned and saved; other estimators pass through."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import skops.io
from numpy.typing import NDArray
from sklearn.base import clone, is_classifier
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from topwork.errors import InputError
from topwork.heads.registry import HEADS, resolve_head
from topwork.heads.saved_types import SAVED_TYPES, SKLEARN_TYPES

NAMES = ("linear", "auto", "logreg", "ridge", "lda", "knn", "centroid", "svm", "gp", "hgb", "mlp")
ACCURACY = {
    "linear": 0.90,
    "auto": 0.90,
    "gp": 0.80,
    "hgb": 0.85,
    "mlp": 0.90,
    "logreg": 0.90,
    "ridge": 0.86,
    "lda": 0.88,
    "knn": 0.92,
    "centroid": 0.79,
    "svm": 0.90,
}
ROWS_TO_LEARN_FROM = {"gp": 100}
"""Where 600 take too long."""
FEW = {"gp": 40}
"""Rows where the number does not matter."""
Digits = tuple[NDArray[np.float32], NDArray[np.int64]]


@pytest.fixture(scope="module")
def digits() -> Digits:
    data = load_digits()
    return data.data.astype(np.float32), data.target


def test_registry_holds_the_names_of_the_documentation() -> None:
    assert tuple(HEADS) == NAMES
    assert all(HEADS[name].name == name and HEADS[name].good_for for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_head_learns_digits(name: str, digits: Digits) -> None:
    X, y = digits
    rows = ROWS_TO_LEARN_FROM.get(name, 600)
    head = resolve_head(name).fit(X[:rows], y[:rows])
    assert is_classifier(head)
    assert head.classes_.tolist() == list(range(10))
    assert head.score(X[600:], y[600:]) >= ACCURACY[name]


@pytest.mark.parametrize("name", NAMES)
def test_clone_of_a_head_is_unfitted_and_learns_the_same(name: str, digits: Digits) -> None:
    X, y = digits
    rows = FEW.get(name, 100)
    head = resolve_head(name).fit(X[:rows], y[:rows])
    copy = clone(head)
    assert repr(copy) == repr(resolve_head(name))
    assert not hasattr(copy, "classes_")
    assert np.array_equal(copy.fit(X[:rows], y[:rows]).predict(X), head.predict(X))


@pytest.mark.parametrize("name", NAMES)
def test_names_give_a_new_estimator_each_time(name: str) -> None:
    assert resolve_head(name) is not resolve_head(name)


@pytest.mark.parametrize("name", ["linear", "logreg", "ridge", "lda", "centroid", "svm", "mlp"])
def test_linear_heads_do_not_depend_on_the_scale_of_a_feature(name: str, digits: Digits) -> None:
    X, y = digits
    scale = np.geomspace(1e-3, 1e3, X.shape[1]).astype(np.float32)
    plain, scaled = resolve_head(name).fit(X[:300], y[:300]), resolve_head(name).fit(X[:300] * scale, y[:300])
    assert np.mean(plain.predict(X) == scaled.predict(X * scale)) > 0.995


def test_knn_judges_by_direction_not_by_length(digits: Digits) -> None:
    X, y = digits
    head = resolve_head("knn").fit(X[:300], y[:300])
    assert np.array_equal(head.predict(X * np.float32(1024)), head.predict(X))


def test_centroid_needs_only_one_label_for_each_class(digits: Digits) -> None:
    X, y = digits
    rows = np.unique(y, return_index=True)[1]
    head = resolve_head("centroid").fit(X[rows], y[rows])
    assert np.array_equal(head.predict(X[rows]), y[rows])
    if hasattr(head, "predict_proba"):
        assert np.allclose(head.predict_proba(X[:50]).sum(axis=1), 1)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("width", [8, pytest.param(64, marks=pytest.mark.coverage)])
def test_head_is_saved_without_types_that_need_trust(name: str, width: int, digits: Digits) -> None:
    X, y = digits
    rows = FEW.get(name, 200)
    head = resolve_head(name).fit(X[:rows, -width:], y[:rows])
    untrusted = set(skops.io.get_untrusted_types(data=skops.io.dumps(head)))
    known = {*SKLEARN_TYPES, *(saved_type.path for saved_type in SAVED_TYPES)}
    assert untrusted - known == set()


@pytest.mark.parametrize(
    "estimator",
    [GaussianNB(), RandomForestClassifier(7, random_state=0), make_pipeline(StandardScaler(), LogisticRegression(C=3))],
)
def test_any_estimator_is_taken_as_an_unfitted_clone(estimator: Any, digits: Digits) -> None:
    X, y = digits
    head = resolve_head(estimator.fit(X[:50], y[:50]))
    assert head is not estimator
    assert repr(head) == repr(estimator)
    assert not hasattr(head, "classes_")
    assert head.fit(X, y).score(X, y) > 0.75


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match="'nothing'") as caught:
        resolve_head("nothing")
    assert all(name in str(caught.value) for name in NAMES)


@pytest.mark.parametrize("value", [None, 3, object(), StandardScaler()])
def test_other_objects_are_refused(value: Any) -> None:
    with pytest.raises(InputError, match=type(value).__name__):
        resolve_head(value)
