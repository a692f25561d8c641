"""Canaries: synthetic items with their features, computed again wherever their graph is opened.

Another runtime, provider, processor or decoder may compute something else from the same graph. The items are made with
a seed, so that nothing of the user's data travels with a graph.
"""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atomic import write_file
from ...errors import DriftError
from ...hardware import processor
from ..preprocess.by_kind import preprocessor_for
from ..runtime.providers import find_runtime_versions, parse_family

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..runtime.session import Session
    from .exported_graph import ExportedGraph

SEED, COUNT = 0, 2
TOLERANCES = {"fp32": 1e-3}
LOWER_TOLERANCE = 0.05
"""Of precisions in which providers round at different places."""
ITEM, COLUMN, ORIGIN = "item:", "column:", "origin"


def write_canaries(graph: ExportedGraph, session: Session) -> None:
    """Write synthetic items and their features beside a graph.

    Parameters
    ----------
    graph : ExportedGraph
    session : Session
        The graph, loaded where features are computed.
    """
    items = preprocessor_for(graph.input_spec).synthetic(COUNT, np.random.default_rng(SEED))
    features = _features(graph, session, items)
    arrays = {f"{ITEM}{number}": np.asarray(item) for number, item in enumerate(items)}
    arrays |= {f"{COLUMN}{name}": matrix for name, matrix in features.items()}
    stream = io.BytesIO()
    np.savez(stream, **{ORIGIN: np.array(json.dumps(_origin(session)))}, **arrays)  # type: ignore[arg-type]
    write_file(graph.canaries_path, stream.getvalue())


def _origin(session: Session) -> dict[str, Any]:
    return {"provider": session.provider, "processor": processor(), **find_runtime_versions()}


def _features(graph: ExportedGraph, session: Session, items: list[Any]) -> dict[str, NDArray[Any]]:
    preprocessor = preprocessor_for(graph.input_spec)
    outputs = session.run(preprocessor.collate([preprocessor.prepare(item).array for item in items]))
    return {column.name: output for column, output in zip(graph.metadata.columns, outputs, strict=True)}


def drift(graph: ExportedGraph, session: Session, original: ExportedGraph | None = None) -> dict[str, float]:
    """Return how far the features of a graph's canaries are from what they were.

    Parameters
    ----------
    graph : ExportedGraph
    session : Session
        The graph, loaded.
    original : ExportedGraph, optional
        Whose canaries are taken, by default the graph's own.

    Returns
    -------
    dict
        For each column that the canaries know the largest relative L2 difference of an item.
    """
    with np.load((original or graph).canaries_path, allow_pickle=False) as kept:
        names = [name.removeprefix(COLUMN) for name in kept.files if name.startswith(COLUMN)]
        items = [_item(kept[f"{ITEM}{number}"]) for number in range(COUNT)]
        before = {name: kept[f"{COLUMN}{name}"] for name in names}
    after = _features(graph, session, items)
    return {name: _difference(after[name], matrix) for name, matrix in before.items() if name in after}


def check_canaries(graph: ExportedGraph, session: Session) -> None:
    """Raise an error if a graph computes something else than it did.

    Raises
    ------
    DriftError
    """
    bound = tolerance(graph)
    for name, found in drift(graph, session).items():
        if not found <= bound:
            with np.load(graph.canaries_path, allow_pickle=False) as kept:
                before = json.loads(str(kept[ORIGIN]))
            raise DriftError(
                f"{graph.path} computes something else than it did: its synthetic items differ by {found:.2g} "
                f"(relative L2) in column {name!r}; expected at most {bound:.0e}. It ran with {_told(before)}, and now "
                f"runs with {_told(_origin(session))}. Use what it ran with, or compute the features anew in another "
                "store."
            )


def tolerance(graph: ExportedGraph) -> float:
    """Return the largest relative L2 difference that is no drift, in the precision of a graph."""
    return TOLERANCES.get(parse_family(graph.metadata.precision), LOWER_TOLERANCE)


def _told(origin: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in origin.items())


def _item(array: NDArray[Any]) -> Any:
    return str(array) if array.dtype.kind == "U" else array


def _difference(found: NDArray[Any], expected: NDArray[Any]) -> float:
    ours, theirs = found.astype(np.float64), expected.astype(np.float64)
    if ours.shape != theirs.shape or not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        return float("inf")
    lengths = np.maximum(np.linalg.norm(theirs, axis=1), 1e-12)
    return float((np.linalg.norm(ours - theirs, axis=1) / lengths).max())
