"""``advise``: which of the four cases, from what was measured."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_diabetes, load_digits
from topwork import LayerProbe, advise
from topwork.errors import InputError
from topwork.heads.feature_comparison import Choice, HeldOutScores, Interval
from topwork.pipelines.estimators.cut_search import Candidate, CutSearch
from topwork.pipelines.selection.probe import RANDOM, RAW
from topwork.pipelines.selection.probe_result import Baseline, ProbedFeatures, Recommendation

Array = NDArray[Any]
BEST = Recommendation("net", "middle", "auto", score=0.9, low=0.88, high=0.92, width=64, best="net middle")


N_JUDGED = 500


def row_of(layer: str, score: float, depth: float | None) -> ProbedFeatures:
    return ProbedFeatures(
        backbone="net",
        layer=layer,
        pool="auto",
        score=score,
        low=score - 0.01,
        high=score + 0.01,
        n_items=N_JUDGED,
        difference=0.0,
        error=0.0,
        width=64,
        bytes=256,
        depth=depth,
        seconds=None,
    )


def search_of(scores: dict[str, float], n_judged: dict[str, int]) -> CutSearch:
    """Return a search whose candidates are right about so many of the items that they were judged by, the first."""
    candidates = {layer: Candidate((layer,), "auto", (layer,), width=64, depth=float("nan")) for layer in scores}
    held_out = {}
    for layer, score in scores.items():
        n_rows = n_judged.get(layer, N_JUDGED)
        is_right = np.arange(n_rows) < round(score * n_rows)
        held_out[layer] = HeldOutScores(is_right[np.newaxis].astype(np.float64), np.ones(n_rows))
    choice = Choice("middle", "middle", differences={}, errors={})
    return CutSearch(candidates, held_out, choice, score=0.9, interval=Interval(0.88, 0.92), n_items=500, seconds=0.0)


def probe_of(scores: dict[str, float], features: Array, targets: Array, **changes: Any) -> LayerProbe:
    """Return a fitted probe that found these scores of layers, from the first to the last."""
    probe = LayerProbe(task=changes.pop("task", "classification"))
    depths = np.linspace(0.1, 1.0, len(scores)).tolist()
    n_judged = changes.pop("n_judged", {})
    probe.search_ = search_of(scores, n_judged)
    probe.table_ = [row_of(layer, score, depth) for (layer, score), depth in zip(scores.items(), depths, strict=True)]
    probe.table_ = [replace(row, n_items=n_judged.get(row.layer, N_JUDGED)) for row in probe.table_]
    probe.table_.append(row_of("middle,last", 0.99, 1.0))
    probe.best_ = BEST
    probe.baselines_ = [Baseline(RANDOM, score=0.6, low=0.5, high=0.7, gain=0.3, error=0.02)]
    probe.features_, probe.targets_, probe.groups_ = features, targets, None
    probe.n_items_ = probe.n_labelled_ = len(targets)
    probe.seconds_of_backbone_ = 20.0
    for name, value in changes.items():
        setattr(probe, name, value)
    return probe


@pytest.fixture(scope="module")
def digits() -> tuple[Array, Array]:
    """Return pixels that nearly tell the classes, so that few labels are enough."""
    X, y = load_digits(return_X_y=True)
    return np.hstack([X, 10 * np.eye(10)[y]]), y.astype(np.int64)


@pytest.mark.parametrize(
    ("scores", "n_rows", "case"),
    [
        ({"first": 0.7, "middle": 0.95, "last": 0.96}, 60, ("small", "similar")),
        ({"first": 0.7, "middle": 0.95, "last": 0.94}, 600, ("large", "similar")),
        ({"first": 0.7, "middle": 0.95, "last": 0.85}, 60, ("small", "different")),
        ({"first": 0.7, "middle": 0.95, "last": 0.85}, 600, ("large", "different")),
    ],
)
def test_four_cases(scores: dict[str, float], n_rows: int, case: tuple[str, str], digits: tuple[Array, Array]) -> None:
    X, y = digits
    advice = advise(probe_of(scores, X[:n_rows], y[:n_rows]))
    assert advice.case == case
    assert advice.size.n_classes == 10
    assert advice.similarity.best_layer == ("last" if scores["last"] > scores["middle"] else "middle")
    found = json.loads(json.dumps(advice.to_dict()))
    assert found["case"] == list(case)
    text = str(advice)
    assert text.startswith(f"A {case[0]} data set, {'like' if case[1] == 'similar' else 'unlike'} what")
    assert "--layer middle --pool auto: accuracy 0.900 (0.880 to 0.920)" in text


@pytest.mark.parametrize(
    ("n_rows", "is_similar", "is_certain"), [(20, True, False), (200, False, False), (2000, False, True)]
)
def test_a_drop_within_chance_is_similar(
    n_rows: int, is_similar: bool, is_certain: bool, digits: tuple[Array, Array]
) -> None:
    """A drop of 5 points among 20 items is one item; among 200 it has an error of 1.5 points, among 2,000 of 0.5."""
    X, y = digits
    scores = {"middle": 0.95, "last": 0.9}
    probe = probe_of(scores, X[:60], y[:60], n_judged=dict.fromkeys(scores, n_rows))
    similarity = advise(probe).similarity
    assert similarity.drop == pytest.approx(0.05)
    assert similarity.drop_error == pytest.approx((0.05 * 0.95 / n_rows) ** 0.5)
    assert (similarity.is_similar, similarity.is_certain) == (is_similar, is_certain)


def test_a_last_layer_that_was_dropped_early_is_compared_by_its_own_items(digits: tuple[Array, Array]) -> None:
    X, y = digits
    probe = probe_of({"middle": 0.95, "last": 0.5}, X[:60], y[:60], n_judged={"last": 100})
    similarity = advise(probe).similarity
    assert not similarity.is_similar
    assert similarity.is_certain
    assert similarity.drop_error == pytest.approx((0.95 * 0.05 / 500 + 0.25 / 100) ** 0.5)


def test_of_a_sample_the_gain_is_that_of_all_items(digits: tuple[Array, Array]) -> None:
    X, y = digits
    X, y = X[:600, :64], y[:600]
    own, of_all = (advise(probe_of({"last": 0.9}, X, y, n_labelled_=n_items)).size for n_items in (600, 100_000))
    assert own.slope is not None
    assert of_all.slope is not None
    assert (own.slope.first_rows, own.slope.last_rows) == (600, 1200)
    assert 0 < of_all.slope.gain < 0.8 * own.slope.gain
    assert not of_all.is_certain
    assert "100,000 items of 10 classes; twice as many would add about" in str(of_all)


def test_costs_are_those_of_all_items(digits: tuple[Array, Array]) -> None:
    X, y = digits
    advice = advise(probe_of({"middle": 0.9, "last": 0.8}, X[:100], y[:100], n_labelled_=5000))
    assert advice.depth == 0.1
    assert advice.estimate_costs() == pytest.approx(
        {"extract": 100, "frozen": 10, "finetune_above": 10 + 30 * 90, "finetune": 3000}
    )
    assert not advice.is_certain
    assert "about 2,710 s to fine-tune what is above the cut for 10 epochs" in str(advice)
    assert replace(advice, seconds=None).estimate_costs() is None
    assert "fine-tune what" not in str(replace(advice, depth=None))


def test_long_computations_are_warned_of(digits: tuple[Array, Array]) -> None:
    X, y = digits
    warnings = advise(probe_of({"last": 0.9}, X[:100], y[:100], n_labelled_=720_000)).warnings
    assert warnings == (
        "the features of all items take about 4 hours on this machine, and fine-tuning 30 times as long; a smaller "
        "backbone or an earlier layer takes less",
    )


def test_warnings_name_mismatch_small_classes_and_over_fitting() -> None:
    generator = np.random.default_rng(0)
    targets = np.concatenate([np.repeat([0, 1], 40), [2, 2, 2]])
    features = generator.normal(size=(len(targets), 200)).astype(np.float32)
    baseline = Baseline(RANDOM, score=0.5, low=0.4, high=0.6, gain=0.01, error=0.02)
    raw = replace(baseline, name=RAW, gain=-0.1)
    probe = probe_of({"last": 0.5}, features, targets, baselines_=[baseline, raw])
    warnings = advise(probe).warnings
    assert [text.split(":")[0] for text in warnings] == [
        "the backbone brings little",
        "the backbone brings little",
        "1 of 3 classes have fewer than 5 items; label more of them",
        "a head over-fits",
    ]


def test_values_have_no_learning_curve() -> None:
    X, y = load_diabetes(return_X_y=True)
    advice = advise(probe_of({"first": 0.2, "last": 0.4}, X, y, task="regression"))
    assert advice.curve is None
    assert advice.case == ("small", "similar")
    assert not advice.is_certain
    assert advice.size.n_classes is None


def test_advice_on_a_backbone(digits: tuple[Array, Array]) -> None:
    images = [np.full((32, 32, 3), shade, np.uint8) for shade in range(0, 240, 4)]
    advice = advise(images, [shade > 120 for shade in range(0, 240, 4)], layers=["layer2", "last"])
    assert advice.similarity.last_layer == "last"
    assert advice.similarity.gain_over_random is not None
    assert advice.seconds is not None
    with pytest.raises(InputError, match="takes one backbone"):
        advise(images, backbone=["topwork:tiny", "timm:resnet18"])
