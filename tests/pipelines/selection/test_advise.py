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
from topwork.pipelines.selection.probe import RANDOM
from topwork.pipelines.selection.probe_result import Baseline, ProbedFeatures, Recommendation

Array = NDArray[Any]
BEST = Recommendation("net", "middle", "auto", score=0.9, low=0.88, high=0.92, width=64, best="net middle")


def row_of(layer: str, score: float, depth: float | None) -> ProbedFeatures:
    return ProbedFeatures(
        backbone="net",
        layer=layer,
        pool="auto",
        score=score,
        low=score - 0.01,
        high=score + 0.01,
        n_items=500,
        difference=0.0,
        error=0.0,
        width=64,
        bytes=256,
        depth=depth,
        seconds=None,
    )


def probe_of(scores: dict[str, float], features: Array, targets: Array, **changes: Any) -> LayerProbe:
    """Return a fitted probe that found these scores of layers, from the first to the last."""
    probe = LayerProbe(task=changes.pop("task", "classification"))
    depths = np.linspace(0.1, 1.0, len(scores)).tolist()
    probe.table_ = [row_of(layer, score, depth) for (layer, score), depth in zip(scores.items(), depths, strict=True)]
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


def test_costs_are_those_of_all_items(digits: tuple[Array, Array]) -> None:
    X, y = digits
    advice = advise(probe_of({"last": 0.9}, X[:100], y[:100], n_labelled_=5000))
    costs = advice.estimate_costs()
    assert costs is not None
    assert costs["extract"] == pytest.approx(100)
    assert costs["finetune"] == pytest.approx(3000)
    assert not advice.is_certain
    assert replace(advice, seconds=None).estimate_costs() is None


def test_warnings_name_mismatch_small_classes_and_over_fitting() -> None:
    generator = np.random.default_rng(0)
    targets = np.concatenate([np.repeat([0, 1], 40), [2, 2, 2]])
    features = generator.normal(size=(len(targets), 200)).astype(np.float32)
    baseline = Baseline(RANDOM, score=0.5, low=0.4, high=0.6, gain=0.01, error=0.02)
    probe = probe_of({"last": 0.5}, features, targets, baselines_=[baseline])
    warnings = advise(probe).warnings
    assert [text.split(":")[0] for text in warnings] == [
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
