"""Where the time of a run goes, and what limits its speed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Stages:
    """Seconds spent in each stage, summed over threads."""

    read: float = 0.0
    decode: float = 0.0
    infer: float = 0.0
    write: float = 0.0

    def busy(self, cores: int, runs: int) -> dict[str, float]:
        """Return for how many seconds each stage kept all that it can use busy.

        Parameters
        ----------
        cores : int
            That many threads read and decode; one writes.
        runs : int
            That many batches are inferred at a time, together on all cores or on a device of their own.
        """
        reading, decoding, inference = self.read / cores, self.decode / cores, self.infer / runs
        return {"reading": reading, "decoding": decoding, "inference": inference, "writing": self.write}

    def core_seconds(self, cores: int, runs: int) -> float:
        """Return the seconds of cores that reading, decoding and inference on the processor took."""
        return self.read + self.decode + self.infer * (cores // runs)

    def limiting(self, cores: int, runs: int) -> str:
        """Return the stage that was busy longest, "" before anything was."""
        busy = self.busy(cores, runs)
        stage = max(busy, key=lambda name: busy[name])
        return stage if busy[stage] else ""
