"""The state of training after each epoch, one file for each candidate, from which training goes on after a kill."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from ...atomic import write_file
from ...errors import InputError, reason
from ...heads.module_training.trainer import EpochRecord, TrainingState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .halving import Candidate

STATE_PARTS = ("module", "optimizer", "best")
IDENTITY = "identity"
RECORDS = "records"
START = "start"


@dataclass(frozen=True)
class Checkpoint:
    """A folder with the state of training of each of some candidates.

    The identity says of what data, network and options it is.
    """

    folder: Path
    identity: str
    candidates: Sequence[Candidate]

    def save(self, candidate: Candidate, state: TrainingState) -> None:
        """Replace the state of training of a candidate."""
        from safetensors.numpy import save

        tensors = {f"{part}/{name}": array for part in STATE_PARTS for name, array in getattr(state, part).items()}
        metadata = {
            IDENTITY: self.identity,
            RECORDS: json.dumps([asdict(record) for record in state.records]),
            START: json.dumps(None if state.start is None else asdict(state.start)),
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        write_file(self.find_file(candidate), save(tensors, metadata))

    def load(self) -> dict[Candidate, TrainingState]:
        """Return the states that were saved, by candidate.

        Raise an InputError if a file is damaged, or of other data, another network or other options.
        """
        everything = [*self.candidates, *(candidate._replace(on_all_rows=True) for candidate in self.candidates)]
        files = {candidate: self.find_file(candidate) for candidate in everything}
        return {candidate: self.read(path) for candidate, path in files.items() if path.exists()}

    def find_file(self, candidate: Candidate) -> Path:
        """Return the file of a candidate."""
        end = "@all" if candidate.on_all_rows else ""
        return self.folder / f"{candidate.layer.replace('/', '_')}@{float(candidate.learning_rate)!r}{end}.safetensors"

    def read(self, path: Path) -> TrainingState:
        """Return the state of training in a file."""
        from safetensors import safe_open

        parts: dict[str, dict[str, object]] = {part: {} for part in STATE_PARTS}
        try:
            with safe_open(path, "numpy") as stream:
                metadata = stream.metadata()
                for key in stream.keys():  # noqa: SIM118
                    part, _, name = key.partition("/")
                    parts[part][name] = stream.get_tensor(key)
            found = metadata[IDENTITY]
            records = [EpochRecord(**record) for record in json.loads(metadata[RECORDS])]
            start = json.loads(metadata[START])
            start = None if start is None else EpochRecord(**start)
        except Exception as error:
            raise InputError(
                f"{path} is no checkpoint of topwork, or damaged ({reason(error)}); remove it, or name another folder"
            ) from error
        if found != self.identity:
            raise InputError(
                f"the checkpoint {path} is of other items, labels, layers or options; remove it, or name another folder"
            )
        return TrainingState(records=records, start=start, **parts)  # type: ignore[arg-type]
