"""Data frames: every row in, every row out, with what the bundle or the graph of the store says of its item."""

from __future__ import annotations

import io
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from topwork import FeatureStore, FrameFunction, TransferClassifier, TransferRegressor, extract_features, hardware
from topwork.errors import InputError
from topwork.pipelines.frames import rename

pd = pytest.importorskip("pandas")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the paths of 30 images in three colours."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    paths = []
    for number in range(30):
        pixels = rng.integers(0, 60, (32, 32, 3), dtype=np.uint8)
        pixels[..., number % 3] += 150
        Image.fromarray(pixels).save(root / f"{number}.png")
        paths.append(str(root / f"{number}.png"))
    return paths


@pytest.fixture(scope="module")
def colours() -> list[str]:
    return [("red", "green", "blue")[number % 3] for number in range(30)]


@pytest.fixture(scope="module")
def classifier(photos: list[str], colours: list[str]) -> TransferClassifier:
    return TransferClassifier("topwork:tiny", layer="layer2", head="logreg", precision="fp32").fit(photos, colours)


@pytest.fixture(scope="module")
def bundle(classifier: TransferClassifier, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("frames") / "bundle"
    classifier.save(path)
    return str(path)


@pytest.fixture(scope="module")
def store(photos: list[str], classifier: TransferClassifier, tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    store = FeatureStore.create(tmp_path_factory.mktemp("frames") / "features", classifier.extractor_)
    extract_features(photos[:3], store)
    return store


def test_predictions_are_those_of_the_bundle(photos: list[str], classifier: TransferClassifier, bundle: str) -> None:
    frame = pd.DataFrame({"path": photos, "number": range(30)}, index=range(100, 130))
    result = FrameFunction(bundle)(frame)
    pd.testing.assert_frame_equal(result[["path", "number"]], frame)
    assert result["label"].tolist() == classifier.predict(photos).tolist()
    assert set(result["status"]) == {"ok"}
    columns = [f"p_{name}" for name in classifier.classes_]
    np.testing.assert_allclose(result[columns], classifier.predict_proba(photos), atol=1e-5)


def test_no_row_is_lost(photos: list[str], bundle: str, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    content = Path(photos[0]).read_bytes()
    cells = [photos[0], None, "/nothing.png", str(tmp_path / "broken.png"), photos[0], content, bytearray(content), 5.5]
    frame = pd.DataFrame({"image": pd.Series(cells, dtype="object")})
    result = FrameFunction(bundle, "image")(frame)
    assert result["status"].tolist() == ["ok", "failed", "failed", "failed", "ok", "ok", "ok", "failed"]
    assert result["label"].tolist() == ["red", None, None, None, "red", "red", "red", None]
    reasons = ["the cell is empty", "No such file", "not an image", "is a float"]
    failed = result["reason"][result["status"] == "failed"]
    assert all(reason in text for reason, text in zip(reasons, failed, strict=True))
    assert result["p_red"].isna().tolist() == [status == "failed" for status in result["status"]]
    assert result["reason"][0] is None


def test_features_are_those_of_the_graph(photos: list[str], store: FeatureStore) -> None:
    frame = pd.DataFrame({"path": [*photos[:2], "/nothing.png", photos[2]]})
    function = FrameFunction(store.path)
    result = function(frame)
    assert function.columns == {"layer2": "array<float>", "status": "string", "reason": "string"}
    assert result["status"].tolist() == ["ok", "ok", "failed", "ok"]
    assert result["layer2"][2] is None
    rows = np.stack([result["layer2"][number] for number in (0, 1, 3)])
    np.testing.assert_array_equal(rows, store.matrix("layer2"))


def test_the_types_of_columns_do_not_limit_the_cores(bundle: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_max_cores", None)
    function = FrameFunction(bundle, cores=1)
    assert function.columns["label"] == "string"
    function(pd.DataFrame({"path": []}))
    assert hardware.available_cores() == hardware.count_cores()


def test_several_frames_and_none(photos: list[str], bundle: str) -> None:
    function = pickle.loads(pickle.dumps(FrameFunction(bundle)))
    frame = pd.DataFrame({"path": photos})
    results = list(function(iter([frame[:10], frame[10:10], frame[10:]])))
    assert [len(result) for result in results] == [10, 0, 20]
    pd.testing.assert_frame_equal(pd.concat(results), function(frame), check_dtype=False)
    assert list(results[1].columns) == list(results[0].columns)
    assert list(function(iter([]))) == []


def test_columns_of_the_same_name_are_renamed(photos: list[str], bundle: str) -> None:
    frame = pd.DataFrame({"path": photos[:2], "label": ["a", "b"], "status": [1, 2]})
    result = FrameFunction(bundle)(frame)
    assert result["source_label"].tolist() == ["a", "b"]
    assert result["source_status"].tolist() == [1, 2]
    assert result["status"].tolist() == ["ok", "ok"]
    assert rename(["label", "source_label"], ["label"]) == {
        "label": "source_label",
        "source_label": "source_source_label",
    }


def test_a_frame_without_the_column_is_refused(bundle: str) -> None:
    with pytest.raises(InputError, match="no column 'path'; it has image"):
        FrameFunction(bundle)(pd.DataFrame({"image": ["a.png"]}))


def test_kinds_of_answers(photos: list[str], tmp_path: Path) -> None:
    for name, estimator, y, column, kind in (
        (
            "integers",
            TransferClassifier(layer="layer2", head="logreg"),
            [number % 3 for number in range(30)],
            "label",
            "bigint",
        ),
        ("values", TransferRegressor(layer="layer2"), [float(number % 3) for number in range(30)], "value", "double"),
    ):
        estimator.fit(photos, y).save(tmp_path / name)
        function = FrameFunction(tmp_path / name)
        assert function.columns[column] == kind
        result = function(pd.DataFrame({"path": [photos[1], "/nothing.png"]}))
        assert result[column].isna().tolist() == [False, True]
        assert round(float(result[column][0])) == 1


def test_dask_computes_the_same(photos: list[str], bundle: str) -> None:
    frames = pytest.importorskip("dask.dataframe")
    frame = pd.DataFrame({"path": photos})
    function = FrameFunction(bundle)
    parts = frames.from_pandas(frame, npartitions=4)
    computed = parts.map_partitions(function, meta=function(parts._meta)).compute()
    pd.testing.assert_frame_equal(computed, function(frame), check_dtype=False)


def test_spark_computes_the_same(
    photos: list[str], bundle: str, store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    sql = pytest.importorskip("pyspark.sql")
    spark = sql.SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    try:
        frame = pd.DataFrame({"path": [*photos, "/nothing.png"], "label": ["mine"] * 31})
        rows = spark.createDataFrame(frame).repartition(3)
        for place in (bundle, store.path):
            function = FrameFunction(place, cores=1)
            found = rows.mapInPandas(function, function.spark_schema(rows.schema)).toPandas()
            expected = function(frame)
            compare_rows(found, expected)
    finally:
        spark.stop()


def compare_rows(found: Any, expected: Any) -> None:
    """Compare frames whose rows are in another order."""
    assert list(found.columns) == list(expected.columns)
    assert len(found) == len(expected)
    for name in expected.columns:
        values = dict(zip(found["path"], found[name], strict=True))
        for path, value in zip(expected["path"], expected[name], strict=True):
            if isinstance(value, (float, np.ndarray)):
                np.testing.assert_array_equal(np.asarray(values[path], np.float64), np.asarray(value, np.float64))
            else:
                assert values[path] == value or (pd.isna(values[path]) and pd.isna(value)), (name, path)


def test_encoded_images_are_read(photos: list[str], bundle: str) -> None:
    stream = io.BytesIO()
    Image.open(photos[4]).save(stream, "PNG")
    result = FrameFunction(bundle, "content")(pd.DataFrame({"content": [stream.getvalue()]}))
    assert result["label"].tolist() == ["green"]
