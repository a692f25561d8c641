"""Whether lower and upper part are the whole network, for many architectures: values, gradients, and what acts.

``python benchmarks/upper_parts.py`` cuts each network of ``upper_parts_models`` at three layers, compares lower plus
upper part with the network itself, and writes a section of ``docs/coverage.md``. Two networks are measured at a time,
each in its own process with a time limit. The results are kept in the folder ``coverage_results``, so that an
interrupted run can be resumed; remove ``upper_parts.jsonl`` there to start again.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from coverage import write_page
from upper_parts_models import NETWORKS
from upper_parts_page import RESULTS, recorded, section

CASE = Path(__file__).with_name("upper_parts_case.py")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="measure only networks whose source:name contains this")
    parser.add_argument("--limit", type=float, default=600, help="seconds for one network")
    parser.add_argument("--processes", type=int, default=2, help="networks measured at a time, on one core each")
    parser.add_argument("--retry", action="store_true", help="measure again what failed")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the running cases are killed too
    RESULTS.parent.mkdir(exist_ok=True)
    if options.retry:
        forget_failures()
    before = recorded()
    waiting = [name for name in NETWORKS if options.only in name and name not in before]
    measure_all(waiting, options.processes, options.limit)
    print("\n".join(section(recorded())))
    write_page()


def forget_failures() -> None:
    """Keep the results of what could be measured."""
    kept = [json.dumps(result) + "\n" for result in recorded().values() if result["outcome"] == "ok"]
    RESULTS.write_text("".join(kept), encoding="utf-8")


def measure_all(waiting: list[str], n_processes: int, limit: float) -> None:
    """Run every case in its own process, some at a time; those that are left are killed at an interruption."""
    running: dict[str, tuple[subprocess.Popen[bytes], float]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < n_processes:
                name = waiting.pop(0)
                running[name] = (start(name), time.monotonic())
            for name, (process, started) in list(running.items()):
                is_late = time.monotonic() - started > limit
                if process.poll() is None and not is_late:
                    continue
                kill(process)
                del running[name]
                report(name, f"took more than {limit:.0f} s" if is_late else f"exit code {process.returncode}")
            time.sleep(0.2)
    finally:
        for process, _ in running.values():
            kill(process)


def start(name: str) -> subprocess.Popen[bytes]:
    """Start a case in a process group of its own, on one core."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    command = [sys.executable, str(CASE), name, str(RESULTS)]
    return subprocess.Popen(command, start_new_session=True, env=environment, **quiet)


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a process with all that it started, if it runs."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def report(name: str, end: str) -> None:
    """Print what was found; of a case that ended without a result, record how."""
    if name not in recorded():
        with RESULTS.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps({"name": name, "outcome": "stopped", "reason": end}) + "\n")
    found = recorded()[name]
    print(f"{name}: {found['outcome']}, {found.get('seconds', '')} s {found.get('reason', '')}", flush=True)


if __name__ == "__main__":
    main()
