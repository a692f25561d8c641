"""The log: an unbroken chain, or an error."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from topwork.errors import StoreDamagedError, StoreLockedError
from topwork.extract.store.log import Action, Log, LogEntry
from topwork.identity import digest_of_file


@pytest.fixture
def log(tmp_path: Path) -> Log:
    (tmp_path / "log").mkdir()
    log, last = Log(tmp_path), None
    for number in range(1, 5):
        (tmp_path / f"file{number}").write_text(f"content {number}")
        last = log.append(last, Action.ADD_PART, [tmp_path / f"file{number}"], {"part": f"p{number}"})
    return log


def path_of(log: Log, number: int) -> Path:
    return log.folder / f"{number:010d}.json"


def change(log: Log) -> None:
    path_of(log, 2).write_bytes(path_of(log, 2).read_bytes().replace(b'"p2"', b'"p9"'))


def remove(log: Log) -> None:
    path_of(log, 2).unlink()


def remove_first(log: Log) -> None:
    path_of(log, 1).unlink()


def swap(log: Log) -> None:
    second = path_of(log, 2).read_bytes()
    path_of(log, 3).rename(path_of(log, 2))
    path_of(log, 3).write_bytes(second)


def close_the_gap(log: Log) -> None:
    for number in (3, 4):
        path_of(log, number).rename(path_of(log, number - 1))


def truncate(log: Log) -> None:
    path_of(log, 4).write_bytes(path_of(log, 4).read_bytes()[:-20])


def empty(log: Log) -> None:
    path_of(log, 4).write_bytes(b"")


def change_the_last(log: Log) -> None:
    path_of(log, 4).write_bytes(path_of(log, 4).read_bytes().replace(b'"add_part"', b'"add_pbrt"'))


def test_entries_are_read_as_they_were_written(log: Log) -> None:
    entries = log.entries()
    assert [entry.number for entry in entries] == [1, 2, 3, 4]
    assert [entry.details for entry in entries] == [{"part": f"p{i}"} for i in range(1, 5)]
    assert entries[2].files == {"file3": digest_of_file(log.root / "file3")}
    assert [entry.digest for entry in entries] == [digest_of_file(path_of(log, i)) for i in range(1, 5)]


@pytest.mark.parametrize(
    "damage",
    [change, remove, remove_first, swap, close_the_gap, truncate, empty, change_the_last],
    ids=lambda f: f.__name__,
)
def test_broken_chain_is_an_error(log: Log, damage: Callable[[Log], None]) -> None:
    damage(log)
    with pytest.raises(StoreDamagedError, match=r"\d{10}\.json"):
        log.entries()


def test_of_two_writers_of_the_same_entry_the_second_is_refused(log: Log) -> None:
    last: LogEntry = log.entries()[-1]
    log.append(last, Action.ADD_PART, [], {"part": "first"})
    with pytest.raises(StoreLockedError, match=rf"entry 5 of {re.escape(str(log.root))}"):
        log.append(last, Action.ADD_PART, [], {"part": "second"})
    assert [entry.details["part"] for entry in log.entries()] == ["p1", "p2", "p3", "p4", "first"]
    assert len(list(log.folder.iterdir())) == 5


def test_leftovers_of_interrupted_writes_are_ignored(log: Log) -> None:
    (log.folder / ".tmp-0123").write_bytes(b"{")
    assert len(log.entries()) == 4
