"""Carry out what findings suggest: new labels, and exclusions, as labels of a store."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...extract.store.content import EXCLUDED_LABELS
from ...extract.store.feature_store import FeatureStore
from ..estimators.result_files import LABEL_SEPARATOR
from .findings import EXCLUDE, RELABEL, Finding, read_findings

LABELS = "label"


@dataclass(frozen=True)
class AppliedFindings:
    """What was written to a store.

    Parameters
    ----------
    relabelled : dict
        The new label of each item by its id.
    excluded : dict
        The reason of each exclusion by the id of the item.
    ignored : int
        Number of findings that suggest neither.
    """

    relabelled: dict[str, Any]
    excluded: dict[str, str]
    ignored: int


def apply_findings(store: FeatureStore | str | Path, findings: Iterable[Finding] | str | Path) -> AppliedFindings:
    """Write the new labels and the exclusions that findings suggest as labels of a store.

    An excluded item has a label of the name ``excluded``, the reason: it then counts as without a label, is not trained
    on and not scored. ``store.set_labels({id: None}, "excluded")`` takes it back, ``store.label_history`` has all
    changes. Features are not touched.

    Parameters
    ----------
    store : FeatureStore or path
    findings : iterable of Finding, or path
        Those of an audit, or a table that :meth:`Findings.write` wrote, of which rows may have been removed or edited.

    Returns
    -------
    AppliedFindings
        What was written.

    Raises
    ------
    InputError
        If an id is not in the store, an item would get two labels, or a label to give is missing; nothing is written
        then.
    """
    if not isinstance(store, FeatureStore):
        store = FeatureStore.open(store)
    if isinstance(findings, str | Path):
        findings = read_findings(findings)
    listed = list(findings)
    relabelled = collect_labels(listed, store)
    excluded = {}
    for finding in listed:
        if finding.suggestion == EXCLUDE:
            reason = f"{finding.kind} of {finding.related}" if finding.related else finding.kind
            excluded[finding.id] = reason
    require_ids([*relabelled, *excluded], store)
    if relabelled:
        store.set_labels(relabelled, LABELS)
    if excluded:
        store.set_labels(excluded, EXCLUDED_LABELS)
    n_applied = sum(finding.suggestion in (RELABEL, EXCLUDE) for finding in listed)
    return AppliedFindings(relabelled, excluded, len(listed) - n_applied)


def collect_labels(findings: list[Finding], store: FeatureStore) -> dict[str, Any]:
    """Return the new label of each item, of the type that the store's labels have."""
    own = [label for label in store.get_labels(LABELS) if label is not None]
    has_sets = any(isinstance(label, list) for label in own)
    known = {} if has_sets else {str(label): label for label in own}
    collected: dict[str, Any] = {}
    for finding in findings:
        if finding.suggestion != RELABEL:
            continue
        label = as_label_set(finding.label) if has_sets else known.get(str(finding.label), finding.label)
        if label is None:
            raise InputError(f"the finding of {finding.id!r} suggests to relabel, but has no label; expected one")
        if collected.setdefault(finding.id, label) != label:
            raise InputError(f"findings relabel {finding.id!r} as {collected[finding.id]!r} and {label!r}; remove one")
    return collected


def as_label_set(label: Any) -> list[str]:
    """Return several labels as a list; in a cell of CSV they are divided by a separator."""
    if label is None:
        return []
    if isinstance(label, str):
        return [name for name in label.split(LABEL_SEPARATOR) if name]
    return [str(name) for name in label]


def require_ids(ids: list[str], store: FeatureStore) -> None:
    """Raise an InputError if an id is not that of a row of the store."""
    unknown = set(ids).difference(store.ids)
    if unknown:
        raise InputError(f"{len(unknown)} findings are not of {store.path}, such as {min(unknown)!r}; expected its ids")
