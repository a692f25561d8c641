"""Evidence that an exported graph equals its network."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from .fidelity import Fidelity


@dataclass(frozen=True)
class Deviation:
    """How far one output of the graph is from the network's, for one batch.

    Parameters
    ----------
    output : str
    case : {"random", "padded", "long", "real"}
        Random inputs, random texts with padding, one as long as the network takes (up to 512 tokens), or the user's
        own items.
    batch : int
    relative_l2 : float
        Length of the difference over the length of the network's value.
    max_abs : float
        Largest absolute difference.
    cosine : float
        Smallest cosine similarity among the batch's items.
    """

    output: str
    case: str
    batch: int
    relative_l2: float
    max_abs: float
    cosine: float


@dataclass(frozen=True)
class Port:
    """An input or output of the graph: its name, its ONNX type, and its axes; a name stands for any size."""

    name: str
    type: str
    axes: tuple[str | int, ...]


@dataclass(frozen=True)
class Certificate:
    """What was measured, and the bound it was held to.

    Parameters
    ----------
    tolerance : float
        Largest relative L2 error that was allowed.
    provider, precision : str
        Where and how the graph ran.
    route : str
        How it was exported; see :mod:`topwork.extract.graphs.routes`.
    refused : tuple of str
        The routes that were tried before, and why each was not taken.
    versions : dict
        Of the packages that took part.
    inputs, outputs : tuple of Port
    deviations : tuple of Deviation
    independence : float
        Largest relative L2 difference between an item's features alone and in a batch. Two runs on the same batch
        gave the same bits.
    fidelity : tuple of Fidelity
        Of each precision that was compared with float32 on the user's items.
    """

    tolerance: float
    provider: str
    precision: str
    route: str
    refused: tuple[str, ...]
    versions: dict[str, str]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    deviations: tuple[Deviation, ...]
    independence: float
    fidelity: tuple[Fidelity, ...] = ()

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
        ports = {name: tuple(Port(p["name"], p["type"], tuple(p["axes"])) for p in fields[name]) for name in PORTS}
        deviations = tuple(Deviation(**d) for d in fields["deviations"])
        found = {**ports, "refused": tuple(fields["refused"]), "deviations": deviations}
        return cls(**{**fields, **found, "fidelity": tuple(Fidelity(**f) for f in fields.get("fidelity", ()))})


PORTS = ("inputs", "outputs")
