"""Targets of heads: labels of any type as arrays, classes and their codes, weights of rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import _check_sample_weight, column_or_1d

from ..errors import InputError

Array = NDArray[Any]

MISSING_TYPES_OF_PANDAS = ("NAType", "NaTType")


def to_label_array(y: Any) -> Array:
    """Convert labels to an array of their own type: text, booleans or numbers; objects only for several types.

    The labels are a list, an array or a pandas series of any type, with a column for each label if there are several.
    """
    try:
        array = np.asarray(y)
    except ValueError:  # tuples next to other objects
        array = _to_object_array(y)
    if isinstance(y, (list, tuple)) and array.ndim == 1:
        has_several_types = len({type(label) for label in y}) > 1
        if has_several_types:  # numpy would convert numbers next to text to text, and booleans to numbers
            array = _to_object_array(y)
        if array.dtype.kind in "fO":
            check_integer_range(y)
    if array.dtype != object or array.ndim != 1:
        return array
    check_integer_range(array.tolist())
    kinds = {find_kind(label) for label in array.tolist()}
    if len(kinds) == 1 and "object" not in kinds:
        return np.array(array.tolist())
    return _to_object_array(array)


def check_integer_range(labels: Sequence[Any]) -> None:
    """Raise an InputError if integers among labels fit neither int64 nor uint64; numpy would round them."""
    integers = [label for label in labels if isinstance(label, int)]
    if not integers:
        return
    lowest = min(integers)
    highest = max(integers)
    fits = highest < 2**63 if lowest < 0 else highest < 2**64
    if lowest < -(2**63) or not fits:
        raise InputError(
            f"labels are integers from {lowest} to {highest}, which fit neither int64 nor uint64; expected smaller "
            "ones, or the same as text"
        )


def _to_object_array(y: Any) -> Array:
    array = np.empty(len(y), dtype=object)
    for row, label in enumerate(y):
        array[row] = label.item() if isinstance(label, np.generic) else label
    return array


def find_kind(label: Any) -> str:
    """Return the kind of a label: "text", "bool", "number" or "object"."""
    if isinstance(label, str):
        return "text"
    if isinstance(label, bool | np.bool_):
        return "bool"
    if isinstance(label, int | float | np.number):
        return "number"
    return "object"


def keep_label_types(y: Any) -> Any:
    """Return labels with their own types, as scikit-learn's validation would convert some to text and floats."""
    if y is None or issparse(y):
        return y
    return to_label_array(y)


def are_missing(labels: Array) -> Array:
    """Check which labels are missing: None, NaN, and the missing values of pandas."""
    if labels.dtype.kind == "f":
        return np.isnan(labels)
    if labels.dtype != object:
        return np.zeros(labels.shape, dtype=bool)
    flat = [is_missing(label) for label in labels.flat]
    return np.array(flat, dtype=bool).reshape(labels.shape)


def is_missing(label: Any) -> bool:
    """Check whether a label is missing, see :func:`are_missing`."""
    if label is None or type(label).__name__ in MISSING_TYPES_OF_PANDAS:
        return True
    return isinstance(label, float | np.floating) and bool(np.isnan(label))


def encode_labels(labels: Array) -> tuple[Array, Array]:
    """Find the classes among labels, and the integer code of each label, so that ``classes[codes]`` are the labels.

    Objects must be hashable. They are distinguished by type as well as by value (``1`` and ``True`` are two classes),
    and sorted by type and representation, as objects of several types have no order; all other labels are sorted by
    value.
    """
    if labels.dtype != object:
        classes, codes = np.unique(labels, return_inverse=True)
        return classes, codes.astype(np.int64)

    typed_labels = [(type(label), label) for label in labels.tolist()]
    try:
        distinct = dict.fromkeys(typed_labels)
    except TypeError as error:
        raise InputError(f"labels: {error}; expected text, numbers, booleans or other hashable objects") from error
    ordered = sorted(distinct, key=lambda typed: (typed[0].__name__, repr(typed[1])))
    code_of_label = {typed: code for code, typed in enumerate(ordered)}
    codes = np.array([code_of_label[typed] for typed in typed_labels], np.int64)
    return _to_object_array([label for _, label in ordered]), codes


def encode_with_classes(y: Array, classes: Array) -> Array:
    """Return the code, int64, of each label among sorted classes; any other label is an error."""
    found, inverse = np.unique(y, return_inverse=True)
    is_unknown = ~np.isin(found, classes)
    if is_unknown.any():
        raise InputError(f"y holds {found[is_unknown].tolist()}; expected only the classes {classes.tolist()}")
    codes: Array = np.searchsorted(classes, found)[inverse].astype(np.int64)
    return codes


def validate_labels(y: Any) -> Array:
    """Return classes as a vector, or several labels for each row as a matrix of 0 and 1; both keep the labels' type.

    Labels of several types, and several columns with values other than 0 and 1, are errors.
    """
    y = keep_label_types(y)
    if y.dtype == object and y.ndim == 1:
        check_one_type(y)
    check_classification_targets(y)
    if type_of_target(y, input_name="y") != "multilabel-indicator":
        vector: Array = column_or_1d(y, warn=True)
        return vector
    matrix: Array = y.toarray() if issparse(y) else np.asarray(y)
    if not np.isin(matrix, (0, 1)).all():
        raise InputError(
            f"y has several columns, with the values {np.unique(matrix).tolist()}; "
            "expected 0 and 1 for labels that apply or not, or one column of classes"
        )
    return matrix


def check_one_type(labels: Array) -> None:
    """Check that all labels have the same type."""
    types = sorted({type(label).__name__ for label in labels.tolist()})
    if len(types) > 1:
        raise InputError(
            f"y has labels of several types: {', '.join(types)}; expected one type (TransferClassifier accepts all)"
        )


def check_row_weights(sample_weight: Any, X: Array) -> Array:
    """Return a weight for each row, float64 and at least 0: ones for None.

    It is an error if all are zero, one is negative, or there is not one for each row.
    """
    weights: Array = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    if not weights.any():
        raise InputError("sample_weight is zero for every row; expected at least one positive weight")
    return weights


def resolve_class_weight(class_weight: Any, classes: Array) -> Array | None:
    """Return a positive weight for each class, or None if the classes are to be balanced.

    A dict may name other classes as long as none is missing from it; classes that it does not name have weight 1.
    """
    if class_weight is None:
        return np.ones(len(classes))
    if isinstance(class_weight, str) and class_weight == "balanced":
        return None
    if not isinstance(class_weight, dict):
        raise InputError(
            f"class_weight is {class_weight!r}; expected None, 'balanced', or a dict of classes and weights"
        )
    names = classes.tolist()
    check_class_names(class_weight, names)
    weights = np.array([class_weight.get(name, 1.0) for name in names], dtype=np.float64)
    if not (np.isfinite(weights).all() and (weights > 0).all()):
        raise InputError(f"class_weight is {class_weight!r}; expected positive, finite weights")
    return weights


def check_class_names(class_weight: dict[Any, float], names: list[Any]) -> None:
    """Check that weights are for classes, or at least for all of them."""
    unknown = [key for key in class_weight if key not in names]
    missing = [name for name in names if name not in class_weight]
    if unknown and missing:
        raise InputError(f"class_weight names {unknown}, which are not classes; expected some of {names}")


def weigh_rows(class_weight: Any, classes: Array, codes: Array, weights: Array) -> Array:
    """Multiply the weight of each row by that of its class; `codes` are the classes of the rows."""
    weight_of_class = resolve_class_weight(class_weight, classes)
    if weight_of_class is None:
        total_of_class = np.bincount(codes, weights, len(classes))
        weight_of_class = total_of_class.sum() / (len(classes) * total_of_class)
    weighted: Array = weights * weight_of_class[codes]
    return weighted


def weigh_labels(class_weight: Any, labels: Array, targets: Array, weights: Array) -> Array:
    """Multiply the weight of each row by those of its labels; the products have the shape of the targets, 0 and 1.

    A dict has a weight for the ones of a label, by its column number; "balanced" gives the ones and the zeros of each
    label the same sum.
    """
    weight_of_ones = resolve_class_weight(class_weight, labels)
    weight_of_zeros = np.ones(len(labels))
    if weight_of_ones is None:
        total = weights.sum()
        total_of_ones = weights @ targets  # (n_labels,)
        can_balance = (total_of_ones > 0) & (total_of_ones < total)  # not if a label always or never applies
        total_of_ones = np.where(can_balance, total_of_ones, total / 2)
        weight_of_ones = total / (2 * total_of_ones)
        weight_of_zeros = total / (2 * (total - total_of_ones))
    weighted: Array = weights[:, None] * np.where(targets == 1, weight_of_ones, weight_of_zeros)
    return weighted
