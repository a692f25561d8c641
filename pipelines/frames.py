"""``FrameFunction``: predictions or features for the rows of data frames, on Spark, Dask, or pandas alone."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from sklearn.base import RegressorMixin

from ..errors import DecodeError, InputError, MissingPackageError, SourceError
from ..extract.extractor.extractor import Extractor
from ..extract.sources.item import Item, Source
from ..extract.sources.item_kinds import ITEM_KINDS
from ..extract.sources.sequence import make_item
from ..extract.store.description import is_store
from ..extract.store.feature_store import FeatureStore
from ..hardware import limit_cores
from .estimators.load import load
from .estimators.prediction_rows import PredictionRows, has_label_sets, iterate_features

ROWS_PER_CALL = 1024
_opening = Lock()
SPARK_TYPES = {"text": "string", "integer": "bigint", "number": "double", "truth": "boolean"}
SPARK_TYPES |= {"texts": "array<string>", "vector": "array<float>"}
PANDAS_TYPES = {"integer": "Int64", "number": "float64", "truth": "boolean"}
"""Types that can be empty, as those of rows that failed are; all others are columns of objects."""


class FrameFunction:
    """A function from data frame to data frame: what a bundle predicts, or the features that a store's graph computes.

    Called with a pandas data frame, it returns one with the same rows and more columns: of a bundle ``label`` (or
    ``value``) and the probabilities ``p_…``; of a store, a list of numbers for each of its columns; and for both
    ``status`` and ``reason``, as no row is left out: one whose item cannot be read has ``"failed"``, the reason, and
    nothing else. Called with an iterator of data frames, it yields one for each. It can be pickled; in every process
    the bundle is loaded once, from its path, without torch. A column of the frame that is called as one of these
    becomes ``source_…``.

    Parameters
    ----------
    place : str or path
        A bundle or a feature store, which every machine must find there.
    column : str
        The column with the items: paths and URLs, the bytes of files, or texts.
    top_k : int, optional
        Of a bundle with probabilities: the likeliest classes (``label_1``, ``p_1``, …) in place of all.
    provider : str
        Where the graph runs.
    cores : int, optional
        Cores that a process uses; by default all of its machine. Spark starts a process for each of its cores.

    Examples
    --------
    With Spark and Dask, where ``photos`` has a column ``path``::

        predict = topwork.FrameFunction("bundle/", cores=1)
        photos.mapInPandas(predict, predict.spark_schema(photos.schema))  # Spark
        photos.map_partitions(predict, meta=predict(photos._meta))  # Dask
    """

    def __init__(
        self,
        place: str | Path,
        column: str = "path",
        *,
        top_k: int | None = None,
        provider: str = "auto",
        cores: int | None = None,
    ) -> None:
        self.place = str(place)
        self.column = column
        self.top_k = top_k
        self.provider = provider
        self.cores = cores

    def __call__(self, frames: Any) -> Any:
        """Return a frame with its new columns, or yield one for each of several frames.

        Parameters
        ----------
        frames : pandas.DataFrame or iterable of pandas.DataFrame

        Returns
        -------
        pandas.DataFrame or iterator of pandas.DataFrame
            With the rows of the frame, in its order.

        Raises
        ------
        InputError
            If a frame has no column of the items.
        """
        if hasattr(frames, "columns"):
            return self._apply(frames)
        return map(self._apply, frames)

    @property
    def columns(self) -> dict[str, str]:
        """The columns that are added, with their types in Spark."""
        return {name: SPARK_TYPES[kind] for name, kind in self._model.kinds.items()}

    def spark_schema(self, schema: Any) -> Any:
        """Return the schema of the result for a Spark data frame with a schema.

        Parameters
        ----------
        schema : pyspark.sql.types.StructType

        Returns
        -------
        pyspark.sql.types.StructType
            The columns of the frame, then those that are added.

        Raises
        ------
        MissingPackageError
            If pyspark is not installed.
        """
        try:
            from pyspark.sql.types import StructField, StructType
        except ImportError as error:
            raise MissingPackageError("spark_schema needs the package pyspark, which Spark brings") from error
        names = rename(schema.names, self.columns)
        kept = [StructField(names[field.name], field.dataType, field.nullable) for field in schema.fields]
        added = StructType.fromDDL(", ".join(f"`{name}` {kind}" for name, kind in self.columns.items()))
        return StructType([*kept, *added.fields])

    @property
    def _model(self) -> FrameModel:
        with _opening:
            return open_model(self.place, self.top_k, self.provider)

    def _apply(self, frame: Any) -> Any:
        import pandas as pd  # type: ignore[import-untyped]

        if self.column not in frame.columns:
            raise InputError(f"a data frame has no column {self.column!r}; it has {', '.join(map(str, frame.columns))}")
        model = self._model
        cells = frame[self.column]
        values = [None if missing else value for value, missing in zip(cells, cells.isna(), strict=True)]
        rows: list[dict[str, Any]] = []
        if values:
            with model.lock:
                if self.cores is not None:
                    limit_cores(self.cores)
                rows = list(model.compute(CellSource(values, model.kind)))
        result = frame.rename(columns=rename(list(frame.columns), model.kinds))
        for name, kind in model.kinds.items():
            found = [row.get(name) for row in rows]
            result[name] = pd.Series(found, index=frame.index, dtype=PANDAS_TYPES.get(kind, "object"))
        return result


def rename(names: Iterable[str], taken: Iterable[str]) -> dict[str, str]:
    """Return what the columns of a frame are called beside the columns that are added."""
    used = set(taken)
    renamed = {}
    for name in names:
        new_name = name
        while new_name in used:
            new_name = f"source_{new_name}"
        used.add(new_name)
        renamed[name] = new_name
    return renamed


@dataclass(frozen=True)
class FrameModel:
    """What computes the new columns: the kind of input, the columns with the kinds of their values, and a function.

    `compute` yields a dictionary for each item; it is called by one thread at a time, as it uses all cores.
    """

    kind: str
    kinds: dict[str, str]
    compute: Callable[[Source], Iterator[dict[str, Any]]]
    lock: Any


@functools.lru_cache(maxsize=4)
def open_model(place: str, top_k: int | None, provider: str) -> FrameModel:
    """Open a bundle or a store, once in a process."""
    if is_store(place):
        return open_graph(FeatureStore.open(place), provider)
    estimator = load(place)
    estimator.extractor_.set_params(on_error="record", provider=provider)
    empty = PredictionRows(estimator, CellSource([], "text"), top_k)

    def predict(source: Source) -> Iterator[dict[str, Any]]:
        for rows, _ in PredictionRows(estimator, source, top_k).iterate():
            yield from rows

    kinds = {name: name_kind(name, estimator) for name in empty.columns if name != "id"}
    return FrameModel(estimator.extractor_.graph.input_spec.kind, kinds, predict, Lock())


def name_kind(name: str, estimator: Any) -> str:
    """Return the kind of the values in a column of predictions."""
    if name == "familiar":
        return "truth"
    if name.startswith("p_") or name == "value":
        return "number"
    if not name.startswith("label"):
        return "text"
    if has_label_sets(estimator):
        return "texts"
    kinds = {"i": "integer", "u": "integer", "f": "number", "b": "truth"}
    return "number" if isinstance(estimator, RegressorMixin) else kinds.get(estimator.classes_.dtype.kind, "text")


def open_graph(store: FeatureStore, provider: str) -> FrameModel:
    """Return what computes the columns of a store by its graph."""
    extractor = Extractor.from_graph(store.graph, provider=provider, on_error="record").fit(None)
    names = [column.name for column in extractor.columns]
    ends = np.cumsum([column.width for column in extractor.columns])[:-1]

    def compute(source: Source) -> Iterator[dict[str, Any]]:
        for features in iterate_features(extractor, source, size=ROWS_PER_CALL, start=0):
            vectors = iter(features.matrix)
            for reason in features.reasons:
                row: dict[str, Any] = {"status": "failed" if reason else "ok", "reason": reason}
                if reason is None:
                    row |= dict(zip(names, np.split(next(vectors), ends), strict=True))
                yield row

    kinds = {**dict.fromkeys(names, "vector"), "status": "text", "reason": "text"}
    return FrameModel(store.graph.input_spec.kind, kinds, compute, Lock())


class CellSource:
    """The cells of a column as items, each of which may fail for itself."""

    ignored = 0

    def __init__(self, values: list[Any], kind: str) -> None:
        self.values = values
        self.kind = kind

    def __len__(self) -> int:
        """Return the number of cells."""
        return len(self.values)

    def __iter__(self) -> Iterator[Item]:
        """Yield the items, whose ids are their positions."""
        for position, value in enumerate(self.values):
            yield replace(self._make_item(value, position), id=str(position))

    def _make_item(self, value: Any, position: int) -> Item:
        if value is None:
            return Item("", partial(fail, "the cell is empty"))
        try:
            return make_item(value, str(position), position=position, kind=ITEM_KINDS[self.kind])
        except SourceError as error:
            return Item("", partial(fail, str(error)))


def fail(reason: str) -> Any:
    """Fail as an item that cannot be read."""
    raise DecodeError(reason)
