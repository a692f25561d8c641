"""``docs/benchmarks.md``: a part for each machine, with a section for each subject or model.

Every benchmark replaces its own section for the machine that it runs on and keeps the others, so that the page can be
assembled from several runs.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from topwork.hardware import available_cores, installed, instruction_sets, processor

PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"
SUBJECTS = (
    *(
        "Images",
        "Images of any size",
        "Texts",
        "Sounds: five voices",
        "Sounds: speed",
        "Sounds: a long recording",
        "Heads",
        "Advice",
        "Unfamiliar items",
        "Audits",
        "Fidelity",
        "What auto chooses",
        "Fine-tuning: time of an epoch",
        "Fine-tuning: losses",
        "Fine-tuning: disk",
        "Fine-tuning: reading maps",
    ),
    *("GPU: networks", "GPU: certificate", "GPU: heads", "GPU: sweep"),
    *("Scale: ray", "Scale: commits", "Scale: store"),
    *("Memory", "Large networks", "Jobs", "Store", "Start-up"),
)
PACKAGES = ("numpy", "onnxruntime", "openvino", "onnxruntime-ep-openvino", "pillow", "tokenizers", "torch")

INTRODUCTION = """# Benchmarks

Written by `make bench`; each section by the script of `benchmarks/` that it names, for the machine above it. The
contenders of a table ran by turns, each time in a new process (under Fidelity in one), and a figure is the median.
Machines are shared and noisy: read the ratios, not the seconds. Networks with random weights measure arithmetic only;
what a precision does to the features of trained networks, and to what they are used for, stands under Fidelity.
"""


def write_section(subject: str, body: str, page: Path = PAGE, packages: Iterable[str] = ()) -> None:
    """Put a section into the page, in place of what this machine found of its subject before, and print it."""
    body = f"{body.strip()}\n\n{versions(packages)}"
    print(f"\n### {subject}\n\n{body}\n", flush=True)
    parts = sections(page.read_text(encoding="utf-8")) if page.is_file() else {}
    parts.setdefault(machine(), {})[subject] = body
    page.write_text("\n".join([INTRODUCTION, *(_part(name, found) for name, found in parts.items())]), "utf-8")


def sections(text: str) -> dict[str, dict[str, str]]:
    """Return the sections of a page: by machine, by subject; a heading without sections below it is left out."""
    found: dict[str, dict[str, str]] = {}
    for name, part in _split(text, "## "):
        for subject, body in _split(part, "### "):
            found.setdefault(name, {})[subject] = body.strip()
    return found


def _split(text: str, mark: str) -> Iterable[tuple[str, str]]:
    pieces = re.split(f"^{mark}(.*)$", text, flags=re.MULTILINE)[1:]
    return zip(pieces[::2], pieces[1::2], strict=True)


def _part(name: str, found: dict[str, str]) -> str:
    rank = {subject: place for place, subject in enumerate(SUBJECTS)}
    ordered = sorted(found, key=lambda subject: rank.get(subject.partition(",")[0], len(rank)))
    return "\n".join([f"## {name}\n", *(f"### {subject}\n\n{found[subject]}\n" for subject in ordered)])


def machine() -> str:
    """Name the processor, its cores and the instruction sets that matter."""
    return f"{processor()}, {available_cores()} cores ({', '.join(instruction_sets()) or 'instruction sets unknown'})"


def versions(packages: Iterable[str] = ()) -> str:
    """Name the versions of Python and of the packages that took part, those that are installed."""
    found = installed((*PACKAGES, *packages))
    return ", ".join([f"Python {platform.python_version()}", *(f"{name} {found[name]}" for name in found)]) + "."


def table(columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """Return a table in Markdown; a row may lack its last cells."""
    names = list(columns)
    padded = ([*cells, *[""] * len(names)][: len(names)] for cells in map(list, rows))
    return "\n".join(map(_row, [names, ["---"] * len(names), *padded]))


def _row(cells: Iterable[Any]) -> str:
    return f"| {' | '.join(map(str, cells))} |"
