"""Features, certificates, heads and sweeps beside PyTorch: the run of ``benchmarks/gpu.py`` in small, on the CPU."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def run_gpu_benchmark(work: Path, *options: str) -> str:
    """Return the page that a run on the processor writes."""
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--device", "cpu", "--size", "small", "--repeats", "1"]
    command += ["--data", str(work / "none"), "--work", str(work), "--page", str(work / "page.md"), *options]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return (work / "page.md").read_text("utf-8")


def read_rows(page: str, beginning: str) -> list[list[str]]:
    """Return the cells of the rows of tables that begin with a text."""
    lines = [line for line in page.splitlines() if line.startswith(f"| {beginning} |")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_part_is_measured(tmp_path: Path) -> None:
    page = run_gpu_benchmark(tmp_path)
    assert "did not run" not in page
    assert "Not measured" not in page
    torch_row, job_row, certificate_row = read_rows(page, "tiny")
    assert torch_row[1] == "torch"
    assert job_row[1] == "topwork, cpu"
    assert 0 < float(job_row[7]) < 1.5  # the share of the possible
    assert float(job_row[10]) < 1e-4  # the same features as PyTorch
    assert float(certificate_row[3]) <= float(certificate_row[4])
    assert certificate_row[5].startswith("refused")
    ((_, perceptron, finetuning),) = read_rows(page, "cpu")
    assert min(float(perceptron), float(finetuning)) > 0
    (ours,) = read_rows(page, "topwork")
    (theirs,) = read_rows(page, "torch")
    assert abs(float(ours[6]) - float(theirs[6])) < 0.02  # the loss held out


def test_parts_without_time_say_so(tmp_path: Path) -> None:
    page = run_gpu_benchmark(tmp_path, "--seconds", "0")
    assert page.count("no time was left") == 6
