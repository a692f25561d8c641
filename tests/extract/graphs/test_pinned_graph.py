"""Pinned files stay what they were when they were read, whatever is put in their place."""

from __future__ import annotations

import gc
import hashlib
import pickle
import shutil
from pathlib import Path

import pytest
from topwork.errors import BundleError
from topwork.extract.graphs import pinned_graph
from topwork.extract.graphs.pinned_graph import PinnedFiles

CONTENTS = {"graph.onnx": b"old graph", "inputs/tokenizer.json": b"old words"}
needs_held_files = pytest.mark.skipif(not pinned_graph.CAN_HOLD_FILES, reason="open files lock their folder here")


def write_files(folder: Path, contents: dict[str, bytes]) -> Path:
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def read_contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in CONTENTS}


def replace_files(folder: Path, contents: dict[str, bytes]) -> None:
    shutil.rmtree(folder)
    write_files(folder, contents)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TOPWORK_CACHE", str(tmp_path / "cache"))
    return write_files(tmp_path / "files", CONTENTS)


def pin(folder: Path) -> PinnedFiles:
    return PinnedFiles(folder, {name: hashlib.sha256(content).hexdigest() for name, content in CONTENTS.items()})


@pytest.fixture
def files(folder: Path) -> PinnedFiles:
    return pin(folder)


def copies(folder: Path) -> list[Path]:
    return list((folder.parent / "cache").rglob("*.onnx"))


def test_files_in_place_are_not_copied(files: PinnedFiles, folder: Path) -> None:
    assert files.locate() == folder
    replace_files(folder, CONTENTS)
    assert files.locate() == folder
    assert copies(folder) == []


@needs_held_files
@pytest.mark.parametrize("change", ["replaced", "removed"])
def test_former_files_are_read_and_their_copies_removed(folder: Path, change: str) -> None:
    files = pin(folder)
    shutil.rmtree(folder)
    if change == "replaced":
        write_files(folder, dict.fromkeys(CONTENTS, b"new"))
    assert read_contents(files.locate()) == CONTENTS
    assert files.locate() == files.locate() != folder
    assert len(copies(folder)) == 1
    del files
    gc.collect()
    assert copies(folder) == []


@needs_held_files
def test_what_was_replaced_while_it_was_read_is_read_again(files: PinnedFiles, folder: Path) -> None:
    calls = []

    def replace_and_read(place: Path) -> dict[str, bytes]:
        if not calls:
            replace_files(folder, dict.fromkeys(CONTENTS, b"new"))
        calls.append(place)
        return read_contents(place)

    assert files.read(replace_and_read) == CONTENTS
    assert calls[0] == folder != calls[1]


def test_error_of_the_reader_is_raised_if_nothing_was_replaced(files: PinnedFiles) -> None:
    def fail(place: Path) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        files.read(fail)


def test_another_process_uses_the_files_in_place_alone(files: PinnedFiles, folder: Path) -> None:
    sent = pickle.loads(pickle.dumps(files))
    assert sent.locate() == folder
    replace_files(folder, dict.fromkeys(CONTENTS, b"new"))
    with pytest.raises(BundleError, match=str(folder)):
        sent.locate()


@pytest.mark.parametrize("can_hold", [False, True])
def test_files_that_were_changed_in_place_are_refused(
    folder: Path, can_hold: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pinned_graph, "CAN_HOLD_FILES", can_hold)
    pinned = pin(folder)
    (folder / "graph.onnx").write_bytes(b"new and longer")
    with pytest.raises(BundleError, match=str(folder)):
        pinned.locate()


def test_files_that_cannot_be_kept_are_an_error_that_says_why(
    files: PinnedFiles, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder.parent / "taken").write_text("no folder")
    monkeypatch.setenv("TOPWORK_CACHE", str(folder.parent / "taken"))
    shutil.rmtree(folder)
    with pytest.raises(BundleError, match=str(folder)):
        files.locate()
