"""From items on disk to feature matrices on disk: cut, export, certify, run and store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy_exports import lazy_exports

if TYPE_CHECKING:
    from ..progress import Progress
    from .engine.ledger import Ledger
    from .engine.run_config import ErrorPolicy, RunConfig
    from .extractor.extractor import Extractor
    from .graphs.certificate import Certificate
    from .graphs.cut import Column
    from .graphs.cutting import layers
    from .graphs.exported_graph import ExportedGraph
    from .graphs.layer import Layer
    from .graphs.torch.upper_part import UpperPart, upper_part
    from .jobs.job import extract_features
    from .jobs.ray_engine import RayEngine
    from .sources.opening import open_source
    from .sources.table import Table
    from .store.feature_map import FeatureMapDisplay
    from .store.feature_store import FeatureStore
    from .store.merging import Merge

__all__ = [
    "Certificate",
    "Column",
    "ErrorPolicy",
    "ExportedGraph",
    "Extractor",
    "FeatureMapDisplay",
    "FeatureStore",
    "Layer",
    "Ledger",
    "Merge",
    "Progress",
    "RayEngine",
    "RunConfig",
    "Table",
    "UpperPart",
    "extract_features",
    "layers",
    "open_source",
    "upper_part",
]

__getattr__, __dir__, _ = lazy_exports(
    __name__,
    {
        "Certificate": ".graphs.certificate",
        "Column": ".graphs.cut",
        "ErrorPolicy": ".engine.run_config",
        "ExportedGraph": ".graphs.exported_graph",
        "Extractor": ".extractor.extractor",
        "FeatureMapDisplay": ".store.feature_map",
        "FeatureStore": ".store.feature_store",
        "Layer": ".graphs.layer",
        "Ledger": ".engine.ledger",
        "Merge": ".store.merging",
        "Progress": "..progress",
        "RayEngine": ".jobs.ray_engine",
        "RunConfig": ".engine.run_config",
        "Table": ".sources.table",
        "UpperPart": ".graphs.torch.upper_part",
        "extract_features": ".jobs.job",
        "layers": ".graphs.cutting",
        "open_source": ".sources.opening",
        "upper_part": ".graphs.torch.upper_part",
    },
)
