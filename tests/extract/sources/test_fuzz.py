"""Damaged images and archives: the run of ``benchmarks/fuzz.py`` in small."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"
COUNT = 150


def test_whatever_is_damaged_ends_as_ok_or_failed_and_stays_in_its_folder() -> None:
    command = [sys.executable, str(BENCHMARKS / "fuzz.py"), "--count", str(COUNT)]
    ended = subprocess.run(command, capture_output=True, text=True, errors="replace")
    found = re.fullmatch(r"150 mutated: (\d+) ok, (\d+) failed, 0 crashed, 0 outside\n", ended.stdout)
    assert found, ended.stdout + ended.stderr
    ok, failed = map(int, found.groups())
    assert ok + failed == COUNT
    assert min(ok, failed) >= 20  # much of it is damaged where it shows, and much where it does not


def test_paths_outside_the_folder_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from fuzz import Touched

    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    touched = Touched(root)
    touched.start()
    for path in ("a.png", "../root/b.png", "../root2", "link/c.png", "../d.png"):
        touched.note("open", (f"{root}/{path}", "r", 0))
    touched.note("os.symlink", (f"{tmp_path}/e.png", f"{root}/f.png", -1))
    touched.note("subprocess.Popen", ("gs", ["gs"], None, None))
    outside = [f"open {root}/{path}" for path in ("../d.png", "../root2", "link/c.png")]
    others = [f"os.symlink {tmp_path}/e.png", "subprocess.Popen ('gs', ['gs'], None, None)", "subprocess.Popen gs"]
    assert list(touched.outside()) == outside + others
    touched.note("open", ("/etc/passwd", "r", 0))
    assert list(touched.outside()) == outside + others
