"""Multilayer perceptrons: they learn what is not linearly separable, reproducibly, and warm-start as labels change."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_diabetes, load_digits
from topwork.errors import InputError
from topwork.heads.mlp.mlp_head import MLPHead
from topwork.heads.mlp.mlp_regressor import MLPHeadRegressor

Data = tuple[NDArray[Any], NDArray[Any]]


@pytest.fixture(scope="module")
def digits() -> Data:
    data = load_digits()
    return data.data.astype(np.float32), data.target


def rings(rows: int = 400) -> Data:
    generator = np.random.default_rng(0)
    X = generator.standard_normal((rows, 2)).astype(np.float32)
    return X, (np.linalg.norm(X, axis=1) > 1.2).astype(int)


def test_what_is_not_linearly_separable_is_learned() -> None:
    X, y = rings()
    head = MLPHead((32,), learning_rate=0.01, epochs=60, random_state=0).fit(X[:300], y[:300])
    assert head.score(X[300:], y[300:]) > 0.9


@pytest.mark.parametrize("hidden", [pytest.param((64,), marks=pytest.mark.coverage), (64, 32)])
def test_digits(hidden: tuple[int, ...], digits: Data) -> None:
    X, y = digits
    head = MLPHead(hidden, epochs=30, dropout=0.1, random_state=0).fit(X[:1200], y[:1200])
    assert head.score(X[1200:], y[1200:]) > 0.9
    assert np.allclose(head.predict_proba(X).sum(axis=1), 1, atol=1e-5)
    assert len(head.weights_) == len(hidden) + 1


def test_outputs_are_those_of_the_same_network_in_torch(digits: Data) -> None:
    X, y = digits
    head = MLPHead((16, 8), epochs=3, random_state=0).fit(X, y)
    hidden = torch.from_numpy((X - head.mean_.astype(np.float32)) / head.scale_.astype(np.float32))
    for place, (weights, bias) in enumerate(zip(head.weights_, head.biases_, strict=True)):
        hidden = (torch.relu(hidden) if place else hidden) @ torch.from_numpy(weights) + torch.from_numpy(bias)
    assert np.allclose(head.decision_function(X), hidden.numpy(), atol=1e-4)


@pytest.mark.parametrize("parameters", [{}, {"dropout": 0.3, "mixup": 0.2}, {"early_stopping": False}])
def test_seed_gives_the_same_bits_and_leaves_torch_alone(parameters: dict[str, Any], digits: Data) -> None:
    X, y = digits
    state = torch.get_rng_state()
    first = MLPHead((32,), epochs=4, random_state=3, **parameters).fit(X, y)
    torch.manual_seed(12345)
    again = MLPHead((32,), epochs=4, random_state=3, **parameters).fit(X, y)
    other = MLPHead((32,), epochs=4, random_state=4, **parameters).fit(X, y)
    assert all(np.array_equal(*pair) for pair in zip(first.weights_, again.weights_, strict=True))
    assert not np.array_equal(first.weights_[0], other.weights_[0])
    torch.set_rng_state(state)
    MLPHead((32,), epochs=1, random_state=3).fit(X, y)
    assert torch.equal(torch.get_rng_state(), state)


def test_early_stopping_keeps_the_best_epoch(digits: Data) -> None:
    X, y = digits[0][:300], np.random.default_rng(0).integers(0, 3, 300)  # nothing can be learned
    head = MLPHead((64,), epochs=200, patience=5, random_state=0).fit(X, y)
    assert head.n_iter_ == int(np.argmax(head.validation_scores_)) + 6 < 200
    assert len(head.loss_curve_) == len(head.validation_scores_) == head.n_iter_


def test_several_labels(digits: Data) -> None:
    X, y = digits[0], np.stack([digits[1] % 2, digits[1] > 4], axis=1).astype(int)
    head = MLPHead((64,), epochs=30, random_state=0).fit(X[:1200], y[:1200])
    assert head.predict(X[1200:]).shape == (597, 2)
    assert head.score(X[1200:], y[1200:]) > 0.85
    assert head.predict_proba(X).shape == (1797, 2)


@pytest.mark.parametrize("targets", [1, 2])
def test_values(targets: int) -> None:
    X, y = load_diabetes(return_X_y=True)
    wanted = y if targets == 1 else np.stack([y, -2 * y], axis=1)
    head = MLPHeadRegressor((32,), epochs=60, learning_rate=0.005, random_state=0).fit(X[:350], wanted[:350])
    assert head.score(X[350:], wanted[350:]) > 0.35
    assert head.predict(X).shape == wanted.shape


def test_parts_are_learned_from_one_by_one(digits: Data) -> None:
    X, y = digits
    head = MLPHead((64,), learning_rate=0.003, random_state=0)
    for start in range(0, 1200, 300):
        for _ in range(6):
            head.partial_fit(X[start : start + 300], y[start : start + 300], classes=np.arange(10))
    assert head.score(X[1200:], y[1200:]) > 0.85
    assert head.n_iter_ == 24
    with pytest.raises(InputError, match=r"\[1, 2\]"):
        head.partial_fit(X, y, classes=[1, 2])
    with pytest.raises(InputError, match="classes"):
        MLPHead().partial_fit(X, y)


def test_warm_start_follows_the_classes(digits: Data) -> None:
    X, y = digits
    names = np.array(list("abcdefghij"))[y]
    head = MLPHead((64,), epochs=20, warm_start=True, random_state=0).fit(X[y < 8], names[y < 8])
    before = head.decision_function(X[:50])
    head.set_params(epochs=1, learning_rate=1e-9).fit(X, names)
    assert head.classes_.tolist() == list("abcdefghij")
    assert np.allclose(head.decision_function(X[:50])[:, :8], before, atol=0.05 * np.abs(before).max())
    head.fit(X[y > 1], names[y > 1])
    assert head.classes_.tolist() == list("cdefghij")
    assert head.score(X[(y > 1) & (y < 8)], names[(y > 1) & (y < 8)]) > 0.9


def test_balanced_classes(digits: Data) -> None:
    rows = np.concatenate([np.flatnonzero(digits[1] == 8)[:8], np.flatnonzero(digits[1] == 9)])
    X, y = digits[0][rows], digits[1][rows]
    found = [
        MLPHead((8,), epochs=25, class_weight=weight, random_state=0).fit(X, y).predict_proba(X[:8])[:, 0].mean()
        for weight in (None, "balanced")
    ]
    assert found[1] > found[0] + 0.1


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"device": "tpu9"}, "tpu9"),
        ({"learning_rate": 1e30, "early_stopping": False}, "1e\\+30"),
    ],
)
def test_device_and_diverging_loss_are_reported(parameters: dict[str, Any], named: str, digits: Data) -> None:
    with pytest.raises(InputError, match=named):
        MLPHead(**{"epochs": 3, **parameters}).fit(*digits)


def test_partial_fit_with_other_layers_is_refused() -> None:
    X, y = np.random.default_rng(0).standard_normal((40, 3)), np.arange(40) % 2
    head = MLPHead((8,), random_state=0).partial_fit(X, y, classes=[0, 1])
    with pytest.raises(InputError, match=r"\(4,\)"):
        head.set_params(hidden=(4,)).partial_fit(X, y)
