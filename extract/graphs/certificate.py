"""Evidence that an exported graph equals its model."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ...html_table import render_box, render_facts, render_rows
from .fidelity import Fidelity
from .measurement import Measurement


@dataclass(frozen=True)
class Deviation:
    """How far one output of the graph is from the model's, for one batch.

    The cases are random inputs ("random"), random text with padding ("padded"), one text of the model's maximum length,
    up to 512 tokens ("long"), and the user's own items ("real"). `relative_l2` is the length of the difference over the
    length of the model's value, `cosine` the smallest cosine similarity among the batch's items.
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
    """What was measured, and the tolerance it was compared with.

    Parameters
    ----------
    tolerance : float
        Largest relative L2 error that was allowed.
    provider, precision : str
        Where and how the graph ran.
    route : str
        How it was exported; see :mod:`topwork.extract.graphs.routes`.
    refused : tuple of str
        The routes that were tried before, each with the reason it was rejected.
    versions : dict
        Versions of the packages that took part.
    inputs, outputs : tuple of Port
    deviations : tuple of Deviation
    independence : float
        Largest relative L2 difference between an item's features alone and in a batch. Two runs on the same batch
        were bitwise equal.
    fidelity : tuple of Fidelity
        One for each precision that was compared with float32 on the user's items.
    measurements : tuple of Measurement
        One for each provider and precision that was compared with the model, those that failed too: ``"auto"`` does
        not use these.
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
    measurements: tuple[Measurement, ...] = ()

    @property
    def worst(self) -> Deviation:
        """The deviation with the largest relative L2 error."""
        return max(self.deviations, key=lambda deviation: deviation.relative_l2)

    def _repr_html_(self) -> str:
        """Return the evidence as HTML, for notebooks."""
        worst = self.worst
        where = f"{worst.output}, batch of {worst.batch}, {worst.case} items"
        facts = {
            "largest error": f"{worst.relative_l2:.1e} ({where}); {self.tolerance:.1e} is allowed",
            "alone and in a batch": f"{self.independence:.1e} apart at most",
            "compared": f"{len(self.deviations):,} outputs of batches, with the unmodified model",
            "route of the export": self.route,
            "routes refused": "; ".join(self.refused) or None,
            "run by": f"{self.provider}, {self.precision}",
            "versions": ", ".join(f"{name} {version}" for name, version in self.versions.items()),
            "lower precisions": "; ".join(map(str, self.fidelity)) or None,
        }
        measured = [
            {
                "provider": found.provider,
                "precision": found.precision,
                "largest error": f"{found.relative_l2:.1e}",
                "allowed": f"{found.limit:.1e}",
                "passes": "yes" if found.passes else "no",
            }
            for found in self.measurements
        ]
        return render_box("Certificate", render_facts(facts), render_rows(measured))

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary for the file beside the graph."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Certificate:
        """Read what :meth:`to_json` wrote."""
        parsed = {
            "refused": tuple(fields["refused"]),
            "inputs": _read_ports(fields["inputs"]),
            "outputs": _read_ports(fields["outputs"]),
            "deviations": tuple(Deviation(**deviation) for deviation in fields["deviations"]),
            "fidelity": tuple(Fidelity(**fidelity) for fidelity in fields.get("fidelity", ())),
            "measurements": tuple(Measurement.from_json(found) for found in fields.get("measurements", ())),
        }
        return cls(**{**fields, **parsed})


def _read_ports(ports: list[dict[str, Any]]) -> tuple[Port, ...]:
    return tuple(Port(port["name"], port["type"], tuple(port["axes"])) for port in ports)
