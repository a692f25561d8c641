"""topwork: transfer learning by feature extraction; see README.md.

This facade imports nothing until a name is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lazy_exports import lazy_exports
from .telemetry import switch_off_telemetry

if TYPE_CHECKING:
    from .extract.engine.ledger import Ledger
    from .extract.extractor.extractor import Extractor
    from .extract.graphs.cut import Column
    from .extract.graphs.cutting import layers
    from .extract.graphs.layer import Layer
    from .extract.graphs.torch.upper_part import upper_part
    from .extract.jobs.job import extract_features
    from .extract.jobs.ray_engine import RayEngine
    from .extract.sources.table import Table
    from .extract.store.feature_store import FeatureStore
    from .extract.store.merging import Merge
    from .heads.linear.linear_probe import LinearProbe, LinearProbeCV
    from .heads.mlp.mlp_head import MLPHead
    from .heads.mlp.mlp_regressor import MLPHeadRegressor
    from .heads.transferability import Transferability, measure_transferability
    from .models.audio_spec import AudioSpec
    from .models.backbone import Backbone
    from .models.image_spec import ImageSpec
    from .models.input_spec import InputOverrides
    from .models.loading import BackboneSpec, load_backbone
    from .models.tensor_spec import TensorSpec
    from .models.text_spec import TextSpec
    from .pipelines.estimators.load import load
    from .pipelines.estimators.refit import refit
    from .pipelines.estimators.transfer_classifier import TransferClassifier
    from .pipelines.estimators.transfer_regressor import TransferRegressor
    from .pipelines.finetuning.finetuned_classifier import FineTunedClassifier
    from .pipelines.finetuning.finetuned_regressor import FineTunedRegressor
    from .pipelines.frames import FrameFunction
    from .pipelines.selection.advice import Advice
    from .pipelines.selection.advise import advise
    from .pipelines.selection.apply_findings import apply_findings
    from .pipelines.selection.audit import audit
    from .pipelines.selection.findings import Finding, Findings
    from .pipelines.selection.learning_curve import few_shot_curve
    from .pipelines.selection.probe import LayerProbe

switch_off_telemetry()

__version__ = "0.1.0"

__all__ = [
    "Advice",
    "AudioSpec",
    "Backbone",
    "BackboneSpec",
    "Column",
    "Extractor",
    "FeatureStore",
    "Finding",
    "Findings",
    "FineTunedClassifier",
    "FineTunedRegressor",
    "FrameFunction",
    "ImageSpec",
    "InputOverrides",
    "Layer",
    "LayerProbe",
    "Ledger",
    "LinearProbe",
    "LinearProbeCV",
    "MLPHead",
    "MLPHeadRegressor",
    "Merge",
    "RayEngine",
    "Table",
    "TensorSpec",
    "TextSpec",
    "TransferClassifier",
    "TransferRegressor",
    "Transferability",
    "advise",
    "apply_findings",
    "audit",
    "extract_features",
    "few_shot_curve",
    "layers",
    "load",
    "load_backbone",
    "measure_transferability",
    "refit",
    "upper_part",
]

__getattr__, __dir__, _ = lazy_exports(
    __name__,
    {
        "Advice": ".pipelines.selection.advice",
        "Backbone": ".models.backbone",
        "BackboneSpec": ".models.loading",
        "Column": ".extract.graphs.cut",
        "Extractor": ".extract.extractor.extractor",
        "FeatureStore": ".extract.store.feature_store",
        "Finding": ".pipelines.selection.findings",
        "Findings": ".pipelines.selection.findings",
        "FineTunedClassifier": ".pipelines.finetuning.finetuned_classifier",
        "FineTunedRegressor": ".pipelines.finetuning.finetuned_regressor",
        "FrameFunction": ".pipelines.frames",
        "AudioSpec": ".models.audio_spec",
        "ImageSpec": ".models.image_spec",
        "InputOverrides": ".models.input_spec",
        "Layer": ".extract.graphs.layer",
        "LayerProbe": ".pipelines.selection.probe",
        "Ledger": ".extract.engine.ledger",
        "LinearProbe": ".heads.linear.linear_probe",
        "LinearProbeCV": ".heads.linear.linear_probe",
        "MLPHead": ".heads.mlp.mlp_head",
        "MLPHeadRegressor": ".heads.mlp.mlp_regressor",
        "Merge": ".extract.store.merging",
        "RayEngine": ".extract.jobs.ray_engine",
        "Table": ".extract.sources.table",
        "TensorSpec": ".models.tensor_spec",
        "TextSpec": ".models.text_spec",
        "TransferClassifier": ".pipelines.estimators.transfer_classifier",
        "TransferRegressor": ".pipelines.estimators.transfer_regressor",
        "Transferability": ".heads.transferability",
        "advise": ".pipelines.selection.advise",
        "apply_findings": ".pipelines.selection.apply_findings",
        "audit": ".pipelines.selection.audit",
        "extract_features": ".extract.jobs.job",
        "few_shot_curve": ".pipelines.selection.learning_curve",
        "layers": ".extract.graphs.cutting",
        "load": ".pipelines.estimators.load",
        "load_backbone": ".models.loading",
        "measure_transferability": ".heads.transferability",
        "refit": ".pipelines.estimators.refit",
        "upper_part": ".extract.graphs.torch.upper_part",
    },
)
