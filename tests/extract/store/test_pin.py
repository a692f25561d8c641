"""Files that a compaction replaced are removed when nobody has them open any more, and not before."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import pytest
from topwork.extract.store.pin import Pin, alone

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="mapped files cannot be removed there")
HOLDER = """
import sys, time
from topwork.extract.store.pin import Pin
pin = Pin(sys.argv[1])
print(flush=True)
time.sleep(60)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "store.json").write_text("{}")
    return tmp_path / "store.json"


def is_alone(path: Path) -> bool:
    with alone(path) as found:
        return found


def test_readers_do_not_keep_each_other_out(path: Path) -> None:
    first, second = Pin(path), Pin(path)
    assert not is_alone(path)
    first.release()
    assert not is_alone(path)
    second.release()
    second.release()  # once more does nothing
    assert is_alone(path)


def test_reader_that_is_forgotten_lets_go(path: Path) -> None:
    pin = Pin(path)
    del pin
    gc.collect()
    assert is_alone(path)


def test_reader_that_is_killed_lets_go(path: Path) -> None:
    reader = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE)
    assert reader.stdout is not None
    reader.stdout.readline()
    assert not is_alone(path)
    reader.kill()
    reader.wait()
    assert is_alone(path)
