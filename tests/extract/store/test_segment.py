"""States of items: merged, settled, with duplicates that follow from contents."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from topwork.extract.store import segment as segments
from topwork.extract.store.part import Row, rows_to_table
from topwork.extract.store.segment import REMOVED_STATUS, Segment

A, B, C = ("aa" * 32, "bb" * 32, "cc" * 32)


def segment(part: int, *rows: Row) -> Segment:
    return Segment.from_items(rows_to_table(rows), part)


def states(items: Segment) -> list[tuple[str, str, str | None]]:
    return list(zip(items.table["id"].to_pylist(), items.statuses(), items.reasons(), strict=True))


def test_changed_items_keep_their_place_and_new_ones_follow() -> None:
    old = segment(1, Row("x", A, "ok", row=0), Row("y", B, "ok", row=1))
    new = segment(2, Row("z", C, "ok", row=0), Row("x", B, "ok", row=1))
    merged = old.merge(new).settle()
    assert states(merged) == [("x", "ok", None), ("y", "duplicate", "x"), ("z", "ok", None)]
    assert (merged.numbers("part").tolist(), merged.numbers("row").tolist()) == ([2, 1, 2], [1, 1, 0])


def test_first_of_equal_contents_is_the_original_whatever_came_before() -> None:
    rows = [Row("x", A, "failed", "no"), Row("y", A, "duplicate", "x", 0), Row("z", A, "ok", row=1)]
    assert states(segment(1, *rows).settle()) == [("x", "failed", "no"), ("y", "ok", None), ("z", "duplicate", "y")]


def test_removed_items_are_gone_and_their_copies_stay() -> None:
    old = segment(1, Row("x", A, "ok", row=0), Row("y", A, "duplicate", "x", 1)).settle()
    gone = segment(2, Row("x", A, REMOVED_STATUS))
    assert states(old.merge(gone).settle()) == [("y", "ok", None)]


def test_items_come_back_from_a_part_as_they_went() -> None:
    rows = [Row("x", A, "failed", "no"), Row("y", B, "ok", None, 0, "ant", "train", 5, 7), Row("z", B, "ok", row=1)]
    settled = segment(1, *rows).settle().replace_values("given:age", *columns({"z": 3}))
    again = Segment.from_items(settled.to_items(), 4)
    assert states(again.settle()) == states(settled)
    assert again.numbers("row").tolist() == [-1, 0, 1]
    assert (again.labels("age"), again.labels("label")) == ([None, None, 3], [None, "ant", None])
    assert again.rows(np.array([1]))[0] == rows[1]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_items_are_the_same_some_at_a_time(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [Row("x", A, "failed", "no"), Row("y", B, "ok", None, 0, "ant"), Row("v", "", "failed", "nothing")]
    rows += [Row("z", B, "ok", row=1), Row("w", C, "ok", row=2, group="y")]
    settled = segment(1, *rows).settle().replace_values("given:age", *columns({"z": 3}))
    whole = settled.to_items()
    monkeypatch.setattr(segments, "ITEMS_AT_ONCE", size)
    assert [len(table) for table in settled.iterate_items()] == [size] * (5 // size) + [5 % size] * (5 % size > 0)
    assert settled.to_items().equals(whole)
    assert whole["row"].to_pylist() == [None, 0, None, 1, 2]
    assert whole["status"].to_pylist() == ["failed", "ok", "failed", "duplicate", "ok"]
    assert whole["reason"].to_pylist() == ["no", None, "nothing", "y", None]
    assert segment(1).settle().to_items().schema.equals(whole.drop_columns("given:age").schema)


def test_values_of_another_type_replace_all() -> None:
    items = segment(1, Row("x", A, "ok", row=0), Row("y", B, "ok", row=1))
    items = items.replace_values("given:age", *columns({"x": "old", "y": "older"}))
    assert items.replace_values("given:age", *columns({"y": 4})).labels("age") == [None, 4]


def columns(values: dict[str, object]) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    table = pa.table({"id": list(values), "value": list(values.values())})
    return table["id"], table["value"]
