"""``TransferClassifier`` keeps scikit-learn's contract on images; scikit-learn's own checks are made for matrices.

What it does beyond that is tested in ``test_transfer_classifier.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from inspect import signature
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import sklearn
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score, cross_validate
from sklearn.utils.validation import has_fit_parameter
from topwork import Extractor, TransferClassifier
from topwork.errors import InputError
from topwork.extract.graphs.exported_graph import ExportedGraph
from topwork.heads.registry import HEADS, resolve_head

PARAMETERS = list(signature(TransferClassifier).parameters)
CLOSE = {"rtol": 1e-4, "atol": 1e-5}
NONSENSE = [
    ("layer", 3),
    ("pool", None),
    ("normalize", "no"),
    ("precision", 8),
    ("provider", 7),
    ("batch_size", True),
    ("batch_size", "many"),
    ("on_error", 3),
    ("max_pixels", "many"),
    ("max_pixels", -1),
    ("head", 3),
    ("head", LogisticRegression),
    ("store", 3),
    ("views", "two"),
    ("views", -1),
    ("views", 1.5),
    ("cv", 1),
    ("cv", "five"),
    ("calibrate", "yes"),
    ("abstain_below", 2),
    ("abstain_below", "half"),
    ("fidelity", "accuracy"),
]
NOTHING: dict[str, Callable[[], Any]] = {
    "list": list,
    "tuple": tuple,
    "array": lambda: np.empty((0, 60, 80, 3), np.uint8),
    "generator": lambda: iter(()),
}
KINDS: dict[str, list[Any]] = {
    "text": ["rosa canina", "Dach", "ß"],
    "numbers": [-2000000000, -1, 7],
    "small numbers": np.array([-128, -1, 127], np.int8).tolist(),
    "booleans": [True, False, False],
    "whole floats": [-1.0, 0.0, 2.0],
}
DTYPES = {"small numbers": np.int8}


def last_step(head: str) -> Any:
    return getattr(resolve_head(head), "steps", [(head, resolve_head(head))])[-1][1]


UNWEIGHTED = [name for name in HEADS if not has_fit_parameter(last_step(name), "sample_weight")]
SCORING = [name for name in HEADS if hasattr(resolve_head(name), "decision_function")]


class Weighed(LogisticRegression):  # type: ignore[misc]
    """A head that keeps the weights that it was given."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Weighed:
        self.weights_ = None if sample_weight is None else np.array(sample_weight)
        super().fit(X, y, sample_weight)
        return self


@pytest.fixture(scope="module")
def weights(paths: list[Path]) -> NDArray[np.float64]:
    """Return a weight for each photograph, all different, none zero."""
    return np.random.default_rng(0).permutation(len(paths)) / len(paths) + 0.5


@pytest.fixture(scope="module")
def fitted(graph: ExportedGraph, paths: list[Path], names: NDArray[np.str_]) -> TransferClassifier:
    """Return a classifier of all photographs; it is not to be changed."""
    return TransferClassifier(graph, "layer2").fit(paths, names)


def labelled(kind: str, names: NDArray[np.str_]) -> NDArray[Any]:
    return np.array(KINDS[kind], DTYPES.get(kind))[np.unique(names, return_inverse=True)[1]]


def test_parameters_of_the_extractor_are_all_there_with_the_same_defaults() -> None:
    own, extractors = signature(TransferClassifier).parameters, signature(Extractor).parameters
    assert {name: own[name].default for name in extractors} == {name: p.default for name, p in extractors.items()}


def test_constructor_stores_the_very_objects_and_nothing_else() -> None:
    given = {name: object() for name in PARAMETERS}
    classifier = TransferClassifier(**given)  # type: ignore[arg-type]
    assert vars(classifier) == given  # an object equals itself alone
    assert classifier.get_params(deep=False) == given


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_set_is_the_parameter_got_and_no_other_changes(name: str) -> None:
    classifier, value = TransferClassifier(), object()
    before = classifier.get_params()
    assert before == {name: p.default for name, p in signature(TransferClassifier).parameters.items()}
    assert classifier.set_params(**{name: value}) is classifier
    assert classifier.get_params() == {**before, name: value}
    assert getattr(classifier, name) is value


def test_parameters_of_a_head_are_parameters_too() -> None:
    classifier = TransferClassifier(head=resolve_head("logreg"))
    assert classifier.get_params()["head__logisticregression__C"] == 0.1
    classifier.set_params(head__logisticregression__C=7.0)
    assert classifier.head[-1].C == 7.0
    assert not any("__" in name for name in TransferClassifier(head="logreg").get_params())


@pytest.mark.parametrize(
    ("name", "unknown"), [("depth", "'depth'"), ("head__depth", "'depth'"), ("extractor__layer", "'extractor'")]
)
def test_unknown_parameter_is_refused_and_changes_nothing(name: str, unknown: str) -> None:
    classifier = TransferClassifier(head=LogisticRegression())
    before = classifier.get_params()
    with pytest.raises(ValueError, match=unknown):
        classifier.set_params(**{name: 3})
    assert classifier.get_params() == before


@pytest.mark.parametrize("head", ["lda", LogisticRegression(C=3.0)], ids=str)
def test_clone_has_equal_parameters_and_no_state(
    head: Any, graph: ExportedGraph, paths: list[Path], names: NDArray[np.str_], tmp_path: Path
) -> None:
    parameters = [
        graph,
        ["layer2"],
        ["avg"],
        head,
        tmp_path / "s",
        False,
        "fp32",
        "cpu",
        4,
        "record",
        10**6,
        1,
        3,
        False,
        0.5,
    ]
    used = TransferClassifier(*parameters).fit(paths, names)
    copy = clone(used)
    assert vars(copy).keys() == set(PARAMETERS)
    assert {**copy.get_params(), "head": 0} == {**used.get_params(), "head": 0}
    assert (type(copy.head), repr(copy.head)) == (type(head), repr(head))
    assert copy.head is not head or isinstance(head, str)
    with pytest.raises(NotFittedError):
        copy.predict(paths)
    assert used.predict(paths[:1]).tolist() in (["flower"], [None])


def test_use_before_fit_loads_nothing() -> None:
    classifier = TransferClassifier("nowhere:net", layer="nowhere", store="/nowhere")
    for method in ("predict", "predict_proba", "decision_function", "score"):
        with pytest.raises(NotFittedError):
            getattr(classifier, method)(["nowhere.png"])


@pytest.mark.parametrize(("name", "value"), NONSENSE, ids=lambda value: getattr(value, "__name__", str(value)))
def test_nonsense_is_named_by_fit_and_not_before(
    name: str, value: Any, graph: ExportedGraph, paths: list[Path], names: NDArray[np.str_]
) -> None:
    classifier = clone(TransferClassifier(graph, "layer2").set_params(**{name: value}))
    with pytest.raises(InputError, match=rf"\b{name}\b"):
        classifier.fit(paths, names)


@pytest.mark.parametrize("wrong", ["unknown head", "regressor", "one class", "views"])
def test_what_cannot_be_fitted_is_found_before_features_are_computed(
    wrong: str, graph: ExportedGraph, paths: list[Path], names: NDArray[np.str_], tmp_path: Path
) -> None:
    parameters = {"unknown head": {"head": "nothing"}, "regressor": {"head": Ridge()}, "views": {"views": -1}}
    classifier = TransferClassifier(graph, "layer2", store=tmp_path / "store", **parameters.get(wrong, {}))
    with pytest.raises(InputError):
        classifier.fit(paths, np.full(len(paths), "sky") if wrong == "one class" else names)
    assert not (tmp_path / "store").exists()


def test_fit_returns_itself_and_leaves_parameters_items_and_labels_alone(
    graph: ExportedGraph, pixels: NDArray[np.uint8], names: NDArray[np.str_]
) -> None:
    X, y = pixels.copy(), names.copy()
    X.flags.writeable = y.flags.writeable = False  # as joblib hands them to workers
    classifier = TransferClassifier(graph, ["layer2"], head=LogisticRegression(max_iter=500), cv=0)
    before = classifier.get_params()
    assert classifier.fit(X, y) is classifier
    assert classifier.predict(X).tolist() == names.tolist()
    assert all(value is classifier.get_params()[name] for name, value in before.items())
    assert not hasattr(classifier.head, "coef_")
    assert {name for name in vars(classifier) if not name.endswith("_")} == set(PARAMETERS)


@pytest.mark.parametrize("head", HEADS)
def test_fit_is_idempotent(head: str, graph: ExportedGraph, paths: list[Path], names: NDArray[np.str_]) -> None:
    classifier = TransferClassifier(graph, "layer2", head=head, cv=0).fit(paths[::2], names[::2])
    method = "predict_proba" if hasattr(classifier, "predict_proba") else "decision_function"
    first, attributes = getattr(classifier, method)(paths), vars(classifier).keys()
    np.testing.assert_array_equal(getattr(classifier.fit(paths[::2], names[::2]), method)(paths), first)
    assert vars(classifier).keys() == attributes


def test_nothing_of_an_earlier_fit_is_left(
    graph: ExportedGraph, paths: list[Path], names: NDArray[np.str_], tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    used = TransferClassifier(graph, ["layer1", "layer2"], head="knn", on_error="record", views=1)
    with pytest.warns(UserWarning, match="failed"):
        used.fit([tmp_path / "broken.png", *paths], ["sky", *names])
    assert (len(used.failures_) > 0, used.n_rows_) == (True, 48)
    used.set_params(layer="layer3", head="svm", views=0).fit(paths[8:], names[8:] == "sky")
    fresh = TransferClassifier(graph, "layer3", head="svm", on_error="record").fit(paths[8:], names[8:] == "sky")
    assert vars(used).keys() == vars(fresh).keys()
    assert (used.classes_.tolist(), used.n_rows_, used.failures_) == ([False, True], 16, [])
    assert hasattr(used, "predict_proba") is False
    np.testing.assert_array_equal(used.decision_function(paths), fresh.decision_function(paths))
    assert used.predict(paths).dtype == bool


def test_fit_that_fails_is_not_half_of_a_fit(graph: ExportedGraph, paths: list[Path], names: NDArray[np.str_]) -> None:
    classifier = TransferClassifier(graph, ["layer1", "layer2"], cv=0).fit(paths, names)
    before = classifier.decision_function(paths)
    classifier.set_params(layer=["layer2", "layer1"])  # as many columns, in another order
    with pytest.raises(InputError, match="'sky'"):
        classifier.fit(paths, np.full(len(paths), "sky"))
    with suppress(NotFittedError):
        np.testing.assert_allclose(classifier.decision_function(paths), before, **CLOSE)


@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function"])
def test_workers_answer_the_same(method: str, fitted: TransferClassifier, paths: list[Path]) -> None:
    expected = getattr(fitted, method)(paths)
    parts = (paths[:5], paths[5:])
    found = np.concatenate(joblib.Parallel(n_jobs=2)(joblib.delayed(getattr(fitted, method))(part) for part in parts))
    assert found.dtype == expected.dtype
    if method == "predict":
        assert found.tolist() == expected.tolist()
    else:
        np.testing.assert_allclose(found, expected, **CLOSE)


def test_worker_fits_the_same(
    graph: ExportedGraph, fitted: TransferClassifier, paths: list[Path], names: NDArray[np.str_]
) -> None:
    (there,) = joblib.Parallel(n_jobs=2)([joblib.delayed(TransferClassifier(graph, "layer2").fit)(paths, names)])
    np.testing.assert_allclose(there.predict_proba(paths), fitted.predict_proba(paths), **CLOSE)
    assert there.classes_.tolist() == fitted.classes_.tolist()


def test_permuted_items_have_permuted_answers(fitted: TransferClassifier, paths: list[Path]) -> None:
    order = np.random.default_rng(1).permutation(len(paths))
    permuted = [paths[i] for i in order]
    assert fitted.predict(permuted).tolist() == fitted.predict(paths)[order].tolist()
    for method in ("predict_proba", "decision_function"):
        expected = getattr(fitted, method)(paths)
        np.testing.assert_allclose(getattr(fitted, method)(permuted), expected[order], **CLOSE)
    assert len(np.unique(expected.round(3), axis=0)) == len(paths)


def test_permuted_items_train_the_same_head(
    graph: ExportedGraph, fitted: TransferClassifier, paths: list[Path], names: NDArray[np.str_]
) -> None:
    order = np.random.default_rng(2).permutation(len(paths))
    other = TransferClassifier(graph, "layer2", cv=0).fit([paths[i] for i in order], names[order])
    np.testing.assert_allclose(other.predict_proba(paths), fitted.predict_proba(paths), atol=1e-3)


def test_one_item_is_answered_as_among_others(fitted: TransferClassifier, paths: list[Path]) -> None:
    labels = fitted.predict(paths)
    for method in ("predict_proba", "decision_function"):
        expected = getattr(fitted, method)(paths)
        for i in range(0, len(paths), 5):
            np.testing.assert_allclose(getattr(fitted, method)([paths[i]]), expected[[i]], **CLOSE)
            assert fitted.predict([paths[i]]).tolist() == [labels[i]]


@pytest.mark.parametrize("kind", KINDS)
def test_no_items_have_no_answers_of_the_usual_kind(
    kind: str, graph: ExportedGraph, paths: list[Path], names: NDArray[np.str_]
) -> None:
    y = labelled(kind, names)
    classifier = TransferClassifier(graph, "layer2", head=LogisticRegression(max_iter=500), cv=0).fit(paths, y)
    for nothing in NOTHING.values():
        found = classifier.predict(nothing())
        assert (found.shape, found.dtype) == ((0,), y.dtype)
        probabilities = classifier.predict_proba(nothing())
        assert (probabilities.shape, probabilities.dtype.kind) == ((0, len(classifier.classes_)), "f")


@pytest.mark.parametrize("head", SCORING)
@pytest.mark.parametrize("n_classes", [2, 3])
def test_no_items_have_no_scores(
    n_classes: int, head: str, graph: ExportedGraph, paths: list[Path], names: NDArray[np.str_]
) -> None:
    y = names if n_classes == 3 else names == "sky"
    classifier = TransferClassifier(graph, "layer2", head=head, cv=0).fit(paths, y)
    expected = classifier.decision_function(paths)[:0]
    found = classifier.decision_function([])
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)


@pytest.mark.parametrize("nothing", NOTHING)
def test_fit_on_no_items_is_an_error_that_says_so(nothing: str, graph: ExportedGraph) -> None:
    with pytest.raises(InputError, match=r"\bno item\b|\b0\b"):
        TransferClassifier(graph, "layer2", cv=0).fit(NOTHING[nothing](), [])


@pytest.mark.filterwarnings("ignore:1 of 1 items failed")
@pytest.mark.parametrize("failing", [False, True])
def test_accuracy_of_no_items_is_an_error_that_says_so(
    failing: bool, graph: ExportedGraph, paths: list[Path], names: NDArray[np.str_]
) -> None:
    classifier = TransferClassifier(graph, "layer2", on_error="record", cv=0).fit(paths, names)
    with pytest.raises(InputError, match="no item"):
        classifier.score(*(([np.zeros((3, 3))], ["sky"]) if failing else ([], [])))


@pytest.mark.parametrize("kind", [*KINDS, "objects"])
def test_original_labels_come_back(kind: str, graph: ExportedGraph, paths: list[Path], names: NDArray[np.str_]) -> None:
    y = labelled("text", names).astype(object) if kind == "objects" else labelled(kind, names)
    classifier = TransferClassifier(graph, "layer2", head="svm", cv=0).fit(paths, y)
    predicted = classifier.predict(paths)
    assert (predicted.dtype, classifier.classes_.dtype) == (y.dtype, y.dtype)
    assert predicted.tolist() == y.tolist()
    assert [type(label) for label in predicted.tolist()] == [type(label) for label in y.tolist()]
    assert classifier.score(paths, y) == 1
    search = GridSearchCV(classifier, {"layer": ["layer2"]}, cv=2, error_score="raise").fit(paths, y)
    assert (search.classes_.dtype, search.predict(paths[:1]).tolist()) == (y.dtype, y[:1].tolist())


@pytest.mark.parametrize("dtype", ["category", "object", "string", "int64", "Int64", "bool", "boolean"])
def test_labels_and_items_of_pandas_go_by_position(
    dtype: str, graph: ExportedGraph, paths: list[Path], names: NDArray[np.str_]
) -> None:
    pandas = pytest.importorskip("pandas")
    values = {"i": np.where(names == "sky", -5, 3), "b": names == "sky"}.get(dtype[0].lower(), names)
    index = np.random.default_rng(0).permutation(len(paths))
    X, y = pandas.Series(paths, index=index), pandas.Series(values, index=index).astype(dtype)
    classifier = TransferClassifier(graph, "layer2", head="svm", cv=0).fit(X, y)
    assert classifier.predict(X).tolist() == values.tolist()
    assert classifier.predict(X).dtype.kind == np.asarray(y).dtype.kind
    assert classifier.score(X, y) == 1
    assert cross_val_score(classifier, X, y, cv=2, error_score="raise").min() > 0.8


def test_unused_category_is_no_class(graph: ExportedGraph, paths: list[Path], names: NDArray[np.str_]) -> None:
    pandas = pytest.importorskip("pandas")
    y = pandas.Categorical(names, ["sky", "sea", "roof", "flower"], ordered=True)
    classifier = TransferClassifier(graph, "layer2", head="svm", cv=0).fit(paths, y)
    assert classifier.classes_.tolist() == ["flower", "roof", "sky"]
    assert classifier.predict(paths).tolist() == names.tolist()


def test_search_over_heads_and_layers_scores_like_their_features(
    graph: ExportedGraph, paths: list[Path], names: NDArray[np.str_]
) -> None:
    flipped = np.where(np.arange(len(names)) % 5 == 0, np.roll(names, 9), names)  # or every score would be 1
    grid = {"head": ["centroid", LogisticRegression(max_iter=500)], "layer": ["layer1", ["layer3", "layer2"]]}
    search = GridSearchCV(TransferClassifier(graph, cv=0), grid, cv=3, error_score="raise").fit(paths, flipped)
    expected = [
        cross_val_score(
            resolve_head(point["head"]), Extractor(graph, point["layer"]).fit_transform(paths), flipped, cv=3
        ).mean()
        for point in search.cv_results_["params"]
    ]
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], expected)
    assert len(set(expected)) > 1
    best = TransferClassifier(graph, **search.best_params_).fit(paths, flipped)
    assert search.predict(paths).tolist() == best.predict(paths).tolist()


def test_parallel_search_finds_what_a_serial_one_finds(graph: ExportedGraph, names: NDArray[np.str_]) -> None:
    generator = np.random.default_rng(0)
    X = generator.integers(0, 256, (len(names), 130, 130, 3), dtype=np.uint8)
    X[names == "sky"] //= 2
    assert X.nbytes > 2**20  # workers get large arrays as read-only memory maps
    grid = {"head": ["centroid", "logreg"], "layer": ["layer1", "layer2"]}
    serial, parallel = (
        GridSearchCV(TransferClassifier(graph, cv=0), grid, cv=2, n_jobs=n, error_score="raise").fit(X, names)
        for n in (1, 2)
    )
    for column in ("split0_test_score", "split1_test_score"):
        np.testing.assert_allclose(parallel.cv_results_[column], serial.cv_results_[column])
    assert parallel.best_params_ == serial.best_params_
    assert parallel.predict(X).tolist() == serial.predict(X).tolist()


def test_weights_of_items_reach_the_head(
    graph: ExportedGraph, paths: list[Path], names: NDArray[np.str_], weights: NDArray[np.float64]
) -> None:
    classifier = TransferClassifier(graph, "layer2", head=Weighed(max_iter=500), cv=0)
    assert classifier.fit(paths, names).head_.weights_ is None
    for given in (weights, weights.tolist()):
        assert classifier.fit(paths, names, sample_weight=given).head_.weights_.tolist() == weights.tolist()
    matrix = classifier.extractor_.transform(paths)
    expected = LogisticRegression(max_iter=500).fit(matrix, names, weights)
    np.testing.assert_allclose(classifier.predict_proba(paths), expected.predict_proba(matrix), **CLOSE)


@pytest.mark.parametrize("routing", [False, True])
@pytest.mark.parametrize("head", ["logreg", "ridge", "svm"])
def test_item_of_no_weight_is_an_item_left_out(
    head: str, routing: bool, graph: ExportedGraph, paths: list[Path], names: NDArray[np.str_]
) -> None:
    is_right = np.arange(len(paths)) % 4 != 0
    y = np.where(is_right, names, np.roll(names, 8))
    classifier = TransferClassifier(graph, "layer2", head=head, cv=0)
    method = "predict_proba" if hasattr(classifier, "predict_proba") else "decision_function"
    some = clone(classifier).fit([path for path, kept in zip(paths, is_right, strict=True) if kept], y[is_right])
    everything = clone(classifier).fit(paths, y)
    with sklearn.config_context(enable_metadata_routing=routing):
        classifier.fit(paths, y, sample_weight=is_right.astype(float))
    found, expected = getattr(classifier, method)(paths), getattr(some, method)(paths)
    np.testing.assert_allclose(found, expected, atol=0.02)
    assert np.abs(expected - getattr(everything, method)(paths)).max() > 0.2


@pytest.mark.parametrize("head", UNWEIGHTED)
def test_head_without_weights_refuses_them_by_name(
    head: str, graph: ExportedGraph, paths: list[Path], names: NDArray[np.str_], weights: NDArray[np.float64]
) -> None:
    with pytest.raises(InputError, match="sample_weight"):
        TransferClassifier(graph, "layer2", head=head, cv=0).fit(paths, names, sample_weight=weights)


@pytest.mark.parametrize("wrong", [[1.0], np.ones((24, 2)), 1.0], ids=["short", "matrix", "number"])
def test_weights_must_be_one_for_each_item(
    wrong: Any, graph: ExportedGraph, paths: list[Path], names: NDArray[np.str_]
) -> None:
    with pytest.raises(InputError, match=r"24 items.*sample_weight"):
        TransferClassifier(graph, "layer2", cv=0).fit(paths, names, sample_weight=wrong)


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("views", [0, 2])
@pytest.mark.filterwarnings("ignore:.* items failed")
def test_failed_items_take_their_weights_with_them_and_views_share_those_of_their_item(
    views: int,
    stored: bool,
    graph: ExportedGraph,
    paths: list[Path],
    names: NDArray[np.str_],
    weights: NDArray[np.float64],
    tmp_path: Path,
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    X, y = [*paths[:5], tmp_path / "broken.png", *paths[5:]], np.insert(names, 5, "sky")
    store = tmp_path / "store" if stored else None
    classifier = TransferClassifier(graph, "layer2", head=Weighed(), store=store, on_error="record", views=views, cv=0)
    classifier.fit(X, y, sample_weight=np.insert(weights, 5, 99.0))
    assert classifier.head_.weights_.tolist() == np.repeat(weights, views + 1).tolist()


def test_accuracy_is_weighed(fitted: TransferClassifier, paths: list[Path], weights: NDArray[np.float64]) -> None:
    y = np.where(np.arange(len(paths)) < 7, "none of them", fitted.predict(paths))
    assert fitted.score(paths, y, sample_weight=weights) == pytest.approx(
        np.average(y != "none of them", None, weights)
    )


@pytest.mark.filterwarnings("ignore:1 of 25 items failed")
def test_accuracy_is_weighed_without_the_items_that_failed(
    graph: ExportedGraph, paths: list[Path], names: NDArray[np.str_], weights: NDArray[np.float64]
) -> None:
    classifier = TransferClassifier(graph, "layer2", on_error="record", cv=0).fit(paths, names)
    y = np.where(np.arange(len(paths)) < 7, "none of them", names)
    found = classifier.score([np.zeros((3, 3)), *paths], ["sky", *y], sample_weight=[99.0, *weights])
    assert found == pytest.approx(classifier.score(paths, y, sample_weight=weights))


@pytest.mark.parametrize("routing", [False, True])
def test_each_fit_of_a_search_is_given_the_weights_of_its_items(
    routing: bool, graph: ExportedGraph, paths: list[Path], names: NDArray[np.str_], weights: NDArray[np.float64]
) -> None:
    flipped = np.where(np.arange(len(names)) % 5 == 0, np.roll(names, 9), names)  # or every score would be 1
    folds, classifier = StratifiedKFold(2), TransferClassifier(graph, "layer2", head=Weighed(max_iter=500), cv=0)
    with sklearn.config_context(enable_metadata_routing=routing):
        if routing:
            classifier.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        given = {"params": {"sample_weight": weights}, "return_estimator": True, "error_score": "raise"}
        parts = cross_validate(classifier, paths, flipped, cv=folds, **given)
        search = GridSearchCV(classifier, {"layer": ["layer2"]}, cv=folds, error_score="raise")
        search.fit(paths, flipped, sample_weight=weights)
    assert search.best_estimator_.head_.weights_.tolist() == weights.tolist()
    places = list(folds.split(paths, flipped))
    for part, (train, _) in zip(parts["estimator"], places, strict=True):
        assert part.head_.weights_.tolist() == weights[train].tolist()
    if routing:
        scores = [
            part.score([paths[i] for i in test], flipped[test], sample_weight=weights[test])
            for part, (_, test) in zip(parts["estimator"], places, strict=True)
        ]
        assert parts["test_score"] == pytest.approx(scores)
        assert search.best_score_ == pytest.approx(np.mean(scores))


def test_search_does_not_route_weights_that_were_not_asked_for(
    graph: ExportedGraph, paths: list[Path], names: NDArray[np.str_], weights: NDArray[np.float64]
) -> None:
    with sklearn.config_context(enable_metadata_routing=True):
        classifier = TransferClassifier(graph, "layer2", head=Weighed(), cv=0)
        classifier.set_fit_request(sample_weight=False).set_score_request(sample_weight=True)
        search = GridSearchCV(classifier, {"layer": ["layer2"]}, cv=2, error_score="raise")
        search.fit(paths, names, sample_weight=weights)
    assert search.best_estimator_.head_.weights_ is None
