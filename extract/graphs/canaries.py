"""Canaries: synthetic items with the features that the model itself computes of them.

They travel with a graph, and are recomputed wherever it is opened: another provider, runtime or processor may compute
something else from the same graph. The items are random with a fixed seed, so that none of the user's data travels.

Canaries of earlier versions hold what a session computed, instead of the model: they show that features drift, but not
that they are right.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atomic import write_file
from ...errors import StoreDamagedError, reason
from ...hardware import processor
from ..preprocess.by_kind import preprocessor_for
from ..runtime.providers import find_runtime_versions
from .fidelity import relative_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...models.input_spec import InputSpec
    from ..preprocess.preprocessor import Feed
    from ..runtime.session import Session
    from .cut import Cut

    Vectors = Mapping[str, NDArray[Any]]

ITEM_SEED = 0
CANARY_COUNT = 8
ITEM_PREFIX = "item:"
REFERENCE_PREFIX = "reference:"
COLUMN_PREFIX = "column:"
"""Before the columns of earlier versions, which a session computed."""
ORIGIN_KEY = "origin"


@dataclass(frozen=True)
class Canaries:
    """The canaries in a ``.npz`` file beside a graph."""

    path: Path

    @cached_property
    def _arrays(self) -> dict[str, NDArray[Any]]:
        try:
            with np.load(self.path, allow_pickle=False) as archive:
                return dict(archive)
        except Exception as error:  # damaged archives and arrays end in errors of many kinds
            raise StoreDamagedError(
                f"the canaries {self.path} cannot be read: {reason(error)}. Restore them from a copy; of a store, run "
                "`topwork store repair`."
            ) from error

    @property
    def items(self) -> list[Any]:
        """The synthetic items, in the form in which users give them."""
        arrays = self._arrays
        names = [name for name in arrays if name.startswith(ITEM_PREFIX)]
        return [_read_item(arrays[f"{ITEM_PREFIX}{number}"]) for number in range(len(names))]

    @property
    def reference(self) -> dict[str, NDArray[np.float32]]:
        """What the model computes of the items, ``(n_items, n_features)`` by column; empty in earlier versions."""
        return self._select(REFERENCE_PREFIX)

    @property
    def has_reference(self) -> bool:
        """Whether the features of the model itself are known."""
        return bool(self.reference)

    @property
    def former(self) -> dict[str, NDArray[np.float32]]:
        """What a session computed of the items, by column, in earlier versions."""
        return self._select(COLUMN_PREFIX)

    @property
    def origin(self) -> dict[str, Any]:
        """What computed :attr:`former`: provider, processor and versions."""
        origin: dict[str, Any] = json.loads(str(self._arrays.get(ORIGIN_KEY, "{}")))
        return origin

    def _select(self, prefix: str) -> dict[str, NDArray[np.float32]]:
        return {name.removeprefix(prefix): array for name, array in self._arrays.items() if name.startswith(prefix)}

    def select(self, names: Sequence[str], path: Path) -> Canaries:
        """Write the canaries of some of the columns into another file."""
        former = {name: array for name, array in self.former.items() if name in names}
        reference = {name: array for name, array in self.reference.items() if name in names}
        return write_canaries(path, self.items, reference=reference, former=former, origin=self.origin)


def write_canaries(
    path: Path,
    items: Sequence[Any],
    *,
    reference: Vectors,
    former: Vectors | None = None,
    origin: dict[str, Any] | None = None,
) -> Canaries:
    """Write items and their features by column."""
    arrays: dict[str, Any] = {f"{ITEM_PREFIX}{number}": np.asarray(item) for number, item in enumerate(items)}
    for name, matrix in reference.items():
        arrays[f"{REFERENCE_PREFIX}{name}"] = matrix
    for name, matrix in (former or {}).items():
        arrays[f"{COLUMN_PREFIX}{name}"] = matrix
    if origin:
        arrays[ORIGIN_KEY] = np.array(json.dumps(origin))
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    write_file(path, stream.getvalue())
    return Canaries(path)


def compute_reference_canaries(cut: Cut) -> tuple[list[Any], dict[str, NDArray[np.float32]]]:
    """Return synthetic items, and the features that the untouched model computes of each, alone in its batch.

    The features are float32 ``(n_items, n_features)`` by column.
    """
    preprocessor = preprocessor_for(cut.backbone.input_spec)
    items = preprocessor.synthetic(CANARY_COUNT, np.random.default_rng(ITEM_SEED))
    rows = []
    for item in items:
        feed = preprocessor.collate([preprocessor.prepare(item).array])
        rows.append(cut.cutter.reference(cut, feed))
    columns = zip(cut.names, zip(*rows, strict=True), strict=True)
    return items, {name: np.concatenate(vectors) for name, vectors in columns}


def compute_session_canaries(
    session: Session, input_spec: InputSpec, names: Sequence[str]
) -> tuple[list[Any], dict[str, NDArray[np.float32]]]:
    """Return synthetic items and what a session computes of them by column, where the model is not at hand."""
    items = preprocessor_for(input_spec).synthetic(CANARY_COUNT, np.random.default_rng(ITEM_SEED))
    return items, dict(zip(names, compute_each(session, items, input_spec), strict=True))


def compute_each(session: Session, items: Sequence[Any], spec: InputSpec) -> list[NDArray[np.float32]]:
    """Return a session's features of items, each alone in its batch: ``(n_items, n_features)`` for each output."""
    preprocessor = preprocessor_for(spec)
    rows = [session.run(preprocessor.collate([preprocessor.prepare(item).array])) for item in items]
    return [np.concatenate(vectors) for vectors in zip(*rows, strict=True)]


def describe_session(session: Session) -> dict[str, Any]:
    """Return provider, processor and versions."""
    return {"provider": session.provider, "processor": processor(), **find_runtime_versions()}


def prepare_feeds(
    items: Sequence[Any], spec: InputSpec, batch_sizes: Sequence[int]
) -> Iterator[tuple[Feed, NDArray[np.intp]]]:
    """Yield a batch of each size of the items, which are repeated where there are fewer, and their positions.

    Each item is prepared once. Where batches are not padded, those of several lengths take turns.
    """
    preprocessor = preprocessor_for(spec)
    prepared = [preprocessor.prepare(item) for item in items]
    groups: list[list[int]] = []
    for position, item in enumerate(prepared):
        group = next((group for group in groups if prepared[group[0]].fits_with(item)), None)
        if group is None:
            groups.append([position])
        else:
            group.append(position)
    for number, size in enumerate(batch_sizes):
        positions = np.resize(groups[number % len(groups)], size)
        yield preprocessor.collate([prepared[position].array for position in positions]), positions


def measure_errors(
    found: Sequence[NDArray[Any]], names: Sequence[str], expected: Vectors, positions: NDArray[np.intp]
) -> dict[str, float]:
    """Return for each expected column the largest relative L2 error of an item of a batch.

    Parameters
    ----------
    found : sequence of ndarray, shape (n_items, n_features)
        What a session computed of a batch of :func:`prepare_feeds`, in the order of `names`.
    names : sequence of str
    expected : mapping of str to ndarray
        Features of the items by column.
    positions : ndarray of int, shape (n_items,)
        Rows of `expected` that the batch was made of.
    """
    errors = {}
    for name, matrix in zip(names, found, strict=True):
        if name in expected:
            errors[name] = find_largest_error(matrix, expected[name][positions])
    return errors


def find_largest_error(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """Return the largest relative L2 error of a row, infinity where shapes differ or a value is not finite."""
    if found.shape != expected.shape:
        return float("inf")
    return max(relative_error(row, other) for row, other in zip(found, expected, strict=True))


def _read_item(array: NDArray[Any]) -> Any:
    is_text = array.dtype.kind == "U"
    return str(array) if is_text else array
