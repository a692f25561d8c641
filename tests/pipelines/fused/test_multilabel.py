"""Files of classifiers of several labels predict all labels of each row as the classifier does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier
from topwork import Extractor, TensorSpec, TransferClassifier, load_backbone
from topwork.errors import ExportError
from topwork.heads.registry import HEADS
from topwork.pipelines.fused.fuse import LABELS_KEY
from torch import nn

SLOW = ("gp", "hgb", "linear")
WITH_SLOW_ONES_MARKED = [pytest.param(name, marks=pytest.mark.coverage) if name in SLOW else name for name in HEADS]
Rows = NDArray[np.float32]


@pytest.fixture(scope="module")
def graph() -> Any:
    return Extractor(load_backbone(nn.Identity(), input_spec=TensorSpec((64,))), layer="last").graph


def load_rows() -> tuple[Rows, NDArray[np.int64], Rows]:
    """Return digits to fit, whether each is even, more than four, and a multiple of three, and other digits."""
    X, y = load_digits(return_X_y=True)
    rows = X.astype(np.float32)
    labels = np.column_stack([y % 2 == 0, y > 4, y % 3 == 0]).astype(np.int64)
    return rows[:120], labels[:120], np.concatenate([rows[120:700], 0 * rows[:1]])


def compare(head: Any, graph: Any, labels: NDArray[np.int64], path: Path) -> TransferClassifier:
    rows, _, given = load_rows()
    classifier = TransferClassifier(graph, "last", head=head, cv=0).fit(rows, labels)
    classifier.to_onnx(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: given})
    assert found[0].dtype == np.int64
    assert np.array_equal(found[0], classifier.predict(given))
    names = [output.name for output in session.get_outputs()]
    expected = ["labels"] if head in ("ridge", "svm") else ["labels", "probabilities"]
    assert names == [*expected, *(["familiar"] if classifier.familiarity_ is not None else [])]
    if "probabilities" in names:
        assert np.abs(found[1] - classifier.predict_proba(given)).max() < 1e-4
    return classifier


@pytest.mark.parametrize("name", WITH_SLOW_ONES_MARKED)
def test_all_labels_equal_predict(name: str, graph: Any, tmp_path: Path) -> None:
    compare(name, graph, load_rows()[1], tmp_path / "model.onnx")


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("name", ["logreg", "ridge", "knn", "svm"])
@pytest.mark.filterwarnings("ignore:Label not")
def test_label_that_always_or_never_applies(name: str, first: int, graph: Any, tmp_path: Path) -> None:
    labels = load_rows()[1].copy()
    labels[:, 0] = first
    labels[:, 2] = 1 - first
    compare(name, graph, labels, tmp_path / "model.onnx")


def test_votes_that_tie_are_no_label(graph: Any, tmp_path: Path) -> None:
    compare(KNeighborsClassifier(4, algorithm="brute"), graph, load_rows()[1], tmp_path / "model.onnx")


def test_names_of_labels_are_in_the_metadata(graph: Any, tmp_path: Path) -> None:
    classifier = compare("ridge", graph, load_rows()[1], tmp_path / "model.onnx")
    metadata = {entry.key: entry.value for entry in onnx.load(tmp_path / "model.onnx").metadata_props}
    assert json.loads(metadata[LABELS_KEY]) == classifier.classes_.tolist()


def test_part_without_converter_is_an_error_and_no_file(graph: Any, tmp_path: Path) -> None:
    head = OneVsRestClassifier(RandomForestClassifier(3, random_state=0))
    with pytest.raises(ExportError, match="RandomForestClassifier"):
        compare(head, graph, load_rows()[1], tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
