"""Stores of features that other tools computed: every layout, every refusal, and what the store can do then."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from pyarrow import parquet
from scipy.io import savemat
from topwork.errors import IdentityError, InputError, StoreError
from topwork.extract.extractor.extractor import Extractor
from topwork.extract.jobs.job import extract_features
from topwork.extract.sources.item import Item
from topwork.extract.store.feature_store import FeatureStore
from topwork.extract.store.writer import open_writer

IDS = [f"photo {number}.jpg" for number in range(6)]


@pytest.fixture
def matrix() -> NDArray[np.float32]:
    """Return six rows, the last of which equals the second."""
    matrix = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    matrix[5] = matrix[1]
    return matrix


@pytest.fixture
def store(matrix: NDArray[np.float32], tmp_path: Path) -> FeatureStore:
    return FeatureStore.import_features(tmp_path / "store", matrix, IDS, list("aabbca"))


def write_lines(path: Path) -> None:
    path.write_text("".join(f"{name}\n" for name in IDS), encoding="utf-8")


def write_npy(path: Path) -> None:
    np.save(path, np.array(IDS))


def write_bytes(path: Path) -> None:
    np.save(path, np.array([name.encode() for name in IDS]))


def write_csv(path: Path) -> None:
    path.write_text("path,other\n" + "".join(f"{name},x\n" for name in IDS))


def write_parquet(path: Path) -> None:
    parquet.write_table(pa.table({"other": range(6), "id": IDS}), path)


def write_clip(root: Path, matrix: NDArray[Any]) -> Path:
    """Write what clip-retrieval does: numbered parts of images and texts with their metadata."""
    pieces = {"0": slice(0, 2), "2": slice(2, 3), "10": slice(3, 6)}
    for folder in ("img_emb", "text_emb", "metadata"):
        (root / folder).mkdir(parents=True)
    for number, rows in pieces.items():
        np.save(root / "img_emb" / f"img_emb_{number}.npy", matrix[rows].astype(np.float16))
        np.save(root / "text_emb" / f"text_emb_{number}.npy", -matrix[rows, :3])
        names = {"image_path": IDS[rows], "caption": ["same"] * len(IDS[rows])}
        parquet.write_table(pa.table(names), root / "metadata" / f"metadata_{number}.parquet")
    return root


def test_array_becomes_a_compacted_store(store: FeatureStore, matrix: NDArray[np.float32]) -> None:
    assert (store.ids, store.labels) == (IDS, list("aabbca"))
    found = store.matrix("features")
    assert isinstance(found, np.memmap)
    assert found.tobytes() == matrix.tobytes()
    (column,) = store.columns
    assert (column.layer, column.pool, column.width, column.dtype) == ("features", "none", 4, "float32")
    assert (column.precision, store.stored_columns[0].graph) == ("unknown", "")
    assert store.verify() == []
    assert {path.name for path in store.path.iterdir()} >= {"store.json", "index.arrow", "parts", "log"}
    assert [len(list((store.path / "parts").iterdir())), list(store.path.glob("*.lock"))] == [1, []]


def test_equal_rows_are_duplicates(store: FeatureStore, matrix: NDArray[np.float32]) -> None:
    assert store.index.counts() == {"ok": 5, "duplicate": 1}
    assert store.index.column("reason")[5] == IDS[1]
    assert store.index.column("digest") == [hashlib.sha256(row.tobytes()).hexdigest() for row in matrix]


def test_fingerprint_is_that_of_the_content(store: FeatureStore, matrix: NDArray[np.float32], tmp_path: Path) -> None:
    same = FeatureStore.import_features(tmp_path / "same", matrix.astype(np.float64), name="other")
    assert store.is_foreign
    assert same.fingerprint == store.fingerprint
    matrix[0, 0] += 1
    assert FeatureStore.import_features(tmp_path / "other", matrix, IDS).fingerprint != store.fingerprint


@pytest.mark.parametrize(
    ("file", "write"),
    [
        ("ids.txt", write_lines),
        ("ids.npy", write_npy),
        ("bytes.npy", write_bytes),
        ("ids.csv", write_csv),
        ("ids.parquet", write_parquet),
    ],
)
def test_ids_of_a_npy_come_from_a_file(
    file: str, write: Callable[[Path], None], matrix: NDArray[np.float32], tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", matrix)
    write(tmp_path / file)
    store = FeatureStore.import_features(tmp_path / "store", tmp_path / "x.npy", str(tmp_path / file))
    assert store.ids == IDS
    assert np.array_equal(store.matrix("features"), matrix)


def test_ids_may_hold_whatever_names_of_files_do(matrix: NDArray[np.float32], tmp_path: Path) -> None:
    names = ["é", "\u2028", "a b", " a", "a,b", "\x0c"]
    (tmp_path / "ids.txt").write_text("\ufeff" + "\n".join(names), encoding="utf-8")
    assert FeatureStore.import_features(tmp_path / "store", matrix, tmp_path / "ids.txt").ids == names


def test_table_of_ids_without_a_column_for_them_is_refused(matrix: NDArray[np.float32], tmp_path: Path) -> None:
    (tmp_path / "ids.csv").write_text("name\na\n")
    np.save(tmp_path / "ids.npy", np.array([IDS]))
    for name, error in (("ids.csv", "the columns name; expected one of id, path"), ("ids.npy", r"shape \(1, 6\)")):
        with pytest.raises(InputError, match=error):
            FeatureStore.import_features(tmp_path / "store", matrix, tmp_path / name)


def test_rows_of_an_array_without_ids_are_numbered(matrix: NDArray[np.float32], tmp_path: Path) -> None:
    assert FeatureStore.import_features(tmp_path / "store", matrix, name="x").ids == list("012345")


@pytest.mark.parametrize("given", ["float16", "float64", ">f4", "int16", "fortran"])
def test_other_types_are_kept_in_float32_or_float16(given: str, matrix: NDArray[np.float32], tmp_path: Path) -> None:
    array = np.asfortranarray(matrix) if given == "fortran" else (matrix * 100).astype(given)
    np.save(tmp_path / "x.npy", array)
    found = FeatureStore.import_features(tmp_path / "store", tmp_path / "x.npy").matrix("features")
    assert found.dtype == ("float16" if given == "float16" else "float32")
    assert np.array_equal(found, array.astype(found.dtype))


def test_large_file_is_mapped_and_written_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.random.default_rng(0).normal(size=(2500, 3)).astype(np.float32)
    np.save(tmp_path / "x.npy", array)
    load, modes = np.load, []
    monkeypatch.setattr(np, "load", lambda path, **given: modes.append(given.get("mmap_mode")) or load(path, **given))
    store = FeatureStore.import_features(tmp_path / "store", tmp_path / "x.npy")
    assert set(modes) == {"r"}
    assert np.array_equal(store.matrix("features"), array)
    blocks = json.loads((store.path / store.state.compacted / "blocks.json").read_bytes())
    assert len(blocks["columns"]["c0001"]) == 3


@pytest.mark.parametrize("labels", ["mapping", "table", "array"])
def test_labels_keep_their_kind(labels: str, matrix: NDArray[np.float32], tmp_path: Path) -> None:
    table = pa.table({"id": IDS, "label": range(6), "split": ["train"] * 4 + ["test"] * 2})
    parquet.write_table(table, tmp_path / "labels.parquet")
    given = {"mapping": dict(zip(IDS, range(6), strict=True)), "array": np.arange(6)}
    store = FeatureStore.import_features(
        tmp_path / "store", matrix, IDS, given.get(labels, tmp_path / "labels.parquet")
    )
    assert store.labels == list(range(6))
    assert store.splits == (["train"] * 4 + ["test"] * 2 if labels == "table" else [None] * 6)
    assert np.array_equal(store.matrix("features"), matrix)
    assert isinstance(store.matrix("features"), np.memmap)


def test_clip_retrieval_folders_are_columns(matrix: NDArray[np.float32], tmp_path: Path) -> None:
    store = FeatureStore.import_features(tmp_path / "store", write_clip(tmp_path / "clip", matrix))
    assert store.ids == IDS
    assert [(column.name, column.dtype) for column in store.columns] == [
        ("img_emb", "float16"),
        ("text_emb", "float32"),
    ]
    assert np.array_equal(store.matrix("img_emb"), matrix.astype(np.float16))
    assert np.array_equal(store.matrix("text_emb"), -matrix[:, :3])
    assert store.index.counts() == {"ok": 5, "duplicate": 1}


def test_rows_that_are_equal_in_one_column_alone_are_no_duplicates(matrix: NDArray[np.float32], tmp_path: Path) -> None:
    root = write_clip(tmp_path / "clip", matrix)
    np.save(root / "text_emb" / "text_emb_10.npy", np.ones((3, 3), np.float32))
    assert FeatureStore.import_features(tmp_path / "store", root).index.counts() == {"ok": 6}


def test_parts_of_different_widths_are_refused(matrix: NDArray[np.float32], tmp_path: Path) -> None:
    root = write_clip(tmp_path / "clip", matrix)
    np.save(root / "text_emb" / "text_emb_2.npy", matrix[2:3])
    with pytest.raises(InputError, match="files of 'text_emb' have 3 and 4 features; expected equally many"):
        FeatureStore.import_features(tmp_path / "store", root)


def test_clip_retrieval_parts_must_agree(matrix: NDArray[np.float32], tmp_path: Path) -> None:
    root = write_clip(tmp_path / "clip", matrix)
    np.save(root / "text_emb" / "text_emb_2.npy", matrix[:2, :3])
    with pytest.raises(InputError, match=r"text_emb has {0: 2, 2: 2, 10: 3}; metadata has {0: 2, 2: 1, 10: 3}"):
        FeatureStore.import_features(tmp_path / "store", root)
    (root / "text_emb" / "text_emb_2.npy").unlink()
    with pytest.raises(InputError, match=r"text_emb has {0: 2, 10: 3}"):
        FeatureStore.import_features(tmp_path / "store", root)


def test_clip_retrieval_without_names_wants_ids(matrix: NDArray[np.float32], tmp_path: Path) -> None:
    root = write_clip(tmp_path / "clip", matrix)
    for path in (root / "metadata").iterdir():
        path.unlink()
    with pytest.raises(InputError, match=r"clip-retrieval .* 6 rows"):
        FeatureStore.import_features(tmp_path / "store", root)
    assert FeatureStore.import_features(tmp_path / "store", root, IDS).ids == IDS


@pytest.mark.parametrize("kind", ["npy", "txt", "mat", "mat of items", "split npy"])
def test_thingsvision_folder(kind: str, matrix: NDArray[np.float32], tmp_path: Path) -> None:
    (root := tmp_path / "things").mkdir()
    write_lines(root / "file_names.txt")
    if kind == "npy":
        np.save(root / "features.npy", matrix)
    elif kind == "txt":
        np.savetxt(root / "features.txt", matrix)
    elif kind == "mat":
        savemat(root / "features.mat", {"features": matrix})
    elif kind == "mat of items":
        rows = {name.removesuffix(".jpg"): row for name, row in zip(IDS, matrix, strict=True)}
        savemat(root / "features.mat", dict(reversed(rows.items())))
    else:
        for number, rows in enumerate(np.array_split(np.arange(6), 3), 9):
            np.save(root / f"features_{number:02d}.npy", matrix[rows])
    store = FeatureStore.import_features(tmp_path / "store", root)
    assert store.ids == IDS
    assert store.matrix("features").tobytes() == matrix.tobytes()


@pytest.mark.parametrize("name", ["features.hdf5", "features.h5", "features.pt"])
def test_other_files_of_thingsvision_name_the_conversion(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"whatever")
    for source in (tmp_path, tmp_path / name):
        with pytest.raises(InputError, match=rf"{name} .*numpy\.save"):
            FeatureStore.import_features(tmp_path / "store", source)


def test_folder_in_two_kinds_is_refused(matrix: NDArray[np.float32], tmp_path: Path) -> None:
    np.save(tmp_path / "features.npy", matrix)
    np.savetxt(tmp_path / "features.txt", matrix)
    with pytest.raises(InputError, match=r"features\.\w+, features\.\w+"):
        FeatureStore.import_features(tmp_path / "store", tmp_path)


def nan(matrix: NDArray[Any]) -> NDArray[Any]:
    matrix[3, 1] = np.nan
    return matrix


def huge(matrix: NDArray[Any]) -> NDArray[Any]:
    wide = matrix.astype(np.float64)
    wide[3, 1] = 1e300
    return wide


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (nan, "features of 'photo 3.jpg' are NaN, infinite, or too large"),
        (huge, "features of 'photo 3.jpg' are NaN, infinite, or too large"),
        (lambda m: m[0], r"float32 of shape \(4,\); expected numbers \(n_items, n_features\)"),
        (lambda m: m[:, None], r"float32 of shape \(6, 1, 4\)"),
        (lambda m: m[:, :0], r"has shape \(6, 0\); expected at least one"),
        (lambda m: m[:0], r"has shape \(0, 4\); expected at least one"),
        (lambda m: m.astype(np.complex64), "complex64"),
        (lambda m: m[:5], "5 rows of features but 6 ids"),
    ],
    ids=["nan", "huge", "one axis", "three axes", "no features", "no items", "complex", "count"],
)
@pytest.mark.parametrize("as_file", [False, True])
def test_features_that_cannot_be_used_leave_nothing(
    change: Callable[[NDArray[Any]], NDArray[Any]],
    error: str,
    as_file: bool,
    matrix: NDArray[np.float32],
    tmp_path: Path,
) -> None:
    source: Any = change(matrix)
    if as_file:
        np.save(tmp_path / "x.npy", source)
        source = tmp_path / "x.npy"
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match=error):
        FeatureStore.import_features(tmp_path / "store", source, IDS)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("ids", "labels", "error"),
    [
        ([*IDS[:5], IDS[0]], None, "'photo 0.jpg'"),
        ([*IDS[:5], None], None, "id 5 of 6 is empty"),
        ([*IDS[:5], ""], None, "id 5 of 6 is empty"),
        ([*IDS[:5], "\ud800"], None, "surrogates"),
        (IDS, ["a"], "6 items but 1 labels"),
        (IDS, {"photo 9.jpg": "a"}, "1 ids that have no features, such as 'photo 9.jpg'"),
        (IDS, [1, "a", 2, 3, 4, 5], "'a'"),
    ],
)
def test_ids_and_labels_that_do_not_fit_leave_nothing(
    ids: list[Any], labels: Any, error: str, matrix: NDArray[np.float32], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=error):
        FeatureStore.import_features(tmp_path / "store", matrix, ids, labels)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["x.npy", "ids.npy"])
def test_nothing_is_unpickled(name: str, matrix: NDArray[np.float32], tmp_path: Path) -> None:
    class Loaded:
        def __reduce__(self) -> Any:
            return (tmp_path / "unpickled").write_text, ("",)

    np.save(tmp_path / "x.npy", matrix)
    np.save(tmp_path / name, np.array([[Loaded()] * 4] * 6, object), allow_pickle=True)
    ids = tmp_path / "ids.npy" if name == "ids.npy" else IDS
    with pytest.raises(InputError, match="cannot be read"):
        FeatureStore.import_features(tmp_path / "store", tmp_path / "x.npy", ids)
    (tmp_path / name).write_bytes(pickle.dumps(Loaded()))
    with pytest.raises(InputError, match="cannot be read"):
        FeatureStore.import_features(tmp_path / "store", tmp_path / "x.npy", ids)
    assert not (tmp_path / "unpickled").exists()


@pytest.mark.parametrize("content", [b"", b"no array", b"\x93NUMPY\x01\x00v\x00{'descr': '<f4'"])
@pytest.mark.parametrize("suffix", [".npy", ".txt", ".mat"])
def test_damaged_files_are_errors_of_the_input(content: bytes, suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"x{suffix}").write_bytes(content)
    with pytest.raises(InputError, match=f"x{suffix} "):
        FeatureStore.import_features(tmp_path / "store", tmp_path / f"x{suffix}")


def test_sources_of_no_known_layout_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(b"")
    for source in (tmp_path, tmp_path / "nothing", tmp_path / "x.bin", [[1.0]]):
        with pytest.raises(InputError, match=r"expected an array, a \.npy"):
            FeatureStore.import_features(tmp_path / "store", source)  # type: ignore[arg-type]


def test_what_is_there_is_never_overwritten(store: FeatureStore, matrix: NDArray[np.float32]) -> None:
    for source in (matrix, store.path / "nothing.npy"):  # which is told before anything is read
        with pytest.raises(StoreError, match="exists already"):
            FeatureStore.import_features(store.path, source)
    assert FeatureStore.open(store.path).ids == IDS


def test_extractors_are_refused_because_there_is_no_backbone(store: FeatureStore, tmp_path: Path) -> None:
    extractor, entries = Extractor("topwork:tiny"), store.log.entries()
    message = re.escape(str(store.path))
    for use in (
        lambda: store.graph,
        lambda: store.admit(extractor),
        lambda: extract_features(tmp_path, store),
        lambda: extract_features([np.zeros((8, 8, 3), np.uint8)], store.path),
        lambda: FeatureStore.open_or_create(store.path, extractor),
        lambda: store.add_columns(extractor, tmp_path),
    ):
        with pytest.raises(IdentityError, match=message):
            use()
    assert store.log.entries() == entries


def test_labels_rows_and_damage_need_no_graph(store: FeatureStore, matrix: NDArray[np.float32]) -> None:
    store.set_labels({name: number for number, name in enumerate(IDS)}, "grade")
    store.compact()
    assert store.get_labels("grade") == list(range(6))
    assert np.array_equal(store.take(IDS[::-1], "features"), matrix[::-1])
    path = store.path / store.state.compacted / "c0001.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert FeatureStore.open(store.path).verify() == [path.relative_to(store.path).as_posix()]
    repair = store.repair()
    assert set(repair.pending) == set(IDS)
    assert (store.n_rows, store.is_foreign, store.verify()) == (0, True, [])


def test_items_are_pruned_without_a_graph(store: FeatureStore, matrix: NDArray[np.float32]) -> None:
    with open_writer(store) as writer:
        assert writer.prune([Item(name, lambda: None) for name in IDS[2:4]]) == 4
        writer.compact()
    assert (store.ids, store.labels, store.verify()) == (IDS[2:4], ["b", "b"], [])
    assert np.array_equal(store.matrix("features"), matrix[2:4])


def test_store_opened_again_without_its_index_is_the_same(store: FeatureStore) -> None:
    for name in ("index.arrow", "index.sha256"):
        (store.path / name).unlink()
    again = FeatureStore.open(store.path)
    assert (again.ids, again.labels, again.columns) == (store.ids, store.labels, store.columns)
    assert again.index.counts() == {"ok": 5, "duplicate": 1}


def test_exported_store_comes_back_the_same(store: FeatureStore, tmp_path: Path) -> None:
    store.export(tmp_path / "out.parquet")
    table = parquet.read_table(tmp_path / "out.parquet")
    again = FeatureStore.import_features(
        tmp_path / "again",
        np.stack(table["features"].to_numpy(zero_copy_only=False)),
        tmp_path / "out.parquet",
        table.select(["id", "label"]),
    )
    assert (again.fingerprint, again.ids, again.labels) == (store.fingerprint, store.ids, store.labels)


def test_array_with_a_table_beside_it(matrix: NDArray[np.float32], tmp_path: Path) -> None:
    np.save(tmp_path / "features.npy", matrix)
    (tmp_path / "named.csv").write_text("path,label\n" + "".join(f"{name},{name[6]}\n" for name in IDS))
    (tmp_path / "in_order.csv").write_text("label,split\n" + "".join(f"{n},train\n" for n in "aabbca"))
    (tmp_path / "short.csv").write_text("label\na\nb\n")
    named = FeatureStore.import_features(tmp_path / "a", tmp_path / "features.npy", labels=tmp_path / "named.csv")
    assert (named.ids, named.labels) == (IDS, list("012345"))
    in_order = FeatureStore.import_features(tmp_path / "b", tmp_path / "features.npy", labels=tmp_path / "in_order.csv")
    assert (in_order.ids, in_order.labels) == ([str(n) for n in range(6)], list("aabbca"))
    assert in_order.splits == ["train"] * 6
    with pytest.raises(InputError, match=r"'id' \(or 'path'\)"):
        FeatureStore.import_features(tmp_path / "c", tmp_path / "features.npy", labels=tmp_path / "short.csv")
