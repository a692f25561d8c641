"""The index: disposable, rebuilt from the log with the same content."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from topwork.extract.store.index import Index
from topwork.extract.store.index_file import DIGEST_FILE, INDEX_FILE, METADATA_KEY
from topwork.extract.store.log import Action, Log
from topwork.extract.store.part import Row, format_part_name, rows_to_table, write_part


def digest(name: str) -> str:
    return sha256(name.encode()).hexdigest()


D1, D4, D5, D6, D7 = (digest(name) for name in ("d1", "d4", "d5", "d6", "d7"))
PARTS = [
    [Row("a", D1, "ok", None, 0, "cat"), Row("b", "", "failed", "empty"), Row("c", D1, "duplicate", "a", 1, "dog")],
    [Row("d", D4, "ok", None, 0, "cow"), Row("a", D5, "ok", None, 1, "cat")],
    [Row("b", D6, "ok", None, 0, "bee"), Row("d", D7, "failed", "truncated"), Row("e", "", "failed", "empty")],
    [Row(f"f{i:04d}", digest(f"e{i}"), "ok", None, i, f"label {i % 7}") for i in range(500)],
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a store's parts and log, with an index that is up to date."""
    (tmp_path / "log").mkdir()
    log, last = Log(tmp_path), None
    for number, rows in enumerate(PARTS, 1):
        name = format_part_name(number)
        files = write_part(tmp_path / name, rows_to_table(rows), {"c0001": np.zeros((len(rows), 2), np.float32)})
        last = log.append(last, Action.ADD_PART, files, {"part": name})
    Index(tmp_path, log.entries()).save()
    return tmp_path


def state(root: Path) -> list[object]:
    index = Index(root, Log(root).entries())
    columns = [index.column(name) for name in ("id", "part", "row", "label", "status", "digest")]
    return [
        *columns,
        index.failures(),
        index.counts(),
        index.find(["a"]),
        index.find_row("c"),
        index.find_ids_by_digest([D1]),
    ]


def is_trusted(root: Path) -> bool:
    return Index(root, Log(root).entries()).is_saved


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


def rewrite(path: Path, **head: object) -> None:
    """Write the index anew with wrong labels and another head, and a digest that fits."""
    table = pa.ipc.open_file(path).read_all()
    labels = pa.array(["wrong"] * len(table), pa.string())
    fields = json.loads(table.schema.metadata[METADATA_KEY]) | head
    table = table.set_column(table.column_names.index("label"), "label", labels)
    table = table.replace_schema_metadata({METADATA_KEY: json.dumps(fields)})
    with pa.OSFile(str(path), "wb") as stream, pa.ipc.new_file(stream, table.schema) as writer:
        writer.write_table(table)
    (path.parent / DIGEST_FILE).write_text(sha256(path.read_bytes()).hexdigest())


def other_log(path: Path) -> None:
    rewrite(path, digest="of another log")


def other_format(path: Path) -> None:
    rewrite(path, format=1)


def ahead(path: Path) -> None:
    rewrite(path, number=99)


def stale(path: Path) -> None:
    path.unlink()
    Index(path.parent, Log(path.parent).entries()[:2]).save()


def without_digest(path: Path) -> None:
    (path.parent / DIGEST_FILE).unlink()


DAMAGES = [
    Path.unlink,
    empty,
    garbage,
    truncate,
    overwrite_the_middle,
    change_a_value,
    other_log,
    other_format,
    ahead,
    without_digest,
]


def test_items_stand_at_the_place_of_their_first_addition_as_their_last_part_left_them(root: Path) -> None:
    index = Index(root, Log(root).entries()[:3])
    assert index.column("id") == ["a", "b", "c"]
    assert index.column("part") == [2, 3, 1]
    assert index.column("row") == [1, 0, 1]
    assert index.column("label") == ["cat", "bee", "dog"]
    assert index.failures() == [("d", "truncated"), ("e", "empty")]
    assert index.counts() == {"ok": 3, "failed": 2}  # "a" has another content now: "c" is the only one with its own
    assert index.find(["d", "nothing"]) == {"d": PARTS[2][1]}
    assert (index.find_row("a"), index.find_row("d")) == ((2, 1), None)
    assert index.find_ids_by_digest([D1, D7, ""]) == {D1: ["c"], D7: [], "": []}
    assert index.find(many := [str(number) for number in range(1200)]) == {}
    assert index.find_ids_by_digest([*(digest(name) for name in many), D1])[D1] == ["c"]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda f: f.__name__)
def test_damaged_index_is_recognised_and_rebuilt_with_the_same_content(
    root: Path, damage: Callable[[Path], None]
) -> None:
    before = state(root)
    damage(root / INDEX_FILE)
    assert not is_trusted(root)
    assert state(root) == before
    Index(root, Log(root).entries()).save()
    assert is_trusted(root)
    assert state(root) == before


def test_stale_index_is_caught_up(root: Path) -> None:
    before = state(root)
    stale(root / INDEX_FILE)
    assert state(root) == before


def test_every_flipped_bit_of_the_index_is_recognised(root: Path) -> None:
    generator = np.random.default_rng(0)
    for name in (INDEX_FILE, DIGEST_FILE):
        path = root / name
        content = path.read_bytes()
        for position in generator.integers(len(content), size=50).tolist():
            damaged = bytearray(content)
            damaged[position] ^= 1 << int(generator.integers(8))
            path.write_bytes(damaged)
            assert not is_trusted(root), f"byte {position} of {name}"
        path.write_bytes(content)


def test_reader_writes_nothing(root: Path) -> None:
    (root / INDEX_FILE).unlink()
    before = state(root)
    assert not (root / INDEX_FILE).exists()
    assert before[0][:3] == ["a", "b", "c"]  # type: ignore[index]


def test_saved_index_is_small(root: Path) -> None:
    ids = sum(len(row.id) for rows in PARTS for row in rows)
    assert (root / INDEX_FILE).stat().st_size - ids < 130 * 505 + 10_000
