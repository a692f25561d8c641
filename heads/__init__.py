"""Estimators on feature matrices: ``(X, y)`` in, predictions out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy_exports import lazy_exports

if TYPE_CHECKING:
    from .auto_head import AutoHead
    from .few_shot import few_shot_curve
    from .fit_report import FitReport
    from .learning_curve import FewShotPoint, LearningCurve
    from .linear.linear_probe import LinearProbe, LinearProbeCV
    from .linear.path_display import PenaltyPathDisplay
    from .mlp.mlp_head import MLPHead
    from .mlp.mlp_regressor import MLPHeadRegressor
    from .registry import resolve_head
    from .transferability import (
        Transferability,
        effective_rank,
        h_score,
        logme,
        measure_transferability,
        nearest_neighbor_score,
        regularised_h_score,
        transrate,
    )

__all__ = [
    "AutoHead",
    "FewShotPoint",
    "FitReport",
    "LearningCurve",
    "LinearProbe",
    "LinearProbeCV",
    "MLPHead",
    "MLPHeadRegressor",
    "PenaltyPathDisplay",
    "Transferability",
    "effective_rank",
    "few_shot_curve",
    "h_score",
    "logme",
    "measure_transferability",
    "nearest_neighbor_score",
    "regularised_h_score",
    "resolve_head",
    "transrate",
]

__getattr__, __dir__, _ = lazy_exports(
    __name__,
    {
        "AutoHead": ".auto_head",
        "FewShotPoint": ".learning_curve",
        "FitReport": ".fit_report",
        "LearningCurve": ".learning_curve",
        "LinearProbe": ".linear.linear_probe",
        "LinearProbeCV": ".linear.linear_probe",
        "MLPHead": ".mlp.mlp_head",
        "MLPHeadRegressor": ".mlp.mlp_regressor",
        "PenaltyPathDisplay": ".linear.path_display",
        "Transferability": ".transferability",
        "effective_rank": ".transferability",
        "few_shot_curve": ".few_shot",
        "h_score": ".transferability",
        "logme": ".transferability",
        "measure_transferability": ".transferability",
        "nearest_neighbor_score": ".transferability",
        "regularised_h_score": ".transferability",
        "resolve_head": ".registry",
        "transrate": ".transferability",
    },
)
