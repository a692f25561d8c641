"""The writer: alone, clearing what interrupted writers left, adding parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from topwork.errors import StoreLockedError
from topwork.extract.extractor.extractor import Extractor
from topwork.extract.sources.item import content_digest
from topwork.extract.store import segment
from topwork.extract.store.feature_store import FeatureStore
from topwork.extract.store.index import Index
from topwork.extract.store.index_file import INDEX_FILE
from topwork.extract.store.part import Row, rows_to_table, write_part
from topwork.extract.store.writer import StoreWriter, open_writer


@pytest.fixture(scope="module")
def tiny() -> Extractor:
    return Extractor("topwork:tiny", layer=["layer2", "last"])


@pytest.fixture
def store(tiny: Extractor, tmp_path: Path) -> FeatureStore:
    store = FeatureStore.create(tmp_path / "features", tiny)
    with open_writer(store) as writer:
        add(writer, ["a", "b"], 0)
    return store


def matrices(store: FeatureStore, count: int, value: float) -> list[np.ndarray]:
    return [value + np.arange(count * c.width, dtype=np.float32).reshape(count, c.width) for c in store.columns]


def add(writer: StoreWriter, ids: list[str], value: float) -> None:
    rows = [Row(item_id, content_digest(f"{item_id} {value}"), "ok", None, row) for row, item_id in enumerate(ids)]
    writer.add_part(rows, matrices(writer.store, len(ids), value))


def test_rows_of_several_parts_come_in_order_of_first_addition(store: FeatureStore) -> None:
    with open_writer(store) as writer:
        add(writer, ["c"], 100)
        add(writer, ["d", "a"], 200)
    assert store.ids == ["a", "b", "c", "d"]
    for name, first, third, second in zip(
        ("layer2", "last"), matrices(store, 2, 0), matrices(store, 2, 200), matrices(store, 1, 100), strict=True
    ):
        np.testing.assert_array_equal(store.matrix(name), np.stack([third[1], first[1], second[0], third[0]]))


def test_vectors_of_an_item_are_its_rows_of_every_column(store: FeatureStore) -> None:
    with open_writer(store) as writer:
        found = writer.vectors_of("b")
        assert found is not None
        for vector, matrix in zip(found, matrices(store, 2, 0), strict=True):
            np.testing.assert_array_equal(vector, matrix[1])
        assert writer.vectors_of("nothing") is None


def test_second_writer_is_refused_and_the_first_goes_on(store: FeatureStore) -> None:
    other = FeatureStore.open(store.path)
    with open_writer(store) as writer:
        with pytest.raises(StoreLockedError), open_writer(other):
            pass
        add(writer, ["c"], 100)
    assert FeatureStore.open(store.path).ids == ["a", "b", "c"]


def test_reader_sees_its_moment_until_it_refreshes(store: FeatureStore) -> None:
    reader = FeatureStore.open(store.path)
    assert reader.ids == ["a", "b"]
    with open_writer(store) as writer:
        add(writer, ["c"], 100)
    assert reader.ids == ["a", "b"]
    assert reader.matrix("last").shape[0] == 2
    reader.refresh()
    assert reader.ids == ["a", "b", "c"]


def test_part_that_was_finished_but_not_entered_is_swept(store: FeatureStore) -> None:
    lost = store.path / "parts" / "p000002"
    items = rows_to_table([Row("lost", content_digest("x"), "ok", None, 0)])
    write_part(lost, items, {"c0001": np.zeros((1, 2), np.float32)})
    for folder in (store.path, store.path / "parts", store.path / "log"):
        (folder / ".tmp-left").write_bytes(b"half")
    assert FeatureStore.open(store.path).ids == ["a", "b"]
    with open_writer(store) as writer:
        assert not lost.exists()
        add(writer, ["c"], 100)
    assert store.ids == ["a", "b", "c"]
    assert store.verify() == []
    assert not list(store.path.rglob(".tmp-*"))


def test_parts_of_processes_that_were_thought_lost_are_passed_by(store: FeatureStore) -> None:
    with open_writer(store) as writer:
        (store.path / "parts" / "p000002").mkdir()  # written meanwhile
        assert writer.next_part() == "parts/p000003"
        writer.reserve_parts(7)
        add(writer, ["c"], 100)
        assert (store.path / "parts" / "p000008").is_dir()
        writer.compact()
    assert store.ids == ["a", "b", "c"]
    assert store.verify() == []


def test_file_that_does_not_belong_does_not_stop_the_writer(store: FeatureStore) -> None:
    (store.path / "parts" / ".DS_Store").write_bytes(b"left by a file manager")
    with open_writer(store) as writer:
        add(writer, ["c"], 100)
    assert store.ids == ["a", "b", "c"]


def test_entry_that_the_index_missed_is_caught_up(store: FeatureStore) -> None:
    before = (store.path / INDEX_FILE).read_bytes()
    with open_writer(store) as writer:
        add(writer, ["c", "a"], 100)
    (store.path / INDEX_FILE).write_bytes(before)
    assert FeatureStore.open(store.path).ids == ["a", "b", "c"]
    with open_writer(store) as writer:
        place = writer.index.find_row("a")
    assert place == (2, 1)
    assert (store.path / INDEX_FILE).read_bytes() != before


def test_compacted_items_are_the_same_to_their_writer_and_to_readers_without_its_index(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment, "ITEMS_AT_ONCE", 2)
    with open_writer(store) as writer:
        copy = Row("copy", content_digest("b 0"), "ok", None, 0, label="twin")
        broken = Row("broken", "", "failed", "no image")
        writer.add_part([copy, broken], matrices(store, 1, 300))
        add(writer, ["c", "a"], 100)
    store.set_labels({"b": 1, "c": 3}, "rank")

    def show(index: Index) -> list[object]:
        items = index.settle()
        places = [items.numbers(name).tolist() for name in ("part", "row", "original")]
        return [items.rows(np.arange(len(items))), items.labels("rank"), items.labels("label"), places, index.counts()]

    before = show(store.index)
    values = [np.array(store.matrix(column.name)) for column in store.columns]
    with open_writer(store) as writer:
        writer.compact()
        written = show(writer.index)
        assert writer.vectors_of("copy") is not None
    assert written[1:3] == before[1:3]
    assert (written[4], written[3][1]) == (before[4], [0, 1, 2, -1, 3])  # type: ignore[index]
    assert show(FeatureStore.open(store.path).index) == written
    (store.path / INDEX_FILE).unlink()
    reopened = FeatureStore.open(store.path)
    assert show(reopened.index) == written
    for column, expected in zip(reopened.columns, values, strict=True):
        np.testing.assert_array_equal(reopened.matrix(column.name), expected)
