"""Layers above a cut are trained from cached maps; what comes out is a network like any other."""

from __future__ import annotations

import functools
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import topwork
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from topwork import FineTunedClassifier
from topwork.errors import BundleError, IdentityError, InputError, LayerError
from topwork.pipelines.report import write_report
from topwork.pipelines.show import describe_path

N_TRAINING = 240


def make_classifier(**options: Any) -> FineTunedClassifier:
    fixed = {"precision": "fp32", "provider": "cpu", "random_state": 0, "device": "cpu", "learning_rate": 1e-3}
    fixed["train_on_all"] = False
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
    expected = fitted.predict_proba(images)
    np.testing.assert_allclose(topwork.load(tmp_path / "bundle").predict_proba(images), expected, rtol=1e-4, atol=1e-5)
    assert fitted.to_onnx(tmp_path / "model.onnx", items=images).n_items == 64


def test_bundle_and_report_tell_how_the_layers_were_trained(fitted: FineTunedClassifier, tmp_path: Path) -> None:
    fitted.save(tmp_path / "bundle")
    facts = describe_path(tmp_path / "bundle")["finetuning"]
    assert facts["history"] == fitted.history_
    assert facts["comparison"]["text"] == str(fitted.comparison_)
    write_report(tmp_path / "bundle", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Trained layers" in page
    assert f"the layers above layer2, up to {fitted.to_} ({fitted.pool_})" in page
    assert all(line in page for line in str(fitted.comparison_).splitlines())


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
import topwork
from topwork.pipelines.finetuning.checkpoint import Checkpoint
folder, moment, epoch = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])

def die():
    os.kill(os.getpid(), signal.SIGKILL)

save = Checkpoint.save

def save_and_die(self, candidate, state):
    is_candidate = (candidate.learning_rate, str(candidate.on_all_rows)) == (float(sys.argv[4]), sys.argv[5])
    is_moment = is_candidate and len(state.records) == epoch
    if is_moment and moment == "before saving":
        die()
    save(self, candidate, state)
    if is_moment and moment == "after saving":
        die()

Checkpoint.save = save_and_die
images = list(np.load(folder / "images.npy"))
labels = np.load(folder / "labels.npy")
topwork.FineTunedClassifier(
    "topwork:tiny", from_layer="layer2", epochs=4, store=folder / "maps", checkpoint=folder / "training",
    learning_rate=(1e-3, 3e-3), precision="fp32", provider="cpu", random_state=0, device="cpu",
).fit(images, labels)
"""


def test_killed_training_goes_on_to_the_same_weights(
    digits: tuple[list[np.ndarray], np.ndarray], tmp_path: Path
) -> None:
    """Killed five times in a row: in both halves of the comparison of learning rates, after it, and on all rows."""
    images, labels = digits[0][:80], digits[1][:80]
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "labels.npy", labels)
    options = {"epochs": 4, "store": tmp_path / "maps", "learning_rate": (1e-3, 3e-3), "train_on_all": True}
    whole = make_classifier(**options).fit(images, labels)
    checkpoint = tmp_path / "training"
    other = next(rate for rate in (1e-3, 3e-3) if rate != whole.learning_rate_)
    moments = [
        ("before saving", 1, 1e-3, False),
        ("after saving", 2, other, False),
        ("before saving", 3, whole.learning_rate_, False),
        ("after saving", 4, whole.learning_rate_, False),
        ("after saving", 1, whole.learning_rate_, True),
    ]
    for moment, epoch, rate, is_on_all in moments:
        given = [str(tmp_path), moment, str(epoch), str(rate), str(is_on_all)]
        killed = subprocess.run([sys.executable, "-c", KILLED, *given], capture_output=True, text=True)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = make_classifier(**options, checkpoint=checkpoint).fit(images, labels)
    assert resumed.history_ == whole.history_
    assert resumed.trials_ == whole.trials_
    for name, weight in whole.layers_.weights.items():
        np.testing.assert_array_equal(resumed.layers_.weights[name], weight, err_msg=name)
    np.testing.assert_array_equal(resumed.head_.coef_, whole.head_.coef_)
    np.testing.assert_array_equal(resumed.predict_proba(images), whole.predict_proba(images))


def test_checkpoint_of_other_training_is_refused(digits: tuple[list[np.ndarray], np.ndarray], tmp_path: Path) -> None:
    images, labels = digits[0][:80], digits[1][:80]
    options = {"store": tmp_path / "maps", "checkpoint": tmp_path / "training"}
    make_classifier(epochs=2, **options).fit(images, labels)
    store = topwork.FeatureStore.open(tmp_path / "maps")
    assert store.columns[0].pool == "flatten"
    message = "is of other items, labels, layers or options"
    loss = functools.partial(torch.nn.functional.cross_entropy, reduction="none")
    for change in ({"epochs": 5}, {"class_weight": "balanced"}, {"loss": loss}, {"brightness": 0.1}):
        with pytest.raises(InputError, match=message):
            make_classifier(**{"epochs": 2, "checkpoint": tmp_path / "training", **change}).fit(store, labels)
    with pytest.raises(InputError, match=message):
        make_classifier(epochs=2, checkpoint=tmp_path / "training").fit(store, labels, groups=np.arange(80) // 2)


def test_training_goes_on_from_a_bundle_when_labels_change(
    digits: tuple[list[np.ndarray], np.ndarray], tmp_path: Path
) -> None:
    images, labels = digits[0][:200], digits[1][:200].astype(str)
    few = [str(label) for label in range(8)]
    is_known = np.isin(labels, few) & (np.arange(200) < 120)
    store = tmp_path / "maps"
    options = {"epochs": 4, "store": store, "to": "last"}
    parent = make_classifier(**options).fit([images[row] for row in np.flatnonzero(is_known)], labels[is_known])
    parent.save(tmp_path / "parent")
    child = make_classifier(**{**options, "from_layer": "auto"}, start_from=tmp_path / "parent").fit(images, labels)
    assert child.from_layer_ == "layer2"
    assert len(child.classes_) == 10
    assert child.comparison_ is not None
    again = clone(make_classifier(**options, start_from=parent)).fit(images, labels)
    np.testing.assert_array_equal(again.head_.coef_, child.head_.coef_)
    alone = make_classifier(**options).fit(images, labels)
    assert child.history_[0]["loss"] < alone.history_[0]["loss"]

    # What the parent has learned is not held out, and what neither has learned is known.
    assert set(parent.learned_) < set(child.learned_)
    n_unknown = 200 - len(child.learned_)
    assert n_unknown == child.comparison_.n_rows

    frozen = topwork.TransferClassifier("topwork:tiny", head="centroid", cv=0, precision="fp32")
    frozen.fit(images[:40], labels[:40]).save(tmp_path / "frozen")
    with pytest.raises(BundleError, match="has no layers that were trained"):
        make_classifier(start_from=tmp_path / "frozen").fit(images, labels)
    with pytest.raises(LayerError, match=r"trained above 'layer2', of which some lie below 'layer3.0'"):
        make_classifier(from_layer="layer3.0", start_from=parent).fit(images, labels)
    with pytest.raises(InputError, match=r"end at 'last', not at 'layer3.0'"):
        make_classifier(to="layer3.0", start_from=parent).fit(images, labels)
    with pytest.raises(InputError, match="start_from is a FineTunedClassifier that is not fitted"):
        make_classifier(start_from=make_classifier()).fit(images, labels)
    other = make_classifier(start_from=parent).set_params(
        backbone=topwork.load_backbone("topwork:tiny", weights="random")
    )
    with pytest.raises(InputError, match="with other weights"):
        other.fit(images, labels)


def test_layers_are_trained_once_more_on_all_rows(digits: tuple[list[np.ndarray], np.ndarray]) -> None:
    images, labels = digits[0][:100], digits[1][:100]
    seen = []
    options = {
        "epochs": 3,
        "to": "last",
        "callbacks": [lambda trainer, record: seen.append((len(trainer.rows), record.epoch))],
    }
    tuned = make_classifier(**options, train_on_all=True).fit(images, labels)
    best = max(tuned.history_, key=lambda record: record["validation_score"])
    limit = best["validation_score"] - best["validation_error"]
    kept = max(record["epoch"] for record in tuned.history_ if record["validation_score"] >= limit)
    n_training = 100 - tuned.comparison_.n_rows - 15
    assert seen == [*((n_training, epoch) for epoch in (1, 2, 3)), *((100, epoch) for epoch in range(1, kept + 1))]
    assert len(tuned.learned_) == 100
    before = make_classifier(**options).fit(images, labels)
    assert tuned.comparison_ == before.comparison_
    assert tuned.fit_report_.held_out == before.fit_report_.held_out == before.comparison_.tuned
    assert len(before.learned_) == 100 - before.comparison_.n_rows


def test_head_sits_where_frozen_features_are_best(
    fitted: FineTunedClassifier, digits: tuple[list[np.ndarray], np.ndarray]
) -> None:
    images, labels = digits
    assert (fitted.to_, fitted.pool_) == ("layer3.0", "avg2x2")  # digits need places, which an average has lost
    assert fitted.extractor_.columns[0].pool == "avg2x2"
    assert fitted.comparison_.frozen_layer.endswith("(avg2x2)")
    named = make_classifier(epochs=8, to="last").fit(images[:N_TRAINING], labels[:N_TRAINING])
    assert (named.to_, named.pool_) == ("last", "none")  # a vector
    assert named.comparison_.frozen_layer == fitted.comparison_.frozen_layer
    held_out = images[N_TRAINING:], labels[N_TRAINING:]
    assert fitted.score(*held_out) > named.score(*held_out) + 0.02
    few = make_classifier(epochs=1, pool="max").fit(images[:40], labels[:40])
    assert few.pool_ == "max" or few.to_ == "last"
    by_grid = make_classifier(epochs=1, pool="avg4x4").fit(images[:N_TRAINING], labels[:N_TRAINING])
    assert by_grid.to_ != "last"
    assert by_grid.pool_ == "avg4x4"
    assert by_grid.comparison_.frozen_layer.endswith("(avg4x4)")


def test_head_of_a_fitted_estimator_is_refitted_on_its_own_features(
    fitted: FineTunedClassifier, digits: tuple[list[np.ndarray], np.ndarray], tmp_path: Path
) -> None:
    images, labels = digits
    store = topwork.FeatureStore.create(tmp_path / "tuned", fitted.extractor_)
    topwork.extract_features(images[N_TRAINING : N_TRAINING + 100], store)
    child = topwork.refit(fitted, store, labels[N_TRAINING : N_TRAINING + 100])
    assert type(child) is topwork.TransferClassifier
    assert child.score(images[-200:], labels[-200:]) > 0.8


def test_estimator_for_a_store_names_its_cuts_and_the_backbone(
    digits: tuple[list[np.ndarray], np.ndarray], tmp_path: Path
) -> None:
    images, labels = digits[0][:40], digits[1][:40]
    make_classifier(from_layer="layer3.0", epochs=1, store=tmp_path / "maps").fit(images, labels)
    store = topwork.FeatureStore.open(tmp_path / "maps")
    with pytest.raises(InputError, match=r"backbone is missing: .* which was topwork:tiny"):
        FineTunedClassifier.from_store(store)
    with pytest.raises(InputError, match="an exported graph has no layers that can be trained"):
        FineTunedClassifier.from_graph(store.graph)
    options = {"backbone": "topwork:tiny", "epochs": 1, "precision": "fp32", "random_state": 0}
    assert FineTunedClassifier.from_store(store, **options).fit(store, labels).from_layer_ == "layer3.0"


def test_own_trainer_takes_part(digits: tuple[list[np.ndarray], np.ndarray]) -> None:
    class Freezing(FineTunedClassifier):
        """Trains the head alone."""

        def make_trainer(self, network: Any, *given: Any) -> Any:
            network.upper.requires_grad_(False)
            return super().make_trainer(network, *given)

    options = {"from_layer": "layer2", "precision": "fp32", "random_state": 0, "epochs": 1, "learning_rate": 1e-3}
    tuned = Freezing("topwork:tiny", **options).fit(digits[0][:40], digits[1][:40])
    own = topwork.load_backbone("topwork:tiny").module.state_dict()
    for name, weight in tuned.layers_.weights.items():
        np.testing.assert_array_equal(own[name].numpy(), weight)


def test_several_cuts_are_compared_on_a_store(digits: tuple[list[np.ndarray], np.ndarray], tmp_path: Path) -> None:
    images, labels = digits[0][:120], digits[1][:120]
    checkpoint = tmp_path / "training"
    cuts = ("layer3.0", "layer2")
    options = {"to": "last", "epochs": 2}
    first = make_classifier(from_layer=cuts, store=tmp_path / "maps", checkpoint=checkpoint, **options)
    first.fit(images, labels)
    assert [trial.layer for trial in first.trials_] == ["layer2", "layer3.0"]
    assert sorted(trial.epochs for trial in first.trials_) == [1, 2]
    assert {path.name for path in checkpoint.iterdir()} == {f"{cut}@0.001.safetensors" for cut in cuts}
    assert first.comparison_.frozen_layer.startswith(cuts)
    from_store = make_classifier(from_layer="auto", **options).fit(topwork.FeatureStore.open(tmp_path / "maps"), labels)
    assert from_store.from_layer_ == first.from_layer_
    np.testing.assert_allclose(from_store.head_.coef_, first.head_.coef_, rtol=1e-4, atol=1e-5)


def test_learning_rates_are_compared_where_there_are_rows_to_judge_by(
    digits: tuple[list[np.ndarray], np.ndarray],
) -> None:
    images, labels = digits
    tuned = make_classifier(epochs=4, learning_rate="auto").fit(images[:120], labels[:120])
    assert [(trial.layer, trial.learning_rate) for trial in tuned.trials_] == [("layer2", 1e-4), ("layer2", 1e-3)]
    assert tuned.learning_rate_ in (1e-4, 1e-3)
    few = make_classifier(epochs=1, learning_rate="auto").fit(images[:40], labels[:40])
    assert few.learning_rate_ == 1e-4
    named = make_classifier(epochs=1, learning_rate=[1e-2, 1e-3], optimizer="sgd").fit(images[:80], labels[:80])
    assert [trial.learning_rate for trial in named.trials_] == [1e-3, 1e-2]


def test_cut_is_added_to_a_store_with_other_items(digits: tuple[list[np.ndarray], np.ndarray], tmp_path: Path) -> None:
    images, labels = digits[0][:60], digits[1][:60]
    make_classifier(epochs=1, store=tmp_path / "maps").fit(images, labels)
    tuned = make_classifier(from_layer="layer3.0", epochs=1, store=tmp_path / "maps").fit(images[:40], labels[:40])
    alone = make_classifier(from_layer="layer3.0", epochs=1).fit(images[:40], labels[:40])
    np.testing.assert_array_equal(tuned.head_.coef_, alone.head_.coef_)


def test_named_cut_above_the_head_is_left_out_with_a_warning(digits: tuple[list[np.ndarray], np.ndarray]) -> None:
    images, labels = digits[0][:120], digits[1][:120]
    with pytest.warns(UserWarning, match=r"nothing is trained above layer3.1: the head sits on layer3.0 \(avg2x2\)"):
        tuned = make_classifier(from_layer=["layer2", "layer3.1"], epochs=1).fit(images, labels)
    assert tuned.from_layer_ == "layer2"


def test_few_items_are_trained_on_above_one_cut(digits: tuple[list[np.ndarray], np.ndarray]) -> None:
    tuned = make_classifier(from_layer="auto", epochs=1).fit(digits[0][:40], digits[1][:40])
    assert len(tuned.trials_) == 1


def test_items_without_weight_are_not_held_out(digits: tuple[list[np.ndarray], np.ndarray]) -> None:
    images, labels = digits[0][:160], digits[1][:160]
    weights = np.repeat([1.0, 0.0], 80)
    held_out = []
    options = {"epochs": 1, "callbacks": [lambda trainer, record: held_out.append(trainer.validation.weight.min())]}
    tuned = make_classifier(**options).fit(images, labels, sample_weight=weights)
    assert tuned.comparison_.n_rows <= 24
    assert min(held_out) > 0
    with pytest.raises(InputError, match="must contain at least one non-zero"):
        make_classifier(epochs=1).fit(images[:40], labels[:40], sample_weight=np.zeros(40))


def test_failed_fit_leaves_nothing_to_predict_or_start_with(digits: tuple[list[np.ndarray], np.ndarray]) -> None:
    images, labels = digits[0][:40], digits[1][:40]
    tuned = make_classifier(epochs=1).fit(images, labels)
    with pytest.raises(InputError, match="epochs is 0"):
        tuned.set_params(epochs=0).fit(images, labels)
    with pytest.raises(NotFittedError):
        tuned.predict(images)
    assert not [name for name in vars(tuned) if name.endswith("_") or name == "_run"]


def test_cuts_beyond_the_budget_of_disk_are_left_out(
    digits: tuple[list[np.ndarray], np.ndarray], tmp_path: Path
) -> None:
    images, labels = digits[0][:40], digits[1][:40]
    one_cut = 40 * 80 * 8 * 8 * 2  # maps of layer3.0 in float16
    tuned = make_classifier(from_layer=["layer2", "layer3.0"], epochs=1, max_disk=one_cut).fit(images, labels)
    assert [trial.layer for trial in tuned.trials_] == ["layer3.0"]
    with pytest.raises(InputError, match="max_disk allows"):
        make_classifier(max_disk=one_cut / 2).fit(images, labels)
    make_classifier(epochs=1, store=tmp_path / "maps").fit(images, labels)
    stored = make_classifier(from_layer=["layer2", "layer3.0"], epochs=1, store=tmp_path / "maps", max_disk=1)
    assert [trial.layer for trial in stored.fit(images, labels).trials_] == ["layer2"]
    with pytest.raises(InputError, match="max_disk allows"):  # of one item there are no maps
        stored.fit(digits[0][:41], digits[1][:41])


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
        ({"learning_rate": "high"}, "learning_rate is 'high'; expected a positive number, several, or 'auto'"),
        ({"learning_rate": ()}, r"learning_rate is \(\); expected a positive number"),
        ({"learning_rate": (1e-3, 1e-4)}, "several cuts or learning rates cannot be compared, as too few rows"),
        ({"epochs": 0}, "epochs is 0; expected a positive integer"),
        ({"optimizer": "adam"}, "optimizer is 'adam'; expected 'adamw' or 'sgd'"),
        ({"test_fraction": 1.0}, "test_fraction is 1.0; expected a number from 0 to below 1"),
        ({"checkpoint": "state", "random_state": None}, "random_state is None, but checkpoint is given"),
        ({"max_disk": 0}, "max_disk is 0; expected None, or a positive number"),
        ({"loss": "focal"}, "loss is 'focal'; expected None, or a function"),
        ({"loss": torch.nn.functional.cross_entropy}, r"loss returned a tensor of shape \(\) for 20 rows"),
        ({"to": None}, "to is None; expected the name of a layer, or 'auto'"),
        ({"from_layer": 5}, "from_layer is 5; expected the name of a layer, several, or 'auto'"),
        ({"random_state": np.random.default_rng(0)}, "random_state is .*; expected None, an integer or"),
        ({"class_weight": {"q": 2.0}}, "class_weight names 'q', a label that no item has"),
    ],
)
def test_wrong_parameters_are_refused(
    digits: tuple[list[np.ndarray], np.ndarray], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        make_classifier(**options).fit(digits[0][:20], digits[1][:20])
