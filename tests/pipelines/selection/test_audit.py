"""Audits of stores: what was planted is found, and what cannot be judged is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_digits
from topwork import FeatureStore, TransferClassifier, apply_findings, audit
from topwork.errors import InputError
from topwork.pipelines.selection.findings import read_findings


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, list[str]]:
    found = load_digits()
    return found.data.astype(np.float32)[:500], [f"digit {target}" for target in found.target[:500]]


def store_of(folder: Path, X: Any, labels: Any = None, **more: Any) -> FeatureStore:
    """Return a store of features whose ids are the numbers of the rows."""
    store = FeatureStore.import_features(folder / "store", np.asarray(X), labels=labels)
    for name, values in more.items():
        store.set_labels({str(row): value for row, value in enumerate(values)}, name)
    return store


def test_changed_labels_are_found_and_nothing_is_written(tmp_path: Path, digits: tuple[np.ndarray, list[str]]) -> None:
    X, labels = digits
    changed = list(labels)
    for row in range(0, 100, 10):
        changed[row] = f"digit {(int(labels[row][-1]) + 3) % 10}"
    store = store_of(tmp_path, X, changed)
    before = len(store.log.entries())
    findings = audit(store)
    found = {finding.id: finding for finding in findings.of_kind("label")}
    planted = {str(row) for row in range(0, 100, 10)}
    assert len(planted & found.keys()) >= 8
    first = [finding.id for finding in findings.of_kind("label")][:8]
    assert len(planted.intersection(first)) >= 6
    suggested = [found[name].label == labels[int(name)] for name in planted & found.keys()]
    assert sum(suggested) >= 7
    assert len(FeatureStore.open(store.path).log.entries()) == before
    scores = [finding.score for finding in findings.of_kind("label")]
    assert scores == sorted(scores, reverse=True)
    assert (findings.n_items, findings.n_labelled, findings.columns) == (500, 500, ("features",))


def test_equal_contents_are_leakage_between_splits_and_duplicates_within(
    tmp_path: Path, digits: tuple[np.ndarray, list[str]]
) -> None:
    X = np.vstack([digits[0][:100], digits[0][:6], digits[0][50:53]])
    labels = [*digits[1][:100], *digits[1][:6], *digits[1][50:52], "digit 99"]
    splits = ["train"] * 100 + ["test"] * 6 + ["train"] * 3
    findings = audit(store_of(tmp_path, X, labels, split=splits))
    leaks = findings.of_kind("leakage")
    assert {(finding.id, finding.related) for finding in leaks} == {(str(row), str(100 + row)) for row in range(6)}
    assert {finding.suggestion for finding in leaks} == {"exclude"}
    duplicates = {finding.id: finding for finding in findings.of_kind("duplicate")}
    assert {name: finding.related for name, finding in duplicates.items()} == {"106": "50", "107": "51", "108": "52"}
    assert (duplicates["106"].suggestion, duplicates["108"].suggestion) == ("exclude", "review")
    assert "digit 99" in duplicates["108"].evidence


def test_near_copies_are_found_and_groups_are_respected(tmp_path: Path, digits: tuple[np.ndarray, list[str]]) -> None:
    generator = np.random.default_rng(0)
    noise = generator.standard_normal((9, 64)) * 0.05 * digits[0].std(axis=0)
    copies = digits[0][:9] + noise.astype(np.float32)
    X = np.vstack([digits[0], copies])
    groups = [None] * 509
    for row in range(9):
        groups[row] = f"g{row}"
        groups[500 + row] = f"g{row}" if row < 3 else f"h{row}" if row < 6 else None
    store = store_of(tmp_path, X, digits[1] + digits[1][:9])
    findings = audit(store, groups=groups)
    leaks = {(finding.id, finding.related) for finding in findings.of_kind("near_leakage")}
    assert leaks == {(str(500 + row), str(row)) for row in (3, 4, 5)}
    near = {(finding.id, finding.related) for finding in findings.of_kind("near_duplicate")}
    assert {(str(500 + row), str(row)) for row in (6, 7, 8)} <= near
    assert not {(str(500 + row), str(row)) for row in (0, 1, 2)} & near
    by_id = audit(store, groups={str(row): group for row, group in enumerate(groups)})
    assert by_id.findings == findings.findings


def test_copies_stay_in_one_fold(tmp_path: Path, digits: tuple[np.ndarray, list[str]]) -> None:
    X = np.vstack([digits[0][:200], digits[0][:10]])
    wrong = [f"digit {(int(label[-1]) + 5) % 10}" for label in digits[1][:10]]
    findings = audit(store_of(tmp_path, X, wrong + digits[1][10:200] + wrong))
    found = {finding.id for finding in findings.of_kind("label")}
    assert len(found & {str(row) for row in [*range(10), *range(200, 210)]}) >= 12


def test_rows_without_labels_are_compared_only(tmp_path: Path, digits: tuple[np.ndarray, list[str]]) -> None:
    X = np.vstack([digits[0][:50], digits[0][:1]])
    findings = audit(store_of(tmp_path, X))
    assert [(finding.id, finding.kind) for finding in findings.of_kind("duplicate")] == [("50", "duplicate")]
    assert findings.counts["label"] == 0
    assert findings.n_labelled == 0
    assert "0 items" in findings.notes[0]


def test_one_class_is_noted(tmp_path: Path, digits: tuple[np.ndarray, list[str]]) -> None:
    findings = audit(store_of(tmp_path, digits[0][:50], ["one"] * 50))
    assert findings.counts["label"] == findings.counts["classes"] == 0
    assert "'one'" in findings.notes[0]


@pytest.mark.parametrize("n_rows", [1, 2, 3, 12])
def test_tiny_stores_are_audited(tmp_path: Path, digits: tuple[np.ndarray, list[str]], n_rows: int) -> None:
    findings = audit(store_of(tmp_path, digits[0][:n_rows], digits[1][:n_rows]))
    assert findings.n_items == n_rows
    assert len(findings.to_frame()) == len(findings)


def test_a_divided_class_is_suggested_to_be_merged(tmp_path: Path, digits: tuple[np.ndarray, list[str]]) -> None:
    labels = [f"{label}b" if label == "digit 3" and row % 2 else label for row, label in enumerate(digits[1])]
    findings = audit(store_of(tmp_path, digits[0], labels))
    assert [(finding.id, finding.suggestion) for finding in findings.of_kind("classes")] == [
        ("digit 3 / digit 3b", "merge")
    ]


def test_several_labels_are_judged(tmp_path: Path, digits: tuple[np.ndarray, list[str]]) -> None:
    numbers = [int(label[-1]) for label in digits[1]]
    sets = [["digit", f"is {number}"] for number in numbers]
    sets[20] = ["digit", f"is {(numbers[20] + 1) % 10}"]
    store = store_of(tmp_path, digits[0], sets)
    findings = audit(store)
    found = {finding.id: finding for finding in findings.of_kind("label")}
    assert f"-is {(numbers[20] + 1) % 10}" in found["20"].evidence
    assert "digit" in found["20"].label
    assert f"is {(numbers[20] + 1) % 10}" not in found["20"].label
    findings.write(tmp_path / "findings.csv")
    applied = apply_findings(store, tmp_path / "findings.csv")
    assert applied.relabelled["20"] == found["20"].label
    assert store.labels[20] == sorted(found["20"].label)


def test_values_are_judged(tmp_path: Path) -> None:
    X, y = load_diabetes(return_X_y=True)
    y = y.copy()
    y[11] = 3000.0
    findings = audit(store_of(tmp_path, X, y.tolist()), task="regression")
    assert [(finding.id, finding.suggestion) for finding in findings.of_kind("label")] == [("11", "review")]


def test_outliers_are_found(tmp_path: Path) -> None:
    X = np.random.default_rng(0).standard_normal((200, 6)) * 0.1 + np.eye(6)[0]
    X[17] = 4 * np.eye(6)[5]
    findings = audit(store_of(tmp_path, X))
    assert findings.of_kind("outlier")[0].id == "17"


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_findings_are_read_as_they_were_written(
    tmp_path: Path, digits: tuple[np.ndarray, list[str]], suffix: str
) -> None:
    X = np.vstack([digits[0][:200], digits[0][:3]])
    labels = digits[1][:200] + digits[1][:3]
    labels[40] = "digit 0" if labels[40] != "digit 0" else "digit 1"
    findings = audit(store_of(tmp_path, X, labels))
    path = tmp_path / f"findings.{suffix}"
    findings.write(path)
    assert read_findings(path) == list(findings)
    assert json.loads(json.dumps(findings.to_json()))["counts"]["duplicate"] == 3
    with pytest.raises(InputError, match=r"\.txt"):
        findings.write(tmp_path / "findings.txt")


def test_applied_findings_are_labels_that_can_be_taken_back(
    tmp_path: Path, digits: tuple[np.ndarray, list[str]]
) -> None:
    X = np.vstack([digits[0][:200], digits[0][:2]])
    labels = digits[1][:200] + digits[1][:2]
    right = labels[40]
    labels[40] = "digit 0" if right != "digit 0" else "digit 1"
    store = store_of(tmp_path, X, labels)
    findings = audit(store)
    applied = apply_findings(store, findings)
    assert applied.relabelled["40"] == right
    assert applied.excluded == {"200": "duplicate of 0", "201": "duplicate of 1"}
    reopened = FeatureStore.open(store.path)
    assert reopened.labels[40] == right
    assert reopened.labels[200:] == [None, None]
    assert reopened.get_labels("label")[200:] == labels[200:]
    with pytest.warns(UserWarning, match="2 of 202 items have no label"):
        classifier = TransferClassifier.from_store(reopened, head="centroid", cv=0).fit(reopened)
    assert classifier.n_rows_ == 200
    again = audit(reopened)
    assert (again.n_items, again.counts["duplicate"]) == (200, 0)
    reopened.set_labels(dict.fromkeys(applied.excluded), "excluded")
    assert reopened.labels[200:] == labels[200:]


def test_wrong_findings_are_refused(tmp_path: Path, digits: tuple[np.ndarray, list[str]]) -> None:
    store = store_of(tmp_path, digits[0][:20], digits[1][:20])
    path = tmp_path / "findings.csv"
    for rows, match in (
        ("id,suggestion\n99,exclude\n", "'99'"),
        ("id,suggestion\n1,delete\n", "'delete'"),
        ("id,suggestion,label\n1,relabel,\n", "'1'"),
        ("id,suggestion,label\n1,relabel,a\n1,relabel,b\n", "'b'"),
        ("id,kind\n1,label\n", "'suggestion'"),
    ):
        path.write_text(rows, encoding="utf-8")
        with pytest.raises(InputError, match=match):
            apply_findings(store, path)
    assert store.labels == digits[1][:20]


def test_wrong_parameters_are_refused(tmp_path: Path, digits: tuple[np.ndarray, list[str]]) -> None:
    store = store_of(tmp_path, digits[0][:20], digits[1][:20])
    for parameters, match in (
        ({"task": "ranking"}, "'ranking'"),
        ({"columns": ["layer9"]}, "'layer9'"),
        ({"groups": [1, 2]}, "groups"),
        ({"task": "regression"}, "digit"),
        ({"near": 0.0}, "near=0.0"),
    ):
        with pytest.raises(InputError, match=match):
            audit(store, **parameters)
