"""The choice of a precision: judged on the user's items, the fastest that is accurate enough, remembered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from ...errors import InputError, ProviderError
from ...hardware import available_cores, processor
from ...identity import digest
from ...progress import report_step
from ...user_cache import recall, remember
from ..graphs.cache_entry import is_intact
from ..graphs.exported_graph import ExportedGraph
from ..graphs.fidelity import FIDELITY_FORMAT, MAX_JUDGED_ITEMS, Fidelity
from ..runtime.providers import LOWER_PRECISIONS, find_providers, find_rivals, find_runtime_versions, has_package
from .lowered import check_size, is_convertible, locate_lowered_graph, lower_graph
from .trial import CALIBRATION_ITEMS, MIN_SPEEDUP, Trial, choose_fastest, select_passing

if TYPE_CHECKING:
    from ...models.input_spec import InputSpec
    from ..engine.run_config import RunConfig
    from ..preprocess.preprocessor import Prepared

Draw: TypeAlias = "Callable[[Sequence[InputSpec], int], Sequence[tuple[Prepared, ...]]]"
"""Takes specifications and a number of items; returns at most as many items, each prepared for each specification."""

AUTO = "auto"
MIN_ITEMS = 32
"""With fewer items ``auto`` computes in float32: judging would take longer than it saves."""


JOB_TO_JUDGED_RATIO = 8
"""Items of a short job for each that judges."""
MIN_ITEMS_TO_SEARCH = 5000
"""With fewer items ``auto`` compares whole precisions: to search for a mixture, or to make int8 in blocks, takes about
as long as a thousand items."""


def choose_precision(
    graph: ExportedGraph,
    config: RunConfig,
    draw: Draw,
    *,
    n_items: int | None = None,
    candidates: Sequence[str] | None = None,
    min_speedup: float = MIN_SPEEDUP,
    trial_type: type[Trial] = Trial,
) -> ExportedGraph:
    """Return the graph in the fastest precision whose features of some items are close to those in float32.

    The measurements are in the certificate of the returned graph, and are remembered: the same items on the same
    machine are judged once. Where images are decoded fast, that is judged as well, by comparing float32 features with
    those of exact decoding.

    The graph is in fp32. A precision that the configuration names is taken whatever is measured; it is an InputError if
    it depends on items, and there are none. ``"auto"`` judges the families `candidates`, by default those that the
    provider computes in natively, and takes one whose speed is at least `min_speedup` times that of float32. In a short
    job, of `n_items`, it spends no more time on that than may be saved: fewer items judge, and no mixtures are tried.
    """
    is_automatic = config.precision == AUTO
    if not is_automatic:
        check_size(graph, config.precision)
        families = [config.precision]
    elif candidates is None:
        families = [family for family in find_candidates(config.provider) if is_convertible(graph, family)]
    else:
        families = list(candidates)
    if is_automatic and families and len(find_rivals(config.provider, "fp32")) > 1:
        families.append("fp32")  # timed on each provider
    n_judged, n_calibrating = count_trial_items(n_items if is_automatic else None)
    # Draw items, prepared as they are decoded and as exact decoding prepares them.
    specs = list(dict.fromkeys([graph.input_spec, graph.input_spec.with_exact_decoding()]))
    is_decoded_fast = len(specs) > 1
    drawn: Sequence[tuple[Prepared, ...]] = []
    if is_decoded_fast or set(families) - {"fp32"}:
        drawn = draw(specs, n_judged + (n_calibrating if "int8" in families else 0))
    # Judge.
    if is_automatic and len(drawn) < MIN_ITEMS:
        families = []
    if is_decoded_fast and "fp32" not in families:
        families.append("fp32")
    if not drawn or not families:
        return graph if is_automatic else lower_graph(graph, config.precision)
    trial = trial_type(
        graph=graph,
        provider=config.provider,
        items=[ways[0] for ways in drawn[:n_judged]],
        originals=[ways[-1] for ways in drawn[:n_judged]],
        calibrating=[ways[0] for ways in drawn[-n_calibrating:]],
        is_automatic=is_automatic,
        min_speedup=min_speedup,
        is_thorough=not is_automatic or n_items is None or n_items >= MIN_ITEMS_TO_SEARCH,
    )
    judged = judge_once(trial, families)
    # Choose.
    precision = select_precision(trial, judged)
    if config.provider == AUTO:
        remember_speeds(graph, judged, precision)
    return replace(locate_lowered_graph(graph, precision), fidelity=judged)


def remember_speeds(graph: ExportedGraph, judged: Sequence[Fidelity], chosen: str) -> None:
    """Remember the speeds of the providers in each precision; those that are not close enough only if none is.

    Those in float32 are of use only where float32 is chosen; jobs in float32 go on as they were begun.
    """
    precisions = {fidelity.precision for fidelity in judged}
    if chosen != "fp32":
        precisions.discard("fp32")
    for precision in precisions:
        own = [fidelity for fidelity in judged if fidelity.precision == precision]
        speeds = {fidelity.provider: fidelity.speed for fidelity in select_passing(own)}
        locate_lowered_graph(graph, precision).remember_speeds(speeds)


def select_precision(trial: Trial, judged: Sequence[Fidelity]) -> str:
    """Return the precision to compute in after a trial: with ``"auto"`` float32 if no other is worth it."""
    eligible = [fidelity for fidelity in judged if fidelity.precision != "fp32"]
    if trial.is_automatic:
        eligible = list(filter(trial.is_worth, eligible))
    return choose_fastest(eligible).precision if eligible else "fp32"


def count_trial_items(n_items: int | None) -> tuple[int, int]:
    """Return the numbers of items to judge with, and to find the ranges of int8 on, in a job; None for a long one."""
    share = MAX_JUDGED_ITEMS if n_items is None else max(MIN_ITEMS, n_items // JOB_TO_JUDGED_RATIO)
    return min(MAX_JUDGED_ITEMS, share), min(CALIBRATION_ITEMS, share)


def find_candidates(provider: str) -> list[str]:
    """Return the families that may be faster than float32 on a provider; none without the package onnx, which converts.

    A provider must compute in the precision natively: the processor emulates float16.
    """
    if not has_package("onnx"):
        return []
    candidates = []
    for precision in LOWER_PRECISIONS:
        try:
            first = find_providers(provider, precision)[0]
        except (ProviderError, InputError):
            continue
        if (precision, first.name) != ("fp16", "cpu"):
            candidates.append(precision)
    return candidates


def judge_once(trial: Trial, families: Sequence[str]) -> tuple[Fidelity, ...]:
    """Judge precisions, or read what was measured before with these items on this machine."""
    conditions = [
        trial.provider,
        families,
        trial.digest(),
        find_runtime_versions(),
        processor(),
        available_cores(),
        FIDELITY_FORMAT,
    ]
    path = trial.graph.path.with_name(f"fidelity-{digest(conditions)[:16]}.json")
    recalled = recall(path)
    if recalled is not None:
        remembered = tuple(Fidelity(**values) for values in recalled)
        if all(has_intact_graph(trial.graph, fidelity.precision) for fidelity in remembered):
            return remembered
    judged: list[Fidelity] = []
    for family in families:
        judged.extend(judge_family(trial, family))
    if "int8" in families and trial.is_worth_blocks(judged):
        report_step("choosing the precision: trying int8 in blocks")
        judged.extend(try_to_judge(trial, trial.judge_products))
    remember(path, [asdict(fidelity) for fidelity in judged])
    return tuple(judged)


def has_intact_graph(graph: ExportedGraph, precision: str) -> bool:
    """Return whether a graph, whose own files are known to be intact, is there in a precision."""
    return precision == "fp32" or is_intact(locate_lowered_graph(graph, precision))


def judge_family(trial: Trial, family: str) -> list[Fidelity]:
    """Judge a precision."""
    report_step(f"choosing the precision: trying {family}")
    return try_to_judge(trial, partial(trial.judge, family))


def try_to_judge(trial: Trial, judge: Callable[[], Iterable[Fidelity]]) -> list[Fidelity]:
    """Return what a trial finds; nothing with ``"auto"`` where the provider cannot load or compute it."""
    try:
        return list(judge())
    except ProviderError:
        if trial.is_automatic:
            return []
        raise
