"""What this machine is able to do: its cores, its memory, the instruction sets of its processor."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

INSTRUCTION_SETS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
BFLOAT16 = ("avx512_bf16", "amx_bf16")
"""Instruction sets that compute in bfloat16."""


def available_cores() -> int:
    """Return the number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor() -> str:
    """Return the processor's name."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def instruction_sets() -> tuple[str, ...]:
    """Return which of :data:`INSTRUCTION_SETS` the processor has; none where the system does not tell (as on macOS)."""
    flags = _cpuinfo("flags").split()
    return tuple(name for name in INSTRUCTION_SETS if name in flags)


def has_bfloat16() -> bool:
    """Tell whether the processor computes in bfloat16."""
    return any(name in BFLOAT16 for name in instruction_sets())


@cache
def _cpuinfo(field: str) -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == field), "")
