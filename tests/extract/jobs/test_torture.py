"""Jobs that are interrupted end as if nothing had happened: the run of ``benchmarks/torture.py`` in small."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from multiprocessing import Pipe
from pathlib import Path

import pytest

WRITER = """
import os, sys
from multiprocessing.connection import Connection
sys.path.insert(0, sys.argv[1])
from faults import surrender

def write(path, text):
    file = os.open(os.path.abspath(path), os.O_WRONLY | os.O_CREAT)
    os.write(file, text.encode())

surrender(Connection(int(sys.argv[2])))
for number in "1234":
    write(f"elsewhere/{number}", number)
    try:
        write(f"watched/{number}", number)
        print(number, end="")
    except OSError as error:
        print("-" if error.errno == 5 else error, end="")
"""
BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"


@pytest.mark.skipif(sys.platform != "linux", reason="writes are watched by a feature of Linux")
def test_interrupted_jobs_end_with_the_same_ids_ledger_and_matrices(text_folder: Path, tmp_path: Path) -> None:
    """They have a cache of their own, as what other tests find out about speeds changes what "auto" takes."""
    small = ["--images", "160", "--texts", "120", "--text-model", str(text_folder), "--precision", "fp32"]
    command = [sys.executable, str(BENCHMARKS / "torture.py"), "--runs", "4", "--faults", "3", *small]
    environment = os.environ | {"TOPWORK_CACHE": str(tmp_path)}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert ended.stdout.endswith("\n7 interrupted, 7 identical\n"), ended.stdout + ended.stderr
    assert ended.returncode == 0
    assert ended.stdout.count("killed after") >= 4
    assert ended.stdout.count("ENOSPC") + ended.stdout.count("EIO") == 3


@pytest.mark.skipif(sys.platform != "linux", reason="writes are watched by a feature of Linux")
@pytest.mark.parametrize(("lasts", "done", "failed"), [(True, "12--", 2), (False, "12-4", 1)])
def test_writes_below_a_folder_fail_from_the_one_that_is_asked_for(
    lasts: bool, done: str, failed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from faults import Disk, Fault

    (tmp_path / "watched").mkdir()
    (tmp_path / "elsewhere").mkdir()
    disk, (ours, theirs) = Disk(tmp_path / "watched", Fault(6, errno.EIO, lasts)), Pipe()
    command = [sys.executable, "-c", WRITER, str(BENCHMARKS), str(theirs.fileno())]
    process = subprocess.Popen(command, cwd=tmp_path, pass_fds=[theirs.fileno()], stdout=subprocess.PIPE, text=True)
    theirs.close()
    disk.serve(ours)
    assert process.communicate()[0] == done
    assert disk.writes[:6] == ["openat /#", "write /#"] * 3
    assert disk.failed == ["write /#", "openat /#"][:failed]
    assert (tmp_path / "elsewhere" / "4").read_text() == "4"
