"""Canaries: synthetic items with their features, recomputed wherever their graph is opened.

Another runtime, provider, processor or decoder may compute something else from the same graph. The items are random
with a fixed seed, so that none of the user's data travels with a graph.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atomic import write_file
from ...errors import DriftError
from ...hardware import processor
from ...models.input_spec import InputSpec
from ..preprocess.by_kind import preprocessor_for
from ..runtime.providers import find_runtime_versions, parse_family
from .fidelity import relative_error
from .graph_metadata import GraphMetadata

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..runtime.session import Session

ITEM_SEED = 0
CANARY_COUNT = 2
MAX_DRIFT_FP32 = 1e-3
"""Largest relative L2 difference of a canary's features from those before, in float32."""
MAX_DRIFT_LOWER = 0.05
"""The same in lower precisions, in which providers round at different places."""
ITEM_PREFIX = "item:"
COLUMN_PREFIX = "column:"
ORIGIN_KEY = "origin"


@dataclass(frozen=True)
class Canaries:
    """The canaries of a graph: a ``.npz`` file beside it."""

    path: Path
    input_spec: InputSpec
    metadata: GraphMetadata

    @property
    def max_drift(self) -> float:
        """Largest relative L2 difference that is accepted in the graph's precision."""
        return MAX_DRIFT_FP32 if parse_family(self.metadata.precision) == "fp32" else MAX_DRIFT_LOWER

    def write(self, session: Session) -> None:
        """Write synthetic items and their features, computed by the graph that is loaded."""
        generator = np.random.default_rng(ITEM_SEED)
        items = preprocessor_for(self.input_spec).synthetic(CANARY_COUNT, generator)
        features = self._compute_features(session, items)
        arrays: dict[str, Any] = {ORIGIN_KEY: np.array(json.dumps(_describe_origin(session)))}
        for number, item in enumerate(items):
            arrays[f"{ITEM_PREFIX}{number}"] = np.asarray(item)
        for name, matrix in features.items():
            arrays[f"{COLUMN_PREFIX}{name}"] = matrix
        stream = io.BytesIO()
        np.savez(stream, **arrays)
        write_file(self.path, stream.getvalue())

    def measure_drift(self, session: Session, of: Canaries | None = None) -> dict[str, float]:
        """Return the largest relative L2 difference of a synthetic item's features, for each column.

        They are compared with those that were written, of this graph or of another with some of the same columns.
        """
        origin = self if of is None else of
        with np.load(origin.path, allow_pickle=False) as archive:
            arrays = dict(archive)
        items = [read_item(arrays[f"{ITEM_PREFIX}{number}"]) for number in range(CANARY_COUNT)]
        features = self._compute_features(session, items)
        drift = {}
        for key, expected in arrays.items():
            name = key.removeprefix(COLUMN_PREFIX)
            if key.startswith(COLUMN_PREFIX) and name in features:
                drift[name] = find_largest_difference(features[name], expected)
        return drift

    def check(self, session: Session) -> None:
        """Raise a DriftError if the graph no longer computes what it did."""
        for name, difference in self.measure_drift(session).items():
            if not difference <= self.max_drift:
                raise drift_error(self, session, name, difference=difference)

    def _compute_features(self, session: Session, items: list[Any]) -> dict[str, NDArray[Any]]:
        preprocessor = preprocessor_for(self.input_spec)
        feed = preprocessor.collate([preprocessor.prepare(item).array for item in items])
        names = [column.name for column in self.metadata.columns]
        return dict(zip(names, session.run(feed), strict=True))


def drift_error(canaries: Canaries, session: Session, column: str, *, difference: float) -> DriftError:
    """Say how far a column drifted, and what its graph ran with before and now."""
    with np.load(canaries.path, allow_pickle=False) as archive:
        before = json.loads(str(archive[ORIGIN_KEY]))
    now = _describe_origin(session)
    return DriftError(
        f"the graph of {canaries.path} no longer computes the same features: its synthetic items differ by "
        f"{difference:.2g} (relative L2) in column {column!r}; expected at most {canaries.max_drift:.0e}. It ran with "
        f"{_format_origin(before)}, and now runs with {_format_origin(now)}. Use what it ran with, or compute the "
        "features in another store."
    )


def _describe_origin(session: Session) -> dict[str, Any]:
    return {"provider": session.provider, "processor": processor(), **find_runtime_versions()}


def _format_origin(origin: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in origin.items())


def read_item(array: NDArray[Any]) -> Any:
    """Return a synthetic item as it was before it was written: a text, or an array."""
    is_text = array.dtype.kind == "U"
    return str(array) if is_text else array


def find_largest_difference(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """Return the largest relative L2 difference of a row, infinity where shapes differ or a value is not finite."""
    if found.shape != expected.shape:
        return float("inf")
    return max(relative_error(row, other) for row, other in zip(found, expected, strict=True))
