"""What ``auto`` chooses for a backbone on this machine: all that it compares, measured, and why not the others."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..extract.engine.sampling import draw_items, make_sampler
from ..extract.graphs.cut import CutRequest
from ..extract.graphs.export import export
from ..extract.graphs.fidelity import MAX_ITEM_ERROR, MAX_JUDGED_ITEMS, MAX_P99_ERROR, Fidelity
from ..extract.graphs.pooling import AUTO as AUTO_POOL
from ..extract.precision.choice import (
    AUTO,
    MIN_ITEMS,
    find_candidates,
    judge_once,
    select_precision,
)
from ..extract.precision.lowered import is_convertible
from ..extract.precision.trial import CALIBRATION_ITEMS, MIN_SPEEDUP, Trial, choose_fastest
from ..extract.preprocess.by_kind import preprocessor_for
from ..models.audio_spec import AudioSpec
from ..models.benchmark_networks import make_benchmark_backbones

if TYPE_CHECKING:
    from ..models.backbone import Backbone

ITEM_SEED = 0
N_SYNTHETIC_ITEMS = 128


def bench_typical_networks() -> list[dict[str, Any]]:
    """Measure small untrained networks of typical operations; see :func:`bench_backbone`."""
    with tempfile.TemporaryDirectory(prefix="topwork-") as folder:
        backbones = make_benchmark_backbones(Path(folder))
        return [bench_backbone(name, backbone) for name, backbone in backbones.items()]


def bench_backbone(name: str, backbone: Backbone, source: Any = None) -> dict[str, Any]:
    """Measure the last layer of a backbone in each precision on each provider that ``auto`` compares.

    Parameters
    ----------
    name : str
        What the network is called in the result.
    backbone : Backbone
        It is exported into a temporary folder: everything is measured anew.
    source : source, optional
        The user's own items; by default they are synthetic.

    Returns
    -------
    dict
        ``network``, ``items`` (how many were compared), ``synthetic``, ``measured`` (each with the fields of
        :class:`topwork.extract.graphs.fidelity.Fidelity`, ``items_per_second`` and ``verdict``), and ``failed``, the
        reasons of those that do not compute it.

    Raises
    ------
    InputError
        If the source has too few items for a choice.
    """
    # Draw items, prepared as they are decoded and as exact decoding prepares them.
    spec = backbone.input_spec
    is_synthetic = source is None
    if is_synthetic:
        source = preprocessor_for(spec).synthetic(N_SYNTHETIC_ITEMS, np.random.default_rng(ITEM_SEED))
        if isinstance(spec, AudioSpec):
            source = [(samples, spec.rate) for samples in source]
    specs = list(dict.fromkeys([spec, spec.with_exact_decoding()]))
    drawn = draw_items(source, specs, MAX_JUDGED_ITEMS + CALIBRATION_ITEMS)
    if len(drawn) < MIN_ITEMS:
        raise InputError(
            f"the source has {len(drawn)} usable items; expected at least {MIN_ITEMS}, as auto takes fp32 with fewer"
        )
    # Judge.
    with tempfile.TemporaryDirectory(prefix="topwork-") as folder:
        request = CutRequest(("last",), (AUTO_POOL,), normalize=False)
        graph = export(backbone, request, Path(folder) / "graph", make_sampler(source))
        families = ["fp32", *(family for family in find_candidates(AUTO) if is_convertible(graph, family))]
        trial = Trial(
            graph=graph,
            provider=AUTO,
            items=[ways[0] for ways in drawn[:MAX_JUDGED_ITEMS]],
            originals=[ways[-1] for ways in drawn[:MAX_JUDGED_ITEMS]],
            calibrating=[ways[0] for ways in drawn[-CALIBRATION_ITEMS:]],
            is_automatic=True,
        )
        judged = judge_once(trial, families)
    # Choose.
    precision = select_precision(trial, judged)
    taken = choose_fastest([fidelity for fidelity in judged if fidelity.precision == precision])
    measured = [
        {
            **asdict(fidelity),
            "items_per_second": fidelity.speed * trial.float32_rate,
            "verdict": "auto takes it" if fidelity is taken else explain_rejection(fidelity),
        }
        for fidelity in judged
    ]
    return {
        "network": name,
        "items": taken.items,
        "synthetic": is_synthetic,
        "measured": measured,
        "failed": trial.failures,
    }


def explain_rejection(fidelity: Fidelity) -> str:
    """Return why ``auto`` takes something else."""
    if fidelity.usual > MAX_P99_ERROR:
        return f"99 % above {MAX_P99_ERROR}"
    if fidelity.worst > MAX_ITEM_ERROR:
        return f"worst above {MAX_ITEM_ERROR}"
    if fidelity.precision != "fp32" and fidelity.speed < MIN_SPEEDUP:
        return f"below {MIN_SPEEDUP} x"
    return "slower"
