"""Whole workflows: classifiers and regressors on raw items, bundles, fused export, the demo, the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy_exports import lazy_exports

if TYPE_CHECKING:
    from .estimators.load import load
    from .estimators.refit import refit
    from .estimators.transfer_classifier import TransferClassifier
    from .estimators.transfer_regressor import TransferRegressor
    from .finetuning.finetuned_classifier import FineTunedClassifier
    from .finetuning.finetuned_regressor import FineTunedRegressor
    from .frames import FrameFunction
    from .selection.advice import Advice
    from .selection.advise import advise
    from .selection.apply_findings import apply_findings
    from .selection.audit import audit
    from .selection.findings import Finding, Findings
    from .selection.learning_curve import few_shot_curve
    from .selection.probe import LayerProbe

__all__ = [
    "Advice",
    "Finding",
    "Findings",
    "FineTunedClassifier",
    "FineTunedRegressor",
    "FrameFunction",
    "LayerProbe",
    "TransferClassifier",
    "TransferRegressor",
    "advise",
    "apply_findings",
    "audit",
    "few_shot_curve",
    "load",
    "refit",
]

__getattr__, __dir__, _ = lazy_exports(
    __name__,
    {
        "Advice": ".selection.advice",
        "Finding": ".selection.findings",
        "Findings": ".selection.findings",
        "FineTunedClassifier": ".finetuning.finetuned_classifier",
        "FineTunedRegressor": ".finetuning.finetuned_regressor",
        "FrameFunction": ".frames",
        "LayerProbe": ".selection.probe",
        "TransferClassifier": ".estimators.transfer_classifier",
        "TransferRegressor": ".estimators.transfer_regressor",
        "advise": ".selection.advise",
        "apply_findings": ".selection.apply_findings",
        "audit": ".selection.audit",
        "few_shot_curve": ".selection.learning_curve",
        "load": ".estimators.load",
        "refit": ".estimators.refit",
    },
)
