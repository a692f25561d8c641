"""The capabilities of this machine: its cores, memory, instruction sets and packages."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

INSTRUCTION_SETS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
BFLOAT16_SETS = ("avx512_bf16", "amx_bf16")
"""Instruction sets that compute in bfloat16."""
INT8_SETS = ("avx_vnni", "avx512_vnni", "amx_int8")
"""Instruction sets that sum products of 8-bit numbers without overflow."""
LIMIT_VARIABLE = "ONEDNN_MAX_CPU_ISA"
"""Environment variable by which OpenVINO and torch do not use all that the processor has."""
LIMITED_SETS = {
    "SSE41": (),
    "AVX": (),
    "AVX2": ("avx2",),
    "AVX2_VNNI": ("avx2", "avx_vnni"),
    "AVX2_VNNI_2": ("avx2", "avx_vnni"),
    "AVX512_CORE": ("avx2", "avx512f"),
    "AVX512_CORE_VNNI": ("avx2", "avx512f", "avx512_vnni"),
    "AVX512_CORE_BF16": ("avx2", "avx512f", "avx512_vnni", "avx512_bf16"),
    "AVX512_CORE_FP16": ("avx2", "avx512f", "avx512_vnni", "avx512_bf16"),
}
"""The instruction sets that are left by the values of this variable; others limit nothing."""
DISABLE_VARIABLE = "TOPWORK_DISABLE"
"""Environment variable: names of providers and precisions, joined by commas, that are not used on this machine."""
_max_cores: int | None = None

CPUINFO_FILE = Path("/proc/cpuinfo")
"""Linux's description of the processor."""
PROCESS_STATUS_FILE = Path("/proc/self/status")
"""Linux's description of this process."""
MEMORY_FILE = Path("/proc/meminfo")
"""Linux's description of the memory."""
CONTROL_GROUP = Path("/sys/fs/cgroup")
"""Where Linux shows the limits of a container from within."""


def limit_cores(count: int) -> None:
    """Let this process use at most so many cores, as it shares the machine with others of its kind."""
    global _max_cores
    _max_cores = count


def available_cores() -> int:
    """Return the number of cores this process may use."""
    if _max_cores is not None:
        return min(_max_cores, count_cores())
    return count_cores()


def count_cores() -> int:
    """Return the number of cores that the system gives this process."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor() -> str:
    """Return the processor's name, and the limit of its instruction sets, as what is measured depends on both."""
    name = _cpuinfo("model name") or platform.processor() or platform.machine()
    limit = find_limit()
    return f"{name}, limited to {limit}" if limit else name


def find_limit() -> str:
    """Return the value of :data:`LIMIT_VARIABLE` that leaves some instruction sets only, "" if there is none."""
    limit = os.environ.get(LIMIT_VARIABLE, "").upper()
    return limit if limit in LIMITED_SETS else ""


def may_be_intel() -> bool:
    """Return whether the processor is Intel's, or the system does not say whose it is."""
    vendor = _cpuinfo("vendor_id") or platform.processor()
    return "AMD" not in vendor and "Hygon" not in vendor and "Zhaoxin" not in vendor


def installed(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of those packages that are installed, without importing them."""
    found = {}
    for package in packages:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def instruction_sets() -> tuple[str, ...]:
    """Return which of :data:`INSTRUCTION_SETS` may be used; none where the system does not report them (macOS)."""
    flags = _cpuinfo("flags").split()
    allowed = LIMITED_SETS.get(find_limit(), INSTRUCTION_SETS)
    return tuple(name for name in INSTRUCTION_SETS if name in flags and name in allowed)


def disabled_names() -> frozenset[str]:
    """Return the providers and precisions that :data:`DISABLE_VARIABLE` switches off."""
    names = os.environ.get(DISABLE_VARIABLE, "").split(",")
    return frozenset(name.strip() for name in names if name.strip())


def has_bfloat16() -> bool:
    """Return whether the processor computes in bfloat16, and may."""
    return has_instructions(BFLOAT16_SETS, precision="bf16")


def has_int8() -> bool:
    """Return whether the processor sums products of 8-bit numbers, and may."""
    return has_instructions(INT8_SETS, precision="int8")


def has_instructions(wanted: Iterable[str], *, precision: str) -> bool:
    """Return whether the processor has one of some instruction sets, and their precision is not disabled."""
    return precision not in disabled_names() and not set(wanted).isdisjoint(instruction_sets())


def used_memory(status_file: Path = PROCESS_STATUS_FILE) -> int | None:
    """Return the bytes of memory that this process has of its own; None where the system does not report it (Windows).

    On Linux these are the anonymous pages at this moment: mapped files, which can be dropped at any time, do not count.
    Elsewhere it is the largest resident set so far, mapped files included. The status file is Linux's description of
    this process.
    """
    anonymous = _read_field(status_file, "RssAnon")  # "123456 kB"
    if anonymous:
        return int(anonymous.split()[0]) * 1024
    try:
        import resource
    except ImportError:
        return None
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024


def available_memory(memory_file: Path = MEMORY_FILE, control_group: Path = CONTROL_GROUP) -> int | None:
    """Return the bytes that processes can still take without swapping, or in a container its limit leaves.

    None where the system does not say it (macOS, Windows).
    """
    available = _read_field(memory_file, "MemAvailable")  # "123456 kB"
    if not available:
        return None
    free = int(available.split()[0]) * 1024
    with contextlib.suppress(OSError, ValueError):  # "max" where there is no limit
        limit = int((control_group / "memory.max").read_text())
        used = int((control_group / "memory.current").read_text())
        free = min(free, max(0, limit - used))
    return free


@cache
def _cpuinfo(name: str) -> str:
    return _read_field(CPUINFO_FILE, name)


def _read_field(path: Path, name: str) -> str:
    """Return the first value that a file of lines ``name: value`` has for a name, "" without one."""
    if not path.exists():
        return ""
    for line in path.read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""
