"""Predictions as rows, a batch at a time: of the items of a source, or of the rows of a store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import RegressorMixin

from ...errors import InputError
from ...extract.sources.item import Source
from ...extract.sources.selected import SelectedSource
from ...extract.sources.several import SeveralSources
from ...extract.sources.table import TableSource
from ...extract.sources.windows import WindowedSource, find_start
from ...extract.store.feature_store import FeatureStore
from ...models.audio_spec import WINDOWS, AudioSpec
from ...url_secrets import hide_secrets
from .item_features import require_same_features
from .stored_items import StoredItems

if TYPE_CHECKING:
    import pyarrow
    from numpy.typing import NDArray

    from ...extract.extractor.extractor import Extractor
    from .transfer_estimator import TransferEstimator

PROBABILITY_DECIMALS = 6
TIME_DECIMALS = 6
MIN_BATCH_ROWS = 16
MAX_BATCH_ROWS = 1024
MAX_BATCH_PROBABILITIES = 200_000
OWN_COLUMNS = ("id", "label", "value", "status", "reason", "familiar")
"""Columns of predictions; a column of the source with such a name is called ``source_…``."""
STATUSES = ("ok", "failed", "abstained", "unfamiliar")


@dataclass(frozen=True)
class Features:
    """Features ``(n_usable, n_features)`` of a batch of items, and why the others have none.

    `reasons` has an entry for each item, None for those that have features; `marks` say of which content they are.
    """

    ids: list[str]
    marks: list[str]
    reasons: list[str | None]
    matrix: NDArray[np.float32]


class PredictionRows:
    """The rows of predictions of a source or store: their columns, and their values in batches.

    With `top_k`, the likeliest classes are listed instead of the probabilities of all. With `refuse_unfamiliar`, items
    that are not familiar have no answer; raise an InputError if the estimator does not know which are.
    """

    def __init__(
        self,
        estimator: TransferEstimator,
        data: Source | FeatureStore | StoredItems,
        top_k: int | None = None,
        *,
        refuse_unfamiliar: bool = False,
    ) -> None:
        if refuse_unfamiliar:
            estimator.require_familiarity()
        self.refuse_unfamiliar = refuse_unfamiliar
        self.estimator: Any = estimator
        self.data = StoredItems.select(data) if isinstance(data, FeatureStore) else data
        self.answer_column = "value" if isinstance(estimator, RegressorMixin) else "label"
        self.classes: list[Any] = []
        if self.answer_column == "label" and hasattr(estimator.head_, "predict_proba"):
            self.classes = estimator.classes_.tolist()
        if top_k is not None and (top_k < 1 or not self.classes):
            raise InputError(
                f"top_k={top_k}: expected a positive number of classes (--top-k), and a head with probabilities"
            )
        self.top_k = None if top_k is None else min(top_k, len(self.classes))
        self.table = find_table(data)
        spec = estimator.extractor_.graph.input_spec
        self.window_seconds = spec.window if isinstance(spec, AudioSpec) and spec.long == WINDOWS else None
        self.batch_rows = max(MIN_BATCH_ROWS, min(MAX_BATCH_ROWS, MAX_BATCH_PROBABILITIES // max(1, len(self.classes))))

    @property
    def statuses(self) -> tuple[str, ...]:
        """The statuses that rows are counted by; ``unfamiliar`` is known of some estimators only."""
        return STATUSES if self.estimator.familiarity_ is not None else STATUSES[:-1]

    @property
    def columns(self) -> list[str]:
        """Names of the columns, in order."""
        names = ["id", *self._list_times(""), self.answer_column, "status", "reason"]
        if self.estimator.familiarity_ is not None:
            names.append("familiar")
        return names + self._probability_columns() + list(self.source_columns().values())

    def _list_times(self, item_id: str) -> dict[str, float | None]:
        """Return start and end of a window of sound in seconds; for other items there are no such columns."""
        if self.window_seconds is None:
            return {}
        start = find_start(item_id)
        return {"start": start, "end": None if start is None else round(start + self.window_seconds, TIME_DECIMALS)}

    def _probability_columns(self) -> list[str]:
        if self.top_k is None:
            return [f"p_{name}" for name in self.classes]
        return [name for rank in range(1, self.top_k + 1) for name in (f"label_{rank}", f"p_{rank}")]

    def source_columns(self) -> dict[str, str]:
        """Return the names of the columns of a table under which predictions carry them; others have none."""
        if self.table is None:
            return {}
        taken = {*OWN_COLUMNS, *self._list_times(""), *self._probability_columns()}
        names: dict[str, str] = {}
        for name in self.table[0].column_names:
            new_name = name
            while new_name in taken:
                new_name = f"source_{new_name}"
            taken.add(new_name)
            names[name] = new_name
        return names

    def iterate(self, start: int = 0) -> Iterator[tuple[list[dict[str, Any]], list[str]]]:
        """Yield batches of rows with the marks of their items, from the item at a position on."""
        position = start
        for features in iterate_features(self.estimator.extractor_, self.data, size=self.batch_rows, start=start):
            rows = self._describe(features)
            self._add_source_columns(rows, position)
            position += len(rows)
            yield rows, features.marks

    def _describe(self, features: Features) -> list[dict[str, Any]]:
        answers = iter(self._list_answers(features.matrix))
        familiarities = iter(self._list_familiarities(features.matrix))
        probabilities = iter(self._list_probabilities(features.matrix))
        rows: list[dict[str, Any]] = []
        for item_id, reason in zip(features.ids, features.reasons, strict=True):
            row: dict[str, Any] = {"id": item_id, **self._list_times(item_id)}
            row |= {self.answer_column: None, "status": "failed", "reason": reason}
            if reason is None:
                familiarity = next(familiarities)
                row |= self._answer(next(answers), familiarity)
                row |= familiarity
                row |= next(probabilities, {})
            rows.append(row)
        return rows

    def _list_answers(self, matrix: NDArray[np.float32]) -> list[Any]:
        """Return the predicted label or value of each row; the names of several labels as a list."""
        answers = self.estimator.predict_features(matrix)
        if not has_label_sets(self.estimator):
            listed: list[Any] = answers.tolist()
            return listed
        names = np.array(self.estimator.classes_.tolist(), object)
        return [names[row == 1].tolist() for row in answers]

    def _answer(self, answer: Any, familiarity: dict[str, bool]) -> dict[str, Any]:
        """Return the answer and status of an item with features."""
        if self.refuse_unfamiliar and not familiarity["familiar"]:
            return {self.answer_column: None, "status": "unfamiliar"}
        return {self.answer_column: answer, "status": "abstained" if answer is None else "ok"}

    def _list_familiarities(self, matrix: NDArray[np.float32]) -> list[dict[str, bool]]:
        """Return the column ``familiar`` of each row, which is empty if the estimator does not know it."""
        if self.estimator.familiarity_ is None:
            return [{}] * len(matrix)
        return [{"familiar": value} for value in self.estimator.familiarity_.are_familiar(matrix).tolist()]

    def _list_probabilities(self, matrix: NDArray[np.float32]) -> list[dict[str, Any]]:
        if not self.classes:
            return []
        names = self._probability_columns()
        probabilities = self.estimator.predict_proba_features(matrix)
        rounded = np.round(np.asarray(probabilities, np.float64), PROBABILITY_DECIMALS).tolist()
        if self.top_k is None:
            return [dict(zip(names, of_classes, strict=True)) for of_classes in rounded]
        orders = np.argsort(-probabilities, axis=1, kind="stable")[:, : self.top_k].tolist()
        rows = []
        for of_classes, order in zip(rounded, orders, strict=True):
            values = [value for best in order for value in (self.classes[best], of_classes[best])]
            rows.append(dict(zip(names, values, strict=True)))
        return rows

    def _add_source_columns(self, rows: list[dict[str, Any]], start: int) -> None:
        if self.table is None:
            return
        table, positions = self.table
        names = self.source_columns()
        if positions is None:
            taken = table.slice(start, len(rows)).to_pylist()
        else:
            taken = table.take(positions[start : start + len(rows)]).to_pylist()
        for row, values in zip(rows, taken, strict=True):
            for name, value in values.items():
                row[names[name]] = hide_secrets(value) if isinstance(value, str) else value


def has_label_sets(estimator: Any) -> bool:
    """Return whether an estimator predicts several labels for each item."""
    return bool(getattr(estimator, "multilabel_", False))


def is_plain(kind: pyarrow.DataType) -> bool:
    """Return whether values of a type can be written to every kind of file: texts, numbers and truth values."""
    from pyarrow import types

    checks = (types.is_string, types.is_large_string, types.is_integer, types.is_floating, types.is_boolean)
    return any(check(kind) for check in checks)


def join_tables(found: list[tuple[pyarrow.Table, list[int] | None] | None]) -> pyarrow.Table | None:
    """Return tables one below the other; None if a source has none, or columns of one name have several types."""
    import pyarrow as pa

    tables = []
    for part in found:
        if part is None:
            return None
        table, positions = part
        tables.append(table if positions is None else table.take(positions))
    try:
        return pa.concat_tables(tables, promote_options="default")
    except pa.ArrowException:
        return None


def keep_plain_columns(table: pyarrow.Table) -> pyarrow.Table:
    """Return the columns with plain values, each name once; categories, dates and times as text."""
    import pyarrow as pa
    from pyarrow import types

    columns: dict[str, Any] = {}
    for number, field in enumerate(table.schema):
        column = table.column(number)
        if types.is_dictionary(field.type):
            column = column.cast(field.type.value_type)
        elif types.is_temporal(field.type):
            column = column.cast(pa.string())
        if is_plain(column.type):
            columns.setdefault(field.name, column)
    return pa.table(columns)


def find_table(data: Source | FeatureStore | StoredItems) -> tuple[pyarrow.Table, list[int] | None] | None:
    """Return the table that items are rows of, and the numbers of these rows, None for all; None without a table."""
    if isinstance(data, TableSource):
        return keep_plain_columns(data.rows), None
    if isinstance(data, SeveralSources):
        joined = join_tables([find_table(source) for source in data.sources])
        return None if joined is None else (joined, None)
    if isinstance(data, SelectedSource | WindowedSource):
        inner = find_table(data.source)
        if inner is not None:
            table, positions = inner
            chosen = data.positions if isinstance(data, SelectedSource) else data.sounds.tolist()
            return table, chosen if positions is None else [positions[place] for place in chosen]
    return None


def iterate_features(extractor: Extractor, data: Source | StoredItems, *, size: int, start: int) -> Iterator[Features]:
    """Yield features of the items of a source, or of the rows and failed items of a store, in batches of a size."""
    if isinstance(data, StoredItems):
        yield from read_features(extractor, data, size=size, start=start)
        return
    n_items = len(data)
    source = data if start == 0 else SelectedSource(data, range(start, n_items))
    width = extractor.n_features_out_
    with closing(extractor.iter_features(source)) as results:
        while batch := list(islice(results, size)):
            vectors = [vector for _, vector, _ in batch if vector is not None]
            yield Features(
                ids=[item.id for item, _, _ in batch],
                marks=[f"{item.id}|{item.size}|{item.mtime_ns}" for item, _, _ in batch],
                reasons=[reason if vector is None else None for _, vector, reason in batch],
                matrix=np.stack(vectors) if vectors else np.empty((0, width), np.float32),
            )


def read_features(extractor: Extractor, items: StoredItems, *, size: int, start: int) -> Iterator[Features]:
    """Yield the features of the rows of a store, then its failed items, in batches of a size."""
    require_same_features(items.store, extractor)
    matrices = [items.store.matrix(column.name) for column in extractor.columns]
    ids = items.list_ids()
    n_rows = len(items.rows)
    for first in range(start, len(items), size):
        chosen = items.rows[first : first + size]
        failed = items.failures[max(0, first - n_rows) : max(0, first + size - n_rows)]
        parts = [np.asarray(matrix[chosen], np.float32) for matrix in matrices]
        batch_ids = ids[first : first + size]
        reasons: list[str | None] = [None] * len(chosen)
        yield Features(
            ids=batch_ids,
            marks=batch_ids,
            reasons=reasons + [reason for _, reason in failed],
            matrix=np.concatenate(parts, axis=1),
        )


def list_marks(data: Source | StoredItems, count: int) -> Iterator[str]:
    """Yield what identifies each of the first items, as :class:`Features` has it; for a store nothing is computed."""
    if isinstance(data, StoredItems):
        yield from data.list_ids()[:count]
        return
    for item in islice(data, count):
        yield f"{item.id}|{item.size}|{item.mtime_ns}"
