"""Columns that are added later: only they are computed, every row gets its own, an interruption costs nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from topwork.errors import IdentityError, InputError, WeightsError
from topwork.extract.engine import batching
from topwork.extract.extractor.extractor import Extractor
from topwork.extract.graphs import model_file
from topwork.extract.jobs.job import extract_features
from topwork.extract.sources.selected import SelectedSource
from topwork.extract.store import columns
from topwork.extract.store.feature_store import FeatureStore
from topwork.extract.store.log import Action
from topwork.extract.store.writer import StoreWriter

WriteImages = Callable[..., Path]


@pytest.fixture(autouse=True, scope="module")
def small_parts() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batching, "ITEMS_PER_WINDOW", 4)
        yield


@pytest.fixture
def images(write_images: WriteImages) -> Path:
    root = write_images(each=5)
    shutil.copy(root / "cat" / "0.png", root / "dog" / "copy.png")
    (root / "dog" / "broken.png").write_bytes(b"no image")
    return root


@pytest.fixture
def store(images: Path, tmp_path: Path) -> FeatureStore:
    store = FeatureStore.create(tmp_path / "features", Extractor("topwork:tiny"))
    extract_features(images, store, on_error="record", batch_size=2)
    return FeatureStore.open(store.path)


def both() -> Extractor:
    return Extractor("topwork:tiny", layer=["last", "layer2"])


def expected(images: Path, ids: list[str]) -> np.ndarray:
    return Extractor("topwork:tiny", layer="layer2").transform([images / item_id for item_id in ids])


def test_new_column_has_every_row_and_the_old_one_stays(store: FeatureStore, images: Path) -> None:
    before, labels = np.array(store.matrix("last")), store.labels
    inode = (store.path / store.state.parts[0] / "c0001.npy").stat().st_ino
    ledger = store.add_columns(both(), images)
    assert (ledger.computed, ledger.items) == (10, 11)
    store = FeatureStore.open(store.path)
    assert [column.name for column in store.columns] == ["last", "layer2"]
    np.testing.assert_allclose(store.matrix("layer2"), expected(images, store.ids), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(store.matrix("last"), before)
    assert (store.path / store.state.parts[0] / "c0001.npy").stat().st_ino == inode
    assert isinstance(store.matrix("layer2"), np.memmap)
    assert (store.labels, store.verify()) == (labels, [])


def test_items_are_added_with_both_columns_afterwards(
    store: FeatureStore, images: Path, write_images: WriteImages
) -> None:
    store.add_columns(both(), images)
    write_images(each=7, seed=3)
    extract_features(images, store, on_error="record")
    store = FeatureStore.open(store.path)
    assert store.n_rows == 15
    np.testing.assert_allclose(store.matrix("layer2"), expected(images, store.ids), rtol=1e-5, atol=1e-6)
    assert store.verify() == []
    store.admit(both())


def test_interrupted_run_goes_on(store: FeatureStore, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append = StoreWriter.append

    def stop(self: StoreWriter, action: Action, *args: Any, **options: Any) -> None:
        append(self, action, *args, **options)
        if action == Action.FILL_COLUMNS:
            raise KeyboardInterrupt

    monkeypatch.setattr(StoreWriter, "append", stop)
    with pytest.raises(KeyboardInterrupt):
        store.add_columns(both(), images)
    monkeypatch.undo()
    store = FeatureStore.open(store.path)
    assert ([column.name for column in store.columns], store.verify()) == (["last"], [])
    extract_features(images, store, on_error="record")  # a job in between keeps what there is
    store.set_labels({"cat/0.png": "lynx"})
    store.compact()
    assert store.verify() == []
    assert store.add_columns(both(), images).computed == 10 - 4
    np.testing.assert_allclose(store.matrix("layer2"), expected(images, store.ids), rtol=1e-5, atol=1e-6)
    assert FeatureStore.open(store.path).verify() == []


def test_run_that_is_given_up_leaves_nothing(
    store: FeatureStore, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columns, "extend_store_graph", lambda **_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        store.add_columns(both(), images)
    monkeypatch.undo()
    store.add_columns(Extractor("topwork:tiny", layer="layer1"), images)
    store = FeatureStore.open(store.path)
    assert ([column.name for column in store.columns], store.verify()) == (["last", "layer1"], [])
    assert sorted(path.name for path in (store.path / "parts").iterdir()) == [Path(store.state.parts[0]).name]
    assert len(list((store.path / "graphs").iterdir())) == 3


def test_columns_of_a_part_of_the_source_are_finished_by_the_rest(store: FeatureStore, images: Path) -> None:
    layers = {name: Extractor("topwork:tiny", layer=name) for name in ("layer1", "layer2")}
    paths = {"cat": images / "cat", "dog": images / "dog"}
    ids = {name: [row_id for row_id in store.ids if row_id.startswith(name)] for name in paths}
    for extractor in layers.values():  # both are begun before one is finished
        cats = SelectedSource(extractor.open(images), range(5))
        assert store.add_columns(extractor, cats, partial=True).computed == 5
        assert store.add_columns(extractor, cats, partial=True).computed == 0
    store = FeatureStore.open(store.path)
    assert ([column.name for column in store.columns], store.verify()) == (["last"], [])
    np.testing.assert_allclose(store.take(ids["cat"], "layer2"), expected(images, ids["cat"]), rtol=1e-5, atol=1e-6)
    assert store.find_features(ids["dog"], "layer2") is None
    with pytest.raises(InputError, match="layer2"):
        store.take(store.ids, "layer2")

    store.compact()
    for extractor in layers.values():
        dogs = SelectedSource(extractor.open(images), range(5, 12))
        assert store.add_columns(extractor, dogs, partial=True).computed == 5  # one is a copy, one is broken
    store = FeatureStore.open(store.path)
    assert ([column.name for column in store.columns], store.verify()) == (["last", "layer1", "layer2"], [])
    np.testing.assert_allclose(store.matrix("layer2"), expected(images, store.ids), rtol=1e-5, atol=1e-6)
    assert (len(store.state.parts), store.state.filled_parts) == (1, ())


def test_damaged_part_of_unfinished_columns_is_computed_again(store: FeatureStore, images: Path) -> None:
    for name in ("layer1", "layer2"):
        extractor = Extractor("topwork:tiny", layer=name)
        store.add_columns(extractor, SelectedSource(extractor.open(images), range(5)), partial=True)
    damaged = store.path / store.state.fillings[0].parts[0] / f"{store.state.fillings[0].key}.npy"
    damaged.write_bytes(damaged.read_bytes()[:-4])
    assert store.repair().lost == ()
    cats = [row_id for row_id in store.ids if row_id.startswith("cat")]
    assert store.find_features(cats, "layer1") is None
    np.testing.assert_allclose(store.take(cats, "layer2"), expected(images, cats), rtol=1e-5, atol=1e-6)
    extractor = Extractor("topwork:tiny", layer="layer1")
    assert store.add_columns(extractor, images, partial=True).computed > 5
    assert (FeatureStore.open(store.path).verify(), store.n_rows) == ([], 11)


def test_nothing_is_computed_twice(store: FeatureStore, images: Path) -> None:
    store.add_columns(both(), images)
    before = len(store.log.history())
    assert store.add_columns(both(), images).computed == 0
    assert len(store.log.history()) == before


def test_row_that_is_not_in_the_source_is_an_error(store: FeatureStore, images: Path) -> None:
    (images / "cat" / "1.png").unlink()
    with pytest.raises(InputError, match=r"1 items of .*'cat/1\.png'"):
        store.add_columns(both(), images)
    assert [column.name for column in FeatureStore.open(store.path).columns] == ["last"]


def test_changed_content_is_an_error(store: FeatureStore, images: Path) -> None:
    shutil.copy(images / "dog" / "1.png", images / "cat" / "1.png")
    with pytest.raises(InputError, match=r"cat/1\.png"):
        store.add_columns(both(), images)


@pytest.mark.parametrize(
    ("extractor", "message"),
    [
        (Extractor("topwork:tiny", layer="layer2", precision="bf16"), "bf16"),
        (Extractor("topwork:tiny", layer="last", pool="max", normalize=True), "normalize"),
    ],
    ids=["precision", "cut"],
)
def test_column_that_does_not_belong_is_refused(
    store: FeatureStore, images: Path, extractor: Extractor, message: str
) -> None:
    with pytest.raises(IdentityError, match=message):
        store.add_columns(extractor, images)


def test_store_in_half_precision_takes_half_the_room(images: Path, tmp_path: Path) -> None:
    store = FeatureStore.create(tmp_path / "half", Extractor("topwork:tiny"), dtype="float16")
    extract_features(images, store, on_error="record")
    store.add_columns(both(), images)
    assert {store.matrix(column.name).dtype for column in store.columns} == {np.dtype("float16")}
    np.testing.assert_allclose(store.matrix("layer2"), expected(images, store.ids), rtol=2e-3, atol=1e-3)
    store.admit(both())


def test_feature_that_half_precision_cannot_hold_fails(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("topwork.extract.jobs.recording.FLOAT16_MAX", 1e-9)
    store = FeatureStore.create(tmp_path / "half", Extractor("topwork:tiny"), dtype="float16")
    ledger = extract_features(images, store, on_error="record")
    assert (ledger.failed, store.n_rows) == (12, 0)
    assert "float16" in dict(ledger.failures)["cat/0.png"]


def test_unknown_type_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="float32, float16"):
        FeatureStore.create(tmp_path / "store", Extractor("topwork:tiny"), dtype="int8")


@pytest.mark.parametrize(("first", "name"), [("last", "graph.weights"), ("layer2", "c0002.weights")])
def test_store_of_a_large_backbone_is_moved_and_extended(
    first: str, name: str, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_file, "MAX_EMBEDDED_BYTES", 1000)
    monkeypatch.setenv("TOPWORK_CACHE", str(tmp_path / "cache"))
    store = FeatureStore.create(tmp_path / "features", Extractor("topwork:tiny", layer=first))
    extract_features(images, store, on_error="record", batch_size=2)
    assert (store.path / "graphs" / "graph.weights").is_file()
    store = FeatureStore.open(store.path.rename(tmp_path / "moved"))
    shutil.rmtree(tmp_path / "cache")
    store.add_columns(both(), images)
    store = FeatureStore.open(store.path)
    assert store.verify() == []
    (weights,) = (store.path / "graphs").glob("*.weights")
    assert weights == store.graph.weights_path == store.path / "graphs" / name
    monkeypatch.undo()  # what is expected is computed by the graph that other tests use
    np.testing.assert_allclose(store.matrix("layer2"), expected(images, store.ids), rtol=1e-4, atol=1e-5)
    weights.unlink()
    with pytest.raises(WeightsError, match=f"{name} is missing"):
        store.graph.open("cpu")
