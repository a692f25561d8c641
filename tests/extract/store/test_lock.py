"""Locks: one writer at a time; replaced files are removed once no reader has them open, and not before."""

from __future__ import annotations

import gc
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from topwork.errors import StoreLockedError
from topwork.extract.store.lock import LOCK_FILE, ReaderLock, try_exclude_readers, write_lock

with_reader_locks = pytest.mark.skipif(sys.platform == "win32", reason="mapped files cannot be removed there")
HOLDER = """
import sys, time
from topwork.extract.store.lock import ReaderLock
lock = ReaderLock(sys.argv[1])
print(flush=True)
time.sleep(60)
"""


def ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def write(root: Path, pid: int, host: str) -> None:
    (root / LOCK_FILE).write_text(json.dumps({"pid": pid, "host": host}))


def test_lock_names_its_holder_and_is_removed_at_the_end(tmp_path: Path) -> None:
    with write_lock(tmp_path):
        holder = json.loads((tmp_path / LOCK_FILE).read_bytes())
        assert holder == {"pid": os.getpid(), "host": socket.gethostname()}
    assert not (tmp_path / LOCK_FILE).exists()


def test_second_writer_is_refused_and_the_first_keeps_its_lock(tmp_path: Path) -> None:
    with write_lock(tmp_path):
        with pytest.raises(StoreLockedError, match=str(os.getpid())), write_lock(tmp_path):
            pass
        assert (tmp_path / LOCK_FILE).exists()
    with write_lock(tmp_path):
        pass


def test_lock_is_released_when_the_work_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="on purpose"), write_lock(tmp_path):
        raise RuntimeError("on purpose")
    with write_lock(tmp_path):
        pass


def test_lock_of_a_process_that_has_ended_is_taken_over(tmp_path: Path) -> None:
    write(tmp_path, ended_process(), socket.gethostname())
    with write_lock(tmp_path):
        assert json.loads((tmp_path / LOCK_FILE).read_bytes())["pid"] == os.getpid()


def test_lock_without_content_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).touch()
    with write_lock(tmp_path):
        assert json.loads((tmp_path / LOCK_FILE).read_bytes())["pid"] == os.getpid()


def test_lock_of_a_process_that_runs_is_respected(tmp_path: Path) -> None:
    hold = f"""
from pathlib import Path
from topwork.extract.store.lock import write_lock
with write_lock(Path({str(tmp_path)!r})):
    print("held", flush=True)
    input()
"""
    process = subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(StoreLockedError, match=str(process.pid)), write_lock(tmp_path):
            pass
        process.kill()
        process.wait()
        with write_lock(tmp_path, patience=5):  # the system has dropped it
            assert json.loads((tmp_path / LOCK_FILE).read_bytes())["pid"] == os.getpid()
    finally:
        process.kill()
        process.communicate()


def test_lock_of_a_process_number_that_is_in_use_again_is_taken_over(tmp_path: Path) -> None:
    write(tmp_path, os.getpid(), socket.gethostname())
    with write_lock(tmp_path):
        pass


def test_lock_of_another_host_is_respected(tmp_path: Path) -> None:
    write(tmp_path, ended_process(), "another.example.org")
    with pytest.raises(StoreLockedError, match=r"another\.example\.org.*write\.lock"), write_lock(tmp_path):
        pass


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "store.json").write_text("{}")
    return tmp_path / "store.json"


def has_no_readers(path: Path) -> bool:
    with try_exclude_readers(path) as found:
        return found


@with_reader_locks
def test_readers_share_the_lock(path: Path) -> None:
    first, second = ReaderLock(path), ReaderLock(path)
    assert not has_no_readers(path)
    first.release()
    assert not has_no_readers(path)
    second.release()
    second.release()  # once more does nothing
    assert has_no_readers(path)


@with_reader_locks
def test_lock_of_a_collected_reader_is_released(path: Path) -> None:
    lock = ReaderLock(path)
    del lock
    gc.collect()
    assert has_no_readers(path)


@with_reader_locks
def test_lock_of_a_killed_reader_is_released(path: Path) -> None:
    reader = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE)
    assert reader.stdout is not None
    reader.stdout.readline()
    assert not has_no_readers(path)
    reader.kill()
    reader.wait()
    assert has_no_readers(path)
