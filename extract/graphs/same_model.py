"""Whether two graphs were exported from the same model: their computations, as they were traced, are compared.

Another version of torch, timm or transformers may trace the same model differently. Then the canaries decide, and what
they accept is remembered for this user.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import IdentityError
from ...identity import COMPUTATION, digest
from ...user_cache import recall, remember, user_cache_folder
from .canaries import find_largest_error
from .measurement import MAX_ERROR_FP32

if TYPE_CHECKING:
    from pathlib import Path

    from .canaries import Canaries
    from .exported_graph import ExportedGraph


def require_same_computation(found: ExportedGraph, expected: ExportedGraph, what: str) -> None:
    """Raise an IdentityError if two graphs, whose identities agree otherwise, are of models that compute differently.

    Parameters
    ----------
    found, expected : ExportedGraph
        Without a traced computation in the second, which an earlier version exported, only canaries are compared.
    what : str
        Begins the message.
    """
    own = expected.metadata.identity.get(COMPUTATION, "")
    other = found.metadata.identity.get(COMPUTATION, "")
    if own == other or is_accepted(found, expected):
        return
    is_comparable = bool(own and other) and found.metadata.versions == expected.metadata.versions
    if is_comparable:
        raise IdentityError(
            f"{what}: it has the same name and weights, but another computation ({other[:12]}, expected {own[:12]}): "
            "an operation, an activation or a setting differs. Features of different models cannot be mixed: use "
            "another store, or the same model."
        )
    if found.canaries is None or expected.canaries is None or not expected.canaries.has_reference:
        return  # nothing to compare with: adopt_canaries compares what was computed before
    error = compare_canaries(found.canaries, expected.canaries)
    if not error <= MAX_ERROR_FP32:
        raise IdentityError(
            f"{what}: it has the same name and weights, but its features of synthetic items differ by {error:.2g} "
            f"(relative L2); expected at most {MAX_ERROR_FP32:.0e}. Features of different models cannot be mixed: use "
            "another store, or the same model."
        )
    remember_accepted(found, expected)


def compare_canaries(found: Canaries, expected: Canaries) -> float:
    """Return the largest relative L2 error of a column that both have, infinity if their items differ."""
    items = zip(found.items, expected.items, strict=False)
    if not all(np.array_equal(one, other) for one, other in items):
        return float("inf")
    common = [name for name in expected.reference if name in found.reference]
    errors = [find_largest_error(found.reference[name], expected.reference[name]) for name in common]
    return max(errors, default=0.0)


def is_accepted(found: ExportedGraph, expected: ExportedGraph) -> bool:
    """Return whether canaries accepted a computation for a graph before."""
    return describe_computation(found) in recall_accepted(expected)


def remember_accepted(found: ExportedGraph, expected: ExportedGraph) -> None:
    """Remember that canaries accepted a computation for a graph."""
    accepted = [*recall_accepted(expected), describe_computation(found)]
    path = locate_accepted(expected)
    remember(path, {"graph": path.stem, "accepted": accepted})


def recall_accepted(expected: ExportedGraph) -> list[Any]:
    """Return the computations that were accepted for a graph; none if that is damaged, or of another graph."""
    path = locate_accepted(expected)
    remembered = recall(path)
    if not isinstance(remembered, dict) or remembered.get("graph") != path.stem:
        return []
    accepted = remembered.get("accepted")
    return accepted if isinstance(accepted, list) else []


def describe_computation(graph: ExportedGraph) -> dict[str, Any]:
    """Return the digest of a graph's computation, and the versions that traced it."""
    return {COMPUTATION: graph.metadata.identity.get(COMPUTATION, ""), "versions": graph.metadata.versions}


def locate_accepted(graph: ExportedGraph) -> Path:
    """Return the path of what was accepted for a graph."""
    return user_cache_folder() / "computations" / f"{digest(graph.metadata.to_text())[:32]}.json"
