"""``TransferRegressor``: values of photographs, saved, exported and evaluated; scikit-learn's contract on items."""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import onnxruntime
import pytest
import topwork
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, KFold
from topwork import Extractor, FeatureStore, TransferClassifier, TransferRegressor, extract_features
from topwork.errors import ExportError, InputError
from topwork.extract.graphs.exported_graph import ExportedGraph
from topwork.heads.registry import HEADS

from ..cli.running import topwork_command, topwork_json

ABLE = [name for name, entry in HEADS.items() if "regression" in entry.tasks]
PARAMETERS = list(signature(TransferRegressor).parameters)


@pytest.fixture(scope="module")
def brightness(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return how bright each photograph is."""
    return pixels.mean(axis=(1, 2, 3)).astype(np.float64)


@pytest.fixture(scope="module")
def fitted(graph: ExportedGraph, paths: list[Path], brightness: NDArray[np.float64]) -> TransferRegressor:
    """Return a regressor of all photographs; it is not to be changed."""
    return TransferRegressor(graph, "layer2").fit(paths, brightness)


def test_constructor_stores_the_very_objects_and_nothing_else() -> None:
    given = {name: object() for name in PARAMETERS}
    regressor = TransferRegressor(**given)  # type: ignore[arg-type]
    assert vars(regressor) == given
    assert clone(TransferRegressor(layer="x")).get_params()["layer"] == "x"
    with pytest.raises(NotFittedError):
        TransferRegressor().predict(["nowhere.png"])


@pytest.mark.parametrize("head", ABLE)
def test_every_head_for_values_learns_and_comes_back(
    head: str, graph: ExportedGraph, paths: list[Path], brightness: NDArray[np.float64], tmp_path: Path
) -> None:
    regressor = TransferRegressor(graph, "layer2", head=head, cv=0).fit(paths, brightness)
    assert regressor.score(paths, brightness) > 0.5
    regressor.save(tmp_path / "bundle")
    loaded = topwork.load(tmp_path / "bundle")
    assert type(loaded) is TransferRegressor
    np.testing.assert_array_equal(loaded.predict(paths), regressor.predict(paths))
    assert loaded.score(paths, brightness) == regressor.score(paths, brightness)


@pytest.mark.parametrize("head", ["linear", "ridge", "knn", "mlp"])
@pytest.mark.parametrize("targets", [1, 2])
def test_fused_file_gives_the_values(
    head: str,
    targets: int,
    graph: ExportedGraph,
    paths: list[Path],
    pixels: NDArray[np.uint8],
    brightness: NDArray[np.float64],
    tmp_path: Path,
) -> None:
    y = brightness if targets == 1 else np.column_stack([brightness, -brightness / 10])
    regressor = TransferRegressor(graph, ["layer2", "layer3"], head=head, cv=0).fit(paths, y)
    assert regressor.predict(paths).shape == y.shape
    assert regressor.predict([]).shape == (0, *y.shape[1:])
    regressor.to_onnx(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    (value,) = session.run(["value"], {session.get_inputs()[0].name: pixels})
    np.testing.assert_allclose(value.reshape(y.shape), regressor.predict(paths), rtol=1e-3, atol=0.02)


def test_head_without_a_converter_is_refused(
    graph: ExportedGraph, paths: list[Path], brightness: NDArray[np.float64], tmp_path: Path
) -> None:
    head = TransformedTargetRegressor(Ridge(), func=np.log1p, inverse_func=np.expm1)
    with pytest.raises(ExportError, match="TransformedTargetRegressor"):
        TransferRegressor(graph, "layer2", head=head, cv=0).fit(paths, brightness).to_onnx(tmp_path / "model.onnx")


def test_report_shows_training_and_held_out_rows(fitted: TransferRegressor) -> None:
    report = fitted.fit_report_
    assert report is not None
    assert (report.metric, report.n_folds) == ("R2", 5)
    assert report.held_out < report.training <= 1


def test_workers_and_order(fitted: TransferRegressor, paths: list[Path]) -> None:
    expected = fitted.predict(paths)
    parts = joblib.Parallel(n_jobs=2)(joblib.delayed(fitted.predict)(part) for part in (paths[:5], paths[5:]))
    np.testing.assert_allclose(np.concatenate(parts), expected, rtol=1e-4)
    np.testing.assert_allclose(fitted.predict(paths[::-1]), expected[::-1], rtol=1e-4)
    np.testing.assert_allclose(fitted.predict([paths[3]]), expected[[3]], rtol=1e-4)


def test_search_over_heads_and_layers(graph: ExportedGraph, paths: list[Path], brightness: NDArray[np.float64]) -> None:
    grid = {"head": ["ridge", "knn"], "layer": ["layer1", "layer2"]}
    folds = KFold(3, shuffle=True, random_state=0)  # the photographs are in the order of their folders
    search = GridSearchCV(TransferRegressor(graph, cv=0), grid, cv=folds, error_score="raise").fit(paths, brightness)
    assert search.best_score_ > 0.5


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["low"] * 24, "low"),
        ([np.inf] * 24, "finite"),
        ([np.nan] * 24, "24 of 24"),
        ([1.0], "24 items but"),
    ],
)
def test_values_that_are_none_are_refused(values: Any, message: str, graph: ExportedGraph, paths: list[Path]) -> None:
    with pytest.raises(InputError, match=message):
        TransferRegressor(graph, "layer2").fit(paths, values)


def test_classifier_is_no_head_for_values_nor_the_reverse(graph: ExportedGraph, paths: list[Path]) -> None:
    with pytest.raises(InputError, match="LogisticRegression"):
        TransferRegressor(graph, head=LogisticRegression()).fit(paths, range(24))
    with pytest.raises(InputError, match="lda"):
        TransferRegressor(graph, head="lda").fit(paths, range(24))


def test_commands_fit_evaluate_and_predict_values(
    graph: ExportedGraph, paths: list[Path], brightness: NDArray[np.float64], tmp_path: Path
) -> None:
    store = FeatureStore.create(tmp_path / "store", Extractor(graph, "layer2"))
    extract_features(paths, store, ids=[str(number) for number in range(24)])
    store.set_labels({str(number): float(value) for number, value in enumerate(brightness)})
    out = topwork_command(
        "fit", store.path, "--layer", "layer2", "--task", "regression", "--out", tmp_path / "bundle"
    ).stdout
    assert "linear on layer2: 24 items" in out
    assert "R2 " in out
    scores = topwork_json("evaluate", tmp_path / "bundle", store.path)
    assert scores["r2"] == pytest.approx(TransferRegressor.from_store(store, "layer2").fit(store).score(store))
    assert scores["n"] == 24
    assert topwork_command("evaluate", tmp_path / "bundle", store.path).stdout.startswith("R2 0.9")
    counts = topwork_json("predict", tmp_path / "bundle", paths[0].parent, "--out", tmp_path / "values.csv")
    assert counts == {"items": 8, "ok": 8, "failed": 0, "abstained": 0}
    assert (tmp_path / "values.csv").read_text().startswith("id,value,status,reason\n")
    assert (
        "expected classification or regression"
        in topwork_command("fit", store.path, "--task", "guess", "--out", tmp_path / "no", code=2).stderr
    )
    assert isinstance(topwork.load(tmp_path / "bundle"), TransferRegressor)
    assert not isinstance(topwork.load(tmp_path / "bundle"), TransferClassifier)
