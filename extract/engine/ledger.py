"""The ledger of a job: what became of every input, and where the time went."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from ...hardware import used_memory
from ..runtime.providers import ON_PROCESSOR
from .stages import Stages


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
    pruned : int
        Items that were not in this source and were removed from the store.
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
    provider : str or None
        Where the graph ran; None if nothing was computed.
    precision : str or None
        In which the store's features are computed.
    cores, runs : int
        Threads that read and decode, and batches that are inferred at a time.
    computing_seconds : float
        Wall time of the computing alone: from the loaded graph to the last part on disk.
    peak_memory : int or None
        Largest number of bytes that :func:`topwork.hardware.used_memory` told after a part and at the end.
    """

    items: int = 0
    ok: int = 0
    failed: int = 0
    duplicate: int = 0
    computed: int = 0
    truncated: int = 0
    replaced: int = 0
    absent: int = 0
    pruned: int = 0
    ignored: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    stages: Stages = field(default_factory=Stages)
    seconds: float = 0.0
    fingerprint: str = ""
    provider: str | None = None
    precision: str | None = None
    cores: int = 1
    runs: int = 1
    computing_seconds: float = 0.0
    peak_memory: int | None = None

    def count(self, item_id: str, status: str, reason: str | None) -> None:
        """Enter one input."""
        self.items += 1
        setattr(self, status, getattr(self, status) + 1)
        if status == "failed":
            self.failures.append((item_id, reason or ""))

    def add(self, ends: Ledger) -> None:
        """Enter the inputs of another account."""
        for name in ("items", "ok", "failed", "duplicate"):
            setattr(self, name, getattr(self, name) + getattr(ends, name))
        self.failures.extend(ends.failures)

    def note_memory(self) -> None:
        """Look at the memory that is used now."""
        self.peak_memory = max(self.peak_memory or 0, used_memory() or 0) or None

    @property
    def limiting_stage(self) -> str:
        """What limits the speed of this run so far; see :meth:`Stages.limiting`."""
        return self.stages.limiting(self.cores, self.runs)

    @property
    def share_of_possible(self) -> float | None:
        """Measured throughput over that of cores that do nothing but read, decode and infer; about 1 at most.

        These stages' core-seconds, a batch counting for all the cores that it runs on, over ``cores *
        computing_seconds``. Seconds are of the wall clock, also within a thread: a thread that waits for a disk or for
        another process's turn counts as busy. None if nothing was computed, or not on the processor.
        """
        if self.provider not in ON_PROCESSOR or not self.computing_seconds:
            return None
        return self.stages.core_seconds(self.cores, self.runs) / (self.cores * self.computing_seconds)

    @property
    def items_per_second(self) -> float:
        """Inputs worked on in this run per second of wall time."""
        return self.computed / self.seconds if self.seconds else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary for machines."""
        derived = {"items_per_second": self.items_per_second, "share_of_possible": self.share_of_possible}
        return {**asdict(self), **derived}
