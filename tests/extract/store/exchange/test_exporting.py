"""What other tools read of a store is what the store holds, bit for bit."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from topwork.errors import InputError
from topwork.extract.extractor.extractor import Extractor
from topwork.extract.jobs.job import extract_features
from topwork.extract.store.exchange.exporting import (
    BYTES_PER_SHARD,
    WRITERS,
    ExportedRows,
    rows_to_lists,
    write_datasets,
)
from topwork.extract.store.feature_store import FeatureStore
from topwork.extract.store.part import Row
from topwork.extract.store.writer import open_writer

Write = Callable[..., Path]
FORMATS = ("parquet", "arrow", "datasets")
ITEMS = ["id", "digest", "label", "split", "group", "grade", "status", "duplicate_of"]


@pytest.fixture(scope="module")
def tiny() -> Extractor:
    return Extractor("topwork:tiny", layer=["layer2", "last"])


@pytest.fixture(scope="module")
def store(tiny: Extractor, tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """Return a store with a failed item, a duplicate, labels of whole numbers and a split; it is not to be changed."""
    images = list(np.random.default_rng(0).integers(0, 256, (6, 40, 48, 3), dtype=np.uint8))
    images[2], images[5] = images[2][:0], images[1]
    store = FeatureStore.create(tmp_path_factory.mktemp("stores") / "store", tiny)
    ids = [f"cat/{i}.png" for i in (0, 1, 2)] + [f"dog/{name}.png" for name in (0, 1, "copy")]
    extract_features(images, store, ids=ids, labels=["cat"] * 3 + ["dog"] * 3, on_error="record")
    store.set_labels({name: number for number, name in enumerate(store.ids)}, "grade")
    store.set_labels({"cat/0.png": "train", "dog/0.png": "test"}, "split")
    return store


@pytest.fixture
def half(tmp_path: Path) -> FeatureStore:
    matrix = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float16)
    return FeatureStore.import_features(tmp_path / "half", matrix, labels=list(range(7)))


def read(path: Path, kind: str) -> pa.Table:
    if kind == "parquet":
        return parquet.read_table(path)
    if kind == "arrow":
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    names = [entry["filename"] for entry in json.loads((path / "state.json").read_bytes())["_data_files"]]
    return pa.concat_tables([pa.ipc.open_stream((path / name).read_bytes()).read_all() for name in names])


def matrix_of(column: pa.ChunkedArray) -> np.ndarray[Any, Any]:
    array = column.combine_chunks()
    return array.flatten().to_numpy().reshape(len(array), array.type.list_size)


@pytest.mark.parametrize("kind", FORMATS)
def test_rows_are_those_of_the_store(kind: str, store: FeatureStore, tmp_path: Path) -> None:
    store.export(tmp_path / "new" / "out", kind)
    table = read(tmp_path / "new" / "out", kind)
    assert table.column_names == [*ITEMS, "layer2", "last"]
    assert table["id"].to_pylist() == ["cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png", "dog/copy.png"] == store.ids
    assert table["label"].to_pylist() == ["cat"] * 2 + ["dog"] * 3
    assert table["split"].to_pylist() == ["train", None, "test", None, None]
    assert (table["grade"].to_pylist(), table.schema.field("grade").type) == (list(range(5)), pa.int64())
    assert table["group"].to_pylist() == store.groups
    assert table["digest"].to_pylist() == store.index.column("digest")
    assert table["status"].to_pylist() == ["ok"] * 4 + ["duplicate"]
    assert table["duplicate_of"].to_pylist() == [None] * 4 + ["cat/1.png"]
    for name in ("layer2", "last"):
        assert table.schema.field(name).type == pa.list_(pa.float32(), store.matrix(name).shape[1])
        assert matrix_of(table[name]).tobytes() == np.asarray(store.matrix(name)).tobytes()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out"]


@pytest.mark.parametrize("kind", FORMATS)
def test_schema_tells_where_the_rows_come_from(kind: str, store: FeatureStore, tmp_path: Path) -> None:
    store.export(tmp_path / "out", kind, ["last"])
    table = read(tmp_path / "out", kind)
    assert table.column_names == [*ITEMS, "last"]
    source = json.loads(table.schema.metadata[b"topwork"])
    assert source == {"fingerprint": store.fingerprint, "columns": [store.columns[1].to_json()]}


@pytest.mark.parametrize("kind", FORMATS)
def test_half_precision_and_kinds_of_labels_stay(kind: str, half: FeatureStore, tmp_path: Path) -> None:
    half.export(tmp_path / "out", kind)
    table = read(tmp_path / "out", kind)
    assert table.schema.field("features").type == pa.list_(pa.float16(), 5)
    assert matrix_of(table["features"]).tobytes() == np.asarray(half.matrix("features")).tobytes()
    assert table["label"].to_pylist() == list(range(7))
    assert table.schema.field("split").type == pa.string()


def test_pandas_reads_the_same_values(store: FeatureStore, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    store.export(tmp_path / "out.parquet")
    frame = pandas.read_parquet(tmp_path / "out.parquet")
    assert frame["id"].tolist() == store.ids
    assert np.stack(frame["last"].to_list()).tobytes() == np.asarray(store.matrix("last")).tobytes()


@pytest.mark.parametrize("bytes_per_shard", [BYTES_PER_SHARD, 3000])
def test_datasets_loads_the_folder(bytes_per_shard: int, store: FeatureStore, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    write_datasets(tmp_path / "out", ExportedRows(store, store.columns), bytes_per_shard)
    found = datasets.load_from_disk(str(tmp_path / "out"))
    assert found["id"][:] == store.ids
    assert found["grade"][:] == list(range(5))
    assert found.features["last"].length == store.matrix("last").shape[1]
    assert np.array(found["last"][:], np.float32).tobytes() == np.asarray(store.matrix("last")).tobytes()


def test_datasets_are_cut_into_shards_of_whole_rows(store: FeatureStore, tmp_path: Path) -> None:
    write_datasets(tmp_path / "out", ExportedRows(store, store.columns), bytes_per_shard=3000)
    names = sorted(path.name for path in (tmp_path / "out").glob("*.arrow"))
    assert len(names) > 1
    assert names == [f"data-{number:05d}-of-{len(names):05d}.arrow" for number in range(len(names))]
    sizes = [pa.ipc.open_stream((tmp_path / "out" / name).read_bytes()).read_all().num_rows for name in names]
    assert sum(sizes) == 5
    assert max(sizes) - min(sizes) <= 1
    assert read(tmp_path / "out", "datasets")["id"].to_pylist() == store.ids
    state = json.loads((tmp_path / "out" / "state.json").read_bytes())
    assert state.keys() == {
        "_data_files",
        "_fingerprint",
        "_format_columns",
        "_format_kwargs",
        "_format_type",
        "_output_all_columns",
        "_split",
    }
    assert json.loads((tmp_path / "out" / "dataset_info.json").read_bytes()) == {}


class CountedMatrix:
    """A matrix that notes how many rows are read at a time."""

    def __init__(self, matrix: Any) -> None:
        self.matrix = matrix
        self.shape = matrix.shape
        self.dtype = matrix.dtype
        self.sizes: list[int] = []

    def __getitem__(self, rows: slice) -> Any:
        self.sizes.append(rows.stop - rows.start)
        return self.matrix[rows]


@pytest.mark.parametrize("kind", FORMATS)
def test_only_a_batch_is_held_at_a_time(kind: str, half: FeatureStore, tmp_path: Path) -> None:
    rows = ExportedRows(half, half.columns, bytes_per_batch=1)
    counted = CountedMatrix(half.matrix("features"))
    rows.matrices["features"] = counted  # type: ignore[assignment]
    WRITERS[kind](tmp_path / "out", rows)
    assert counted.sizes == [1] * 7
    assert matrix_of(read(tmp_path / "out", kind)["features"]).tobytes() == half.matrix("features").tobytes()


def test_features_are_not_copied() -> None:
    matrix = np.ones((3, 4), np.float32)
    values = pa.array(rows_to_lists(matrix)).values
    assert values.buffers()[1].address == matrix.ctypes.data


@pytest.mark.parametrize("kind", FORMATS)
def test_what_is_there_is_never_overwritten(kind: str, store: FeatureStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "folder", "link"):
        with pytest.raises(InputError, match=name):
            store.export(tmp_path / name, kind)
    assert (tmp_path / "file").read_text() == "mine"
    assert list((tmp_path / "folder").iterdir()) == []


class FailingRows(ExportedRows):
    """Rows of which only the first batch can be read."""

    def tables(self, start: int, stop: int) -> Iterator[pa.Table]:
        yield next(super().tables(start, stop))
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("kind", FORMATS)
def test_interrupted_export_leaves_nothing(kind: str, half: FeatureStore, tmp_path: Path) -> None:
    (tmp_path / "place").mkdir()
    with pytest.raises(OSError, match="No space") as error:
        WRITERS[kind](tmp_path / "place" / "out", FailingRows(half, half.columns, bytes_per_batch=1))
    assert error.value.errno == errno.ENOSPC
    assert list((tmp_path / "place").iterdir()) == []


@pytest.mark.parametrize("kind", FORMATS)
def test_store_without_rows_is_a_table_without_rows(kind: str, tiny: Extractor, tmp_path: Path) -> None:
    store = FeatureStore.create(tmp_path / "store", tiny)
    store.export(tmp_path / "out", kind)
    table = read(tmp_path / "out", kind)
    assert (table.num_rows, table.schema.field("label").type) == (0, pa.string())
    assert table.schema.field("last").type == pa.list_(pa.float32(), store.columns[1].width)


def test_parts_that_are_not_compacted_are_exported_in_order(tiny: Extractor, tmp_path: Path) -> None:
    store, generator = FeatureStore.create(tmp_path / "store", tiny), np.random.default_rng(0)
    first, second = (
        [generator.normal(size=(2, column.width)).astype(np.float32) for column in tiny.columns] for _ in range(2)
    )
    with open_writer(store) as writer:
        writer.add_part([Row("a", "1" * 64, "ok", row=0), Row("b", "2" * 64, "ok", row=1)], first)
        writer.add_part([Row("c", "2" * 64, "ok", row=0), Row("a", "3" * 64, "ok", row=1)], second)
    assert store.state.compacted is None
    store.export(tmp_path / "out")
    table = parquet.read_table(tmp_path / "out")
    assert table["id"].to_pylist() == ["a", "b", "c"]
    assert np.array_equal(matrix_of(table["last"]), np.stack([second[1][1], first[1][1], second[1][0]]))
    assert table["duplicate_of"].to_pylist() == [None, None, "b"]


def test_wrong_names_are_refused(half: FeatureStore, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"csv.*parquet, arrow, datasets"):
        half.export(tmp_path / "out", "csv")
    with pytest.raises(InputError, match=r"last.*features"):
        half.export(tmp_path / "out", columns=["last"])
    half.set_labels({"0": 1}, "features")
    with pytest.raises(InputError, match="features"):
        half.export(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_labels_of_several_types_are_refused(tiny: Extractor, write_images: Write, tmp_path: Path) -> None:
    folder, store = write_images(each=1), FeatureStore.create(tmp_path / "store", tiny)
    extract_features(folder, store)
    store.set_labels(dict.fromkeys(store.ids, 1))
    extract_features(write_images(each=2), store)  # the new ones have labels of the source, which are text
    with pytest.raises(InputError, match="'label'"):
        store.export(tmp_path / "out")


@pytest.mark.parametrize("kind", ["parquet", "arrow", "datasets"])
def test_export_is_imported_with_its_ids_labels_and_features(
    kind: str, store: FeatureStore, half: FeatureStore, tmp_path: Path
) -> None:
    suffix = {"parquet": ".parquet", "arrow": ".arrow", "datasets": ""}[kind]
    for number, exported in enumerate((store, half)):
        exported.export(tmp_path / f"{number}{suffix}", kind)
        found = FeatureStore.import_features(tmp_path / f"again-{number}", tmp_path / f"{number}{suffix}")
        assert found.ids == exported.ids
        for name in exported.label_names:
            assert found.get_labels(name) == exported.get_labels(name)
        for column in exported.columns:
            assert found.matrix(column.name).dtype == exported.matrix(column.name).dtype
            assert np.array_equal(found.matrix(column.name), exported.matrix(column.name))


def test_files_without_lists_of_numbers_are_not_imported(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"id": ["a", "b"], "x": [1.0, 2.0]}), tmp_path / "flat.parquet")
    parquet.write_table(pa.table({"id": ["a", "b"], "x": [[1.0], [2.0, 3.0]]}), tmp_path / "ragged.parquet")
    (tmp_path / "damaged.parquet").write_bytes(b"no Parquet")
    for name in ("flat", "ragged", "damaged"):
        with pytest.raises(InputError, match=name):
            FeatureStore.import_features(tmp_path / "s", tmp_path / f"{name}.parquet")
    assert not (tmp_path / "s").exists()
