"""States of items: merged, settled, with duplicates that follow from contents."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from topwork.extract.store.conversion import items_of, segment_of
from topwork.extract.store.part import Row, table_of
from topwork.extract.store.segment import REMOVED, Segment

A, B, C = ("aa" * 32, "bb" * 32, "cc" * 32)


def segment(part: int, *rows: Row) -> Segment:
    return segment_of(table_of(rows), part)


def states(items: Segment) -> list[tuple[str, str, str | None]]:
    return list(zip(items.table["id"].to_pylist(), items.statuses(), items.reasons(), strict=True))


def test_changed_items_keep_their_place_and_new_ones_follow() -> None:
    old = segment(1, Row("x", A, "ok", row=0), Row("y", B, "ok", row=1))
    new = segment(2, Row("z", C, "ok", row=0), Row("x", B, "ok", row=1))
    merged = old.merged(new).settled()
    assert states(merged) == [("x", "ok", None), ("y", "duplicate", "x"), ("z", "ok", None)]
    assert (merged.numbers("part").tolist(), merged.numbers("row").tolist()) == ([2, 1, 2], [1, 1, 0])


def test_first_of_equal_contents_is_the_original_whatever_came_before() -> None:
    rows = [Row("x", A, "failed", "no"), Row("y", A, "duplicate", "x", 0), Row("z", A, "ok", row=1)]
    assert states(segment(1, *rows).settled()) == [("x", "failed", "no"), ("y", "ok", None), ("z", "duplicate", "y")]


def test_removed_items_are_gone_and_their_copies_stay() -> None:
    old = segment(1, Row("x", A, "ok", row=0), Row("y", A, "duplicate", "x", 1)).settled()
    gone = segment(2, Row("x", A, REMOVED))
    assert states(old.merged(gone).settled()) == [("y", "ok", None)]


def test_items_come_back_from_a_part_as_they_went() -> None:
    rows = [Row("x", A, "failed", "no"), Row("y", B, "ok", None, 0, "ant", "train", 5, 7), Row("z", B, "ok", row=1)]
    settled = segment(1, *rows).settled().with_values("given:age", *columns({"z": 3}))
    again = segment_of(items_of(settled), 4)
    assert states(again.settled()) == states(settled)
    assert again.numbers("row").tolist() == [-1, 0, 1]
    assert (again.labels("age"), again.labels("label")) == ([None, None, 3], [None, "ant", None])
    assert again.rows(np.array([1]))[0] == rows[1]


def test_values_of_another_type_replace_all() -> None:
    items = segment(1, Row("x", A, "ok", row=0), Row("y", B, "ok", row=1))
    items = items.with_values("given:age", *columns({"x": "old", "y": "older"}))
    assert items.with_values("given:age", *columns({"y": 4})).labels("age") == [None, 4]


def columns(values: dict[str, object]) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    table = pa.table({"id": list(values), "value": list(values.values())})
    return table["id"], table["value"]
