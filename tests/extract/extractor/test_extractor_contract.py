"""``Extractor`` keeps scikit-learn's contract on images; scikit-learn's own checks are made for matrices.

What each parameter and kind of item does is tested in ``test_extractor.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import sklearn
import topwork
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted
from topwork.errors import InputError
from topwork.extract.extractor.extractor import Extractor

Images = list[NDArray[np.uint8]]
PARAMETERS = list(signature(Extractor).parameters)
CLOSE = {"rtol": 1e-5, "atol": 1e-6}
INT8 = pytest.param("int8", marks=pytest.mark.needs("int8"))
NONSENSE = [
    ("backbone", 3),
    ("layer", 3),
    ("layer", [3]),
    ("pool", None),
    ("normalize", "no"),
    ("normalize", 2),
    ("precision", None),
    ("provider", "abacus"),
    ("provider", 7),
    ("batch_size", True),
    ("batch_size", "many"),
    ("on_error", "ignore"),
    ("on_error", 3),
    ("max_pixels", "many"),
    ("max_pixels", -1),
]
NOTHING: dict[str, Callable[[], Any]] = {
    "list": list,
    "tuple": tuple,
    "array": lambda: np.empty((0, 32, 32, 3), np.uint8),
    "generator": lambda: iter(()),
}


@pytest.fixture(scope="module")
def images() -> Images:
    """Return nine different images of different sizes that nobody may write to."""
    generator = np.random.default_rng(0)
    made = [generator.integers(0, 256, (30 + 3 * i, 60 - 2 * i, 3), dtype=np.uint8) for i in range(9)]
    for image in made:
        image.flags.writeable = False
    return made


@pytest.fixture(scope="module")
def features(images: Images) -> NDArray[np.float32]:
    """Return their features at ``layer2``, no two rows alike."""
    found = Extractor(layer="layer2").fit_transform(images)
    assert len(np.unique(found.round(3), axis=0)) == len(images)
    return found


@pytest.fixture(scope="module")
def insects(hymenoptera: Path) -> tuple[list[Path], NDArray[np.str_]]:
    """Return a few photographs of ants and of bees, in turn, and their labels."""
    kinds = [sorted((hymenoptera / "train" / kind).glob("*.jpg"))[:12] for kind in ("ants", "bees")]
    paths = [path for pair in zip(*kinds, strict=True) for path in pair]
    assert len(paths) == 24
    return paths, np.array([path.parent.name for path in paths])


def test_constructor_stores_the_very_objects_and_nothing_else() -> None:
    given = {name: object() for name in PARAMETERS}
    extractor = Extractor(**given)  # type: ignore[arg-type]
    assert vars(extractor) == given  # an object equals itself alone
    assert extractor.get_params(deep=False) == given


def test_defaults_are_those_of_the_signature() -> None:
    assert Extractor().get_params() == {name: p.default for name, p in signature(Extractor).parameters.items()}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_set_is_the_parameter_got_and_no_other_changes(name: str) -> None:
    extractor, value = Extractor(), object()
    before = extractor.get_params()
    assert extractor.set_params(**{name: value}) is extractor
    assert extractor.get_params() == {**before, name: value}
    assert getattr(extractor, name) is value
    assert extractor.set_params(**before).get_params() == before


def test_unknown_parameter_is_refused_and_changes_nothing() -> None:
    extractor = Extractor(layer="layer2")
    with pytest.raises(ValueError, match="depth"):
        extractor.set_params(depth=3)
    assert extractor.get_params() == Extractor(layer="layer2").get_params()
    assert not hasattr(extractor, "depth")
    with pytest.raises(TypeError, match="depth"):
        Extractor(depth=3)  # type: ignore[call-arg]


def test_clone_has_equal_parameters_and_no_state(images: Images) -> None:
    backbone = topwork.load_backbone("topwork:tiny")
    used = Extractor(backbone, "layer2", ["auto"], False, "fp32", "cpu", 4, "record", 10**6)
    used.fit_transform(images)
    for copy in (clone(used), clone(clone(used))):
        assert copy.get_params() == used.get_params()
        assert copy.backbone is backbone  # or every fold of a search would copy the network
        assert vars(copy).keys() == set(PARAMETERS)
    assert hasattr(used, "precision_")


@pytest.mark.parametrize(("name", "value"), NONSENSE, ids=lambda value: str(value))
def test_nonsense_is_named_by_fit_and_not_before(name: str, value: Any, images: Images) -> None:
    extractor = clone(Extractor(layer="layer2").set_params(**{name: value}))
    with pytest.raises(InputError, match=rf"\b{name}\b"):
        extractor.fit(images)


@pytest.mark.parametrize("kind", [np.int64, np.uint8])
def test_whole_number_of_numpy_is_a_batch_size(
    kind: type[np.integer[Any]], images: Images, features: NDArray[np.float32]
) -> None:
    found = Extractor(layer="layer2", batch_size=kind(4)).fit_transform(images)  # type: ignore[arg-type]
    np.testing.assert_allclose(found, features, **CLOSE)


def test_fit_returns_itself_and_leaves_parameters_and_items_alone(images: Images) -> None:
    layers, copies = ["layer2", "last"], [image.copy() for image in images]
    extractor = Extractor(layer=layers, batch_size=3)
    before = extractor.get_params()
    assert extractor.fit(images) is extractor
    extractor.transform(images)
    assert all(getattr(extractor, name) is value for name, value in before.items())
    assert layers == ["layer2", "last"]
    assert all(map(np.array_equal, images, copies))
    public = {name for name in vars(extractor) if not name.startswith("_") and not name.endswith("_")}
    assert public == set(PARAMETERS)


def test_fit_transform_is_fit_then_transform_and_labels_are_ignored(
    images: Images, features: NDArray[np.float32]
) -> None:
    np.testing.assert_array_equal(Extractor(layer="layer2").fit(images).transform(images), features)
    np.testing.assert_array_equal(Extractor(layer="layer2").fit_transform(images, list("abcabcabc")), features)


@pytest.mark.parametrize("precision", ["auto", "fp32", INT8])
def test_fit_is_idempotent(precision: str, images: Images) -> None:
    extractor = Extractor(layer="layer2", precision=precision).fit(images)
    first, chosen = extractor.transform(images), extractor.precision_
    np.testing.assert_array_equal(extractor.fit(images).transform(images), first)
    assert extractor.precision_ == chosen


@pytest.mark.parametrize("before", ["fp32", INT8])
@pytest.mark.parametrize("after", ["auto", "fp32", INT8])
def test_second_fit_equals_a_fresh_one(before: str, after: str, images: Images) -> None:
    dark = [image // 4 for image in images]
    used = Extractor(layer="last", precision=before).fit(dark)
    used.transform(dark)
    used.set_params(layer="layer2", precision=after).fit(images)
    fresh = Extractor(layer="layer2", precision=after).fit(images)
    assert used.precision_ == fresh.precision_
    np.testing.assert_array_equal(used.transform(images), fresh.transform(images))
    assert used.get_feature_names_out().tolist() == fresh.get_feature_names_out().tolist()


@pytest.mark.needs("int8")
def test_int8_is_calibrated_on_the_items_of_the_last_fit(images: Images) -> None:
    dark = [image // 4 for image in images]
    extractor = Extractor(layer="layer2", precision="int8")
    first = extractor.fit(dark).precision_
    fresh = Extractor(layer="layer2", precision="int8").fit(images)
    assert extractor.fit(images).precision_ == fresh.precision_ != first


def test_items_that_failed_are_forgotten_by_the_next_call(images: Images) -> None:
    extractor = Extractor(layer="layer2", on_error="record")
    with pytest.warns(UserWarning, match="1 of 10 items failed"):
        assert len(extractor.fit_transform([np.zeros((3, 3)), *images])) == 9
    assert (len(extractor.failures_), extractor.kept_.tolist()) == (1, list(range(1, 10)))
    extractor.fit_transform([])
    assert (extractor.failures_, extractor.kept_.tolist()) == ([], [])


@pytest.mark.parametrize("fitted", [False, True])
def test_feature_names_are_one_for_each_column_and_different(fitted: bool, images: Images) -> None:
    extractor = Extractor(layer=["layer2", "last"])
    width = (
        extractor.fit_transform(images[:1]).shape[1] if fitted else Extractor(**extractor.get_params()).n_features_out_
    )
    names = extractor.get_feature_names_out()
    assert names.dtype == object
    assert len(set(names)) == len(names) == width
    assert {name.rsplit("_", 1)[0] for name in names} == {"layer2", "last"}
    assert extractor.get_feature_names_out(["anything"]).tolist() == names.tolist()


def test_feature_names_go_through_pipelines_and_unions(images: Images) -> None:
    extractor = Extractor(layer="layer2")
    names = extractor.get_feature_names_out().tolist()
    pipeline = make_pipeline(extractor, StandardScaler()).fit(images)
    assert pipeline.get_feature_names_out().tolist() == names
    union = make_union(extractor, Extractor(layer="last")).fit(images)
    expected = [f"extractor-1__{name}" for name in names]
    assert union.get_feature_names_out().tolist()[: len(names)] == expected
    both = Extractor(layer=["layer2", "last"]).fit_transform(images)
    np.testing.assert_allclose(union.transform(images), both, **CLOSE)


def test_pandas_can_be_asked_for_and_left_again(images: Images, features: NDArray[np.float32]) -> None:
    pandas = pytest.importorskip("pandas")
    extractor = Extractor(layer="layer2").set_output(transform="pandas")
    for table in (extractor.fit_transform(images), clone(extractor).fit(images).transform(images)):
        assert isinstance(table, pandas.DataFrame)
        assert table.columns.tolist() == extractor.get_feature_names_out().tolist()
        assert set(table.dtypes) == {np.dtype(np.float32)}
        np.testing.assert_array_equal(table.to_numpy(), features)
    assert extractor.transform([]).shape == (0, features.shape[1])
    with sklearn.config_context(transform_output="pandas"):
        assert isinstance(Extractor(layer="layer2").fit_transform(images), pandas.DataFrame)
    assert type(extractor.set_output(transform="default").transform(images)) is np.ndarray


@pytest.mark.parametrize("fitted", [False, True])
def test_worker_computes_the_same(fitted: bool, images: Images, features: NDArray[np.float32]) -> None:
    extractor = Extractor(layer="layer2")
    if fitted:
        extractor.fit_transform(images)
    parts = [images[:4], images[4:]]
    found = joblib.Parallel(n_jobs=2)(joblib.delayed(extractor.transform)(part) for part in parts)
    np.testing.assert_allclose(np.vstack(found), features, **CLOSE)


@pytest.mark.needs("int8")
def test_precision_that_was_found_on_items_goes_to_workers(images: Images) -> None:
    extractor = Extractor(layer="layer2", precision="int8").fit(images)
    expected = extractor.transform(images)
    (found,) = joblib.Parallel(n_jobs=2)([joblib.delayed(extractor.transform)(images)])
    np.testing.assert_allclose(found, expected, **CLOSE)


def test_extractor_needs_no_fit_and_says_so(images: Images, features: NDArray[np.float32]) -> None:
    extractor = Extractor(layer="layer2")
    check_is_fitted(extractor)
    np.testing.assert_array_equal(extractor.transform(images), features)
    tags = extractor.__sklearn_tags__()
    assert (tags.requires_fit, tags.no_validation, tags.input_tags.two_d_array) == (False, True, False)


@pytest.mark.parametrize("method", ["predict", "predict_proba", "score"])
def test_pipeline_before_fit_is_scikit_learns_error(method: str, images: Images) -> None:
    pipeline = make_pipeline(Extractor(layer="layer2"), LogisticRegression())
    arguments = (images, ["a"] * 9) if method == "score" else (images,)
    with pytest.raises(NotFittedError):
        getattr(pipeline, method)(*arguments)


def test_permuted_items_have_permuted_rows(images: Images, features: NDArray[np.float32]) -> None:
    order = np.random.default_rng(1).permutation(len(images))
    extractor = Extractor(layer="layer2", batch_size=2).fit(images)
    np.testing.assert_allclose(extractor.transform([images[i] for i in order]), features[order], **CLOSE)


def test_one_item_has_the_row_that_it_has_among_others(images: Images, features: NDArray[np.float32]) -> None:
    extractor = Extractor(layer="layer2").fit(images)
    for image, row in zip(images, features, strict=True):
        found = extractor.transform([image])
        assert found.shape == (1, len(row))
        np.testing.assert_allclose(found[0], row, **CLOSE)


@pytest.mark.parametrize("kind", NOTHING)
def test_no_items_are_a_matrix_of_no_rows(kind: str, images: Images, features: NDArray[np.float32]) -> None:
    found = Extractor(layer="layer2").fit(images).transform(NOTHING[kind]())
    assert (found.shape, found.dtype) == ((0, features.shape[1]), np.float32)


@pytest.mark.parametrize("labels", ["names", "negative numbers", "booleans"])
def test_cross_validated_pipeline_scores_like_its_features(
    labels: str, insects: tuple[list[Path], NDArray[np.str_]]
) -> None:
    paths, names = insects
    y = {"names": names, "negative numbers": np.where(names == "ants", -5, 2), "booleans": names == "ants"}[labels]
    extractor = Extractor(layer="layer2")
    pipeline = make_pipeline(extractor, StandardScaler(), LogisticRegression(max_iter=500))
    scores = cross_val_score(pipeline, paths, y, cv=3, error_score="raise")
    expected = cross_val_score(pipeline[1:], clone(extractor).fit_transform(paths), y, cv=3, error_score="raise")
    np.testing.assert_array_equal(scores, expected)
    predicted = pipeline.fit(paths, y).predict(paths)
    assert predicted.dtype == y.dtype
    assert predicted.tolist() == y.tolist()  # more columns than rows


@pytest.mark.parametrize("routing", [False, True])
def test_weights_pass_by_the_extractor_to_the_last_step(routing: bool, images: Images) -> None:
    y, weights = np.array(list("ababababa")), np.array([0, 0, 0, 1, 1, 1, 1, 1, 1.0])
    with sklearn.config_context(enable_metadata_routing=routing):
        last = LogisticRegression().set_fit_request(sample_weight=True) if routing else LogisticRegression()
        pipeline = make_pipeline(Extractor(layer="layer2"), last)
        pipeline.fit(images, y, **{"sample_weight" if routing else "logisticregression__sample_weight": weights})
    some = make_pipeline(Extractor(layer="layer2"), LogisticRegression()).fit(images[3:], y[3:])
    everything = clone(some).fit(images, y)
    found = pipeline.predict_proba(images)
    np.testing.assert_allclose(found, some.predict_proba(images), atol=1e-3)
    assert np.abs(found - everything.predict_proba(images)).max() > 1e-2
