"""The section about upper parts in ``docs/coverage.md``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from page import table
from upper_parts_models import NETWORKS

RESULTS = Path(__file__).resolve().parent / "coverage_results" / "upper_parts.jsonl"
GOAL = 1e-4
MODES = ("evaluation", "training")
KINDS = ("dropout", "stochastic depth")
COLUMNS = (
    *("network", "cuts", "values"),
    *("gradients, evaluation", "gradients, training", "gradients, own values", "acts in training"),
)


def recorded() -> dict[str, dict[str, Any]]:
    """Return what was found of each network; of one that was measured again, the last."""
    lines = RESULTS.read_text(encoding="utf-8").splitlines() if RESULTS.is_file() else []
    found = {result["name"]: result for result in map(json.loads, lines)}
    return {name: found[name] for name in NETWORKS if name in found}


def section(results: dict[str, dict[str, Any]]) -> Iterable[str]:
    """Yield the lines of the section."""
    measured = {name: result for name, result in results.items() if result["outcome"] == "ok"}
    yield from totals(measured)
    yield ""
    yield table(COLUMNS, (row(name, result) for name, result in measured.items()))
    failed = [name for name in results if name not in measured]
    if failed:
        yield from ("", "Failed:", "")
        yield from (f"- `{name}` {results[name]['outcome']}: {results[name]['reason']}" for name in failed)
    left = [f"`{name}`" for name in NETWORKS if name not in results]
    if left:
        yield from ("", f"Not measured yet: {', '.join(left)}.")


def totals(measured: dict[str, Any]) -> Iterable[str]:
    """Yield how many networks reach the goal, and in how many something acts in training."""
    cuts = {name: result["cuts"] for name, result in measured.items()}
    every_cut = [cut for found in cuts.values() for cut in found]
    yield f"- {len(measured)} of {len(NETWORKS)} networks were measured, at {len(every_cut)} cuts."
    yield f"- Values agree to {GOAL:.0e} in {share([cut['error'] for cut in found] for found in cuts.values())}."
    for mode in MODES:
        errors = [gradient_errors(found, mode, "error") for found in cuts.values()]
        yield f"- From exported maps, gradients in {mode} mode agree to {GOAL:.0e} in {share(errors)}."
    same = [error for mode in MODES for error in gradient_errors(every_cut, mode, "own")]
    yield f"- From the network's own values at the cut, gradients differ by at most {max(same, default=0):.1e}."
    n_zero = sum(cut["training"]["zero"] for cut in every_cut)
    n_gradients = sum(cut["training"]["parameters"] for cut in every_cut)
    yield f"- {n_zero} of {n_gradients} gradients are zero but for rounding."
    for kind in KINDS:
        random = [name for name, result in measured.items() if kind in result["random"]]
        acting = [name for name in random if all(kind in cut["acts"] for cut in cuts[name])]
        yield f"- {kind.capitalize()} acts above every cut of {len(acting)} of the {len(random)} networks that have it."


def share(errors: Iterable[list[float]]) -> str:
    """Say how many networks reach the goal, of those that have something to compare."""
    known = [found for found in errors if found]
    return f"{sum(max(found) <= GOAL for found in known)} of {len(known)} networks"


def gradient_errors(cuts: list[dict[str, Any]], mode: str, name: str) -> list[float]:
    """Return the error of the worst gradient at each cut that has parameters to train above it."""
    return [cut[mode][name] for cut in cuts if name in cut[mode]]


def row(name: str, result: dict[str, Any]) -> list[str]:
    """Return the cells of a network."""
    cuts = result["cuts"]
    places = ", ".join(f"{cut['layer']} ({cut['flops']:.0%})" for cut in cuts)
    values = largest([cut["error"] for cut in cuts])
    gradients = [largest(gradient_errors(cuts, mode, "error")) for mode in MODES]
    same = [error for mode in MODES for error in gradient_errors(cuts, mode, "own")]
    acting = ", ".join(acts(kind, cuts) for kind in result["random"])
    return [name, places, values, *gradients, largest(same), acting]


def largest(errors: list[float]) -> str:
    """Return the largest of some errors for a cell, "none" if there are none."""
    return f"{max(errors):.1e}" if errors else "none"


def acts(kind: str, cuts: list[dict[str, Any]]) -> str:
    """Say that a kind of randomness acts, and at how many cuts if not at all of them."""
    count = sum(kind in cut["acts"] for cut in cuts)
    if count == len(cuts):
        return kind
    return f"{kind} at {count} of {len(cuts)} cuts"
