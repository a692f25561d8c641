"""Evidence that an exported graph equals its network."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ParityError
from .reference import reference

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .cut import Cut
    from .session import Session

BATCHES = (1, 2, 5)
SEED = 0


@dataclass(frozen=True)
class Deviation:
    """How far one output of the graph is from the network's, for one batch.

    Parameters
    ----------
    output : str
    batch : int
    relative_l2 : float
        Length of the difference over the length of the network's value.
    max_abs : float
        Largest absolute difference.
    cosine : float
        Smallest cosine similarity among the batch's items.
    """

    output: str
    batch: int
    relative_l2: float
    max_abs: float
    cosine: float


@dataclass(frozen=True)
class Certificate:
    """All deviations that were measured, and the bound they were held to."""

    tolerance: float
    provider: str
    precision: str
    versions: dict[str, str]
    deviations: tuple[Deviation, ...]

    @property
    def worst(self) -> Deviation:
        """The largest relative L2 error."""
        return max(self.deviations, key=lambda d: d.relative_l2)

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary for the file beside the graph."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Certificate:
        """Read what :meth:`to_json` wrote."""
        return cls(**{**fields, "deviations": tuple(Deviation(**d) for d in fields["deviations"])})


def certify(cut: Cut, session: Session, versions: dict[str, str]) -> Certificate:
    """Compare a graph with the network it came from, on random images in batches of 1, 2 and 5.

    The reference is the untouched network with hooks on its modules, not the traced graph that was exported.

    Raises
    ------
    ParityError
        If an output's relative L2 error exceeds the backbone's tolerance; the first one is named.
    """
    height, width = cut.backbone.input_spec.size
    generator = np.random.default_rng(SEED)
    deviations: list[Deviation] = []
    for batch in BATCHES:
        images = generator.integers(0, 256, (batch, height, width, 3), dtype=np.uint8)
        found = _run(session, images)
        for name, ours, theirs in zip(cut.names, found, reference(cut, images), strict=True):
            deviations.append(_compare(name, batch, ours, theirs))
            _require(deviations[-1], cut.backbone.tolerance)
    return Certificate(cut.backbone.tolerance, session.provider, "fp32", versions, tuple(deviations))


def _run(session: Session, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    try:
        return session.run(images)
    except Exception as error:
        raise ParityError(
            f"the exported graph does not run on a batch of {len(images)}: {error}. "
            "Expected a free batch size; the exporter may have fixed it."
        ) from error


def _compare(name: str, batch: int, found: NDArray[np.float32], expected: NDArray[np.float32]) -> Deviation:
    if found.shape != expected.shape:
        raise ParityError(f"output {name!r} has shape {found.shape} on a batch of {batch}, expected {expected.shape}")
    ours, theirs = found.astype(np.float64), expected.astype(np.float64)
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    cosines = np.where(lengths > 0, (ours * theirs).sum(1) / np.maximum(lengths, 1e-300), 1.0)
    scale = max(float(np.linalg.norm(theirs)), 1e-300)
    difference = ours - theirs
    relative = float(np.linalg.norm(difference)) / scale if difference.any() else 0.0
    return Deviation(name, batch, relative, float(np.abs(difference).max()), float(cosines.min()))


def _require(deviation: Deviation, tolerance: float) -> None:
    if not deviation.relative_l2 <= tolerance:
        raise ParityError(
            f"the exported graph differs from the network: output {deviation.output!r}, batch of {deviation.batch}, "
            f"relative L2 error {deviation.relative_l2:.2g}, cosine {deviation.cosine:.4f}; "
            f"expected at most {tolerance:.0e}. "
            "Nothing was kept. Please report the architecture."
        )
