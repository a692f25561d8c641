"""Which models can be exported and run: ``topwork`` compared with ``torch.onnx.export``, for many architectures.

``python benchmarks/coverage.py`` measures the smallest model of every timm module and torchvision family and a small
one of many transformers architectures, on the provider that "auto" takes and on "cpu", and writes
``docs/coverage.md``. Each model runs in its own process with a time limit, those first whose plain export took the
fewest seconds. The results are kept in the folder ``coverage_results``, so that an interrupted run can be resumed;
remove them to start again.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from coverage_architectures import ARCHITECTURES
from coverage_models import TIMM, TORCHVISION
from coverage_page import page

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "coverage.md"
WORK = HERE / "coverage_results"
RESULTS = "results.jsonl"
WAYS = ("topwork", "plain")
SOURCES = ("timm", "torchvision", "hf")


def main() -> None:
    options = parsed()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the running case is killed too
    options.work.mkdir(parents=True, exist_ok=True)
    wanted = [case for case in cases(options.sources) if options.only in f"{case[0]}:{case[1]}"]
    seconds = seconds_before(recorded(options.work))
    for source, model in sorted(wanted, key=lambda case: seconds.get(case, math.inf)):
        for way in options.ways:
            before = recorded(options.work).get((source, model, way))
            if not is_measured(before, way, options.retry):
                measure(source, model, way, options)
    write_page(options.work, options.page)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=WORK, help="folder of what was found so far")
    parser.add_argument("--only", default="", help="measure only models whose source:name contains this")
    parser.add_argument("--sources", type=lambda text: text.split(","), default=list(SOURCES))
    parser.add_argument("--ways", type=lambda text: text.split(","), default=list(WAYS))
    parser.add_argument("--limit", type=float, default=600, help="seconds for one model and way")
    parser.add_argument("--retry", action="store_true", help="measure again what failed")
    parser.add_argument("--page", type=Path, default=PAGE)
    return parser.parse_args()


def write_page(work: Path = WORK, path: Path = PAGE) -> None:
    """Write what was found so far."""
    path.write_text(page(recorded(work), list(cases(SOURCES))), encoding="utf-8")
    print(f"{path} written")


def cases(sources: tuple[str, ...] | list[str]) -> Iterator[tuple[str, str]]:
    """Yield every source and model."""
    tables = {
        "timm": [name for name, _ in TIMM.values()],
        "torchvision": [name for name, _ in TORCHVISION.values()],
        "hf": list(ARCHITECTURES),
    }
    for source in sources:
        for model in tables[source]:
            yield source, model


def seconds_before(found: dict[tuple[str, str, str], dict[str, Any]]) -> dict[tuple[str, str], float]:
    """Return how long the plain export of each model took."""
    plain = {(source, model): result for (source, model, way), result in found.items() if way == "plain"}
    return {case: result["seconds"] for case, result in plain.items() if "seconds" in result}


def is_measured(before: dict[str, Any] | None, way: str, retry: bool) -> bool:
    """Return whether a result need not be measured again; exports that were never run on their providers must be."""
    if before is None:
        return False
    if before["outcome"] != "ok":
        return not retry
    if way == "plain":
        return True
    outcomes = [result["outcome"] for result in before.get("providers", {}).values()]
    return bool(outcomes) and not (retry and "refused" in outcomes)


def recorded(work: Path) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Return what was found; of a model measured again, the last."""
    path = work / RESULTS
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    found = [json.loads(line) for line in lines]
    return {(f["source"], f["model"], f["way"]): f for f in found}


def measure(source: str, model: str, way: str, options: argparse.Namespace) -> None:
    """Run one case in its own process; if that ends without a word, say so in its place."""
    results = options.work / RESULTS
    size = results.stat().st_size if results.is_file() else 0
    started = time.perf_counter()
    code = run([str(HERE / "coverage_case.py"), source, model, way, str(results)], options.limit)
    seconds = time.perf_counter() - started
    if not results.is_file() or results.stat().st_size == size:
        why = f"took more than {options.limit:.0f} s" if code is None else f"the process ended with code {code}"
        with results.open("a", encoding="utf-8") as lines:
            fields = {"source": source, "model": model, "way": way, "outcome": "stopped", "reason": why}
            lines.write(json.dumps(fields) + "\n")
    found = recorded(options.work)[source, model, way]
    print(f"{source}:{model}, {way}: {found['outcome']}, {seconds:.0f} s {found.get('reason', '')}", flush=True)


def run(arguments: list[str], limit: float) -> int | None:
    """Return the exit code of a Python script, None if it was killed after its time, with all that it started."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([sys.executable, *arguments], start_new_session=True, **quiet)
    try:
        return process.wait(timeout=limit)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


if __name__ == "__main__":
    main()
