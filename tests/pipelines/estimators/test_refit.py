"""Refitting from the cache: warm starts, changed labels, and evaluation of parent and child on the same rows."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import topwork
from topwork import (
    Extractor,
    FeatureStore,
    TransferClassifier,
    TransferRegressor,
    extract_features,
    large_arrays,
    refit,
)
from topwork.errors import IdentityError, InputError
from topwork.extract.graphs.exported_graph import ExportedGraph
from topwork.heads.parallel import find_memory_map

from ..cli.running import topwork_command, topwork_json

DIGITS = 400
WITHOUT_BACKBONE = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("timm", "torchvision", "onnx", "onnxscript", "skl2onnx", "transformers"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocker())
import topwork
child = topwork.refit(*sys.argv[1:3])
print(child.lineage_["rows"])
"""


@pytest.fixture(scope="module")
def digits(graph: ExportedGraph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store of hand-written digits with their labels as strings; it is not to be changed."""
    path = tmp_path_factory.mktemp("digits") / "store"
    extract_digits(graph, path)
    return path


def extract_digits(graph: ExportedGraph, path: Path, **options: Any) -> None:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    grey = np.repeat(images[:DIGITS].reshape(-1, 8, 8) * 15, 4, axis=1).repeat(4, axis=2).astype(np.uint8)
    store = FeatureStore.create(path, Extractor(graph, "layer2"))
    names = [f"digit-{number:03d}" for number in range(DIGITS)]
    extract_features(list(np.repeat(grey[..., None], 3, axis=3)), store, ids=names, **options)
    store.set_labels({name: f"d{label}" for name, label in zip(names, labels[:DIGITS], strict=True)})


@pytest.fixture(scope="module")
def bundle(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle that was trained on all digits; it is not to be changed."""
    path = tmp_path_factory.mktemp("bundles") / "first"
    TransferClassifier.from_store(FeatureStore.open(digits)).fit(FeatureStore.open(digits)).save(path)
    return path


@pytest.fixture(scope="module")
def nightly(bundle: Path, digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle that has held a fifth of the digits out; it is not to be changed."""
    path = tmp_path_factory.mktemp("bundles") / "second"
    refit(bundle, digits).save(path)
    return path


def as_labels(store: Path) -> np.ndarray:
    return np.array(FeatureStore.open(store).labels)


def test_child_and_parent_are_evaluated_on_rows_that_neither_learned(
    bundle: Path, digits: Path, tmp_path: Path
) -> None:
    child = refit(bundle, digits)
    lineage = child.lineage_
    assert lineage["held_out"] == {"by": "id", "share": 0.2, "seed": 0, "n": DIGITS - lineage["rows"]}
    assert 40 < lineage["held_out"]["n"] < 120
    assert lineage["metrics"]["parent_may_have_learned_them"]  # `fit` holds nothing out
    assert child.n_rows_ == lineage["rows"]
    assert not lineage["warm"]  # or it would know the rows that it is evaluated on
    child.save(tmp_path / "second")
    grandchild = refit(tmp_path / "second", digits)
    assert grandchild.lineage_["warm"]
    assert not grandchild.lineage_["metrics"]["parent_may_have_learned_them"]
    assert grandchild.lineage_["metrics"]["parent"] == lineage["metrics"]["held_out"]
    for name in ("ids", "labels", "input", "columns", "rows", "held_out"):
        assert grandchild.lineage_[name] == lineage[name]
    assert grandchild.lineage_["parent"] != lineage["parent"] is not None


def test_difference_to_the_parent_is_paired(nightly: Path, digits: Path) -> None:
    store = FeatureStore.open(digits)
    wrong = dict.fromkeys(store.ids[::3], "d0")
    child = refit(nightly, digits, wrong, warm=False)
    metrics = child.lineage_["metrics"]
    assert metrics["difference"] == pytest.approx(metrics["held_out"] - metrics["parent"])
    assert 0 < metrics["standard_error"] < 0.1
    assert metrics["parent_before"] == pytest.approx(topwork.load(nightly).fit_report_.held_out)


def test_rows_since_the_parent_are_counted(digits: Path, tmp_path: Path) -> None:
    store = FeatureStore.open(digits)
    some = [label if number >= 21 else None for number, label in enumerate(store.labels)]
    parent = refit(TransferClassifier.from_store(store).fit(store, some), digits, held_out=0)
    assert parent.lineage_["changes"] == {"new": 21, "gone": 0}
    fewer = dict.fromkeys(store.ids[-5:])
    assert refit(parent, digits, fewer, held_out=0).lineage_["changes"] == {"new": 0, "gone": 5}


def test_head_can_be_trained_on_all_rows_once_it_is_evaluated(nightly: Path, digits: Path) -> None:
    held_back = refit(nightly, digits)
    child = refit(nightly, digits, train_on_all=True)
    assert (child.lineage_["trained_on_all"], held_back.lineage_["trained_on_all"]) == (True, False)
    assert child.lineage_["rows"] == child.n_rows_ == DIGITS
    assert child.lineage_["metrics"] == held_back.lineage_["metrics"]
    assert child.fit_report_ == held_back.fit_report_
    assert refit(child, digits).lineage_["metrics"]["parent_may_have_learned_them"]


def test_held_out_score_is_that_of_those_rows(bundle: Path, digits: Path) -> None:
    from topwork.pipelines.estimators.holdout_rule import HoldOutRule

    child, store = refit(bundle, digits), FeatureStore.open(digits)
    held = HoldOutRule().select(store.ids, store.splits)
    right = child.predict(store) == as_labels(digits)
    assert child.lineage_["metrics"]["held_out"] == pytest.approx(right[held].mean())
    assert child.lineage_["metrics"]["training"] == pytest.approx(right[~held].mean())
    assert child.fit_report_.held_out == pytest.approx(right[held].mean())


def test_warm_start_ends_where_a_fresh_one_does(nightly: Path, digits: Path) -> None:
    warm = refit(nightly, digits)
    assert warm.lineage_["warm"]
    cold = TransferClassifier.from_store(FeatureStore.open(digits), head=topwork.LinearProbe(warm.head_.C_))
    again = refit(cold.fit(FeatureStore.open(digits)), digits, warm=False)
    assert not again.lineage_["warm"]
    np.testing.assert_allclose(
        warm.predict_proba(FeatureStore.open(digits)), again.predict_proba(FeatureStore.open(digits)), atol=5e-3
    )
    assert warm.head_.C_ == topwork.load(nightly).head_.C_
    assert warm.head_.warm_start is False


def test_new_classes_are_added_and_missing_ones_are_dropped_with_a_warning(nightly: Path, digits: Path) -> None:
    labels = np.where(as_labels(digits) == "d0", "zero", as_labels(digits))
    with pytest.warns(UserWarning, match=r"\['d0'\]"):
        child = refit(nightly, digits, labels)
    assert child.lineage_["warm"]
    assert child.lineage_["classes"] == {"added": ["zero"], "dropped": ["d0"]}
    assert child.classes_.tolist() == sorted(set(labels.tolist()))
    assert child.lineage_["metrics"]["held_out"] > 0.85
    assert np.mean(child.predict(FeatureStore.open(digits)) == labels) > 0.95
    assert as_labels(digits).tolist().count("d0") > 0  # the store stays as it is


@pytest.mark.parametrize("head", ["mlp", "logreg", "ridge", "linear"])
def test_every_head_can_be_trained_again(head: str, digits: Path, tmp_path: Path) -> None:
    store = FeatureStore.open(digits)
    TransferClassifier.from_store(store, head=head, cv=0).fit(store).save(tmp_path / "parent")
    child = refit(tmp_path / "parent", store)
    assert child.lineage_["metrics"]["held_out"] > 0.85
    child.save(tmp_path / "child")
    assert refit(tmp_path / "child", store).lineage_["warm"] == (head in ("mlp", "linear"))
    assert topwork.load(tmp_path / "child").lineage_ == json.loads(json.dumps(child.lineage_))


def test_values_can_be_trained_again(digits: Path, tmp_path: Path) -> None:
    store = FeatureStore.open(digits)
    values = np.array([float(label[1:]) for label in store.labels])
    TransferRegressor.from_store(store, head="mlp", cv=0).fit(store, values).save(tmp_path / "parent")
    child = refit(tmp_path / "parent", store, values)
    assert child.lineage_["metrics"]["metric"] == "R2"
    assert child.lineage_["metrics"]["held_out"] > 0.5
    assert refit(child, store, values).lineage_["warm"]


def test_rows_without_a_label_are_left_out(graph: ExportedGraph, photos: Path, tmp_path: Path) -> None:
    store = FeatureStore.create(tmp_path / "store", Extractor(graph, "layer2"))
    paths = sorted(photos.rglob("*.png"))
    extract_features(paths, store, ids=[str(number) for number in range(len(paths))])
    with pytest.raises(InputError, match="store"):
        refit(TransferClassifier(graph, "layer2").fit(photos), store)
    labels = {str(number): path.parent.name for number, path in enumerate(paths) if number % 2}
    child = refit(TransferClassifier(graph, "layer2").fit(photos), store, labels)
    assert child.lineage_["unlabelled"] == 12
    assert child.lineage_["rows"] + child.lineage_["held_out"]["n"] == 12


def test_split_of_the_labels_decides(bundle: Path, digits: Path, tmp_path: Path) -> None:
    ids = FeatureStore.open(digits).ids
    table = tmp_path / "labels.csv"
    rows = [
        f"{name},{label},{'test' if k % 4 == 0 else 'train'}"
        for k, (name, label) in enumerate(zip(ids, as_labels(digits), strict=True))
    ]
    table.write_text("\n".join(["id,topic,split", *rows]))
    child = refit(bundle, digits, table)
    assert child.lineage_["held_out"] == {"by": "split", "share": 0.0, "seed": 0, "n": 100}
    assert child.lineage_["rows"] == 300
    none = refit(bundle, digits, held_out=0)
    assert (none.lineage_["rows"], none.lineage_["metrics"], none.fit_report_) == (400, {}, None)


def test_labels_that_cannot_be_are_refused(bundle: Path, digits: Path, tmp_path: Path) -> None:
    for labels, message in (
        ({"nobody": "d1"}, "'nobody'"),
        ({"digit-000": 7}, "int, str"),
        (["d1", "d2"], "2 labels for 400"),
    ):
        with pytest.raises(InputError, match=message):
            refit(bundle, digits, labels)
    (tmp_path / "two.csv").write_text("id,one,other\ndigit-000,d1,d2\n")
    with pytest.raises(InputError, match="label-column"):
        refit(bundle, digits, tmp_path / "two.csv")
    assert refit(bundle, digits, tmp_path / "two.csv", label_column="other").lineage_["rows"] > 300


def test_features_of_another_identity_are_refused(
    bundle: Path, photos: Path, graph: ExportedGraph, tmp_path: Path
) -> None:
    other = FeatureStore.create(tmp_path / "other", Extractor("topwork:tiny", "layer2", pool="max"))
    extract_features(photos, other)
    with pytest.raises(IdentityError, match="layer2"):
        refit(bundle, other)


def test_views_are_learned_from_but_not_evaluated_on(graph: ExportedGraph, photos: Path, tmp_path: Path) -> None:
    classifier = TransferClassifier(graph, "layer2", store=tmp_path / "store", views=2).fit(photos)
    child = refit(classifier, tmp_path / "store", held_out=0.4)
    held = child.lineage_["held_out"]["n"]
    assert child.lineage_["rows"] == 3 * (24 - held)


def test_labels_of_several_types_are_trained_from_scratch(digits: Path, tmp_path: Path) -> None:
    store = FeatureStore.open(digits)
    labels: list[Any] = [int(label[1:]) if label < "d5" else label for label in store.labels]
    parent = TransferClassifier.from_store(store).fit(store, labels)
    parent.save(tmp_path / "bundle")
    child = refit(tmp_path / "bundle", store, labels)
    assert not child.lineage_["warm"]
    assert [type(each) for each in child.predict(store)[:20].tolist()] == [type(each) for each in labels[:20]]


def test_command_refits_and_reports(bundle: Path, nightly: Path, digits: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("id,label\ndigit-000,zero\ndigit-010,zero\ndigit-020,zero\n")
    out = topwork_command(
        "refit", nightly, digits, "--labels", tmp_path / "labels.csv", "--out", tmp_path / "new"
    ).stdout
    assert "warm start from the parent" in out
    assert "added classes: zero" in out
    assert "rows that neither has learned from" in out
    first = topwork_command("refit", bundle, digits, "--out", tmp_path / "b").stdout
    assert "the parent may have learned from these rows" in first
    assert "says little; it had 0.9" in first
    alone = topwork_command("refit", bundle, digits, "--held-out", 0, "--out", tmp_path / "c").stdout
    assert "warm start from the parent" in alone
    assert "not evaluated" in alone
    assert max(map(len, out.splitlines()[:-1])) <= 80
    report = topwork_json("refit", tmp_path / "new", digits, "--out", tmp_path / "new", "--anew", "--overwrite")
    assert report["classes"] == {"added": [], "dropped": ["zero"]}
    assert report["warm"] is False
    assert report["metrics"]["parent_may_have_learned_them"] is False
    assert topwork_json("evaluate", tmp_path / "new", digits)["accuracy"] > 0.9
    assert (
        "held_out"
        in topwork_command("refit", bundle, digits, "--held-out", "3", "--out", tmp_path / "no", code=2).stderr
    )


def test_no_backbone_is_needed(bundle: Path, digits: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_BACKBONE, str(bundle), str(digits)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 300


@pytest.mark.parametrize("compact", [True, False])
def test_features_may_be_larger_than_memory(
    graph: ExportedGraph, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compact: bool
) -> None:
    extract_digits(graph, tmp_path / "store", compact=compact)
    store = FeatureStore.open(tmp_path / "store")
    assert isinstance(store.matrix("layer2"), np.ndarray) == compact
    expected = refit(bundle, store)
    cache = tmp_path / "cache"
    monkeypatch.setenv("TOPWORK_CACHE", str(cache))
    monkeypatch.setattr(large_arrays, "available_memory", lambda: 1000)
    monkeypatch.setattr(large_arrays, "SMALL_BYTES", 0)
    in_files: list[np.ndarray] = []
    fit = TransferClassifier.train

    def note(self: TransferClassifier, head: Any, rows: Any) -> None:
        in_files.append(rows.X)
        fit(self, head, rows)

    monkeypatch.setattr(TransferClassifier, "train", note)
    child = refit(bundle, store)
    assert in_files
    assert all(find_memory_map(X) is not None for X in in_files)
    np.testing.assert_array_equal(child.predict(store), expected.predict(store))
    assert child.lineage_["rows"] == expected.lineage_["rows"]


def test_refit_without_losses_gives_no_warning(bundle: Path, digits: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        refit(bundle, digits)
