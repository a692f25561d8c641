"""Heads as files: they come back whole, nothing is unpickled, and what is not trusted is named."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold
from sklearn.tree import DecisionTreeClassifier
from topwork.errors import BundleError
from topwork.heads.linear.linear_probe import LinearProbe, LinearProbeCV
from topwork.heads.mlp.mlp_head import MLPHead
from topwork.heads.mlp.mlp_regressor import MLPHeadRegressor
from topwork.heads.persistence import JSON, TENSORS, head_files, load_head, save_head
from topwork.heads.registry import HEADS, resolve_head

Data = tuple[NDArray[Any], NDArray[Any]]

FEW = {"gp": 50}
"""Rows of heads that take long to fit."""


@pytest.fixture(scope="module")
def digits() -> Data:
    data = load_digits()
    return data.data[:300].astype(np.float32), data.target[:300]


@pytest.mark.parametrize("head", HEADS)
def test_named_heads_come_back(head: str, digits: Data, tmp_path: Path) -> None:
    rows = FEW.get(head, 300)
    X, y = digits[0][:rows], digits[1][:rows]
    fitted = resolve_head(head).fit(X, np.array(list("abcdefghij"))[y])
    assert save_head(fitted, tmp_path) == []
    assert head_files([file.name for file in tmp_path.iterdir()])
    loaded = load_head(tmp_path)
    assert np.array_equal(loaded.predict(X), fitted.predict(X))
    assert loaded.predict(X).dtype == fitted.predict(X).dtype


@pytest.mark.parametrize("head", [name for name, entry in HEADS.items() if "regression" in entry.tasks])
def test_named_regressors_come_back(head: str, digits: Data, tmp_path: Path) -> None:
    rows = FEW.get(head, 300)
    X, y = digits[0][:rows], digits[1][:rows]
    fitted = resolve_head(head, "regression").fit(X, y / 2)
    assert save_head(fitted, tmp_path) == []
    assert np.array_equal(load_head(tmp_path).predict(X), fitted.predict(X))


@pytest.mark.parametrize(
    "head",
    [
        LinearProbe(0.5, warm_start=True, class_weight={0: 2.0}),
        LinearProbeCV([0.1, 1.0], selection="one_standard_error"),
        MLPHead((16, 8), epochs=3, random_state=1, warm_start=True),
        MLPHeadRegressor((16,), epochs=3, random_state=1),
    ],
)
def test_heads_of_ours_come_back_with_parameters_and_go_on(head: Any, digits: Data, tmp_path: Path) -> None:
    X, y = digits
    head.fit(X, y)
    save_head(head, tmp_path)
    loaded = load_head(tmp_path)
    assert loaded.get_params() == head.get_params()
    assert vars(loaded).keys() == vars(head).keys()
    assert np.array_equal(loaded.fit(X, y).predict(X), head.fit(X, y).predict(X))


def test_parameter_that_no_file_can_hold_gets_its_default(digits: Data, tmp_path: Path) -> None:
    head = LinearProbeCV(3, cv=StratifiedKFold(3)).fit(*digits)
    with pytest.warns(UserWarning, match="cv=StratifiedKFold"):
        save_head(head, tmp_path)
    loaded = load_head(tmp_path)
    assert loaded.cv == 5
    assert np.array_equal(loaded.predict(digits[0]), head.predict(digits[0]))


def test_types_that_need_trust_are_told_and_refused(digits: Data, tmp_path: Path) -> None:
    head = DecisionTreeClassifier(random_state=0).fit(*digits)
    types = save_head(head, tmp_path)
    assert types == ["sklearn.tree._tree.Tree"]
    with pytest.raises(BundleError, match=r"sklearn\.tree\._tree\.Tree"):
        load_head(tmp_path)
    assert np.array_equal(load_head(tmp_path, types).predict(digits[0]), head.predict(digits[0]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"type": "os.system"}, r"os\.system"),
        ({"type": "sklearn.svm.SVC"}, r"sklearn\.svm\.SVC"),
        ({"format": 9}, "9"),
        ({"state": {"coef_": {"tensor": "nothing"}}}, "nothing"),
        ({"state": []}, JSON),
        ({"state": {"__class__": 1}}, "__class__"),
        ({"params": {"no": 1}}, "'no'"),
    ],
)
def test_changed_files_are_refused(change: dict[str, Any], message: str, digits: Data, tmp_path: Path) -> None:
    save_head(LinearProbe().fit(*digits), tmp_path)
    content = json.loads((tmp_path / JSON).read_text())
    (tmp_path / JSON).write_text(json.dumps({**content, **change}))
    with pytest.raises(BundleError, match=message):
        load_head(tmp_path)


@pytest.mark.parametrize("file", [JSON, TENSORS])
def test_damaged_files_are_refused(file: str, digits: Data, tmp_path: Path) -> None:
    save_head(LinearProbe().fit(*digits), tmp_path)
    (tmp_path / file).write_bytes((tmp_path / file).read_bytes()[:20])
    with pytest.raises(BundleError, match="head"):
        load_head(tmp_path)


def test_nested_too_deep_is_refused(digits: Data, tmp_path: Path) -> None:
    save_head(LinearProbe().fit(*digits), tmp_path)
    (tmp_path / JSON).write_text("[" * 100_000)
    with pytest.raises(BundleError, match="head"):
        load_head(tmp_path)


def test_untrusted_type_is_told_once(digits: Data, tmp_path: Path) -> None:
    save_head(LinearProbe().fit(*digits), tmp_path)
    (tmp_path / JSON).write_text(json.dumps({**json.loads((tmp_path / JSON).read_text()), "type": "os.system"}))
    with pytest.raises(BundleError) as caught:
        load_head(tmp_path)
    assert "cannot be read" not in str(caught.value)


@pytest.mark.parametrize("schema", ["[]", "{}", "null"])
def test_skops_file_of_something_else_is_refused(schema: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "head.skops", "w") as archive:
        archive.writestr("schema.json", schema)
    with pytest.raises(BundleError, match="head"):
        load_head(tmp_path)
