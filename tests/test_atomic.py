"""Files and folders are there whole, or not at all."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
from pathlib import Path

import pytest
from topwork import atomic
from topwork.atomic import (
    new_file,
    new_folder,
    replace_folder,
    require_destination,
    restore_replaced,
    sweep,
    sweep_after_dead_processes,
    temporary_name,
    write_file,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_file_is_written_and_replaced(tmp_path: Path) -> None:
    for content in (b"first, longer", b"second"):
        write_file(tmp_path / "a", content)
        assert (tmp_path / "a").read_bytes() == content
    assert names(tmp_path) == ["a"]


def test_exclusive_write_keeps_what_is_there(tmp_path: Path) -> None:
    write_file(tmp_path / "a", b"first", exclusive=True)
    with pytest.raises(FileExistsError):
        write_file(tmp_path / "a", b"second", exclusive=True)
    assert (tmp_path / "a").read_bytes() == b"first"
    assert names(tmp_path) == ["a"]


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        write_file(tmp_path / "taken", b"content")
    assert names(tmp_path) == ["taken"]


def test_folder_appears_at_the_end_of_the_block_with_all_it_holds(tmp_path: Path) -> None:
    with new_folder(tmp_path / "a") as temporary:
        (temporary / "inner").mkdir()
        (temporary / "inner" / "file").write_bytes(b"content")
        assert not (tmp_path / "a").exists()
    assert (tmp_path / "a" / "inner" / "file").read_bytes() == b"content"
    assert names(tmp_path) == ["a"]


def test_folder_of_a_block_that_raises_never_appears(tmp_path: Path) -> None:
    def interrupted() -> None:
        with new_folder(tmp_path / "a") as temporary:
            (temporary / "file").write_bytes(b"content")
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        interrupted()
    assert names(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b"theirs"])
def test_folder_that_another_process_made_first_stays(tmp_path: Path, content: bytes) -> None:
    def too_late() -> None:
        with new_folder(tmp_path / "a") as temporary:
            (temporary / "file").write_bytes(b"ours")
            (tmp_path / "a").mkdir()
            (tmp_path / "a" / "file").write_bytes(content)

    with pytest.raises(FileExistsError):
        too_late()
    assert (tmp_path / "a" / "file").read_bytes() == content
    assert names(tmp_path) == ["a"]


def test_sweep_removes_temporary_files_and_folders_only(tmp_path: Path) -> None:
    for name in (".tmp-file", "file", ".hidden"):
        (tmp_path / name).write_bytes(b"content")
    for name in (".tmp-folder", "folder"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"content")
    sweep(tmp_path)
    assert names(tmp_path) == [".hidden", "file", "folder"]


def test_new_file_appears_at_the_end_of_the_block_and_replaces_nothing(tmp_path: Path) -> None:
    with new_file(tmp_path / "a") as temporary:
        temporary.write_bytes(b"first")
        assert not (tmp_path / "a").exists()
    with pytest.raises(FileExistsError), new_file(tmp_path / "a") as temporary:
        temporary.write_bytes(b"second")
    with pytest.raises(FileNotFoundError), new_file(tmp_path / "b") as temporary:
        temporary.with_name("nowhere").read_bytes()
    assert (tmp_path / "a").read_bytes() == b"first"
    assert names(tmp_path) == ["a"]


def write_until_killed(folder: Path, kind: str) -> None:
    """Begin to write a file or folder, and end as a killed process does."""
    with (new_folder if kind == "folder" else new_file)(folder / "a") as temporary:
        if kind == "folder":
            (temporary / "file").write_bytes(b"content")
        else:
            temporary.write_bytes(b"content")
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_next_writer_sweeps_what_killed_processes_left(kind: str, tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=write_until_killed, args=(tmp_path, kind))
    process.start()
    process.join()
    assert len(names(tmp_path)) == 1
    ours = tmp_path / temporary_name()
    ours.write_bytes(b"of this process, which is alive")
    others = tmp_path / ".tmp-of-another-program"
    others.write_bytes(b"keep me")
    with new_file(tmp_path / "b") as temporary:
        temporary.write_bytes(b"content")
    assert names(tmp_path) == sorted([ours.name, others.name, "b"])


def test_destination_below_a_file_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    require_destination(tmp_path / "new" / "folder" / "file.csv")
    assert names(tmp_path) == ["file"]
    with pytest.raises(NotADirectoryError) as error:
        require_destination(tmp_path / "file" / "a.csv")
    assert error.value.filename == str(tmp_path / "file" / "a.csv")


def make_folder(path: Path, content: str) -> Path:
    path.mkdir()
    (path / "file").write_text(content)
    return path


@pytest.mark.parametrize("can_exchange", [True, False])
def test_folder_is_replaced(can_exchange: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not can_exchange:
        monkeypatch.setattr(atomic, "exchange", lambda one, other: False)
    path = make_folder(tmp_path / "a", "old")
    replace_folder(make_folder(tmp_path / "new", "new"), path)
    assert (path / "file").read_text() == "new"
    assert not (tmp_path / ".a.replaced").exists()
    replace_folder(make_folder(tmp_path / "first", "first"), tmp_path / "b")
    assert (tmp_path / "b" / "file").read_text() == "first"


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_old_folder_is_put_back_on_any_exception(
    error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic, "exchange", lambda one, other: False)
    path = make_folder(tmp_path / "a", "old")
    new = make_folder(tmp_path / "new", "new")
    rename = os.rename

    def fail_for_new(source: Path, target: Path) -> None:
        if source == new:
            raise error
        rename(source, target)

    monkeypatch.setattr(os, "rename", fail_for_new)
    with pytest.raises(error):
        replace_folder(new, path)
    assert (path / "file").read_text() == "old"


def test_kill_between_the_renames_loses_nothing(tmp_path: Path) -> None:
    make_folder(tmp_path / ".a.replaced", "old")  # what is there then
    sweep_after_dead_processes(tmp_path)
    restore_replaced(tmp_path / "a")
    assert (tmp_path / "a" / "file").read_text() == "old"
    make_folder(tmp_path / ".a.replaced", "older")  # killed after the second one
    restore_replaced(tmp_path / "a")
    assert (tmp_path / "a" / "file").read_text() == "old"
    replace_folder(make_folder(tmp_path / "new", "new"), tmp_path / "a")
    shutil.rmtree(tmp_path / "new", ignore_errors=True)  # where the old one is after an exchange
    assert names(tmp_path) == ["a"]


def test_writer_replaces_a_folder_that_a_reader_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "exchange", lambda one, other: False)
    path = make_folder(tmp_path / "a", "old")
    new = make_folder(tmp_path / "new", "new")
    rename = os.rename
    sources: list[Path] = []

    def rename_with_a_reader(source: Path, target: Path) -> None:
        rename(source, target)
        sources.append(source)
        if sources == [path]:
            restore_replaced(path)

    monkeypatch.setattr(os, "rename", rename_with_a_reader)
    replace_folder(new, path)
    assert (path / "file").read_text() == "new"
    assert sources.count(path) == 2
    assert names(tmp_path) == ["a"]


def test_folder_that_appears_while_another_is_put_back_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_folder(tmp_path / ".a.replaced", "old")
    rename = os.rename

    def rename_after_a_writer(source: Path, target: Path) -> None:
        make_folder(tmp_path / "a", "new")
        rename(source, target)

    monkeypatch.setattr(os, "rename", rename_after_a_writer)
    restore_replaced(tmp_path / "a")
    assert (tmp_path / "a" / "file").read_text() == "new"
