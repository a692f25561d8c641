"""The search for the layer and pooling whose features a head learns most from."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import InputError
from ...extract.graphs.pooling import AUTO, name_pooled
from ...heads.feature_comparison import (
    Choice,
    HeldOutScores,
    Interval,
    choose_features,
    compare_features,
    estimate_choice,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...extract.extractor.extractor import Extractor
    from ...extract.graphs.cut import Column
    from ...extract.sources.item import Source

    Array = NDArray[Any]

N_WINNERS = 3
"""Layers whose other poolings are compared, and which are concatenated."""


@dataclass(frozen=True)
class Candidate:
    """Features that a search compares: those of one layer, or of several that are concatenated.

    Parameters
    ----------
    layers : tuple of str
        Names from :func:`topwork.layers`, or those of a store's columns.
    pool : str
        As :class:`topwork.Extractor` takes it; "auto" is the model's own.
    columns : tuple of str
        Columns whose features are concatenated.
    width : int
        Number of features.
    depth : float
        Share of the model's computation that the deepest of the layers needs; NaN where it is not known.
    is_pooled : bool
        Whether the pooling applies: a vector is not pooled.
    """

    layers: tuple[str, ...]
    pool: str
    columns: tuple[str, ...]
    width: int
    depth: float
    is_pooled: bool = True

    @property
    def name(self) -> str:
        """Layers and pooling as text."""
        return name_pooled(" + ".join(self.layers), self.pool)

    @property
    def cost(self) -> tuple[float, int]:
        """What is paid for each item: computation first, then features to keep."""
        return (0.0 if np.isnan(self.depth) else self.depth), self.width


@dataclass(frozen=True)
class CutSearch:
    """What a search found.

    Parameters
    ----------
    candidates : dict of str to Candidate
        All that were compared, by their names.
    scores : dict of str to HeldOutScores
        How a head does on each.
    choice : Choice
        The best candidate, and the cheapest that is as good.
    score : float
        Accuracy or R2 of the chosen candidate on rows that took no part in the choice.
    interval : Interval
        Of 95 %.
    n_items : int
        Items that were compared on.
    seconds : float
        Time that training and evaluating heads took.
    """

    candidates: dict[str, Candidate]
    scores: dict[str, HeldOutScores]
    choice: Choice
    score: float
    interval: Interval
    n_items: int
    seconds: float

    @property
    def chosen(self) -> Candidate:
        """The candidate to use."""
        return self.candidates[self.choice.chosen]

    def explain(self, metric: str) -> str:
        """Return what was chosen, why, and how good it is, as two lines of text."""
        low, high = self.interval
        reason = f"the best of {len(self.scores)}"
        if self.choice.chosen != self.choice.best:
            reason = f"of {len(self.scores)} the cheapest that is as good as {self.choice.best}"
        return (
            f"layer {self.choice.chosen}: {reason}\n"
            f"{metric} {self.score:.3f} ({low:.3f} to {high:.3f}) on rows that did not choose it, of "
            f"{self.n_items:,} compared"
        )


@dataclass(frozen=True)
class Features:
    """Features of labelled items to compare by.

    Parameters
    ----------
    matrices : mapping of str to ndarray of shape (n_items, n_features)
        Features of each column.
    targets : ndarray of shape (n_items,) or (n_items, n_targets)
        Codes of classes, zeros and ones, or values.
    groups : ndarray of shape (n_items,) or None
        Items of a group are held out together.
    candidates : sequence of Candidate
        What to compare.
    items : Source or None
        The items themselves; None for the rows of a store.
    seconds : float
        Time that computing the features took.
    extractor : Extractor or None
        Computes all of them.
    n_labelled : int
        All items that have a label and may be trained on, of which these may be a sample.
    """

    matrices: Mapping[str, Array]
    targets: Array
    groups: Array | None
    candidates: Sequence[Candidate] = ()
    items: Source | None = None
    seconds: float = 0.0
    extractor: Extractor | None = None
    n_labelled: int = 0

    def join(self, candidate: Candidate) -> Array:
        """Return the features of a candidate ``(n_items, n_features)``."""
        parts = [self.matrices[name] for name in candidate.columns]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def list_candidates(
    columns: Sequence[Column], depths: Mapping[str, float] | None = None, has_own_first: bool = False
) -> list[Candidate]:
    """Return a candidate for each column of a backbone's graph, or of a store.

    `depths` are the shares of the model's computation that the layers need, which are not known of a store. With
    `has_own_first` the first pooling of each layer is the model's own.
    """
    known: set[str] = set()
    candidates = []
    for column in columns:
        is_first = column.layer not in known
        known.add(column.layer)
        is_own = is_first and has_own_first
        candidate = Candidate(
            layers=(column.layer,),
            pool=AUTO if is_own or column.pool == "none" else column.pool,
            columns=(column.name,),
            width=column.width,
            depth=(depths or {}).get(column.layer, float("nan")),
            is_pooled=column.pool != "none",
        )
        candidates.append(candidate)
    return candidates


def search_cut(features: Features, task: str) -> CutSearch:
    """Compare the layers of a model, then the poolings of the best, then their concatenations.

    Parameters
    ----------
    features : Features
        Of labelled items.
    task : str
        One of :data:`topwork.heads.registry.TASKS`.

    Returns
    -------
    CutSearch
        With the scores of all candidates; those that are hopeless are judged by fewer items.

    Raises
    ------
    InputError
        If there is nothing to compare, or no item can be held out.
    """
    if not features.candidates:
        raise InputError("there is no layer to compare; expected at least one")
    started = time.perf_counter()
    first_of_layer = {candidate.layers: candidate for candidate in reversed(features.candidates)}
    own = [candidate for candidate in features.candidates if first_of_layer[candidate.layers] is candidate]
    others = [candidate for candidate in features.candidates if first_of_layer[candidate.layers] is not candidate]
    scores: dict[str, HeldOutScores] = {}
    candidates: dict[str, Candidate] = {}

    def compare(new: Sequence[Candidate]) -> None:
        """Compare candidates, if there are any, with the best so far."""
        if not new:
            return
        best = [candidates[name] for name in rank_candidates(scores)[:1]]
        compared = {candidate.name: candidate for candidate in [*best, *new]}
        matrices = {name: features.join(candidate) for name, candidate in compared.items()}
        found = compare_features(matrices, features.targets, task, features.groups)
        scores.update(found)
        candidates.update(compared)

    compare(own)
    winners = [candidates[name].layers[0] for name in rank_candidates(scores)[:N_WINNERS]]
    compare([candidate for candidate in others if candidate.layers[0] in winners])
    compare(list_concatenations(winners, candidates, rank_candidates(scores)))

    choice = choose_features(scores, lambda name: candidates[name].cost)
    score, interval = estimate_choice(scores, lambda name: candidates[name].cost)
    return CutSearch(
        candidates=candidates,
        scores=scores,
        choice=choice,
        score=score,
        interval=interval,
        n_items=len(features.targets),
        seconds=time.perf_counter() - started,
    )


def rank_candidates(scores: Mapping[str, HeldOutScores]) -> list[str]:
    """Return the names of candidates, those that were judged by all rows first, then by score."""
    return sorted(scores, key=lambda name: (-scores[name].n_rows, -scores[name].score))


def list_concatenations(
    winners: Sequence[str], candidates: Mapping[str, Candidate], ranked: Sequence[str]
) -> list[Candidate]:
    """Return the concatenations of two or all of the best layers, with the pooling of the best that is pooled."""
    pool = next((candidates[name].pool for name in ranked if candidates[name].is_pooled), AUTO)
    parts = []
    for layer in dict.fromkeys(candidate.layers[0] for candidate in candidates.values()):
        if layer not in winners:
            continue
        own = [candidate for candidate in candidates.values() if candidate.layers == (layer,)]
        parts += [candidate for candidate in own if candidate.pool == pool or not candidate.is_pooled][:1]
    joined = []
    for count in range(2, len(parts) + 1):
        joined += [concatenate(chosen, pool) for chosen in combinations(parts, count)]
    return joined


def concatenate(parts: Sequence[Candidate], pool: str) -> Candidate:
    """Return the concatenation of candidates, in their order."""
    return Candidate(
        layers=tuple(candidate.layers[0] for candidate in parts),
        pool=pool,
        columns=tuple(candidate.columns[0] for candidate in parts),
        width=sum(candidate.width for candidate in parts),
        depth=max(candidate.depth for candidate in parts),
    )
