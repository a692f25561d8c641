"""Findings of an audit: rows of a table that is read by people, edited, and applied to a store."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...extract.sources.table_file import read_rows
from ..estimators.result_files import check_suffix, format_labels, write_rows

KINDS = ("label", "leakage", "near_leakage", "duplicate", "near_duplicate", "outlier", "classes")
"""Kinds of findings, in the order in which they are listed."""
RELABEL = "relabel"
EXCLUDE = "exclude"
REVIEW = "review"
MERGE = "merge"
SUGGESTIONS = (RELABEL, EXCLUDE, REVIEW, MERGE)


@dataclass(frozen=True)
class Finding:
    """Something about an item, or about two classes, that is probably wrong.

    Parameters
    ----------
    id : str
        Id of the item; for two classes, the names of both.
    kind : str
        ``"label"``: the label is probably wrong. ``"leakage"``, ``"near_leakage"``: an item of another split or group
        has the same content, or nearly. ``"duplicate"``, ``"near_duplicate"``: so has one of the same split.
        ``"outlier"``: the item is unlike all others. ``"classes"``: two classes cannot be told apart.
    evidence : str
        What was measured.
    suggestion : str
        ``"relabel"`` (as `label`), ``"exclude"`` (from training and scores), ``"review"`` or ``"merge"``. The first two
        are what :func:`apply_findings` carries out.
    score : float
        For labels, the probability of an error; for near copies, the distance in relation to the usual one; for
        outliers, the deviation in standard deviations; for classes, the area under the ROC curve between them.
    label : object
        The suggested label, several as a list; None without a suggestion.
    related : str or None
        Id of the other item.
    """

    id: str
    kind: str
    evidence: str
    suggestion: str
    score: float
    label: Any = None
    related: str | None = None


@dataclass(frozen=True)
class Findings:
    """What an audit found, by kind, the most certain first; iterated and indexed like a tuple.

    Parameters
    ----------
    findings : tuple of Finding
    n_items : int
        Number of items that were audited.
    n_labelled : int
        Number of those whose label was judged.
    columns : tuple of str
        The columns of features.
    notes : tuple of str
        What could not be judged, and why.
    """

    findings: tuple[Finding, ...]
    n_items: int
    n_labelled: int
    columns: tuple[str, ...]
    notes: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.findings)

    def __getitem__(self, position: int) -> Finding:
        return self.findings[position]

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def of_kind(self, kind: str) -> list[Finding]:
        """Return the findings of one kind."""
        return [finding for finding in self.findings if finding.kind == kind]

    @property
    def counts(self) -> dict[str, int]:
        """Number of findings of each kind."""
        counted = Counter(finding.kind for finding in self.findings)
        return {kind: counted[kind] for kind in KINDS}

    def to_frame(self) -> Any:
        """Return a pandas.DataFrame with a row for each finding."""
        import pandas  # type: ignore[import-untyped]

        return pandas.DataFrame([asdict(finding) for finding in self.findings], columns=list_columns())

    def to_json(self) -> dict[str, Any]:
        """Return everything as values that JSON has."""
        return {
            "items": self.n_items,
            "labelled": self.n_labelled,
            "columns": list(self.columns),
            "counts": self.counts,
            "notes": list(self.notes),
            "findings": [asdict(finding) for finding in self.findings],
        }

    def write(self, path: str | Path) -> None:
        """Write a ``.csv`` or ``.jsonl`` file with a row for each finding, which :func:`apply_findings` reads.

        Raises
        ------
        InputError
            If the file has another ending.
        """
        path = Path(path)
        rows = [asdict(finding) for finding in self.findings]
        if path.suffix == ".csv":
            for row in rows:
                row["label"] = format_labels(row["label"])
        write_rows(path, rows, list_columns())


def list_columns() -> list[str]:
    """Return the names of the columns of a table of findings."""
    return [field_.name for field_ in fields(Finding)]


def read_findings(path: str | Path) -> list[Finding]:
    """Read a table of findings, of which rows may have been removed or edited.

    Raise an InputError if a column is missing, or a suggestion is none of :data:`SUGGESTIONS`.
    """
    path = Path(path)
    check_suffix(path)
    rows = read_rows(path).to_pylist()
    missing = [name for name in ("id", "suggestion") if rows and name not in rows[0]]
    if missing:
        raise InputError(f"{path} has no column {missing[0]!r}; expected what `topwork audit --out` writes")
    return [parse_row(row, path) for row in rows]


def parse_row(row: dict[str, Any], path: Path) -> Finding:
    """Return the finding in a row of a table."""
    suggestion = row["suggestion"] or REVIEW
    if suggestion not in SUGGESTIONS:
        raise InputError(f"{path}: suggestion {suggestion!r}; expected one of {', '.join(SUGGESTIONS)}")
    label = row.get("label")
    if isinstance(label, str) and label.startswith("["):
        label = read_label_list(label)
    return Finding(
        id=str(row["id"]),
        kind=str(row.get("kind") or ""),
        evidence=str(row.get("evidence") or ""),
        suggestion=suggestion,
        score=float(row.get("score") or 0.0),
        label=None if label == "" else label,
        related=row.get("related") or None,
    )


def read_label_list(cell: str) -> Any:
    """Return the list of labels that a cell holds as JSON, or else the cell."""
    try:
        return json.loads(cell)
    except ValueError:
        return cell
