"""Labels in the forms that users have: what is learned from them, what is left out, and what cannot be compared."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from topwork import FeatureStore, TransferClassifier, TransferRegressor
from topwork.errors import InputError
from topwork.extract.graphs.exported_graph import ExportedGraph


@pytest.fixture
def classifier(graph: ExportedGraph) -> TransferClassifier:
    return TransferClassifier(graph, "layer2", head="logreg", cv=0)


@pytest.fixture
def frequent_switches() -> Iterator[None]:
    """Let threads take turns often, so that races show."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.parametrize("calibrate", [False, True])
def test_column_of_labels_gives_what_flat_labels_give(
    classifier: TransferClassifier, paths: list[Path], names: NDArray[np.str_], calibrate: bool
) -> None:
    classifier.set_params(calibrate=calibrate)
    expected = classifier.fit(paths, names).predict_proba(paths)
    for column in (names.reshape(-1, 1), pd.DataFrame({"label": names})):
        np.testing.assert_array_equal(classifier.fit(paths, column).predict_proba(paths), expected)


def test_column_of_values_is_one_value(graph: ExportedGraph, paths: list[Path]) -> None:
    values = np.arange(len(paths), dtype=float)
    regressor = TransferRegressor(graph, "layer2", cv=0).fit(paths, values.reshape(-1, 1))
    assert regressor.predict(paths).shape == values.shape


@pytest.mark.filterwarnings("ignore:.* have no label")
def test_labelled_items_alone_are_learned_from(
    classifier: TransferClassifier, paths: list[Path], names: NDArray[np.str_]
) -> None:
    partly = names.astype(object)
    partly[::4] = None
    kept = np.flatnonzero(np.arange(len(names)) % 4)
    weights = np.linspace(1, 2, len(names))
    expected = classifier.fit([paths[row] for row in kept], names[kept], sample_weight=weights[kept])
    probabilities = expected.predict_proba(paths)
    classifier.fit(paths, partly, sample_weight=weights)
    np.testing.assert_array_equal(classifier.predict_proba(paths), probabilities)
    assert (classifier.n_rows_, classifier.n_unlabelled_) == (len(kept), len(names) - len(kept))
    assert classifier.score(paths, partly) == np.mean(classifier.predict(paths)[kept] == names[kept])


@pytest.mark.filterwarnings("ignore:.* have no label")
def test_store_keeps_the_features_of_unlabelled_items(
    classifier: TransferClassifier, paths: list[Path], names: NDArray[np.str_], tmp_path: Path
) -> None:
    partly = [None, *names[1:]]
    classifier.set_params(store=tmp_path / "store").fit(paths, partly)
    store = FeatureStore.open(tmp_path / "store")
    assert (classifier.n_rows_, len(store.ids)) == (len(paths) - 1, len(paths))
    assert classifier.predict(store).shape == (len(paths),)
    assert TransferClassifier.from_store(store, "layer2", head="logreg", cv=0).fit(store).n_rows_ == len(paths) - 1


@pytest.mark.filterwarnings("ignore:.* have no label")
def test_values_beside_gaps_are_learned_from(graph: ExportedGraph, paths: list[Path]) -> None:
    values = np.arange(len(paths), dtype=float)
    values[3] = np.nan
    assert TransferRegressor(graph, "layer2", cv=0).fit(paths, values).n_rows_ == len(paths) - 1


@pytest.mark.filterwarnings("ignore:.* have no label")
def test_integers_beside_gaps_are_predicted_as_integers(
    classifier: TransferClassifier, paths: list[Path], names: NDArray[np.str_]
) -> None:
    codes = np.unique(names, return_inverse=True)[1].astype(float)
    codes[0] = np.nan
    assert classifier.fit(paths, pd.Series(codes)).predict(paths[:1]).dtype.kind == "i"


def test_lists_of_names_are_several_labels(
    classifier: TransferClassifier, paths: list[Path], names: NDArray[np.str_], tmp_path: Path
) -> None:
    lists = [["outside", name] if name != "roof" else ["made"] for name in names]
    classifier.fit(paths, lists)
    assert classifier.classes_.tolist() == ["flower", "made", "outside", "sky"]
    assert classifier.predict(paths).shape == (len(paths), 4)
    assert classifier.score(paths, lists) == 1
    with pytest.warns(UserWarning, match="bird"):
        classifier.score(paths, [["bird"], *lists[1:]])


def test_sparse_matrix_is_a_matrix(classifier: TransferClassifier, paths: list[Path], names: NDArray[np.str_]) -> None:
    indicators = (names[:, None] == np.unique(names)).astype(int)
    expected = classifier.fit(paths, indicators).predict_proba(paths)
    sparse = scipy.sparse.csr_matrix(indicators)
    np.testing.assert_array_equal(classifier.fit(paths, sparse).predict_proba(paths), expected)


def test_labels_of_another_type_or_spelling_are_no_zero(
    classifier: TransferClassifier, paths: list[Path], names: NDArray[np.str_]
) -> None:
    classifier.fit(paths, names)
    codes = np.unique(names, return_inverse=True)[1]
    with pytest.raises(InputError, match=r"numbers.*text"):
        classifier.score(paths, codes)
    with pytest.raises(InputError, match="'SKY'"):
        classifier.score(paths, ["SKY" if name == "sky" else name for name in names])
    with pytest.raises(InputError, match=r"several|one"):
        classifier.score(paths, np.eye(len(paths), dtype=int))


@pytest.mark.filterwarnings("ignore:the head is trained but not evaluated")
@pytest.mark.parametrize(
    ("head", "labels", "groups"),
    [("lda", np.repeat(np.arange(12), 2), None), ("logreg", np.arange(24) % 2, np.zeros(24))],
)
def test_head_that_cannot_be_evaluated_is_kept(
    head: str, labels: NDArray[Any], groups: Any, graph: ExportedGraph, paths: list[Path], tmp_path: Path
) -> None:
    fitted = TransferClassifier(graph, "layer2", head=head)
    fitted.fit(paths, labels, groups=groups)
    assert fitted.fit_report_ is None
    assert fitted.not_evaluated_
    assert fitted.predict(paths).shape == (24,)
    fitted.save(tmp_path / "bundle")


def test_head_that_fails_while_evaluated_is_kept(graph: ExportedGraph, paths: list[Path]) -> None:
    class FailsTheSecondTime(LogisticRegression):  # type: ignore[misc]
        fits = 0

        def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
            FailsTheSecondTime.fits += 1
            if FailsTheSecondTime.fits > 1:
                raise RuntimeError("out of luck")
            return super().fit(X, y, sample_weight)

    fitted = TransferClassifier(graph, "layer2", head=FailsTheSecondTime())
    with pytest.warns(match="trained but not evaluated: out of luck"):
        fitted.fit(paths, np.arange(len(paths)) % 2)
    assert fitted.not_evaluated_ == "out of luck"
    assert len(fitted.predict(paths)) == len(paths)


def test_head_that_cannot_learn_is_an_input_error(graph: ExportedGraph, paths: list[Path]) -> None:
    with pytest.raises(InputError, match=r"LinearDiscriminantAnalysis.*24 rows"):
        TransferClassifier(graph, "layer2", head="lda", cv=0).fit(paths, np.arange(len(paths)))


@pytest.mark.usefixtures("frequent_switches")
@pytest.mark.filterwarnings("ignore:.* items failed")
def test_threads_share_a_classifier(graph: ExportedGraph, paths: list[Path], names: NDArray[np.str_]) -> None:
    classifier = TransferClassifier(graph, "layer2", head="knn", on_error="record", cv=0).fit(paths, names)
    lists: list[list[Any]] = [["missing.png", *paths[1:]], [*paths[:-1], "missing.png"], paths[:10], paths]
    expected = [(classifier.score(items, names[: len(items)]), classifier.predict(items).tolist()) for items in lists]

    def answer(number: int) -> bool:
        items = lists[number % len(lists)]
        score = classifier.score(items, names[: len(items)])
        return (score, classifier.predict(items).tolist()) == expected[number % len(lists)]

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(answer, range(32)))


def test_items_without_a_group_are_groups_of_their_own(
    classifier: TransferClassifier, paths: list[Path], names: NDArray[np.str_]
) -> None:
    groups: list[Any] = [f"g{number // 2}" for number in range(len(paths))]
    alone = [None if number > 5 else group for number, group in enumerate(groups)]
    expected = [f"own {number}" if number > 5 else group for number, group in enumerate(groups)]
    classifier.set_params(cv=2)
    found = classifier.fit(paths, names, groups=alone).fit_report_
    assert found == classifier.fit(paths, names, groups=expected).fit_report_


@pytest.mark.parametrize("wrong", ["abc", None, -1, float("nan"), float("inf")])
def test_weights_are_numbers_of_at_least_zero(
    classifier: TransferClassifier, paths: list[Path], names: NDArray[np.str_], wrong: Any
) -> None:
    weights: list[Any] = [1.0] * len(paths)
    weights[3] = wrong
    with pytest.raises(InputError, match=r"sample_weight.*at least 0"):
        classifier.fit(paths, names, sample_weight=weights)
