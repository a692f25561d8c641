"""Arrays in memory and in files: which, that files are removed, and that copies are right."""

from __future__ import annotations

import errno
import gc
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from topwork import large_arrays
from topwork.heads.parallel import find_memory_map
from topwork.large_arrays import allocate, join_columns, take_rows

ALLOCATE_AND_WAIT = """
import sys
from topwork import large_arrays
large_arrays.available_memory = lambda: 100
large_arrays.SMALL_BYTES = 0
array = large_arrays.allocate((100, 4), "float32")
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TOPWORK_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture
def little_memory(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let arrays of more than 50 bytes lie in files; return the cache folder that they lie in."""
    monkeypatch.setattr(large_arrays, "available_memory", lambda: 100)
    monkeypatch.setattr(large_arrays, "SMALL_BYTES", 0)
    monkeypatch.setattr(large_arrays, "ROWS_AT_ONCE", 7)
    return cache


def is_in_file(array: np.ndarray) -> bool:
    return find_memory_map(array) is not None


@pytest.mark.parametrize("free", [None, 1600])
def test_an_array_lies_in_memory_while_it_fits(cache: Path, monkeypatch: pytest.MonkeyPatch, free: int | None) -> None:
    monkeypatch.setattr(large_arrays, "available_memory", lambda: free)
    monkeypatch.setattr(large_arrays, "SMALL_BYTES", 0)
    array = allocate((50, 4), np.float32)  # 800 bytes
    assert (array.shape, array.dtype) == ((50, 4), np.float32)
    assert not is_in_file(array)
    assert not list(cache.iterdir())


def test_a_larger_array_lies_in_a_file_until_its_last_view_is_gone(little_memory: Path) -> None:
    array = allocate((100, 4), np.float32)
    array[:] = np.arange(400).reshape(100, 4)
    view = np.asarray(array)[90:]
    assert [path.stat().st_size for path in little_memory.iterdir()] == [1600]
    del array
    gc.collect()
    np.testing.assert_array_equal(view, np.arange(360, 400).reshape(10, 4))
    assert list(little_memory.iterdir())
    del view
    gc.collect()
    assert not list(little_memory.iterdir())


def test_for_a_small_array_the_memory_is_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(large_arrays, "available_memory")
    assert not is_in_file(allocate((100, 4), np.float32))
    with pytest.raises(NameError):
        allocate((large_arrays.SMALL_BYTES, 4), np.float32)


def test_an_empty_array_lies_in_memory(little_memory: Path) -> None:
    assert allocate((0, 4), np.float32).shape == (0, 4)


def test_the_file_of_a_killed_process_is_removed_by_the_next(little_memory: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", ALLOCATE_AND_WAIT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    [left] = little_memory.iterdir()
    array = allocate((100, 4), np.float32)
    assert left.exists()  # its process lives
    process.send_signal(signal.SIGKILL)
    process.communicate()
    other = allocate((100, 4), np.float32)
    assert not left.exists()
    assert len(array) == len(other)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the system cannot reserve room on a disk")
def test_a_full_disk_is_an_error_before_anything_is_written(
    little_memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, start: int, size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(OSError, match="No space left") as caught:
        allocate((100, 4), np.float32)
    assert Path(caught.value.filename).parent == little_memory
    assert not list(little_memory.iterdir())


@pytest.mark.parametrize("rows", [[5, 3, 3, 0], [], list(range(40)), list(range(39))])
def test_rows_are_taken_in_blocks(little_memory: Path, rows: list[int]) -> None:
    matrix = np.arange(120, dtype=np.float32).reshape(40, 3)
    taken = take_rows(matrix, np.array(rows, int))
    np.testing.assert_array_equal(taken, matrix[rows])
    assert (taken is matrix) == (len(rows) == 40)
    assert is_in_file(taken) == (len(rows) == 39)


def test_columns_are_joined_in_blocks(little_memory: Path) -> None:
    one = np.arange(120, dtype=np.float16).reshape(40, 3)
    other = np.arange(80, dtype=np.float32).reshape(40, 2)
    joined = join_columns([one, other], np.float32)
    np.testing.assert_array_equal(joined, np.hstack([one, other]))
    assert joined.dtype == np.float32
    assert is_in_file(joined)
    assert join_columns([other], np.float32) is other
    np.testing.assert_array_equal(join_columns([one], np.float32), one)
