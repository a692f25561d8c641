"""Damage is located, and only the features that it destroyed are computed again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from topwork.errors import LogDamagedError, StoreDamagedError
from topwork.extract.extractor.extractor import Extractor
from topwork.extract.jobs.job import extract_features
from topwork.extract.store.feature_store import FeatureStore
from topwork.extract.store.writer import open_writer

WriteImages = Callable[..., Path]
LAYERS = ["layer2", "last"]


@pytest.fixture(scope="module")
def tiny() -> Extractor:
    return Extractor("topwork:tiny", layer=LAYERS)


@pytest.fixture
def images(write_images: WriteImages) -> Path:
    root = write_images(each=4)
    shutil.copy(root / "cat" / "0.png", root / "dog" / "copy.png")
    (root / "dog" / "broken.png").write_bytes(b"no image")
    return root


@pytest.fixture
def store(tiny: Extractor, images: Path, tmp_path: Path) -> FeatureStore:
    store = FeatureStore.create(tmp_path / "features", tiny)
    extract_features(images, store, on_error="record")
    with open_writer(store) as writer:  # merge again, with checksums of every two rows
        writer.add_part([], [np.empty((0, column.width), np.float32) for column in store.columns])
        writer.compact(link=False, rows_per_checksum=2)
    store.set_labels({"cat/1.png": "lynx"})
    return FeatureStore.open(store.path)


def content(store: FeatureStore) -> tuple[object, ...]:
    store = FeatureStore.open(store.path)
    matrices = [np.asarray(store.matrix(name)).tobytes() for name in LAYERS]
    return store.ids, store.labels, store.failures(), store.index.column("reason"), matrices


def file(store: FeatureStore, name: str) -> Path:
    assert store.state.compacted is not None
    return store.path / store.state.compacted / name


def flip(path: Path, position: int) -> None:
    damaged = bytearray(path.read_bytes())
    damaged[position] ^= 4
    path.unlink()  # columns that a compaction left alone are links
    path.write_bytes(damaged)


def row_position(store: FeatureStore, row: int) -> int:
    return 128 + row * store.matrix("last").shape[1] * 4


def test_flipped_bit_costs_the_rows_of_its_block(store: FeatureStore, images: Path) -> None:
    before, ids = content(store), store.ids
    flip(file(store, "c0002.npy"), row_position(store, 3))
    assert store.verify() == [f"{store.state.compacted}/c0002.npy"]
    repair = store.repair()
    assert repair == type(repair)((ids[2], ids[3]), ())
    assert FeatureStore.open(store.path).verify() == []
    assert FeatureStore.open(store.path).ids == [item for item in ids if item not in repair.pending]
    assert extract_features(images, store, on_error="record").computed == 2
    assert content(store) == before


@pytest.mark.parametrize("damage", ["truncated", "missing", "header", "two files"])
def test_illegible_file_costs_all_its_rows(store: FeatureStore, images: Path, damage: str) -> None:
    before, path = content(store), file(store, "c0001.npy")
    if damage == "truncated":
        whole = path.read_bytes()
        path.unlink()
        path.write_bytes(whole[:-9])
    elif damage == "missing":
        path.unlink()
    elif damage == "header":
        path.write_bytes(path.read_bytes().replace(b"<f4", b">f4"))
    else:
        flip(path, 200)
        flip(file(store, "blocks.json"), 20)
    repair = FeatureStore.open(store.path).repair()
    assert (len(repair.pending), repair.lost) == (9, ())
    assert extract_features(images, store, on_error="record").computed == 9
    assert content(store) == before
    assert store.verify() == []


@pytest.mark.parametrize("name", ["items.parquet", "blocks.json"])
def test_description_of_the_rows_is_restored(store: FeatureStore, name: str) -> None:
    before = content(store)
    flip(file(store, name), 30)
    assert store.verify() == [f"{store.state.compacted}/{name}"]
    assert store.repair() == type(store.repair())()
    assert content(store) == before
    assert FeatureStore.open(store.path).verify() == []


def test_items_without_any_description_are_computed_anew(store: FeatureStore, images: Path) -> None:
    ids = store.ids
    flip(file(store, "items.parquet"), 30)
    (store.path / "index.arrow").unlink()
    with pytest.raises(StoreDamagedError, match=r"items\.parquet .*`topwork store repair`"):
        content(store)
    repair = FeatureStore.open(store.path).repair()
    assert repair.lost == (f"{store.state.compacted}/items.parquet",)
    assert extract_features(images, store, on_error="record").computed == 10
    assert FeatureStore.open(store.path).ids == ids


def test_damaged_graph_is_reported_and_left(store: FeatureStore) -> None:
    flip(store.graph.path, 100)
    repair = store.repair()
    assert repair.lost == ("graphs/c0001.onnx",)
    assert FeatureStore.open(store.path).verify() == ["graphs/c0001.onnx"]


def test_damaged_index_is_found_and_rebuilt(store: FeatureStore) -> None:
    before = content(store)
    flip(store.path / "index.arrow", 500)
    assert store.verify() == ["index.arrow"]
    assert content(store) == before
    store.repair()
    assert FeatureStore.open(store.path).verify() == []


def test_truncated_log_is_recognised(store: FeatureStore) -> None:
    last = max((store.path / "log").iterdir())
    last.unlink()
    message = r"log ends with entry \d+.*log/"
    with pytest.raises(LogDamagedError, match=message):
        FeatureStore.open(store.path).set_labels({"cat/0.png": "x"})
    with pytest.raises(LogDamagedError, match=message):
        FeatureStore.open(store.path).verify()


def test_undamaged_store_needs_no_repair(store: FeatureStore) -> None:
    before = sorted(path.name for path in (store.path / "log").iterdir())
    assert store.repair() == type(store.repair())()
    assert sorted(path.name for path in (store.path / "log").iterdir()) == before
