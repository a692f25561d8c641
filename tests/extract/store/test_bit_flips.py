"""A flipped bit is found, wherever it is: the run of ``benchmarks/bit_flips.py`` in small."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"


def test_no_flipped_bit_is_missed() -> None:
    command = [sys.executable, str(BENCHMARKS / "bit_flips.py"), "--flips", "45", "--verbose"]
    ended = subprocess.run(command, capture_output=True, text=True)
    found = re.fullmatch(r"45 flips: (\d+) found, (\d+) rebuilt, 0 missed\n", ended.stdout)
    assert found, ended.stdout + ended.stderr
    assert sum(map(int, found.groups())) == 45
    for kind in ("log/", "items.parquet: found", ".npy: found", "labels/", "index.arrow: rebuilt"):
        assert kind in ended.stderr
