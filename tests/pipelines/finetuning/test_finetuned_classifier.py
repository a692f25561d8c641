"""Layers above a cut are trained from cached maps; what comes out is a network like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import topwork
import torch
from sklearn.datasets import load_digits
from topwork import FineTunedClassifier
from topwork.errors import IdentityError, InputError

N_TRAINING = 240


@pytest.fixture(scope="module")
def digits() -> tuple[list[np.ndarray], np.ndarray]:
    """Return 640 digits as photographs of 32 x 32 pixels, in random order."""
    loaded = load_digits()
    order = np.random.default_rng(0).permutation(len(loaded.target))[:640]
    images = [np.kron(loaded.images[row] * 15, np.ones((4, 4))).astype(np.uint8) for row in order]
    return [np.repeat(image[..., None], 3, axis=2) for image in images], loaded.target[order]


def make_classifier(**options: Any) -> FineTunedClassifier:
    fixed = {"precision": "fp32", "provider": "cpu", "random_state": 0, "device": "cpu"}
    return FineTunedClassifier("topwork:tiny", **{"from_layer": "layer2", **fixed, **options})


@pytest.fixture(scope="module")
def fitted(digits: tuple[list[np.ndarray], np.ndarray]) -> FineTunedClassifier:
    images, labels = digits
    return make_classifier(epochs=8).fit(images[:N_TRAINING], labels[:N_TRAINING])


def test_trained_layers_beat_frozen_ones(
    fitted: FineTunedClassifier, digits: tuple[list[np.ndarray], np.ndarray]
) -> None:
    images, labels = digits
    frozen = topwork.TransferClassifier("topwork:tiny", cv=0, precision="fp32", provider="cpu")
    frozen.fit(images[:N_TRAINING], labels[:N_TRAINING])
    gain = fitted.score(images[N_TRAINING:], labels[N_TRAINING:]) - frozen.score(
        images[N_TRAINING:], labels[N_TRAINING:]
    )
    assert gain > 0.03
    assert fitted.map_error_ < 1e-3
    assert fitted.comparison_ is not None
    assert fitted.comparison_.n_rows == 36
    assert len(fitted.history_) <= 8


def test_bundle_and_fused_file_predict_alike(
    fitted: FineTunedClassifier, digits: tuple[list[np.ndarray], np.ndarray], tmp_path: Path
) -> None:
    images = digits[0][N_TRAINING : N_TRAINING + 64]
    fitted.save(tmp_path / "bundle")
    loaded = topwork.load(tmp_path / "bundle")
    expected = fitted.predict_proba(images)
    np.testing.assert_allclose(loaded.predict_proba(images), expected, rtol=1e-4, atol=1e-5)
    fused = fitted.to_onnx(tmp_path / "model.onnx", items=images)
    assert fused.n_items == 64


def test_killed_training_goes_on_to_the_same_weights(
    digits: tuple[list[np.ndarray], np.ndarray], tmp_path: Path
) -> None:
    images, labels = digits[0][:80], digits[1][:80]
    store = tmp_path / "maps"
    whole = make_classifier(epochs=4, store=store).fit(images, labels)

    def stop(trainer: Any, record: Any) -> None:
        if record.epoch == 2:
            raise KeyboardInterrupt

    checkpoint = tmp_path / "training"
    with pytest.raises(KeyboardInterrupt):
        make_classifier(epochs=4, store=store, checkpoint=checkpoint, callbacks=[stop]).fit(images, labels)
    resumed = make_classifier(epochs=4, store=store, checkpoint=checkpoint).fit(images, labels)
    assert resumed.history_ == whole.history_
    np.testing.assert_array_equal(resumed.head_.coef_, whole.head_.coef_)
    np.testing.assert_array_equal(resumed.predict_proba(images), whole.predict_proba(images))
    assert topwork.FeatureStore.open(store).columns[0].pool == "flatten"
    for change in ({"epochs": 5}, {"class_weight": "balanced"}, {"loss": torch.nn.functional.cross_entropy}):
        with pytest.raises(InputError, match="is of other items, labels, layers or options"):
            make_classifier(**{"epochs": 4, "checkpoint": checkpoint, **change}).fit(
                topwork.FeatureStore.open(store), labels
            )
    with pytest.raises(InputError, match="is of other items, labels, layers or options"):
        make_classifier(epochs=4, checkpoint=checkpoint).fit(
            topwork.FeatureStore.open(store), labels, groups=np.arange(80) // 2
        )


def test_several_cuts_are_compared_on_a_store(digits: tuple[list[np.ndarray], np.ndarray], tmp_path: Path) -> None:
    images, labels = digits[0][:120], digits[1][:120]
    checkpoint = tmp_path / "training"
    cuts = ("layer3.0", "layer2")
    first = make_classifier(from_layer=cuts, epochs=2, store=tmp_path / "maps", checkpoint=checkpoint)
    first.fit(images, labels)
    assert [trial.layer for trial in first.trials_] == ["layer2", "layer3.0"]
    assert sorted(trial.epochs for trial in first.trials_) == [1, 2]
    assert {path.stem for path in checkpoint.iterdir()} == set(cuts)
    assert first.comparison_.frozen_layer in (*cuts, "last")
    from_store = make_classifier(from_layer="auto", epochs=2).fit(topwork.FeatureStore.open(tmp_path / "maps"), labels)
    assert from_store.from_layer_ == first.from_layer_
    np.testing.assert_allclose(from_store.head_.coef_, first.head_.coef_, rtol=1e-4, atol=1e-5)


def test_cut_is_added_to_a_store_with_other_items(digits: tuple[list[np.ndarray], np.ndarray], tmp_path: Path) -> None:
    images, labels = digits[0][:60], digits[1][:60]
    make_classifier(epochs=1, store=tmp_path / "maps").fit(images, labels)
    tuned = make_classifier(from_layer="layer3.0", epochs=1, store=tmp_path / "maps").fit(images[:40], labels[:40])
    alone = make_classifier(from_layer="layer3.0", epochs=1).fit(images[:40], labels[:40])
    np.testing.assert_array_equal(tuned.head_.coef_, alone.head_.coef_)


def test_cuts_beyond_the_budget_of_disk_are_left_out(digits: tuple[list[np.ndarray], np.ndarray]) -> None:
    images, labels = digits[0][:40], digits[1][:40]
    one_cut = 40 * 80 * 8 * 8 * 2  # maps of layer3.0 in float16
    tuned = make_classifier(from_layer=["layer2", "layer3.0"], epochs=1, max_disk=one_cut).fit(images, labels)
    assert [trial.layer for trial in tuned.trials_] == ["layer3.0"]
    with pytest.raises(InputError, match="max_disk allows"):
        make_classifier(max_disk=one_cut / 2).fit(images, labels)


def test_weights_of_classes_count(digits: tuple[list[np.ndarray], np.ndarray]) -> None:
    names = np.where(digits[1] == 0, "zero", "other")
    weights = {"zero": 1e-4, "other": 1.0}
    tuned = make_classifier(epochs=1, class_weight=weights, validation_fraction=0.0, test_fraction=0.0)
    plain = make_classifier(epochs=1, validation_fraction=0.0, test_fraction=0.0)
    given = tuned.fit(digits[0][:60], names[:60]).predict_proba(digits[0][60:120])[:, 1].mean()
    assert tuned.comparison_ is None
    assert given < plain.fit(digits[0][:60], names[:60]).predict_proba(digits[0][60:120])[:, 1].mean()


def test_store_without_maps_is_refused(digits: tuple[list[np.ndarray], np.ndarray], tmp_path: Path) -> None:
    pooled = topwork.FeatureStore.create(tmp_path / "pooled", topwork.Extractor("topwork:tiny", layer="layer2"))
    with pytest.raises(IdentityError, match='pool is "flatten", expected "avg"'):
        make_classifier(epochs=1).fit(pooled)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs is 0; expected a positive integer"),
        ({"optimizer": "adam"}, "optimizer is 'adam'; expected 'adamw' or 'sgd'"),
        ({"test_fraction": 1.0}, "test_fraction is 1.0; expected a number from 0 to below 1"),
        ({"checkpoint": "state", "random_state": None}, "random_state is None, but checkpoint is given"),
        ({"max_disk": 0}, "max_disk is 0; expected None, or a positive number"),
        ({"loss": "focal"}, "loss is 'focal'; expected None, or a function"),
    ],
)
def test_wrong_parameters_are_refused(
    digits: tuple[list[np.ndarray], np.ndarray], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        make_classifier(**options).fit(digits[0][:20], digits[1][:20])
