"""Layers are trained pass by pass: from what was fitted, or from a probe of the first items."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import topwork
from topwork import FineTunedClassifier, FineTunedRegressor
from topwork.errors import InputError

Digits = tuple[list[np.ndarray], np.ndarray]
OPTIONS = {"precision": "fp32", "provider": "cpu", "random_state": 0, "device": "cpu", "learning_rate": 1e-4}


def make_classifier(**options: Any) -> FineTunedClassifier:
    return FineTunedClassifier("topwork:tiny", **{"from_layer": "layer3.0", **OPTIONS, **options})


def test_passes_go_on_with_the_state_of_the_optimiser(digits: Digits) -> None:
    images, labels = digits[0][:60], digits[1][:60].astype(str)
    records = []
    options = {"callbacks": [lambda trainer, record: records.append(record.epoch)], "label_smoothing": 0.1}
    classifier = make_classifier(**options).partial_fit(images, labels, classes=np.unique(labels))
    weight = classifier.head_.coef_.copy()
    again = pickle.loads(pickle.dumps(make_classifier().partial_fit(images, labels)))
    for few in (slice(0, 60), slice(0, 7)):  # of some classes only
        classifier.set_params(learning_rate=5e-5).partial_fit(images[few], labels[few])
    assert classifier.learning_rate_ == 5e-5
    assert classifier.n_rows_ == 60
    assert records == [1, 2, 3]
    assert len(classifier.history_) == 3
    assert classifier.history_[1]["loss"] < classifier.history_[0]["loss"]
    assert classifier.classes_.tolist() == sorted(set(labels))
    assert not np.array_equal(weight, classifier.head_.coef_)
    assert classifier.comparison_ is None
    assert classifier.score(images, labels) > 0.9
    assert again.partial_fit(images, labels).history_[1]["epoch"] == 2

    # Two passes are two epochs at the same rate: the optimiser's moments are those of one training.
    straight = make_classifier().partial_fit(images, labels)
    interrupted = pickle.loads(pickle.dumps(straight))
    np.testing.assert_array_equal(
        straight.partial_fit(images, labels).head_.coef_, interrupted.partial_fit(images, labels).head_.coef_
    )


def test_passes_go_on_from_what_was_fitted(digits: Digits) -> None:
    images, labels = digits[0][:80], digits[1][:80]
    classifier = make_classifier(from_layer=["layer2", "layer3.0"], to="last", epochs=2)
    classifier.fit(images[:70], labels[:70])
    assert classifier.comparison_ is not None
    end = (classifier.from_layer_, classifier.to_, classifier.pool_)
    before = classifier.predict_proba(images)
    classifier.partial_fit(images[70:], labels[70:])
    assert classifier.comparison_ is None
    after = classifier.predict_proba(images)
    assert (classifier.from_layer_, classifier.to_, classifier.pool_) == end
    assert 1e-4 < np.abs(after - before).max() < 0.5
    assert len(classifier.learned_) == classifier.n_rows_ == 80
    assert classifier.lineage_["rows"] == 80
    classifier.fit(images[:70], labels[:70])  # starts anew
    np.testing.assert_allclose(classifier.predict_proba(images), before, atol=1e-5)


def test_what_cannot_be_learned_leaves_the_estimator_as_it_was(digits: Digits) -> None:
    images, labels = digits[0][:40], np.where(digits[1][:40] > 4, "high", "low")
    with pytest.raises(InputError, match=r"from_layer stands for several cuts \(layer2, layer3.0\); partial_fit"):
        make_classifier(from_layer=["layer2", "layer3.0"]).partial_fit(images, labels)
    with pytest.raises(InputError, match="no item has the label 'middle'; expected all classes among the first"):
        make_classifier().partial_fit(images, labels, classes=["high", "low", "middle"])
    classifier = make_classifier().partial_fit(images, labels)
    before = classifier.predict_proba(images)
    with pytest.raises(InputError, match="no earlier item had the label 'middle'"):
        classifier.partial_fit(images[:2], ["high", "middle"])
    with pytest.raises(InputError, match="one label each, or several"):
        classifier.partial_fit(images[:4], np.eye(4, 2, dtype=int))
    with pytest.raises(InputError, match="optimizer is 'sgd', and was 'adamw' before; call fit to start anew"):
        classifier.set_params(optimizer="sgd").partial_fit(images, labels)
    other = topwork.load_backbone("topwork:tiny", weights="random")
    with pytest.raises(InputError, match="with other weights"):
        classifier.set_params(optimizer="adamw", backbone=other).partial_fit(images, labels)
    np.testing.assert_array_equal(classifier.predict_proba(images), before)


def test_several_labels_and_mixed_types_are_aligned(digits: Digits) -> None:
    images, labels = digits[0][:40], digits[1][:40]
    mixed = np.array([f"d{label}" if label % 2 else int(label) for label in labels], object)
    classifier = make_classifier().partial_fit(images, mixed)
    classifier.partial_fit(images[:3], mixed[:3])
    assert set(classifier.predict(images)) <= set(mixed.tolist())
    assert classifier.score(images, mixed) > 0.8
    several = np.stack([labels % 2, labels > 4], axis=1).astype(int)
    multilabel = make_classifier().partial_fit(images, several)
    assert multilabel.partial_fit(images[:8], several[:8]).predict(images).shape == (40, 2)


def test_few_values_after_a_fit_keep_its_scale() -> None:
    generator = np.random.default_rng(0)
    levels = generator.uniform(60, 200, 80)
    images = [generator.normal(level, 20, (32, 32, 3)).clip(0, 255).astype(np.uint8) for level in levels]
    regressor = FineTunedRegressor("topwork:tiny", from_layer="layer3.0", epochs=2, **OPTIONS)
    before = regressor.fit(images, 1000 * levels).score(images, 1000 * levels)
    regressor.set_params(learning_rate=1e-5).partial_fit(images[:1], 1000 * levels[:1])
    assert regressor.score(images, 1000 * levels) > before - 0.05
    assert regressor.history_[-1]["loss"] < 10


def test_values_keep_their_scale() -> None:
    generator = np.random.default_rng(0)
    levels = generator.uniform(60, 200, 80)
    images = [generator.normal(level, 20, (32, 32, 3)).clip(0, 255).astype(np.uint8) for level in levels]
    regressor = FineTunedRegressor("topwork:tiny", from_layer="layer3.0", **OPTIONS).partial_fit(images, levels)
    bright = levels > 150
    chosen = np.flatnonzero(bright)
    for _ in range(2):
        regressor.partial_fit([images[row] for row in chosen], levels[chosen])
    assert regressor.score(images, levels) > 0.8
    with pytest.raises(InputError, match="2 values for each item, but None for the first ones"):
        regressor.partial_fit(images[:4], np.ones((4, 2)))


def test_maps_of_a_store_are_trained_on_pass_by_pass(digits: Digits, tmp_path: Any) -> None:
    images, labels = digits[0][:40], digits[1][:40]
    store = topwork.FeatureStore.create(
        tmp_path / "maps", topwork.Extractor("topwork:tiny", layer="layer3.0", pool="none")
    )
    topwork.extract_features(images, store)
    classifier = make_classifier(from_layer="auto")
    for _ in range(2):
        classifier.partial_fit(store, labels)
    assert len(classifier.history_) == 2
    assert classifier.from_layer_ == "layer3.0"
