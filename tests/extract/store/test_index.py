"""The index: disposable, rebuilt from the log with the same content."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from topwork.extract.store.index import INDEX_FILE, Index
from topwork.extract.store.log import Log
from topwork.extract.store.part import Row, write_part

PARTS = [
    [Row("a", "d1", "ok", None, 0, "cat"), Row("b", "", "failed", "empty"), Row("c", "d1", "duplicate", "a", 1, "dog")],
    [Row("d", "d4", "ok", None, 0, "cow"), Row("a", "d5", "ok", None, 1, "cat")],
    [Row("b", "d6", "ok", None, 0, "bee"), Row("d", "d7", "failed", "truncated"), Row("e", "", "failed", "empty")],
    [Row(f"f{i:04d}", f"e{i}", "ok", None, i, f"label {i % 7}") for i in range(500)],
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a store's parts and log, with an index that is up to date."""
    (tmp_path / "log").mkdir()
    log, last = Log(tmp_path), None
    for number, rows in enumerate(PARTS, 1):
        name = f"parts/p{number:06d}"
        files = write_part(tmp_path / name, rows, {"c0001": np.zeros((len(rows), 2), np.float32)})
        last = log.append(last, "add_part", files, {"part": name})
    Index(tmp_path, log.entries(), writable=True).close()
    return tmp_path


def state(root: Path, writable: bool) -> list[object]:
    index = Index(root, Log(root).entries(), writable)
    try:
        columns = [index.column(name) for name in ("id", "part", "row", "label", "status", "digest")]
        return [
            *columns,
            index.failures(),
            index.counts(),
            index.find(["a"]),
            index.place("c"),
            index.ids_of_digests(["d1"]),
        ]
    finally:
        index.close()


def garbage(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(20_000))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def overwrite_the_middle(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:8192] + np.random.default_rng(0).bytes(len(content) - 16384) + content[-8192:])


def change_a_value(path: Path) -> None:
    content = path.read_bytes()
    assert b"f0123" in content
    path.write_bytes(content.replace(b"f0123", b"g0123"))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def other_tables(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE head (format, number, digest)")
    connection.close()


def other_log(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE items SET label = 'wrong'")
        connection.execute("UPDATE head SET digest = 'of another log'")
    connection.close()


def stale(path: Path) -> None:
    path.unlink()
    Index(path.parent, Log(path.parent).entries()[:2], writable=True).close()


def ahead(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE head SET number = 99")
    connection.close()


def test_items_stand_at_the_place_of_their_first_addition_as_their_last_part_left_them(root: Path) -> None:
    index = Index(root, Log(root).entries()[:3], writable=False)
    assert index.column("id") == ["a", "b", "c"]
    assert index.column("part") == ["parts/p000002", "parts/p000003", "parts/p000001"]
    assert index.column("row") == [1, 0, 1]
    assert index.column("label") == ["cat", "bee", "dog"]
    assert index.failures() == [("d", "truncated"), ("e", "empty")]
    assert index.counts() == {"ok": 2, "duplicate": 1, "failed": 2}
    assert index.find(["d", "nothing"]) == {"d": PARTS[2][1]}
    assert (index.place("a"), index.place("d")) == (("parts/p000002", 1), None)
    assert index.ids_of_digests(["d1", "d7", ""]) == {"d1": ["c"], "d7": [], "": []}
    assert index.find(many := [str(number) for number in range(1200)]) == {}
    assert index.ids_of_digests([*many, "d1"])["d1"] == ["c"]


@pytest.mark.parametrize("writable", [False, True], ids=["reader", "writer"])
@pytest.mark.parametrize(
    "damage",
    [
        Path.unlink,
        empty,
        garbage,
        truncate,
        overwrite_the_middle,
        change_a_value,
        other_tables,
        other_log,
        stale,
        ahead,
    ],
    ids=lambda f: f.__name__,
)
def test_damaged_or_stale_index_is_rebuilt_with_the_same_content(
    root: Path, damage: Callable[[Path], None], writable: bool
) -> None:
    before = state(root, writable=False)
    damage(root / INDEX_FILE)
    assert state(root, writable) == before
    if writable:
        assert state(root, writable=False) == before


def test_reader_writes_nothing(root: Path) -> None:
    (root / INDEX_FILE).unlink()
    before = state(root, writable=False)
    assert not (root / INDEX_FILE).exists()
    assert before[0][:3] == ["a", "b", "c"]  # type: ignore[index]
