"""The state of training after each epoch, in one file, from which training goes on after a kill."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from ...atomic import write_file
from ...errors import InputError, reason
from ...heads.module_training.trainer import EpochRecord, TrainingState

if TYPE_CHECKING:
    from pathlib import Path

PARTS = ("module", "optimizer", "best")
IDENTITY = "identity"
RECORDS = "records"


def save_checkpoint(path: Path, state: TrainingState, identity: str) -> None:
    """Replace a file by the state of training; the identity says of what data, network and options it is."""
    from safetensors.numpy import save

    tensors = {f"{part}/{name}": array for part in PARTS for name, array in getattr(state, part).items()}
    metadata = {IDENTITY: identity, RECORDS: json.dumps([asdict(record) for record in state.records])}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, save(tensors, metadata))


def load_checkpoint(path: Path, identity: str) -> TrainingState | None:
    """Return the state of training in a file, None if there is no file.

    Raise an InputError if the file is damaged, or of other data, another network or other options.
    """
    from safetensors import safe_open

    if not path.exists():
        return None
    parts: dict[str, dict[str, object]] = {part: {} for part in PARTS}
    try:
        with safe_open(path, "numpy") as stream:
            metadata = stream.metadata()
            for key in stream.keys():  # noqa: SIM118
                part, _, name = key.partition("/")
                parts[part][name] = stream.get_tensor(key)
        found = metadata[IDENTITY]
        records = [EpochRecord(**record) for record in json.loads(metadata[RECORDS])]
    except Exception as error:
        raise InputError(
            f"{path} is no checkpoint of topwork, or is damaged ({reason(error)}); remove it, or name another file"
        ) from error
    if found != identity:
        raise InputError(
            f"the checkpoint {path} is of other items, labels, layers or options; remove it, or name another file"
        )
    return TrainingState(records=records, **parts)  # type: ignore[arg-type]
