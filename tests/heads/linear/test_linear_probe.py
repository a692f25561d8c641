"""Linear probes: the optimum of scikit-learn's logistic regression, whatever the labels, weights, folds and files."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn
from numpy.typing import NDArray
from scipy.special import logsumexp
from sklearn.datasets import load_digits, make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import get_scorer
from sklearn.model_selection import GridSearchCV, GroupKFold, StratifiedKFold, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from topwork.errors import InputError
from topwork.heads.linear import feature_blocks
from topwork.heads.linear.linear_probe import LinearProbe, LinearProbeCV

Data = tuple[NDArray[Any], NDArray[Any]]


@pytest.fixture(scope="module")
def digits() -> Data:
    data = load_digits()
    return data.data.astype(np.float32), data.target


def correlated(classes: int, rows: int = 600) -> Data:
    X, y = make_classification(
        rows,
        30,
        n_informative=12,
        n_redundant=10,
        n_classes=classes,
        n_clusters_per_class=1,
        flip_y=0.1,
        random_state=1,
    )
    return (X * np.geomspace(0.01, 100, 30) + 5).astype(np.float32), y


def reference(X: Any, y: Any, C: float, weights: Any = None) -> tuple[Any, Any]:
    scaler = StandardScaler().fit(X.astype(np.float64), sample_weight=weights)
    solver = LogisticRegression(C=C, tol=1e-8, max_iter=20_000)
    return scaler, solver.fit(scaler.transform(X.astype(np.float64)), y, sample_weight=weights)


def objective(Z: Any, y: Any, coefficients: Any, intercepts: Any, C: float, weights: Any = None) -> float:
    scores = Z @ coefficients.T + intercepts
    if scores.shape[1] == 1:
        scores = np.hstack([np.zeros_like(scores), scores])
    losses = logsumexp(scores, axis=1) - scores[np.arange(len(y)), np.unique(y, return_inverse=True)[1]]
    weights = np.ones(len(y)) if weights is None else weights
    return float(losses @ weights + (coefficients**2).sum() / (2 * C))


@pytest.mark.parametrize("classes", [2, pytest.param(3, marks=pytest.mark.coverage), 6])
@pytest.mark.parametrize("C", [1e-4, 1e-2, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_optimum_is_that_of_scikit_learn(classes: int, C: float, weighted: bool) -> None:
    X, y = correlated(classes)
    weights = np.random.default_rng(0).integers(0, 4, len(y)).astype(float) if weighted else None
    scaler, expected = reference(X, y, C, weights)
    probe = LinearProbe(C).fit(X, y, weights)
    Z = scaler.transform(X.astype(np.float64))
    coefficients = probe.coef_ * scaler.scale_
    intercepts = probe.intercept_ + probe.coef_ @ scaler.mean_
    found = objective(Z, y, coefficients, intercepts, C, weights)
    best = objective(Z, y, expected.coef_, expected.intercept_, C, weights)
    assert found <= best * (1 + 1e-5)
    assert np.linalg.norm(coefficients - expected.coef_) <= 1e-2 * np.linalg.norm(expected.coef_)
    total = len(y) if weights is None else weights.sum()
    assert probe.objective_ == pytest.approx(found / total, rel=1e-4)


def test_plain_features_and_no_intercept(digits: Data) -> None:
    X, y = digits[0] / 16, digits[1]
    expected = LogisticRegression(C=1.0, tol=1e-10, max_iter=5000, fit_intercept=False).fit(X.astype(np.float64), y)
    probe = LinearProbe(1.0, standardize=False, fit_intercept=False).fit(X, y)
    assert np.linalg.norm(probe.coef_ - expected.coef_) <= 1e-2 * np.linalg.norm(expected.coef_)
    assert probe.intercept_.tolist() == [0] * 10


def test_more_features_than_rows(digits: Data) -> None:
    X, y = np.hstack([digits[0], digits[0] ** 2])[:90], digits[1][:90]
    scaler, expected = reference(X, y, 0.1)
    probe = LinearProbe(0.1).fit(X, y)
    assert np.linalg.norm(probe.coef_ * scaler.scale_ - expected.coef_) <= 1e-2 * np.linalg.norm(expected.coef_)


def test_curve_is_that_of_fits_one_by_one(digits: Data) -> None:
    X, y = digits[0][:600], digits[1][:600]
    Cs = [1e-4, 1e-2, 1.0]
    probe = LinearProbeCV(Cs, cv=StratifiedKFold(4), scoring="neg_log_loss").fit(X, y)
    Z = StandardScaler().fit_transform(X)
    expected = [
        [
            cross_val_score(LogisticRegression(C=C, tol=1e-6, max_iter=5000), Z, y, cv=4, scoring=scoring)
            for scoring in ("neg_log_loss", "accuracy")
        ]
        for C in Cs
    ]
    results = probe.cv_results_
    for place, (losses, accuracies) in enumerate(expected):
        assert np.allclose(results["loss"][place], -losses, rtol=3e-2)
        assert np.allclose(results["accuracy"][place], accuracies, atol=0.05)
    assert results["loss"].shape == results["accuracy"].shape == results["n_iter"].shape == (3, 4)
    assert np.array_equal(results["score"], -results["loss"])
    assert Cs[int(results["mean_loss"].argmin())] == probe.C_
    single = LinearProbe(probe.C_).fit(X, y)
    scale = X.std(axis=0)
    assert np.linalg.norm((probe.coef_ - single.coef_) * scale) < 5e-3 * np.linalg.norm(single.coef_ * scale)


def test_one_standard_error_takes_a_stronger_penalty(digits: Data) -> None:
    X, y = digits[0][:300], digits[1][:300]
    best, careful = (LinearProbeCV(20, selection=rule).fit(X, y) for rule in ("best", "one_standard_error"))
    assert careful.C_ < best.C_
    mean, error = best.cv_results_["mean_score"], best.cv_results_["std_score"]
    place = int(np.flatnonzero(best.cv_results_["C"] == careful.C_)[0])
    assert mean[place] >= mean.max() - error[mean.argmax()]


def blurred() -> Data:
    """Return rows of which weak penalties learn noise."""
    return make_classification(800, 60, n_informative=8, n_redundant=0, n_classes=3, flip_y=0.3, random_state=3)


def test_race_ends_when_weaker_penalties_are_hopeless() -> None:
    X, y = blurred()
    Cs = np.logspace(-6, 2, 13)
    raced, full = (LinearProbeCV(Cs, scoring="neg_log_loss", race=race).fit(X, y) for race in (True, False))
    fitted = np.isfinite(raced.cv_results_["mean_score"])
    n_fitted = int(fitted.sum())
    assert n_fitted < len(Cs)
    assert fitted[:n_fitted].all()
    assert np.isfinite(full.cv_results_["mean_score"]).all()
    for name, values in full.cv_results_.items():
        assert np.array_equal(raced.cv_results_[name][:n_fitted], values[:n_fitted])
    assert raced.C_ == full.C_
    assert np.array_equal(raced.coef_, full.coef_)


@pytest.mark.parametrize("scoring", ["accuracy", "f1_macro", "roc_auc_ovr", "neg_log_loss"])
def test_scorings_are_those_of_scikit_learn(scoring: str, digits: Data) -> None:
    X, y = digits[0][:450].astype(np.float64), digits[1][:450]
    weights = np.random.default_rng(0).uniform(0.5, 2, len(y))
    folds = list(StratifiedKFold(3).split(X, y))
    found = LinearProbeCV([1e-2, 1.0], cv=folds, scoring=scoring, race=False).fit(X, y, weights).cv_results_
    scorer = get_scorer(scoring)
    Z = StandardScaler().fit_transform(X, sample_weight=weights)
    for place, C in enumerate([1e-2, 1.0]):
        expected = [
            scorer(
                LogisticRegression(C=C, tol=1e-6, max_iter=5000).fit(Z[train], y[train], weights[train]),
                Z[held],
                y[held],
                sample_weight=weights[held],
            )
            for train, held in folds
        ]
        np.testing.assert_allclose(found["score"][place], expected, atol=0.03)


def test_scorer_may_be_a_function_and_of_several_labels(digits: Data) -> None:
    X, y = digits[0][:300], np.stack([digits[1] % 2, digits[1] > 4], axis=1)[:300].astype(int)

    def score(head: Any, X: Any, y: Any) -> float:
        return float((head.predict(X) == y).mean())

    probe = LinearProbeCV(4, scoring=score).fit(X, y)
    assert 0.8 < np.nanmax(probe.cv_results_["mean_score"]) <= 1
    assert np.array_equal(LinearProbeCV(4).fit(X, y).cv_results_["score"].shape, (4, 5))
    with pytest.raises(InputError, match="in any fold"):
        LinearProbeCV(4, scoring=lambda head, X, y: np.nan).fit(X, y)
    with pytest.raises(InputError, match="scoring"):
        LinearProbeCV(4, scoring="accurate").fit(X, y)


def test_of_equal_accuracies_the_lowest_loss_decides() -> None:
    y = np.repeat([0, 1], 20)
    X = y[:, None] * 2.0 + np.random.default_rng(0).normal(scale=0.1, size=(40, 3))
    probe = LinearProbeCV().fit(X, y)
    assert (probe.cv_results_["mean_accuracy"][-3:] == 1).all()
    assert probe.C_ == 1


def test_groups_are_held_out_together() -> None:
    generator = np.random.default_rng(0)
    y = np.repeat([0, 1], 60)
    groups = np.repeat(np.arange(40), 3)
    own = generator.standard_normal((40, 12)).astype(np.float32)[groups]  # tells the group, nothing of the class
    honest = LinearProbeCV().fit(own, y, groups=groups)
    fooled = LinearProbeCV(cv=StratifiedKFold(5, shuffle=True, random_state=0)).fit(own, y)
    assert fooled.cv_results_["mean_accuracy"].max() > honest.cv_results_["mean_accuracy"].max() + 0.05
    given = LinearProbeCV(cv=GroupKFold(5)).fit(own, y, groups=groups)
    assert given.cv_results_["loss"].shape == (10, 5)


def test_file_is_read_in_blocks_and_gives_the_same(
    digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = np.tile(digits[0], (3, 1)), np.tile(digits[1], 3)  # two blocks
    np.save(tmp_path / "X.npy", X.astype(np.float16))
    expected = LinearProbeCV(3).fit(X, y)
    monkeypatch.setattr(feature_blocks, "MAX_RESIDENT_BYTES", 0)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    found = LinearProbeCV(3).fit(mapped, y)
    assert np.allclose(found.cv_results_["loss"], expected.cv_results_["loss"], rtol=5e-4)
    assert np.array_equal(found.predict(mapped), expected.predict(X))


@pytest.mark.parametrize("probe", [LinearProbe(), pytest.param(LinearProbeCV(4), marks=pytest.mark.coverage)])
@pytest.mark.parametrize(
    "names", [["b", "a", "c"], [-7, 5, 0], [True, False], np.array([3, 1, 2], object), ["ä", "z", "日"]]
)
def test_labels_come_back_as_they_were(probe: Any, names: Any, digits: Data) -> None:
    rows = digits[1] < len(names)
    X, y = digits[0][rows], np.asarray(names)[digits[1][rows]]
    predicted = probe.fit(X, list(y)).predict(X)
    assert np.mean([a == b for a, b in zip(predicted.tolist(), y.tolist(), strict=True)]) > 0.99
    assert {type(label) for label in predicted.tolist()} == {type(label) for label in y.tolist()}
    assert np.allclose(probe.predict_proba(X).sum(axis=1), 1)


def test_several_labels_are_as_many_probes(digits: Data) -> None:
    X, y = digits[0], np.stack([digits[1] % 2, digits[1] > 4, digits[1] == 3], axis=1).astype(int)
    together = LinearProbe(0.01).fit(X, y)
    assert np.array_equal(together.predict(X).shape, y.shape)
    for column in range(3):
        alone = LinearProbe(0.01).fit(X, y[:, column])
        assert np.allclose(together.predict_proba(X)[:, column], alone.predict_proba(X)[:, 1], atol=5e-3)
    assert LinearProbeCV(4).fit(X, y).score(X, y) > 0.8


def test_balanced_classes_weigh_the_same(digits: Data) -> None:
    rows = np.concatenate([np.flatnonzero(digits[1] == 3)[:15], np.flatnonzero(digits[1] == 8)])
    X, y = digits[0][rows], digits[1][rows]
    balanced = LinearProbe(class_weight="balanced").fit(X, y)
    weights = np.where(y == 3, len(y) / 30, len(y) / (2 * (y == 8).sum()))
    assert np.allclose(balanced.coef_, LinearProbe().fit(X, y, weights).coef_)


def test_warm_start_needs_fewer_passes_and_follows_the_classes(digits: Data) -> None:
    X, y = digits
    probe = LinearProbe(1.0, warm_start=True).fit(X[y < 8], y[y < 8])
    known = y < 9
    probe.fit(X[known], y[known])
    cold = LinearProbe(1.0).fit(X[known], y[known])
    assert probe.classes_.tolist() == list(range(9))
    assert probe.objective_ == pytest.approx(cold.objective_, rel=2e-5)
    again = probe.n_iter_
    assert probe.fit(X[known], y[known]).n_iter_ < min(again, cold.n_iter_)
    assert probe.fit(X[y < 2], y[y < 2]).classes_.tolist() == [0, 1]
    assert probe.score(X[y < 2], y[y < 2]) == 1


def test_new_class_starts_as_the_one_that_it_was_taken_for(digits: Data) -> None:
    X, y = digits[0][:400], digits[1][:400]
    probe, renamed = LinearProbe(1.0).fit(X, y), np.where(y == 0, 77, y)
    fresh = LinearProbe(1.0).fit(X, renamed)
    probe.set_params(warm_start=True).fit(X, renamed)
    assert probe.objective_ == pytest.approx(fresh.objective_, rel=1e-5)
    shuffled = np.random.default_rng(0).permutation(y)
    probe.fit(X, shuffled)  # all that it knew is wrong
    assert probe.objective_ == pytest.approx(LinearProbe(1.0).fit(X, shuffled).objective_, rel=1e-4)


def test_warm_start_keeps_the_chosen_penalty(digits: Data) -> None:
    X, y = digits
    probe = LinearProbeCV((1e-3, 1e-2, 0.1), warm_start=True).fit(X[:1500], y[:1500])
    chosen, curve = probe.C_, probe.cv_results_
    probe.fit(X, y)
    assert chosen == probe.C_
    assert probe.cv_results_ is curve
    expected = LinearProbe(chosen).fit(X, y).coef_
    assert np.linalg.norm(probe.coef_ - expected) < 0.02 * np.linalg.norm(expected)


def test_one_row_for_each_class_takes_the_middle_of_the_grid(digits: Data) -> None:
    X, y = digits
    rows = np.unique(y, return_index=True)[1]
    with pytest.warns(UserWarning, match="no class has rows in two folds"):
        probe = LinearProbeCV().fit(X[rows], y[rows])
    assert probe.cv_results_ == {}
    assert probe.predict(X[rows]).tolist() == list(range(10))


def test_class_with_one_row_is_not_judged_by_it(digits: Data) -> None:
    X, y = digits
    rows = np.concatenate([np.flatnonzero(y == 0)[:20], np.flatnonzero(y == 1)[:20], np.flatnonzero(y == 2)[:1]])
    probe = LinearProbeCV().fit(X[rows], y[rows])
    assert probe.cv_results_["mean_loss"].min() < 0.1
    assert probe.classes_.tolist() == [0, 1, 2]


def test_weights_and_groups_are_routed(digits: Data) -> None:
    X, y = digits[0][:400], digits[1][:400]
    weights, groups = np.random.default_rng(0).uniform(0.5, 2, len(y)), np.arange(len(y)) // 2
    with sklearn.config_context(enable_metadata_routing=True):
        head = (
            LinearProbeCV(3, cv=3)
            .set_fit_request(sample_weight=True, groups=True)
            .set_score_request(sample_weight=True)
        )
        pipeline = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), head)
        given = {"sample_weight": weights, "groups": groups}
        found = cross_validate(
            pipeline, X, y, cv=GroupKFold(2), params=given, return_estimator=True, error_score="raise"
        )
        pipeline.fit(X, y, **given)
    scaled = StandardScaler().fit_transform(X)
    expected = LinearProbeCV(3, cv=3).fit(scaled, y, sample_weight=weights, groups=groups)
    np.testing.assert_allclose(pipeline[-1].coef_, expected.coef_)
    train, test = next(GroupKFold(2).split(X, y, groups))
    fitted = found["estimator"][0]
    assert found["test_score"][0] == pytest.approx(
        np.average(fitted.predict(X[test]) == y[test], weights=weights[test])
    )
    alone = LinearProbeCV(3, cv=3).fit(
        StandardScaler().fit_transform(X[train]), y[train], sample_weight=weights[train], groups=groups[train]
    )
    np.testing.assert_allclose(fitted[-1].coef_, alone.coef_)


def test_search_pipeline_and_pickle(digits: Data) -> None:
    X, y = digits[0][:500], digits[1][:500]
    search = GridSearchCV(
        make_pipeline(StandardScaler(), LinearProbe()), {"linearprobe__C": [1e-5, 0.1]}, n_jobs=2, cv=3
    )
    assert search.fit(X, y).best_params_ == {"linearprobe__C": 0.1}
    assert np.array_equal(pickle.loads(pickle.dumps(search)).predict(X), search.predict(X))


def test_wrong_parameter_is_named(digits: Data) -> None:
    with pytest.raises(InputError, match="tpu9"):
        LinearProbe(device="tpu9").fit(*digits)
    with pytest.raises(InputError) as error:
        LinearProbe(class_weight="balanced").fit(digits[0], np.eye(10, dtype=int)[digits[1]])
    assert "balanced" in str(error.value)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(value: float, digits: Data) -> None:
    X = digits[0].copy()
    X[700, 3] = value
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        LinearProbe().fit(X, digits[1])
    with pytest.raises(ValueError, match="NaN or infinity"):
        LinearProbe().fit(*digits).predict(X)
