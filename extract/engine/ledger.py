"""The ledger of a job: what became of every input, and where the time went."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from ...hardware import used_memory
from ..runtime.providers import ON_PROCESSOR


@dataclass
class Stages:
    """Seconds spent in each stage of a run, summed over threads."""

    read: float = 0.0
    decode: float = 0.0
    infer: float = 0.0
    write: float = 0.0

    def add(self, other: Stages) -> None:
        """Add the seconds of another run."""
        self.read += other.read
        self.decode += other.decode
        self.infer += other.infer
        self.write += other.write

    def busy(self, cores: int, runs: int) -> dict[str, float]:
        """Return the seconds for which each stage kept all of its resources busy.

        `cores` threads read and decode, one writes; `runs` batches are inferred at a time, together on all cores or on
        a device of their own.
        """
        return {
            "reading": self.read / cores,
            "decoding": self.decode / cores,
            "inference": self.infer / runs,
            "writing": self.write,
        }

    def core_seconds(self, cores: int, runs: int) -> float:
        """Return the core-seconds that reading, decoding and inference on the processor took."""
        cores_per_batch = cores // runs
        return self.read + self.decode + self.infer * cores_per_batch

    def limiting(self, cores: int, runs: int) -> str:
        """Return the stage that was busy longest, "" before anything was."""
        busy = self.busy(cores, runs)
        longest = max(busy, key=lambda name: busy[name])
        if not busy[longest]:
            return ""
        return longest


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
        Inputs that were computed in this run.
    truncated : int
        Computed inputs that were longer than the model's input.
    replaced : int
        Computed inputs whose features in the store were of other content under the same id.
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
        Digest of the store's input identity.
    provider : str or None
        Where the graph ran; None if nothing was computed.
    precision : str or None
        Precision of the store's features.
    cores, runs : int
        Threads that read and decode, and batches that are inferred at a time.
    computing_seconds : float
        Wall time of the computing alone: from the loaded graph to the last part on disk.
    peak_memory : int or None
        Largest number of bytes that :func:`topwork.hardware.used_memory` returned after a part and at the end.
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
        """Count one input.

        Parameters
        ----------
        item_id : str
        status : {"ok", "failed", "duplicate"}
        reason : str or None
            Why it failed.
        """
        self.items += 1
        setattr(self, status, getattr(self, status) + 1)
        if status == "failed":
            self.failures.append((item_id, reason or ""))

    def add(self, other: Ledger) -> None:
        """Add the counts and failures of another ledger."""
        self.items += other.items
        self.ok += other.ok
        self.failed += other.failed
        self.duplicate += other.duplicate
        self.failures.extend(other.failures)

    def note_memory(self) -> None:
        """Update the peak memory by what is used now."""
        used = used_memory()
        if used is not None:
            self.peak_memory = max(self.peak_memory or 0, used)

    @property
    def limiting_stage(self) -> str:
        """The stage that limits the speed of this run so far; see :meth:`Stages.limiting`."""
        return self.stages.limiting(self.cores, self.runs)

    @property
    def share_of_possible(self) -> float | None:
        """Measured throughput relative to cores that only read, decode and infer; about 1 at most.

        The core-seconds of these stages, where a batch counts for all the cores that it runs on, divided by
        ``cores * computing_seconds``. Seconds are wall time, also within a thread: a thread that waits for a disk or
        for another process counts as busy. None if nothing was computed, or not on the processor.
        """
        if self.provider not in ON_PROCESSOR or not self.computing_seconds:
            return None
        available = self.cores * self.computing_seconds
        return self.stages.core_seconds(self.cores, self.runs) / available

    @property
    def items_per_second(self) -> float:
        """Inputs computed in this run per second of wall time."""
        if not self.seconds:
            return 0.0
        return self.computed / self.seconds

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary for JSON: the fields and the derived figures."""
        derived = {"items_per_second": self.items_per_second, "share_of_possible": self.share_of_possible}
        return {**asdict(self), **derived}
