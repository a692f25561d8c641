"""A change of items is the same to the process that writes it and to those that read it back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from topwork.extract.store import segment
from topwork.extract.store.compaction import write_compacted
from topwork.extract.store.delta import SourceDelta, find_delta_files
from topwork.extract.store.index import Index
from topwork.extract.store.labels import BY_SOURCE, BY_USER
from topwork.extract.store.log import Action, Log, LogEntry
from topwork.extract.store.part import Row, parse_part_number, write_part, write_table

CONTENTS = [character * 64 for character in "abc"]
FIRST_ROWS = [
    Row("x", CONTENTS[0], "ok", row=0, label="ant", split="train"),
    Row("y", CONTENTS[1], "ok", row=1, label="bee", group="x"),
    Row("z", "", "failed", "empty"),
]
CHANGES: dict[str, Callable[[str, list[Row]], SourceDelta]] = {
    "add": lambda part, _: SourceDelta.add(
        part, [Row("y", CONTENTS[0], "ok", row=0), Row("w", CONTENTS[2], "ok", row=1)]
    ),
    "prune": lambda part, rows: SourceDelta.prune(part, rows[:1]),
    "repair": lambda part, rows: SourceDelta.repair(part, rows[1:2]),
    "user labels": lambda *_: SourceDelta.set_labels(pa.table({"id": ["x", "y"], "rank": [1, None]}), BY_USER),
    "source labels": lambda *_: SourceDelta.set_labels(pa.table({"id": ["y"], "label": ["cat"]}), BY_SOURCE),
}


class Writer:
    """A log with its index, as a writer keeps it."""

    def __init__(self, root: Path) -> None:
        (root / "log").mkdir()
        (root / "labels").mkdir()
        self.root = root
        self.last: LogEntry | None = None
        self.index = Index(root, [])

    def write(self, delta: SourceDelta) -> None:
        """Write a change, and apply it."""
        if delta.labels is None:
            files = write_part(self.root / str(delta.part), delta.items, {})
            details = delta.details
        else:
            files = [self.root / "labels" / "l.parquet"]
            write_table(files[0], delta.labels)
            names = [name for name in delta.labels.column_names if name != "id"]
            details = {"file": "labels/l.parquet", "columns": names, "by": delta.labels_by}
        self.last = Log(self.root).append(self.last, delta.action, files, details)
        self.index.apply(self.last, delta)

    def write_checkpoint(self, part: str) -> None:
        """Write all items as one part, and apply that."""
        items = self.index.settle()
        digests = write_compacted(self.root / part, items, {}, {})
        details = {"part": part, "items": len(items)}
        files = [self.root / part / name for name in digests]
        self.last = Log(self.root).append(self.last, Action.CHECKPOINT, files, details)
        self.index.apply_checkpoint(self.last, parse_part_number(part))


def show(index: Index) -> list[object]:
    items = index.settle()
    labels = [items.labels(name) for name in items.label_names]
    numbers = [items.numbers(name).tolist() for name in ("part", "row", "original")]
    return [items.rows(np.arange(len(items))), items.label_names, labels, numbers, index.counts()]


@pytest.mark.parametrize("change", CHANGES)
def test_reader_sees_what_the_writer_saw(change: str, tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    writer.write(SourceDelta.add("parts/p000001", FIRST_ROWS))
    before = show(writer.index)
    writer.write(CHANGES[change]("parts/p000002", FIRST_ROWS))
    assert show(writer.index) != before
    assert show(Index(tmp_path, Log(tmp_path).entries())) == show(writer.index)


def test_changes_accumulate(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    writer.write(SourceDelta.add("parts/p000001", FIRST_ROWS))
    writer.write(CHANGES["user labels"]("", []))
    writer.write(CHANGES["add"]("parts/p000002", []))
    writer.write(CHANGES["prune"]("parts/p000003", FIRST_ROWS))
    assert writer.index.column("id") == ["y", "w"]
    assert writer.index.column("status") == ["ok", "ok"]
    assert writer.index.labels("rank") == [None, None]
    assert writer.index.failures() == [("z", "empty")]
    assert writer.index.find_row("x") is None


def test_reader_sees_the_items_of_a_checkpoint_as_its_writer_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment, "ITEMS_AT_ONCE", 2)
    writer = Writer(tmp_path)
    writer.write(SourceDelta.add("parts/p000001", FIRST_ROWS))
    writer.write(CHANGES["add"]("parts/p000002", []))
    writer.write(CHANGES["user labels"]("", []))
    before = show(writer.index)
    writer.write_checkpoint("parts/p000003")
    after = show(writer.index)
    rows = [row.row for row in after[0]]  # type: ignore[attr-defined]
    assert rows == [0, 1, None, 2]
    assert writer.index.settle().numbers("part").tolist() == [3, 3, -1, 3]
    assert after[1:3] == before[1:3]
    assert show(Index(tmp_path, Log(tmp_path).entries())) == after


def test_entries_that_change_no_items_have_no_delta(tmp_path: Path) -> None:
    for action in (Action.ADD_COLUMNS, Action.ADD_CANARIES, Action.FILL_COLUMNS):
        entry = LogEntry(1, action, {}, {"part": "parts/p000001"}, "")
        assert find_delta_files(entry) == []
        assert SourceDelta.read(tmp_path, entry) is None
