"""Failing disks and damaged files raise errors that name the remedy, and cost nothing that was committed."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from topwork import atomic
from topwork.errors import LogDamagedError, MissingFileError, StoreDamagedError, StoreWriteError
from topwork.extract.engine import batching
from topwork.extract.extractor.extractor import Extractor
from topwork.extract.jobs.job import extract_features
from topwork.extract.store import lock, part, writer
from topwork.extract.store.feature_store import FeatureStore

WriteImages = Callable[..., Path]
LAYERS = ["layer2", "last"]
READ = """
import json, sys
from topwork.extract.jobs.job import extract_features
from topwork.extract.store.feature_store import FeatureStore
store = FeatureStore.open(sys.argv[1])
matrix = store.matrix("last")
found = [store.ids, store.labels, float(matrix.sum()), store.verify(), extract_features(sys.argv[2], store).items]
try:
    store.set_labels({store.ids[0]: "new"})
except Exception as error:
    found += [type(error).__name__, str(error)]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def tiny() -> Extractor:
    return Extractor("topwork:tiny", layer=LAYERS)


@pytest.fixture
def images(write_images: WriteImages, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of two labels whose items make several parts."""
    monkeypatch.setattr(batching, "ITEMS_PER_WINDOW", 16)
    return write_images(each=20)


@pytest.fixture
def more(write_images: WriteImages, images: Path) -> Path:
    """Return the same folder with a third label."""
    shutil.copytree(images, images.with_name("more"))
    return write_images("more", labels=("eel",), each=20, seed=1)


@pytest.fixture
def store(tiny: Extractor, images: Path, tmp_path: Path) -> FeatureStore:
    store = FeatureStore.create(tmp_path / "features", tiny)
    extract_features(images, store)
    return store


@pytest.fixture
def expected(tiny: Extractor, more: Path, images: Path, tmp_path: Path) -> dict[str, Any]:
    """Return what a store shows to which nothing happened."""
    whole = FeatureStore.create(tmp_path / "whole", tiny)
    extract_features(images, whole)
    extract_features(more, whole)
    return content(whole.path)


def content(path: Path) -> dict[str, Any]:
    store = FeatureStore.open(path)
    matrices = {name: np.asarray(store.matrix(name)).tobytes() for name in LAYERS}
    return {"ids": store.ids, "labels": store.labels, "failures": store.failures(), **matrices}


def listing(root: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of every file and folder."""
    found = {path: path.stat() for path in (root, *root.rglob("*"))}
    return {path.relative_to(root).as_posix(): (s.st_size, s.st_mtime_ns) for path, s in found.items()}


def files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def failing(error: int, after: int, work: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that fails after it has worked some times."""
    left = after

    def fail(*arguments: Any, **options: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(error, os.strerror(error))
        return work(*arguments, **options)

    return fail


# the error; what is patched, and how often it works before; what is kept of the 20 new items
WRITES = {
    "opening the lock": (errno.EACCES, lock, "open", open, 0, 0),
    "describing items": (errno.ENOSPC, part, "write_table", part.write_table, 0, 0),
    "forcing a part to disk": (errno.EIO, atomic, "sync_file", atomic.sync_file, 4, 16),
    "moving a part": (errno.EACCES, atomic, "move_folder", atomic.move_folder, 1, 16),
    "writing an entry": (errno.ENOSPC, os, "link", os.link, 1, 16),
    "moving the index": (errno.EIO, Path, "replace", Path.replace, 0, 20),
}
CAUSES = {
    errno.ENOSPC: "disk is full",
    errno.EACCES: "permissions",
    errno.EIO: "disk reports an error",
}


@pytest.mark.parametrize("place", WRITES)
def test_write_error_is_explained_and_costs_nothing(
    store: FeatureStore,
    more: Path,
    expected: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    place: str,
) -> None:
    error, owner, name, work, after, kept = WRITES[place]
    before = content(store.path)
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, failing(error, after, work), raising=False)
        with pytest.raises(StoreWriteError, match=rf"{store.path} .*{CAUSES[error]}") as raised:
            extract_features(more, store)
    assert raised.value.errno == error
    assert FeatureStore.open(store.path).verify() == []
    now = content(store.path)
    assert len(now["ids"]) == 40 + kept
    assert all(now[key][: len(value)] == value for key, value in before.items())
    assert extract_features(more, store).computed == 20 - kept
    assert content(store.path) == expected
    assert FeatureStore.open(store.path).verify() == []
    assert not list(store.path.rglob(".tmp-*"))


@pytest.mark.skipif(sys.platform == "win32", reason="there is no limit to the size of files")
def test_last_bytes_that_do_not_fit_are_noticed(tmp_path: Path) -> None:
    import resource

    matrix = np.ones((2, 2423), np.float32)  # 19,384 bytes, of which numpy.save would lose the last 3,000
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (18_000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            part.write_part(tmp_path / "p000001", part.rows_to_table([]), {"c0001": matrix})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("entry", ["part", "merged part"])
def test_part_stays_if_its_entry_was_written_with_an_error(
    store: FeatureStore, more: Path, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch, entry: str
) -> None:
    number = len(list((store.path / "log").iterdir())) + (1 if entry == "part" else 3)

    def sync(folder: Path) -> None:
        if folder.name == "log" and (folder / f"{number:010d}.json").exists():
            raise OSError(errno.EIO, "Input/output error")  # the entry is there, but perhaps not for long

    with monkeypatch.context() as patch:
        patch.setattr(atomic, "sync_folder", sync)
        with pytest.raises(StoreWriteError, match=str(store.path)) as raised:
            extract_features(more, store)
    assert raised.value.errno == errno.EIO
    assert FeatureStore.open(store.path).verify() == []
    assert len(content(store.path)["ids"]) == (56 if entry == "part" else 60)
    extract_features(more, store)
    assert content(store.path) == expected


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    damaged = bytearray(path.read_bytes())
    damaged[-10] ^= 1
    path.write_bytes(damaged)


def change(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"time": "20', b'"time": "19'))


DAMAGES = {
    "truncated matrix": ("c0002.npy", truncate, StoreDamagedError, r"c0002\.npy .*`topwork store repair`"),
    "missing matrix": ("c0002.npy", Path.unlink, MissingFileError, r"c0002\.npy .*`topwork store repair`"),
    "missing part": ("", shutil.rmtree, MissingFileError, r"c0001\.npy .*`topwork store repair`"),
    "changed entry": ("log", change, LogDamagedError, r"0000000007\.json"),
    "truncated entry": ("log", truncate, LogDamagedError, r"0000000007\.json"),
    "missing entry": ("log", Path.unlink, LogDamagedError, r"0000000008\.json"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_reported_and_left_until_the_file_is_restored(
    store: FeatureStore, more: Path, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    name, work, error, message = DAMAGES[damage]
    stop_before_merging(store, more, monkeypatch)
    path = damaged_path(store, name)
    copy = store.path.with_name("copy")
    shutil.copytree(store.path, copy)
    work(path)
    before = files(store.path)
    with pytest.raises(error, match=message) as raised:
        content(store.path)
    assert type(raised.value) is error
    with pytest.raises(StoreDamagedError):
        store.compact()
    assert files(store.path) == before | {k: v for k, v in files(store.path).items() if k.startswith("index")}
    shutil.rmtree(store.path)
    copy.rename(store.path)
    extract_features(more, store)
    assert content(store.path) == expected


def stop_before_merging(store: FeatureStore, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a job that leaves its parts as they are."""
    with monkeypatch.context() as patch:
        patch.setattr(writer, "write_compacted", failing(errno.ENOSPC, 0, print))
        with pytest.warns(UserWarning, match=f"{store.path}.*`topwork store compact`"):
            extract_features(source, store)


def damaged_path(store: FeatureStore, name: str) -> Path:
    """Return a file of the newest part, or an entry of the log before the newest."""
    if name == "log":
        return sorted((store.path / "log").iterdir())[-2]
    return FeatureStore.open(store.path).path / FeatureStore.open(store.path).state.parts[-1] / name


def test_flipped_bit_in_a_part_is_found_and_its_copy_verifies(store: FeatureStore) -> None:
    assert store.state.compacted is not None
    path = store.path / store.state.compacted / "c0002.npy"
    whole = path.read_bytes()
    flip(path)
    assert FeatureStore.open(store.path).verify() == [f"{store.state.compacted}/c0002.npy"]
    path.write_bytes(whole)
    assert FeatureStore.open(store.path).verify() == []


def test_reading_writes_nothing(store: FeatureStore, images: Path, more: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_before_merging(store, more, monkeypatch)
    for damage in (lambda: None, (store.path / "index.arrow").unlink):
        damage()
        before = listing(store.path)
        reader = FeatureStore.open(store.path)
        assert np.asarray(reader.matrix("last")).shape[0] == len(reader.ids) == len(reader.labels) == 60
        assert reader.take(reader.ids[:3], "last").shape[0] == 3
        assert (reader.failures(), reader.verify(), reader.label_history()) == ([], [], [])
        assert extract_features(images, reader).items == 40
        del reader
        assert listing(store.path) == before


def test_read_only_file_system_reads(store: FeatureStore, images: Path) -> None:
    mount = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@"'
    command = ["unshare", "-rm", "sh", "-c", mount, "sh", str(store.path)]
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    command += [sys.executable, "-c", READ, str(store.path), str(images)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    ids, labels, total, damaged, items, kind, message = json.loads(ended.stdout)
    assert (ids, labels) == (store.ids, store.labels)
    assert (total, damaged, items) == (pytest.approx(float(store.matrix("last").sum()), rel=1e-5), [], 40)
    assert kind == "StoreWriteError"
    assert str(store.path) in message
    assert "read-only" in message


def test_reader_keeps_its_snapshot_while_a_writer_adds_and_merges(
    store: FeatureStore, more: Path, monkeypatch: pytest.MonkeyPatch, expected: dict[str, Any]
) -> None:
    stop_before_merging(store, more, monkeypatch)
    reader, before = FeatureStore.open(store.path), content(store.path)
    lazy = reader.matrix("last")  # nothing is read yet
    store.compact()
    (more / "eel" / "19.png").unlink()
    extract_features(more, store, prune=True)
    assert len(FeatureStore.open(store.path).ids) == 59
    assert (reader.ids, reader.labels) == (before["ids"], before["labels"])
    assert np.asarray(lazy).tobytes() == before["last"]
    assert np.asarray(reader.matrix("layer2")).tobytes() == before["layer2"]
    reader.refresh()
    assert len(reader.ids) == 59
    assert len(list((store.path / "parts").iterdir())) > 1
    del reader, lazy
    store.set_labels({store.ids[0]: "new"})
    assert [path.name for path in (store.path / "parts").iterdir()] == [Path(store.state.parts[0]).name]
