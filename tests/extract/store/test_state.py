"""What a log tells without a look into parts."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
from topwork.extract.graphs.cut import Column
from topwork.extract.store.log import LogEntry
from topwork.extract.store.state import StoredColumn, StoreState, replay

LAST, LAYER = Column("last", "last", "avg", 3), Column("layer1", "layer1", "avg", 5)
FIRST = {"graph": "graphs/c0001.onnx", "columns": [StoredColumn("c0001", "graphs/c0001.onnx", LAST).to_json()]}
NEW = {"graph": "", "columns": [StoredColumn("c0002", "", LAYER).to_json()]}

OTHER = {"graph": "", "columns": [StoredColumn("c0003", "", Column("layer2", "layer2", "avg", 7)).to_json()]}


def state(*entries: tuple[str, dict[str, Any]]) -> StoreState:
    return replay([_entry(number, *entry) for number, entry in enumerate(entries, 1)])


def _entry(number: int, action: str, details: dict[str, Any]) -> LogEntry:
    files = {f"{details['part']}/items.parquet": "0"} if "part" in details else {}
    return LogEntry(number, action, files, details, str(number))


def part(number: int, **others: Any) -> dict[str, Any]:
    return {"part": f"parts/p{number:06d}", **others}


def test_checkpoint_stands_for_all_before_it() -> None:
    columns = FIRST["columns"]
    found = state(("add_columns", FIRST), ("add_part", part(1)), ("compact", part(2, columns=columns)))
    assert (found.parts, found.compacted, found.newest_part) == (("parts/p000002",), "parts/p000002", 2)
    assert list(found.files) == ["parts/p000002/items.parquet"]
    assert found == state(("compact", part(2, columns=columns)))
    assert state(("compact", part(2, columns=columns)), ("add_part", part(3))).compacted is None


def test_columns_of_stores_before_there_were_fillings_have_the_graph_of_their_entry() -> None:
    old = {"graph": "graphs/c0001.onnx", "columns": [{"key": "c0001", "column": asdict(LAST)}]}
    assert state(("add_columns", old)).columns == state(("add_columns", FIRST)).columns


def test_columns_that_are_filled_are_not_there_yet() -> None:
    found = state(("add_columns", FIRST), ("add_columns", NEW), ("fill", part(1)), ("add_part", part(2)))
    (filling,) = found.fillings
    assert [stored.key for stored in found.columns] == ["c0001"]
    assert ([stored.key for stored in filling.columns], filling.parts) == (["c0002"], ("parts/p000001",))
    assert (found.parts, found.newest_part) == (("parts/p000002",), 2)


@pytest.mark.parametrize("is_of_an_earlier_version", [False, True])
def test_filling_outlives_a_checkpoint_and_gives_way_to_another(is_of_an_earlier_version: bool) -> None:
    filling = {"columns": NEW["columns"], "parts": ["parts/p000001"]}
    unfinished = {"filling": filling} if is_of_an_earlier_version else {"fillings": [filling]}
    begun = [("add_columns", FIRST), ("add_columns", NEW), ("fill", part(1))]
    found = state(*begun, ("compact", part(2, columns=FIRST["columns"], **unfinished)))
    assert found.fillings == state(*begun).fillings
    (again,) = state(*begun, ("add_columns", NEW)).fillings
    assert again.parts == ()
    assert not state(*begun, ("add_columns", NEW)).files


def test_fillings_beside_each_other_get_their_own_parts() -> None:
    first, other = NEW | {"keeps_unfinished": True}, OTHER | {"keeps_unfinished": True}
    filled = [("fill", part(number, filling=key)) for number, key in ((1, "c0003"), (2, "c0002"), (3, "c0003"))]
    found = state(("add_columns", FIRST), ("add_columns", first), ("add_columns", other), *filled)
    assert [filling.parts for filling in found.fillings] == [
        ("parts/p000002",),
        ("parts/p000001", "parts/p000003"),
    ]
    described = state(("compact", part(4, **found.describe_columns())))
    assert described.fillings == found.fillings
