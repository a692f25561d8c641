"""How long ``topwork --help`` takes, as a ratio to an interpreter that does nothing, runs interleaved."""

from __future__ import annotations

import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

RUNS = 15
PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"


def seconds(arguments: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    cases = {
        "topwork --help": ["-m", "topwork", "--help"],
        "import topwork": ["-c", "import topwork"],
        "peer": ["-c", ""],
    }
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(RUNS):
        for name, arguments in cases.items():
            times[name].append(seconds(arguments))
    medians = {name: statistics.median(values) for name, values in times.items()}
    rows = [f"| `{name}` | {m:.2f} s | {m / medians['peer']:.1f} |" for name, m in medians.items() if name != "peer"]
    text = TEMPLATE.format(machine=machine(), runs=RUNS, peer=medians["peer"], rows="\n".join(rows))
    PAGE.write_text(text, encoding="utf-8")
    print(text)


def machine() -> str:
    """Name the processor, its cores, and whether it has AMX."""
    facts = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    flags = facts.partition("flags")[2].partition("\n")[0].split()
    model = facts.partition("model name")[2].partition("\n")[0].strip("\t :") or platform.processor()
    with_amx = "with AMX" if "amx_bf16" in flags else "without AMX"
    with_bf16 = ", with AVX-512 bfloat16" if "avx512_bf16" in flags else ""
    return f"{model}, {facts.count('processor')} cores, {with_amx}{with_bf16}; Python {platform.python_version()}"


TEMPLATE = """# Benchmarks

Written by `make bench`. Machines are shared and noisy: read the ratios, not the seconds.

{machine}.

## Start-up

Medians of {runs} interleaved runs; the peer is an interpreter that does nothing ({peer:.3f} s).

| command | seconds | ratio to the peer |
|---|---|---|
{rows}
"""


if __name__ == "__main__":
    main()
