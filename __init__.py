"""topwork: transfer learning by feature extraction; see README.md.

This facade imports nothing until a name is asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .extract.cut import Column
    from .extract.extractor import Extractor
    from .extract.job import extract
    from .extract.layer import Layer
    from .extract.layers import layers
    from .extract.ledger import Ledger
    from .extract.sources.table import Table
    from .extract.store.feature_store import FeatureStore
    from .heads.few_shot import few_shot_curve
    from .heads.linear_probe import LinearProbe, LinearProbeCV
    from .heads.mlp import MLPHead
    from .heads.mlp_regressor import MLPHeadRegressor
    from .models.backbone import Backbone
    from .models.image_spec import ImageSpec
    from .models.input_overrides import InputOverrides
    from .models.loading import BackboneSpec, load_backbone
    from .models.tensor_spec import TensorSpec
    from .models.text_spec import TextSpec
    from .pipelines.bundle import load
    from .pipelines.refit import refit
    from .pipelines.transfer import TransferClassifier
    from .pipelines.transfer_regressor import TransferRegressor

__version__ = "0.1.0"

__all__ = [
    "Backbone",
    "BackboneSpec",
    "Column",
    "Extractor",
    "FeatureStore",
    "ImageSpec",
    "InputOverrides",
    "Layer",
    "Ledger",
    "LinearProbe",
    "LinearProbeCV",
    "MLPHead",
    "MLPHeadRegressor",
    "Table",
    "TensorSpec",
    "TextSpec",
    "TransferClassifier",
    "TransferRegressor",
    "extract",
    "few_shot_curve",
    "layers",
    "load",
    "load_backbone",
    "refit",
]

_HOMES = {
    "Backbone": ".models.backbone",
    "BackboneSpec": ".models.loading",
    "Column": ".extract.cut",
    "Extractor": ".extract.extractor",
    "FeatureStore": ".extract.store.feature_store",
    "ImageSpec": ".models.image_spec",
    "InputOverrides": ".models.input_overrides",
    "Layer": ".extract.layer",
    "Ledger": ".extract.ledger",
    "LinearProbe": ".heads.linear_probe",
    "LinearProbeCV": ".heads.linear_probe",
    "MLPHead": ".heads.mlp",
    "MLPHeadRegressor": ".heads.mlp_regressor",
    "Table": ".extract.sources.table",
    "TensorSpec": ".models.tensor_spec",
    "TextSpec": ".models.text_spec",
    "TransferClassifier": ".pipelines.transfer",
    "TransferRegressor": ".pipelines.transfer_regressor",
    "extract": ".extract",
    "few_shot_curve": ".heads.few_shot",
    "layers": ".extract.layers",
    "load": ".pipelines.bundle",
    "load_backbone": ".models.loading",
    "refit": ".pipelines.refit",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(_HOMES[name], __name__)
    return module if name == "extract" else getattr(module, name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
