"""Copies and near copies among audited rows: duplicates, and leakage between splits and groups."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from .audited_rows import AuditedRows
from .findings import EXCLUDE, REVIEW, Finding

if TYPE_CHECKING:
    from numpy.typing import NDArray

CERTAIN_LIMIT = 0.13
"""Distance below which near copies are suggested to be excluded, not only reviewed."""


@dataclass(frozen=True)
class NearCopies:
    """Pairs ``(n_pairs, 2)`` of places of audited rows, and their distances in relation to the usual one."""

    pairs: NDArray[np.intp]
    ratios: NDArray[np.float64]


def join_copies(rows: AuditedRows, near_copies: NearCopies) -> NDArray[np.intp]:
    """Return the number of the unit of each row: rows of a group, and copies, are of one unit."""
    edges = [near_copies.pairs, pair_equal(rows.contents)]
    known_groups = [group is not None for group in rows.groups]
    grouped = np.flatnonzero(known_groups)
    if len(grouped):
        names = np.array([str(rows.groups[place]) for place in grouped.tolist()])
        numbers = np.unique(names, return_inverse=True)[1]
        edges.append(grouped[pair_equal(numbers)])
    first, second = np.concatenate(edges).T
    graph = coo_matrix((np.ones(len(first), bool), (first, second)), shape=(len(rows), len(rows)))
    units: NDArray[np.intp] = connected_components(graph, directed=False)[1].astype(np.intp)
    return units


def pair_equal(numbers: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return pairs ``(n_pairs, 2)`` of places of equal numbers, such that each number's places are connected."""
    order = np.argsort(numbers, kind="stable")
    is_same = numbers[order][1:] == numbers[order][:-1]
    return np.stack([order[:-1][is_same], order[1:][is_same]], axis=1)


def find_equal_contents(rows: AuditedRows) -> Iterator[Finding]:
    """Yield items whose content is that of another one: of another split or group, or a duplicate."""
    order = np.argsort(rows.contents, kind="stable")
    bounds = np.flatnonzero(np.diff(rows.contents[order], prepend=-1, append=-1))
    found: list[Finding] = []
    for start, stop in pairwise(bounds.tolist()):
        if stop - start > 1:
            found += describe_copies(rows, order[start:stop].tolist())
    yield from sorted(found, key=lambda finding: finding.id)


def describe_copies(rows: AuditedRows, places: list[int]) -> Iterator[Finding]:
    """Yield a finding for each of some rows of equal content but the one to keep: a held-out one, or the first."""
    kept = min(places, key=lambda place: (rows.is_trained_on(place), place))
    label_of = name_labels(rows, places)
    for place in places:
        if place == kept:
            continue
        leak = explain_leak(rows, place, kept)
        labels_differ = label_of[place] != label_of[kept]
        evidence = "equal content" + (f" {leak}" if leak else "")
        if labels_differ:
            evidence += f"; labelled {label_of[place]}, but {label_of[kept]} there"
        yield Finding(
            id=rows.ids[place],
            kind="leakage" if leak else "duplicate",
            evidence=evidence,
            suggestion=REVIEW if labels_differ and not leak else EXCLUDE,
            score=0.0,
            related=rows.ids[kept],
        )


def name_labels(rows: AuditedRows, places: list[int]) -> dict[int, str]:
    """Return the label of each of some rows as a text."""
    found = {}
    for place in places:
        position = int(np.searchsorted(rows.labelled, place))
        is_labelled = position < len(rows.labelled) and rows.labelled[position] == place
        found[place] = str(rows.labels[position]) if is_labelled else "nothing"
    return found


def explain_leak(rows: AuditedRows, place: int, kept: int) -> str:
    """Return in which other split or group a copy lies; an empty text if in none."""
    if rows.splits[place] != rows.splits[kept]:
        return f"in the splits {rows.splits[place] or 'of none'} and {rows.splits[kept] or 'of none'}"
    group = rows.groups[place]
    other = rows.groups[kept]
    if group is not None and other is not None and group != other:
        return f"in the groups {group} and {other}"
    return ""


def find_near_copies(rows: AuditedRows, near_copies: NearCopies) -> Iterator[Finding]:
    """Yield items that are nearly equal to another one, each once of a kind, the nearest first."""
    named = set()
    for number in np.argsort(near_copies.ratios, kind="stable").tolist():
        ratio = float(near_copies.ratios[number])
        pair = near_copies.pairs[number].tolist()
        kept = min(pair, key=lambda place: (rows.is_trained_on(place), place))
        place = pair[1] if kept == pair[0] else pair[0]
        leak = explain_leak(rows, place, kept)
        is_same_group = rows.groups[place] is not None and rows.groups[place] == rows.groups[kept]
        if is_same_group and not leak:
            continue
        kind = "near_leakage" if leak else "near_duplicate"
        if (place, kind) in named:
            continue
        named.add((place, kind))
        yield Finding(
            id=rows.ids[place],
            kind=kind,
            evidence=f"nearly equal{f' {leak}' if leak else ''}: {ratio:.2f} of the usual distance",
            suggestion=EXCLUDE if ratio < CERTAIN_LIMIT else REVIEW,
            score=round(ratio, 4),
            related=rows.ids[kept],
        )
