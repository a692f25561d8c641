"""Estimators on feature matrices: ``(X, y)`` in, predictions out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy_exports import lazy_exports

if TYPE_CHECKING:
    from .few_shot import FewShotPoint, few_shot_curve
    from .fit_report import FitReport
    from .linear.linear_probe import LinearProbe, LinearProbeCV
    from .mlp.mlp_head import MLPHead
    from .mlp.mlp_regressor import MLPHeadRegressor
    from .registry import resolve_head

__all__ = [
    "FewShotPoint",
    "FitReport",
    "LinearProbe",
    "LinearProbeCV",
    "MLPHead",
    "MLPHeadRegressor",
    "few_shot_curve",
    "resolve_head",
]

__getattr__, __dir__, _ = lazy_exports(
    __name__,
    {
        "FewShotPoint": ".few_shot",
        "FitReport": ".fit_report",
        "LinearProbe": ".linear.linear_probe",
        "LinearProbeCV": ".linear.linear_probe",
        "MLPHead": ".mlp.mlp_head",
        "MLPHeadRegressor": ".mlp.mlp_regressor",
        "few_shot_curve": ".few_shot",
        "resolve_head": ".registry",
    },
)
