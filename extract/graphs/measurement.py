"""Measurements: how far a graph on a provider, in its precision, is from the model, by its canaries."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...atomic import write_file
from ...hardware import available_memory, processor, used_memory
from ...identity import digest, digest_of_file
from ...user_cache import recall, remember, user_cache_folder
from ..runtime.providers import find_runtime_versions
from .canaries import measure_errors, prepare_feeds

if TYPE_CHECKING:
    from ...models.input_spec import InputSpec
    from ..runtime.session import Session
    from .canaries import Canaries
    from .graph_metadata import GraphMetadata

MEASURED_BATCH_SIZES = (1, 2, 5, 8, 16)
"""Sizes of the batches in which a provider is compared with the model before its features are used."""
REMEMBERED_BATCH_SIZE = 2
"""Size of the one batch that is compared where a provider was measured before."""
MAX_MEASURED_BATCH_SIZE = 64
"""Larger batches are compared in batches of this size."""
MAX_MEMORY_SHARE = 0.5
"""Share of the available memory that a larger batch may take; allocations grow in steps, not evenly."""
MAX_ERROR_FP32 = 1e-3
"""Largest relative L2 error of a canary that a provider may have in float32."""
MAX_ERROR_GROWTH_LOWER = 0.05
"""How much larger than before the error of a canary may become in a lower precision."""
MAX_ERROR_UNMEASURED_LOWER = 0.1
"""Largest relative L2 error of a canary in a lower precision, on a provider that was not measured in float32."""


@dataclass(frozen=True)
class Measurement:
    """How far a graph on a provider is from the model.

    Parameters
    ----------
    provider : str
        A name of :data:`topwork.extract.runtime.providers.PROVIDERS`.
    runtime : str
        What runs the graph there: ``"onnxruntime"``, or ``"openvino"`` without ONNX Runtime.
    precision : str
        As in the columns of the graph.
    batch_sizes : tuple of int
        In which the synthetic items were computed.
    relative_l2 : float
        Largest relative L2 error of an item; infinity where a feature is not finite.
    column : str
        The column that has it.
    limit : float
        Largest error that was allowed.
    processor : str
    versions : dict
        Versions of the packages that run graphs.
    """

    provider: str
    runtime: str
    precision: str
    batch_sizes: tuple[int, ...]
    relative_l2: float
    column: str
    limit: float
    processor: str
    versions: dict[str, str]

    @property
    def passes(self) -> bool:
        """Whether the features may be used."""
        return self.relative_l2 <= self.limit

    @property
    def is_from_here(self) -> bool:
        """Whether it was made on this processor, with the installed versions."""
        return self.processor == processor() and self.versions == find_runtime_versions()

    def __str__(self) -> str:
        """Return one line for people."""
        sizes = ", ".join(map(str, self.batch_sizes))
        return (
            f"{self.provider} in {self.precision}: relative L2 error {self.relative_l2:.2g} in column {self.column!r} "
            f"(at most {self.limit:.0e}), in batches of {sizes}"
        )

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Measurement:
        """Read the fields that :func:`dataclasses.asdict` returned."""
        parsed = {
            "batch_sizes": tuple(fields["batch_sizes"]),
            "relative_l2": float(fields["relative_l2"]),
            "limit": float(fields["limit"]),
        }
        return cls(**{**fields, **parsed})


def measure(
    session: Session,
    *,
    canaries: Canaries,
    metadata: GraphMetadata,
    input_spec: InputSpec,
    batch_sizes: Sequence[int],
    limit: float,
) -> Measurement:
    """Compute the canaries of a graph in batches of some sizes, and compare them with the model's features.

    The sizes ascend. A batch that would not fit into the memory, to judge by the smaller ones, is left out, and those
    after it.
    """
    names = [column.name for column in metadata.columns]
    worst: tuple[float, str] = (0.0, names[0])
    before = used_memory()
    measured: list[int] = []
    feeds = prepare_feeds(canaries.items, input_spec, batch_sizes)
    for size, (feed, positions) in zip(batch_sizes, feeds, strict=True):
        if measured and not fits_into_memory(size, measured[-1], before):
            break
        measured.append(size)
        errors = measure_errors(session.run(feed), names, canaries.reference, positions)
        worst = max(worst, *((error, name) for name, error in errors.items()))
    relative_l2, column = worst
    return Measurement(
        provider=session.provider,
        runtime=session.runtime_name,
        precision=metadata.precision,
        batch_sizes=tuple(measured),
        relative_l2=relative_l2,
        column=column,
        limit=limit,
        processor=processor(),
        versions=find_runtime_versions(),
    )


def fits_into_memory(size: int, measured_size: int, used_before: int | None) -> bool:
    """Return whether a batch fits into the memory, if it grows with the size as it did up to a smaller batch.

    `used_before` is what the process used before the first batch; sessions keep what a batch took.
    """
    used = used_memory()
    available = available_memory()
    if used is None or used_before is None or available is None:
        return True
    growth = max(0, used - used_before) / measured_size
    return growth * (size - measured_size) <= MAX_MEMORY_SHARE * available


def write_measurements(path: Path, measurements: Sequence[Measurement]) -> None:
    """Write measurements as JSON."""
    write_file(path, json.dumps([asdict(measurement) for measurement in measurements], indent=1).encode())


def read_measurements(path: Path) -> tuple[Measurement, ...]:
    """Read what :func:`write_measurements` wrote."""
    return tuple(Measurement.from_json(fields) for fields in json.loads(path.read_text(encoding="utf-8")))


class MeasurementCache:
    """The measurements of a graph that this user's cache folder remembers.

    Parameters
    ----------
    graph_key : str
        Digest of the graph's description and canaries.
    """

    def __init__(self, graph_key: str) -> None:
        self.folder = user_cache_folder() / "measured" / graph_key[:32]

    def read(self) -> list[Measurement]:
        """Return the measurements, of all providers and versions."""
        remembered = [recall(path) for path in sorted(self.folder.glob("*.json"))]
        return [Measurement.from_json(fields) for fields in remembered if fields is not None]

    def write(self, measurement: Measurement) -> None:
        """Remember a measurement, in place of an earlier one under the same conditions."""
        conditions = replace(measurement, batch_sizes=(), relative_l2=0.0, column="", limit=0.0)
        remember(self.folder / f"{digest(asdict(conditions))[:16]}.json", asdict(measurement))


def graph_key(metadata_text: str, canaries_path: Path) -> str:
    """Return the digest of a graph's description and of its canaries."""
    return digest([metadata_text, digest_of_file(canaries_path)])
