"""Damaged images, tables, archives, ONNX files and bundles: the run of ``benchmarks/fuzz.py`` in small."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
COUNTS = {"image": 60, "table": 30, "archive": 40, "onnx": 40, "bundle": 25}
ROW = r"\| (?P<name>\w+) \| (\d+) \| (?P<ok>\d+) \| (?P<failed>\d+) \| 0 \| 0 \| [\d.]+ s \| \d+ MiB \|"


@pytest.fixture
def fuzz(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the script as a module, by its path: the folder of a checkout may have its name."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = spec_from_file_location("fuzz_script", BENCHMARKS / "fuzz.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", list(COUNTS))
def test_whatever_is_damaged_ends_as_ok_or_failed_and_stays_in_its_folder(name: str) -> None:
    count = COUNTS[name]
    command = [sys.executable, str(BENCHMARKS / "fuzz.py"), "--format", name, "--count", str(count)]
    environment = {**os.environ, "TOPWORK_DISABLE": "openvino"}  # which takes seconds to load
    ended = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment)
    found = re.fullmatch(ROW, ended.stdout.splitlines()[-1])
    assert found, ended.stdout + ended.stderr
    ok = int(found["ok"])
    failed = int(found["failed"])
    assert ok + failed == count
    assert ok > 0  # some of it is damaged where it does not show
    assert failed > 5


def test_a_run_stops_after_its_time_and_says_how_to_go_on() -> None:
    command = [sys.executable, str(BENCHMARKS / "fuzz.py"), "--format", "image", "--first", "7", "--seconds", "0"]
    ended = subprocess.run(command, capture_output=True, text=True, errors="replace")
    assert "--first 8" in ended.stderr
    assert "| image | 1 |" in ended.stdout


def test_paths_outside_the_folder_are_noticed(fuzz: ModuleType, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    touched = fuzz.Touched(root)
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


def test_reading_outside_is_allowed_where_reading_imports_modules(fuzz: ModuleType, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    touched = fuzz.Touched(root, only_writes=True)
    touched.start()
    touched.note("open", (f"{tmp_path}/a.py", "r", 0))
    touched.note("os.listdir", (f"{tmp_path}",))
    touched.note("open", (f"{tmp_path}/b.py", "w", fuzz.WRITE_FLAGS))
    assert touched.outside() == (f"open {tmp_path}/b.py",)
