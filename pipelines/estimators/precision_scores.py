"""What precisions cost a head: its score on held-out items, when it is trained on the features of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import InputError, StoppedError
from ...extract.graphs.fidelity import Fidelity
from ...extract.graphs.pooling import AUTO
from ...extract.precision.trial import MIN_SPEEDUP, choose_fastest
from ...extract.runtime.providers import parse_family
from ...heads.feature_comparison import choose_features, compare_features, compare_scores
from ...progress import report_step

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...extract.extractor.extractor import Extractor
    from ...extract.sources.item import Source
    from ...heads.feature_comparison import HeldOutScores

FEATURES, SCORE = FIDELITIES = ("features", "score")
"""What lets a lower precision pass: the errors of its features, or the score of a head on them."""
FLOAT32 = "fp32"


@dataclass(frozen=True)
class LabelledSample:
    """Items with their targets and groups, by which precisions are compared.

    The targets have the shape (n_items,) or (n_items, n_targets); labels are positions among the sorted classes.
    """

    items: Source
    targets: NDArray[Any]
    groups: NDArray[Any] | None
    task: str


@dataclass(frozen=True)
class PrecisionScores:
    """Precisions, compared by the score of a head on held-out items.

    Parameters
    ----------
    compared : tuple of Fidelity
        Slow ones first; of each family the fastest, and the fastest whose features are close enough. Where any may be
        taken, those that are hardly faster than float32 have no score; nor have those that fail for items that it
        computes.
    chosen : str
        The fastest with which a head is as good as with the best, within one standard error of the paired difference,
        and one point; float32 only if the precision that was named is not.
    """

    compared: tuple[Fidelity, ...]
    chosen: str

    def __str__(self) -> str:
        """Return a line for each precision, and which is chosen."""
        return "\n".join([*map(str, self.compared), f"precision: {self.chosen}"])


def choose_by_score(extractor: Extractor, sample: LabelledSample) -> PrecisionScores:
    """Let an extractor compute in the fastest precision with which a head is as good, and certify the scores.

    Raises
    ------
    InputError
        If a precision was named, and a head is worse with it; or if no item can be held out.
    """
    scores = score_precisions(extractor, sample)
    if extractor.precision not in (AUTO, parse_family(scores.chosen)):
        measured = "; ".join(map(str, scores.compared))
        raise InputError(
            f"precision {extractor.precision!r} lowers the score of a head on held-out items: {measured}. Use "
            "precision='auto', or fidelity='features' to take it all the same."
        )
    extractor.settle_on(scores.chosen, scores.compared)
    return scores


def score_precisions(extractor: Extractor, sample: LabelledSample) -> PrecisionScores:
    """Cross-validate a head on features in float32 and in each precision that a fitted extractor judged.

    The extractor computes in any of them afterwards. Raise an InputError if no item can be held out.
    """
    is_named = extractor.precision != AUTO
    variants = select_variants(extractor.graph.certificate.fidelity)
    # Compute the features.
    extractor.settle_on(FLOAT32)
    computed = {FLOAT32: extractor.compute(sample.items)}
    kept = computed[FLOAT32].kept
    own = Fidelity(FLOAT32, extractor.session.provider, items=len(kept), usual=0.0, worst=0.0, speed=1.0)
    variants.setdefault(FLOAT32, own)
    for precision, fidelity in variants.items():
        if precision != FLOAT32 and (is_named or fidelity.speed >= MIN_SPEEDUP):
            report_step(f"computing features in {parse_family(precision)} to score them")
            extractor.settle_on(precision)
            with suppress(StoppedError):  # an item has no finite features
                computed[precision] = extractor.compute(sample.items)
    # Train heads on them.
    matrices = {precision: found.matrix for precision, found in computed.items() if np.array_equal(found.kept, kept)}
    groups = None if sample.groups is None else sample.groups[kept]
    scores = compare_features(matrices, sample.targets[kept], sample.task, groups)

    def cost(precision: str) -> tuple[bool, float]:
        """Return what a precision costs; if another one was named, float32 is the last resort."""
        return is_named and precision == FLOAT32, -variants[precision].speed

    compared = [add_score(fidelity, scores) for fidelity in variants.values()]
    chosen = choose_features(scores, cost).chosen
    return PrecisionScores(tuple(sorted(compared, key=lambda fidelity: fidelity.speed)), chosen)


def select_variants(judged: Sequence[Fidelity]) -> dict[str, Fidelity]:
    """Return what was measured of each precision that is to be compared, on its fastest provider.

    Of a family they are the fastest, and the fastest whose features are close enough.
    """
    own = [choose_fastest(found) for found in group(judged, lambda fidelity: fidelity.precision)]
    variants: dict[str, Fidelity] = {}
    for found in group(own, lambda fidelity: parse_family(fidelity.precision)):
        for fidelity in (choose_fastest(found), max(found, key=lambda fidelity: fidelity.speed)):
            variants[fidelity.precision] = fidelity
    return variants


def group(judged: Sequence[Fidelity], key: Callable[[Fidelity], str]) -> list[list[Fidelity]]:
    """Return what was measured in groups of the same key."""
    groups: dict[str, list[Fidelity]] = {}
    for fidelity in judged:
        groups.setdefault(key(fidelity), []).append(fidelity)
    return list(groups.values())


def add_score(fidelity: Fidelity, scores: Mapping[str, HeldOutScores]) -> Fidelity:
    """Return what was measured of a precision with the score of a head, if one was trained, beside that in float32.

    A head that is hopeless on a part of the rows was not trained on all; then there is no paired difference.
    """
    own, exact = scores.get(fidelity.precision), scores[FLOAT32]
    if own is None:
        return fidelity
    if own.n_rows != exact.n_rows:
        return replace(fidelity, score=own.score, difference=own.score - exact.score)
    difference, uncertainty = compare_scores(own, exact)
    return replace(fidelity, score=own.score, difference=difference, uncertainty=uncertainty)
