"""Labels in files beside an item, as WebDataset has them: ``0001.jpg`` and ``0001.cls`` are one sample.

The format is that of https://github.com/webdataset/webdataset: files of a sample have the same name up to the first
point.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping

from ...errors import DecodeError, SourceError, reason
from .label_sets import are_names, join_labels
from .path_labels import normalize_label

CLASS_SUFFIX = ".cls"
JSON_SUFFIX = ".json"
LABEL_FIELDS = ("label", "cls")
"""Fields of a JSON file that hold a label."""
MAX_SIDECAR_BYTES = 1_000_000


class Sidecars:
    """The labels that the sidecars of a source state, by the key of their sample; errors name the `place`."""

    def __init__(self, place: str) -> None:
        self.place = place
        self._classes: dict[str, str] = {}
        self._fields: dict[str, str] = {}

    def is_sidecar(self, name: str, size: int) -> bool:
        """Return whether a file may state a label."""
        return name.lower().endswith((CLASS_SUFFIX, JSON_SUFFIX)) and size <= MAX_SIDECAR_BYTES

    def add(self, name: str, content: bytes) -> None:
        """Read a sidecar; raise a SourceError if a class is not UTF-8."""
        key = sample_key(name)
        if name.lower().endswith(CLASS_SUFFIX):
            try:
                self._classes[key] = normalize_label(content.decode("utf-8").strip())
            except UnicodeDecodeError as error:
                raise SourceError(
                    f"the class in {name} of {self.place} is not UTF-8 text: {error.reason}; write it anew"
                ) from error
            return
        label = read_label(content)
        if label:
            self._fields[key] = label

    def add_those_of(self, items: Iterable[str], sidecars: Mapping[str, Callable[[], bytes]]) -> None:
        """Read the sidecars of items; a folder may hold many others, which are left alone.

        Raise a SourceError if one cannot be read.
        """
        samples = {sample_key(name) for name in sidecars}
        wanted = samples.intersection(map(sample_key, items))
        for name, read in sidecars.items():
            if sample_key(name) not in wanted:
                continue
            try:
                content = read()
            except (OSError, DecodeError) as error:
                raise SourceError(
                    f"{name} of {self.place} cannot be read: {reason(error)}. It may state the label of an item; "
                    "change its permissions, or move it away."
                ) from error
            self.add(name, content)

    def find_label(self, name: str) -> str | None:
        """Return the label of a file; None if no sidecar states one."""
        key = sample_key(name)
        return self._classes.get(key) or self._fields.get(key)


def sample_key(name: str) -> str:
    """Return what the files of a sample have in common: the folder, and the name up to the first point.

    Examples
    --------
    >>> sample_key("shard/0001.seg.png"), sample_key("./0001.cls")
    ('shard/0001', '0001')
    """
    folder, slash, base = name.removeprefix("./").rpartition("/")
    return f"{folder}{slash}{base.partition('.')[0]}"


def read_label(content: bytes) -> str:
    """Return the label in a JSON file, "" if it has none: a text, an integer or a list under a usual name."""
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(fields, dict):
        return ""
    for name in LABEL_FIELDS:
        value = fields.get(name)
        if isinstance(value, str | int) and not isinstance(value, bool):
            return normalize_label(str(value))
        if isinstance(value, list) and are_names(value):
            return join_labels(value)
    return ""
