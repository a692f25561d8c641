"""The ledger of a job: what became of every input, and where the time went."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from .engine import Stages


@dataclass
class Ledger:
    """Account of one job.

    Parameters
    ----------
    items : int
        Inputs of the source; ``ok + failed + duplicate``.
    ok, failed, duplicate : int
        How they ended, in this run or an earlier one.
    computed : int
        Those that were worked on in this run.
    truncated : int
        Those of them that were longer than the network takes.
    replaced : int
        Those of them whose features in the store were of other content under the same id.
    absent : int
        Items of the store that are not in this source; they are kept.
    ignored : int
        Files of the source that are of another kind.
    failures : list of (str, str)
        Id and reason of each failed input.
    stages : Stages
        Seconds per stage of this run, summed over threads.
    seconds : float
        Wall time of this run.
    fingerprint : str
        Of the store's input identity.
    """

    items: int = 0
    ok: int = 0
    failed: int = 0
    duplicate: int = 0
    computed: int = 0
    truncated: int = 0
    replaced: int = 0
    absent: int = 0
    ignored: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    stages: Stages = field(default_factory=Stages)
    seconds: float = 0.0
    fingerprint: str = ""

    def count(self, item_id: str, status: str, reason: str | None) -> None:
        """Enter one input."""
        self.items += 1
        setattr(self, status, getattr(self, status) + 1)
        if status == "failed":
            self.failures.append((item_id, reason or ""))

    @property
    def items_per_second(self) -> float:
        """Inputs worked on in this run per second of wall time."""
        return self.computed / self.seconds if self.seconds else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary for machines."""
        return {**asdict(self), "items_per_second": self.items_per_second}
