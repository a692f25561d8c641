"""Labels in the forms that users have: one or several for each item, some of them missing; as arrays."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from ..errors import InputError, warn_caller
from .targets import are_missing, encode_labels, find_kind, is_missing, to_label_array

Array = NDArray[Any]

LABEL_SET_TYPES = (list, set, frozenset, np.ndarray)
"""Types of several labels of one item; a tuple is a label of its own."""
SHOWN_LABELS = 5
"""Number of labels that an error lists."""


@dataclass(frozen=True)
class GivenLabels:
    """Labels of all items.

    Parameters
    ----------
    values : ndarray of shape (n_items,) or (n_items, n_targets)
        A label (or value) of each item, or several; of type object where labels are of several types or missing.
    is_labelled : ndarray of bool, shape (n_items,)
        Items of which no label is missing.
    names : list or None
        Names of the columns, if they have some.
    """

    values: Array
    is_labelled: NDArray[np.bool_]
    names: list[Any] | None = None

    def take(self, rows: NDArray[np.intp]) -> GivenLabels:
        """Return the labels of some items."""
        return GivenLabels(self.values[rows], self.is_labelled[rows], self.names)

    def to_item_labels(self) -> list[Any] | None:
        """Return one label for each item, or a list of names, None where it is missing; None for columns of values."""
        if self.values.ndim == 2 and self.names is not None:
            names = np.array([str(name) for name in self.names], object)
            listed = [names[row == 1].tolist() for row in self.values]
        elif self.values.ndim == 1:
            listed = self.values.astype(object).tolist()
        else:
            return None
        return [label if known else None for label, known in zip(listed, self.is_labelled.tolist(), strict=True)]

    def take_labelled(self) -> Array:
        """Return the labels of the labelled items, of their own type."""
        if self.is_labelled.all():
            return self.values
        return restore_type(self.values[self.is_labelled])


def read_labels(y: Any) -> GivenLabels:
    """Read labels: a list, an array, a column or table of pandas, or a sparse matrix.

    A column of shape ``(n_items, 1)`` is one label for each item. Lists or sets of names, one for each item, become a
    matrix of zeros and ones with a column for each name, sorted.
    """
    names = None
    keeps_objects = not isinstance(y, list | tuple) and getattr(getattr(y, "dtype", None), "kind", "O") != "U"
    if issparse(y):
        y = y.toarray()
    elif is_data_frame(y):
        names = list(y.columns)
        y = y.to_numpy()
    else:
        y = to_sequence(y)
        if are_label_sets(y):
            return encode_label_sets(list(y))
        y = fill_gaps(y)
    values = to_label_array(y)
    if values.ndim == 2 and values.shape[1] == 1:
        values = to_label_array(values[:, 0])
    if values.ndim != 2:
        names = None
    if values.dtype.kind == "U" and keeps_objects:  # text of pandas and of arrays of objects is predicted as objects
        values = values.astype(object)
    return GivenLabels(values, find_labelled(values), names)


def read_own_labels(labels: list[Any]) -> GivenLabels:
    """Return the labels of a source or store; where one item has a list of them, each has several."""
    if not any(isinstance(label, list) for label in labels):
        return read_labels(labels)
    return encode_label_sets([label if isinstance(label, list) or label is None else [str(label)] for label in labels])


def is_data_frame(y: Any) -> bool:
    """Return whether labels are a table, as those of pandas and polars."""
    return hasattr(y, "columns") and hasattr(y, "to_numpy")


def to_sequence(y: Any) -> Any:
    """Return a column of pandas, polars or pyarrow as a list, in which integers beside gaps stay integers."""
    dtype = getattr(y, "dtype", None)
    if isinstance(y, np.ndarray) or (isinstance(dtype, np.dtype) and dtype.kind != "O"):
        return y
    for method in ("to_pylist", "to_list", "tolist"):
        if hasattr(y, method):
            return getattr(y, method)()
    return y


def are_label_sets(y: Any) -> bool:
    """Return whether each item has several names as labels, or is missing; rows of numbers are a matrix."""
    is_column = isinstance(y, list | tuple) or (isinstance(y, np.ndarray) and y.ndim == 1 and y.dtype == object)
    if not is_column:
        return False
    first = next((labels for labels in y if not is_missing(labels)), None)
    if not isinstance(first, LABEL_SET_TYPES):
        return False
    given = [labels for labels in y if not is_missing(labels)]
    if not all(isinstance(labels, LABEL_SET_TYPES) for labels in given):
        types = sorted({type(labels).__name__ for labels in given})
        raise InputError(f"labels are of the types {', '.join(types)}; expected a list of labels for each item")
    has_lists_only = all(isinstance(labels, list | np.ndarray) for labels in given)
    is_rectangular = len({len(labels) for labels in given}) == 1
    if not has_lists_only or not is_rectangular:
        return True
    is_numeric = np.asarray(given).dtype.kind in "biufc"
    return not is_numeric and len(first) != 1


def fill_gaps(y: Any) -> Any:
    """Return rows of numbers with a row of NaN for each missing one."""
    if not isinstance(y, list | tuple):
        return y
    first = next((labels for labels in y if not is_missing(labels)), None)
    if not isinstance(first, list | np.ndarray):
        return y
    gap = [float("nan")] * len(first)
    return [gap if is_missing(labels) else labels for labels in y]


def encode_label_sets(labels: list[Any]) -> GivenLabels:
    """Return label sets as a matrix of zeros and ones; rows of missing ones are zeros, and marked."""
    is_labelled = np.array([not is_missing(names) for names in labels], bool)
    sets = [[] if is_missing(names) else list(names) for names in labels]
    flat = [name for names in sets for name in names]
    if not flat:
        raise InputError("no item has a label: all lists of labels are empty; expected names of labels in some")
    classes = encode_labels(to_label_array(flat))[0]
    return GivenLabels(mark_names(sets, classes.tolist()), is_labelled, classes.tolist())


def mark_names(sets: list[list[Any]], names: list[Any]) -> NDArray[np.int64]:
    """Return a matrix ``(n_items, n_names)``: 1 where an item has a name among its labels, else 0."""
    column_of = {name: column for column, name in enumerate(names)}
    matrix = np.zeros((len(sets), len(names)), np.int64)
    for row, own in enumerate(sets):
        for name in own:
            matrix[row, column_of[name]] = 1
    return matrix


def name_columns(matrix: Array, names: list[Any] | None) -> Array:
    """Return the names of the columns of several labels: their positions, if they have none."""
    return np.arange(matrix.shape[1]) if names is None else to_label_array(names)


def align_columns(matrix: Array, names: list[Any], learned: list[Any]) -> Array:
    """Return the columns of several labels in the order of the names that a head has learned, zeros for the others.

    Warn of names that are not among these, which are left out. Raise an InputError if none is, or one is in another
    spelling.
    """
    require_known_labels(to_label_array(names), to_label_array(learned))
    known = [place for place, name in enumerate(names) if name in learned]
    if len(known) < len(names):
        unknown = [name for name in names if name not in learned]
        warn_caller(
            f"the head has not learned the labels {list_some(unknown)}, which are left out of the measures",
        )
    aligned: Array = np.zeros((len(matrix), len(learned)), matrix.dtype)
    aligned[:, [learned.index(names[place]) for place in known]] = matrix[:, known]
    return aligned


def find_labelled(values: Array) -> NDArray[np.bool_]:
    """Return a mask of the items of which no label is missing."""
    if values.ndim not in (1, 2):
        return np.zeros(0, bool)
    is_given: NDArray[np.bool_] = ~are_missing(values)
    if values.ndim == 2:
        is_given = np.asarray(is_given.all(axis=1), bool)
    return is_given


def restore_type(labels: Array) -> Array:
    """Return labels of their own type, after missing ones beside them were left out.

    Gaps make floats of integers (pandas), and objects of all others.
    """
    if labels.dtype.kind == "f" and np.isfinite(labels).all() and (labels == np.floor(labels)).all():
        return labels.astype(np.int64)
    if labels.dtype == object and labels.ndim == 2:
        return np.array(labels.tolist())
    return to_label_array(labels)


def require_known_labels(labels: Array, classes: Array) -> None:
    """Raise an InputError if labels cannot be compared with the classes that a head has learned.

    They are of another type, one of them is a class in another spelling, or none is a class.
    """
    given = list(dict.fromkeys(labels.tolist()))
    learned = classes.tolist()
    require_same_kinds(given, learned)
    known = set(learned)
    unknown = [label for label in given if label not in known]
    spelling_of = {fold_spelling(label): label for label in learned}
    for label in unknown:
        similar = spelling_of.get(fold_spelling(label))
        if similar is not None:
            raise InputError(
                f"the label {label!r} is none that the head has learned, but {similar!r} is; expected the same spelling"
            )
    if len(unknown) == len(given) > 0:
        raise InputError(
            f"none of the labels ({list_some(given)}) is one that the head knows ({list_some(learned)}); expected "
            "labels of the same type and spelling"
        )


def require_same_kinds(given: list[Any], learned: list[Any]) -> None:
    """Raise an InputError if some labels are text where numbers were learned, or the other way round."""
    known_kinds = {describe_kind(label) for label in learned}
    for label in given:
        kind = describe_kind(label)
        if kind not in known_kinds:
            raise InputError(
                f"labels are of another type: {kind} ({label!r}), but the head has learned "
                f"{' and '.join(sorted(known_kinds))} ({list_some(learned)}); expected labels of the same type"
            )


def describe_kind(label: Any) -> str:
    """Return the kind of a label: "text", "numbers" (or booleans, which equal 0 and 1), or the name of its type."""
    kind = find_kind(label)
    if kind == "object":
        return type(label).__name__
    return "text" if kind == "text" else "numbers"


def fold_spelling(label: Any) -> str:
    """Return a text that is equal for labels that differ in case, in spaces at their ends, or in Unicode's form."""
    return unicodedata.normalize("NFKC", str(label)).strip().casefold()


def list_some(labels: list[Any]) -> str:
    """Return the first labels as a text."""
    shown = ", ".join(map(repr, labels[:SHOWN_LABELS]))
    return f"{shown}, …" if len(labels) > SHOWN_LABELS else shown


def stack_label_probabilities(probabilities: Any, head: Any) -> Array:
    """Return the probabilities that a head predicts as one array.

    For several labels, nearest neighbours return an array for each label, with a column for each of its values.
    """
    if not isinstance(probabilities, list):
        return np.asarray(probabilities)
    columns = []
    for of_label, values in zip(probabilities, head.classes_, strict=True):
        is_one = np.asarray(values) == 1
        columns.append(of_label[:, is_one].sum(axis=1))
    return np.column_stack(columns)
