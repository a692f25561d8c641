"""What the arguments of commands name: stores, sources, bundles and extractors, imported and opened on use."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import IdentityError, InputError
from .options import BackboneOptions, CutOptions, ExecutionOptions, TableOptions

if TYPE_CHECKING:
    from ...extract.extractor.extraction import Extraction
    from ...extract.sources.item import Source
    from ...extract.sources.table import Table
    from ...extract.store.feature_store import FeatureStore
    from ..estimators.stored_items import StoredItems
    from ..estimators.transfer_classifier import TransferClassifier
    from ..estimators.transfer_estimator import TransferEstimator
    from ..estimators.transfer_regressor import TransferRegressor


class NoPandas:
    """A finder of modules, as in ``sys.meta_path``, for which pandas is not installed."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> None:
        """Raise an ImportError for pandas, and leave other modules to other finders."""
        if name == "pandas":
            raise ImportError(name)


def import_arrow() -> None:
    """Import pyarrow without pandas, which it looks for with its first array, and which takes longer than pyarrow.

    What needs pandas can still import it.
    """
    import pyarrow

    sys.meta_path.insert(0, NoPandas)
    try:
        pyarrow.array([])
    finally:
        sys.meta_path.remove(NoPandas)


def open_store(path: str | Path) -> FeatureStore:
    """Open a feature store."""
    import_arrow()
    from ...extract.store.feature_store import FeatureStore

    return FeatureStore.open(path)


def open_data(source: str, table: TableOptions) -> str | Table | FeatureStore:
    """Return a source, or a feature store where there is one, for which names of table columns are refused."""
    import_arrow()
    from ...extract.store.description import is_store

    data = table.to_source(source)
    if not is_store(source):
        return data
    if table != TableOptions():
        raise InputError(f"{source} is a feature store: options for the columns of a table do not apply")
    return open_store(source)


def open_items(
    source: str, table: TableOptions, estimator: TransferEstimator, splits: list[str] | None
) -> Source | StoredItems:
    """Return the items of a source, of a single file, or the rows of a store, to be predicted."""
    from ...extract.sources.item_kinds import ITEM_KINDS
    from ...extract.sources.selected import select_source
    from ...extract.store.feature_store import FeatureStore
    from ..estimators.stored_items import StoredItems

    data = open_data(source, table)
    if isinstance(data, FeatureStore):
        return StoredItems.select(data, splits)
    kind = estimator.extractor_.graph.input_spec.kind
    is_single_file = kind != "tensor" and ITEM_KINDS[kind].matches(source) and Path(source).is_file()
    items = estimator.extractor_.open([Path(source)] if is_single_file else data)
    return select_source(items, splits)


def load_bundle(
    path: Path, trust: list[str] | None, execution: ExecutionOptions | None = None
) -> TransferClassifier | TransferRegressor:
    """Load a bundle and set how it runs, by default as it was saved."""
    import_arrow()
    from ..estimators.load import load

    estimator = load(path, trust or ())
    if execution is not None:
        parameters = execution.to_parameters()
        estimator.set_params(**parameters)
        estimator.extractor_.set_params(**parameters)
    return estimator


def choose_stored_cut(store: FeatureStore, cut: CutOptions) -> dict[str, Any]:
    """Return the layers, poolings and normalization that are asked for, and else those of the store."""
    columns = store.columns
    stored_layers = list(dict.fromkeys(column.layer for column in columns))
    stored_pools = list(dict.fromkeys(column.pool for column in columns if column.pool != "none"))
    return {
        "layer": cut.layers if cut.layer else stored_layers,
        "pool": cut.pools if cut.pool or not stored_pools else stored_pools,
        "normalize": cut.normalize or columns[0].normalize,
    }


def require_stored_cut(store: FeatureStore, layers: list[str], *, normalize: bool) -> None:
    """Raise an IdentityError if a store lacks a layer, or its features are not normalized as asked for."""
    names = list(dict.fromkeys(column.layer for column in store.columns))
    missing = [layer for layer in layers if layer not in names]
    if missing:
        raise IdentityError(
            f"{store.path} has no layer {', '.join(missing)}; it has {', '.join(names)}. Leave out --layer, add the "
            "layer with --add-columns and --backbone, or use another store."
        )
    if normalize and not store.columns[0].normalize:
        raise IdentityError(
            f"--normalize: the features of {store.path} are not normalized; leave it out, or use another store"
        )


def make_extraction(
    name: str | None,
    backbone: BackboneOptions,
    cut: CutOptions,
    execution: ExecutionOptions,
    store: FeatureStore | None = None,
) -> Extraction:
    """Return the extractor that the options describe; what they leave out is as in the store, where there is one."""
    import_arrow()
    from ...extract.extractor.extraction import Extraction

    if store is not None:
        chosen = choose_stored_cut(store, cut)
        is_named = name is not None or backbone != BackboneOptions()
        if is_named:
            return Extraction(backbone.to_spec(name), **chosen, **execution.to_parameters())
        require_stored_cut(store, chosen["layer"], normalize=cut.normalize)
        return Extraction(store.graph, **(chosen | {"pool": cut.pools}), **execution.to_parameters())
    return Extraction(
        backbone.to_spec(name),
        layer=cut.layers,
        pool=cut.pools,
        normalize=cut.normalize,
        **execution.to_parameters(),
    )
