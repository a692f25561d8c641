"""What a report tells: collected from a bundle, its predictions of labelled items, and an audit."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import InputError
from ...extract.store.feature_store import FeatureStore
from ...progress import report_step
from ..estimators.evaluation import LABELS, REGRESSION, Evaluation, predict_labelled
from ..selection.audit import audit
from ..show import describe_path
from .confusion import Confusion, tabulate_confusions
from .curves import ScoreCurve, compute_curves
from .feature_map import FeatureMap, map_features
from .previews import Previews, read_previews
from .reliability import Bin, find_accuracy_interval, find_r2_interval, measure_reliability

if TYPE_CHECKING:
    from ...heads.familiarity import Familiarity
    from ...heads.feature_comparison import Interval
    from ..estimators.transfer_estimator import TransferEstimator
    from ..selection.findings import Finding, Findings

MAX_MISTAKES = 60
"""Number of mistakes that are shown, the worst ones."""
MAX_FINDINGS_OF_KIND = 20
PREVIEWS_OF_FINDINGS = 50
PREVIEWS_OF_CONFUSIONS = 50
PREVIEWS_OF_CELL = 6


@dataclass(frozen=True)
class EvaluationFacts:
    """What is told of the predictions of a split, or of all items.

    Parameters
    ----------
    evaluation : Evaluation
    measures : dict
    interval : Interval or None
        Confidence interval of the accuracy or of R2.
    mistakes : list of dict
        All of them, the worst first; of values all items.
    confusion : Confusion or None
        Of one label for each item.
    bins : list of Bin or None
        Where one label for each item is predicted with probabilities.
    feature_map : FeatureMap or None
    unfamiliar : int or None
        Number of items that are unlike those that the head was trained on, where that is known.
    """

    evaluation: Evaluation
    measures: dict[str, Any]
    interval: Interval | None
    mistakes: list[dict[str, Any]]
    confusion: Confusion | None
    bins: list[Bin] | None
    feature_map: FeatureMap | None
    unfamiliar: int | None = None

    def find_baseline(self) -> float | None:
        """Return the accuracy of always answering the most frequent label; None unless there is one for each item."""
        if self.confusion is None:
            return None
        counts = Counter(self.evaluation.answers.truth.tolist())
        return max(counts.values()) / counts.total()

    def list_mapped_ids(self) -> list[str]:
        """Return the ids of the points of the map; none without one."""
        if self.feature_map is None:
            return []
        ids = self.evaluation.answers.ids
        return [ids[row] for row in self.feature_map.rows.tolist()]


@dataclass(frozen=True)
class ReportFacts:
    """What a report tells.

    Parameters
    ----------
    bundle : dict
        See :func:`topwork.pipelines.show.describe_path`.
    evaluations : list of EvaluationFacts
        One for each split; none for a bundle alone.
    failures : list of (str, str)
        Id and reason of items that could not be used.
    findings : Findings or None
        Of the audit.
    curves : list of ScoreCurve
        By the number of labels, and by the layer, of a store.
    previews : Previews
    items_per_second : float or None
        Rate at which items were read, computed and predicted; None where features were read from a store.
    missing : list of str
        What the report does not tell, and how to see it; sentences.
    """

    bundle: dict[str, Any]
    evaluations: list[EvaluationFacts] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)
    findings: Findings | None = None
    curves: list[ScoreCurve] = field(default_factory=list)
    previews: Previews = field(default_factory=Previews)
    items_per_second: float | None = None
    missing: list[str] = field(default_factory=list)


def describe_bundle_alone(path: Path) -> ReportFacts:
    """Return what a bundle knows by itself."""
    missing = [
        "Give a source or a feature store of labelled items to see the evaluation, the confusion matrix, the "
        "calibration, the worst mistakes and a map of the features.",
        "Give a feature store to see suspected label errors, duplicates and curves.",
    ]
    return ReportFacts(bundle=require_bundle(path), missing=missing)


def require_bundle(path: Path) -> dict[str, Any]:
    """Return what a bundle knows; raise an InputError if the path is something else."""
    facts = describe_path(path)
    if facts["kind"] != "bundle":
        raise InputError(
            f"{path} is no bundle but a {facts['kind']}; a report is about a bundle, which `topwork fit` writes"
        )
    return facts


def collect_facts(
    path: Path,
    estimator: TransferEstimator,
    data: Any,
    *,
    items: Any,
    split: str | Sequence[str] | None,
    with_audit: bool,
    with_curves: bool,
) -> ReportFacts:
    """Return what a bundle knows, and how its estimator predicts the items of a source or store."""
    bundle = require_bundle(path)
    is_store = isinstance(data, FeatureStore)
    opened = data if is_store else estimator.extractor_.open(data)

    # Predict.
    start = time.perf_counter()
    evaluations = predict_labelled(estimator, opened, split, keep_features=True)
    seconds = time.perf_counter() - start
    report_step("collecting what the report tells")
    facts = [describe_evaluation(evaluation, estimator.familiarity_) for evaluation in evaluations]

    # Audit.
    missing: list[str] = []
    findings = None
    if is_store and with_audit:
        findings = audit_rows(data, facts, missing)
    elif not is_store:
        missing.append(
            "Give a feature store in place of the source to see suspected label errors, duplicates and curves."
        )
    n_known = sum(found.trained_on or 0 for found in evaluations)
    if n_known:
        missing.append(
            f"Give items that the head has not seen to see how good it is: it was trained on {n_known:,} of these."
        )

    # Compute curves.
    curves: list[ScoreCurve] = []
    if is_store and with_curves:
        curves = compute_curves(data, bundle["columns"][0]["name"], bundle["task"], missing)

    # Look at some items.
    source = None if is_store else opened
    if items is not None:
        source = estimator.extractor_.open(items)
    previews = Previews()
    if source is None:
        missing.append("Give the source of the store's items (--items) to see thumbnails or the beginnings of texts.")
    else:
        report_step("reading thumbnails")
        wanted = list_wanted(facts, findings)
        previews = read_previews(source, wanted, estimator.extractor_.graph.input_spec)

    n_items = sum(len(found.evaluation.answers) for found in facts)
    return ReportFacts(
        bundle=bundle,
        evaluations=facts,
        failures=list(dict.fromkeys(chain.from_iterable(found.failures for found in evaluations))),
        findings=findings,
        curves=curves,
        previews=previews,
        items_per_second=None if is_store else n_items / seconds,
        missing=missing,
    )


def describe_evaluation(evaluation: Evaluation, familiarity: Familiarity | None = None) -> EvaluationFacts:
    """Return what is told of the predictions of a split."""
    answers = evaluation.answers
    is_labels = evaluation.kind == LABELS
    mistakes = evaluation.list_mistakes()
    if evaluation.kind not in (LABELS, REGRESSION):
        mistakes.sort(key=lambda mistake: -(mistake["probability"] or 0.0))
    has_bins = is_labels and answers.probabilities is not None
    assert evaluation.features is not None
    unfamiliar = None
    if familiarity is not None:
        unfamiliar = int((~familiarity.are_familiar(evaluation.features)).sum())
    return EvaluationFacts(
        evaluation=evaluation,
        measures=evaluation.measure(),
        interval=find_interval(evaluation),
        mistakes=mistakes,
        confusion=tabulate_confusions(answers) if is_labels else None,
        bins=measure_reliability(answers) if has_bins else None,
        feature_map=map_features(evaluation.features),
        unfamiliar=unfamiliar,
    )


def find_interval(evaluation: Evaluation) -> Interval | None:
    """Return the confidence interval of the first measure."""
    answers = evaluation.answers
    if evaluation.kind == REGRESSION:
        return find_r2_interval(answers.truth.astype(np.float64), answers.predicted.astype(np.float64))
    is_right = answers.truth == answers.predicted
    return find_accuracy_interval(is_right if is_right.ndim == 1 else is_right.all(axis=1))


def audit_rows(store: FeatureStore, facts: list[EvaluationFacts], missing: list[str]) -> Findings | None:
    """Return the findings of an audit of a store; None if it cannot be audited, with the reason among `missing`."""
    report_step("auditing the store")
    task = "regression" if facts[0].evaluation.kind == REGRESSION else "classification"
    try:
        return audit(store, task=task)
    except InputError as error:
        missing.append(f"The store cannot be audited: {error}")
        return None


def list_wanted(facts: list[EvaluationFacts], findings: Findings | None) -> list[str]:
    """Return the ids of the items to look at, those that matter most first; there may be more than are shown."""
    wanted: list[str] = []
    for found in facts:
        wanted += [mistake["id"] for mistake in found.mistakes[:MAX_MISTAKES]]
    if findings is not None:
        wanted += islice(list_found_ids(findings), PREVIEWS_OF_FINDINGS)
    for found in facts:
        wanted += islice(list_confused_ids(found), PREVIEWS_OF_CONFUSIONS)
    mapped = [spread(found.list_mapped_ids()) for found in facts]
    return [*wanted, *chain.from_iterable(mapped)]


def list_found_ids(findings: Findings) -> Iterator[str]:
    """Yield the ids of the items that are shown of the findings."""
    for finding in select_findings(findings):
        yield finding.id
        if finding.related is not None:
            yield finding.related


def select_findings(findings: Findings) -> list[Finding]:
    """Return the findings that are shown: the first of each kind."""
    of_kinds = [findings.of_kind(kind)[:MAX_FINDINGS_OF_KIND] for kind in findings.counts]
    return list(chain.from_iterable(of_kinds))


def list_confused_ids(found: EvaluationFacts) -> Iterator[str]:
    """Yield the ids of the first items of each cell of the confusion matrix, those of wrong labels first."""
    if found.confusion is None:
        return
    ids = found.evaluation.answers.ids
    cells = sorted(found.confusion.cells.items(), key=lambda entry: entry[0][0] == entry[0][1])
    for _, rows in cells:
        for row in rows[:PREVIEWS_OF_CELL]:
            yield ids[row]


def spread(ids: Sequence[str]) -> Iterable[str]:
    """Return ids in an order whose beginning is drawn from all of them: seeded."""
    order = np.random.default_rng(0).permutation(len(ids))
    return [ids[place] for place in order.tolist()]
