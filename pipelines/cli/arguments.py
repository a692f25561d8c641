"""What the arguments of commands name: stores, sources, bundles and extractors, imported and opened on use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import InputError
from .options import BackboneOptions, CutOptions, ExecutionOptions, TableOptions

if TYPE_CHECKING:
    from ...extract.extractor.extraction import Extraction
    from ...extract.sources.table import Table
    from ...extract.store.feature_store import FeatureStore
    from ..estimators.transfer_classifier import TransferClassifier
    from ..estimators.transfer_regressor import TransferRegressor


def open_store(path: str | Path) -> FeatureStore:
    """Open a feature store."""
    from ...extract.store.feature_store import FeatureStore

    return FeatureStore.open(path)


def open_data(source: str, table: TableOptions) -> str | Table | FeatureStore:
    """Return a source, or a feature store where there is one, for which names of table columns are refused."""
    from ...extract.store.description import is_store

    data = table.to_source(source)
    if not is_store(source):
        return data
    if table != TableOptions():
        raise InputError(f"{source} is a feature store: options for the columns of a table do not apply")
    return open_store(source)


def load_bundle(
    path: Path, trust: list[str] | None, execution: ExecutionOptions | None = None
) -> TransferClassifier | TransferRegressor:
    """Load a bundle and set how it runs, by default as it was saved."""
    from ..estimators.load import load

    estimator = load(path, trust or ())
    if execution is not None:
        parameters = execution.to_parameters()
        estimator.set_params(**parameters)
        estimator.extractor_.set_params(**parameters)
    return estimator


def make_extraction(
    name: str | None, backbone: BackboneOptions, cut: CutOptions, execution: ExecutionOptions
) -> Extraction:
    """Return the extractor that the options describe."""
    from ...extract.extractor.extraction import Extraction

    return Extraction(
        backbone.to_spec(name),
        layer=cut.layers,
        pool=cut.pools,
        normalize=cut.normalize,
        **execution.to_parameters(),
    )
