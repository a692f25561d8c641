"""Labels of a converted head have the values of ``predict``, or an error names them and their type."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from topwork.errors import ExportError
from topwork.extract.graphs.torch.cutter import OPSET
from topwork.pipelines.fused.fuse import convert_head
from topwork.pipelines.fused.labels import to_onnx_labels

HEADS = [
    LogisticRegression(),
    KNeighborsClassifier(3),
    make_pipeline(StandardScaler(), RandomForestClassifier(5, random_state=0)),
    OneVsRestClassifier(GaussianNB()),
    GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2),
]
LABELS = {
    "int8": np.array([-3, 0, 7], np.int8),
    "int64 at its ends": np.array([-(2**63), 0, 2**63 - 1]),
    "uint64": np.array([0, 2**63, 2**64 - 1], np.uint64),
    "bool": np.array([False, True, True]),
    "float16": np.array([-2, 0, 2048], np.float16),
    "float32": np.array([-1, 0, 2**24], np.float32),
    "float64": np.array([-1.0, 0.0, 2.0**53]),
    "str": np.array(["", "b c", "\u00e9"]),
    "str as objects": np.array(["a", "bb", "ccc"], object),
    "int as objects": np.array([5, 2**63, 2**64 - 1], object),
}
POSITIONS = np.repeat([0, 1, 2], 20)


@pytest.fixture(scope="module")
def features() -> NDArray[np.float32]:
    """Return rows of three classes that are far apart."""
    rows = np.random.default_rng(0).normal(size=(60, 4))
    rows[np.arange(60), POSITIONS] += 6
    return rows.astype(np.float32)


@pytest.mark.parametrize("kind", [kind for kind in LABELS if kind != "int as objects"])
@pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)
def test_labels_are_those_of_predict(head: Any, kind: str, features: NDArray[np.float32]) -> None:
    head.fit(features, LABELS[kind][POSITIONS])
    model = convert_head(head, 4, OPSET)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, {"features": features})[0]
    assert found.tolist() == head.predict(features).tolist()


@pytest.mark.parametrize("kind", LABELS)
def test_labels_keep_values_and_order(kind: str) -> None:
    assert to_onnx_labels(LABELS[kind]).tolist() == LABELS[kind].tolist()


@pytest.mark.parametrize(
    ("labels", "name"),
    [
        (np.array([b"a", b"b"]), "|S1"),
        (np.array(["2024-01-01", "2025-01-01"], "datetime64[D]"), "datetime64"),
        (np.array([1, "a"], object), "int and str"),
        (np.array([-1, 2**63], object), "int"),
        (np.array([1j, 2j]), "complex128"),
        (np.array(["a", "\ud800"]), "<U1"),
        (np.array([True, 2], object), "bool and int"),
        (np.array([0.1, 0.2], np.longdouble), "float128"),
    ],
)
def test_other_labels_are_an_error_with_labels_and_type(labels: NDArray[Any], name: str) -> None:
    with pytest.raises(ExportError, match="labels") as error:
        to_onnx_labels(labels)
    assert name in str(error.value)
    assert repr(labels[0]) in str(error.value)


def test_many_labels_are_not_all_named() -> None:
    with pytest.raises(ExportError) as error:
        to_onnx_labels(np.arange(100).astype("datetime64[D]"))
    assert len(str(error.value)) < 250
