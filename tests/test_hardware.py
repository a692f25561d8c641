"""The description of this machine."""

from __future__ import annotations

import mmap
import sys
from pathlib import Path

import numpy as np
import pytest
from topwork.hardware import (
    INSTRUCTION_SETS,
    available_cores,
    available_memory,
    disabled_names,
    has_bfloat16,
    has_int8,
    instruction_sets,
    processor,
    used_memory,
)

MEGABYTE = 1_000_000


def test_machine_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOPWORK_DISABLE", raising=False)
    assert available_cores() >= 1
    assert processor()
    assert set(instruction_sets()) <= set(INSTRUCTION_SETS)
    assert has_bfloat16() == bool({"avx512_bf16", "amx_bf16"} & set(instruction_sets()))


def test_limit_of_the_libraries_is_one_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOPWORK_DISABLE", raising=False)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "avx2")
    assert set(instruction_sets()) <= {"avx2"}
    assert not has_bfloat16()
    assert not has_int8()
    assert processor().endswith(", limited to AVX2")  # by which measurements are kept apart
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "ALL")
    assert "limited" not in processor()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere mapped files count, and only the peak is reported")
def test_memory_is_what_the_process_has_of_its_own(tmp_path: Path) -> None:
    np.save(tmp_path / "array.npy", np.ones(100 * MEGABYTE, np.uint8))
    before = used_memory()
    assert before is not None
    mapped = np.load(tmp_path / "array.npy", mmap_mode="r")
    assert mapped.sum() == 100 * MEGABYTE
    assert used_memory() < before + 50 * MEGABYTE
    own = mmap.mmap(-1, 100 * MEGABYTE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # new: no memory freed before
    own.write(b"1" * len(own))
    assert used_memory() > before + 90 * MEGABYTE
    own.close()
    assert used_memory() < before + 50 * MEGABYTE


@pytest.mark.skipif(sys.platform == "win32", reason="there is no resource module")
def test_memory_is_the_largest_resident_set_where_nothing_else_is_reported(tmp_path: Path) -> None:
    largest = used_memory(tmp_path / "absent")
    (tmp_path / "status").write_text("Name: python\n")
    assert largest is not None
    assert used_memory(tmp_path / "status") >= largest > 20 * MEGABYTE


def test_memory_is_unknown_where_nothing_reports_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)
    assert used_memory(tmp_path / "absent") is None


def test_disabled_precisions_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOPWORK_DISABLE", "int8, bf16")
    assert disabled_names() == {"int8", "bf16"}
    assert not has_bfloat16()
    assert not has_int8()


def test_available_memory_is_that_of_the_machine_or_of_the_container(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 2000 kB\nMemAvailable: 1000 kB\n")
    group = tmp_path / "group"
    assert available_memory(tmp_path / "meminfo", group) == 1000 * 1024
    group.mkdir()
    (group / "memory.max").write_text("max\n")
    (group / "memory.current").write_text("5\n")
    assert available_memory(tmp_path / "meminfo", group) == 1000 * 1024
    (group / "memory.max").write_text("900000\n")
    (group / "memory.current").write_text("300000\n")
    assert available_memory(tmp_path / "meminfo", group) == 600_000
    assert available_memory(tmp_path / "absent", group) is None
