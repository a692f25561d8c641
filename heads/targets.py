"""Labels of any kind, as arrays that estimators can work with."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import column_or_1d

from ..errors import InputError

Array = NDArray[Any]


def typed_labels(y: Any) -> Array:
    """Return labels as an array of their own type: texts, booleans or numbers; objects only if there are several types.

    Parameters
    ----------
    y : array-like of shape (n_rows,) or (n_rows, n_labels)
        Lists, arrays, and pandas' series of any type.

    Returns
    -------
    ndarray
        Of the shape of `y`.
    """
    try:
        array = np.asarray(y)
    except ValueError:  # tuples beside other things
        array = _objects(y)
    if isinstance(y, (list, tuple)) and array.ndim == 1 and len(set(map(type, y))) > 1:
        array = _objects(y)  # numpy makes texts of numbers that stand beside texts, and numbers of truth values
    if array.dtype != object or array.ndim != 1:
        return array
    kinds = {_kind(label) for label in array.tolist()}
    return np.array(array.tolist()) if len(kinds) == 1 and kinds <= {"text", "bool", "number"} else _objects(array)


def as_given(y: Any) -> Any:
    """Return labels with their own types, for scikit-learn's validation, which makes texts and floats of some.

    Parameters
    ----------
    y : array-like, sparse matrix or None
    """
    return y if y is None or issparse(y) else typed_labels(y)


def are_missing(labels: Array) -> Array:
    """Tell which labels are none: None, NaN, and what pandas has for them.

    Parameters
    ----------
    labels : ndarray

    Returns
    -------
    ndarray of bool
        Of the shape of `labels`.
    """
    if labels.dtype.kind == "f":
        return np.isnan(labels)
    if labels.dtype != object:
        return np.zeros(labels.shape, dtype=bool)
    return np.array([_is_missing(label) for label in labels.flat], dtype=bool).reshape(labels.shape)


def _is_missing(label: Any) -> bool:
    if label is None or type(label).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(label, float | np.floating) and bool(np.isnan(label))


def _objects(y: Any) -> Array:
    array = np.empty(len(y), dtype=object)
    for place, label in enumerate(y):
        array[place] = label.item() if isinstance(label, np.generic) else label
    return array


def _kind(label: Any) -> str:
    if isinstance(label, str):
        return "text"
    if isinstance(label, bool | np.bool_):
        return "bool"
    return "number" if isinstance(label, int | float | np.number) else "object"


def coded(labels: Array) -> tuple[Array, Array]:
    """Return the distinct objects among labels, by type and by how they are written, and the place of each label.

    Parameters
    ----------
    labels : ndarray of object, shape (n_rows,)
        Hashable.

    Returns
    -------
    classes : ndarray of object, shape (n_classes,)
        The distinct objects.
    codes : ndarray of int64, shape (n_rows,)
        Places among them.

    Raises
    ------
    InputError
        If a label cannot be hashed.
    """
    try:
        distinct = {(type(label), label): label for label in labels.tolist()}
    except TypeError as error:
        raise InputError(f"labels: {error}; expected texts, numbers, booleans or other hashable objects") from error
    keys = sorted(distinct, key=lambda key: (key[0].__name__, repr(key[1])))
    place = {key: code for code, key in enumerate(keys)}
    codes = np.array([place[type(label), label] for label in labels.tolist()], np.int64)
    return _objects([distinct[key] for key in keys]), codes


def classes_or_labels(y: Any) -> Array:
    """Return classes as a vector, or labels as a matrix.

    Parameters
    ----------
    y : array or sparse matrix of shape (n_rows,) or (n_rows, n_labels)

    Returns
    -------
    ndarray of shape (n_rows,) or (n_rows, n_labels)
        Of the labels' own type.

    Raises
    ------
    InputError
        If there are several columns with other values than 0 and 1.
    """
    y = as_given(y)
    kinds = sorted({type(label).__name__ for label in y.tolist()}) if y.dtype == object and y.ndim == 1 else []
    if len(kinds) > 1:
        raise InputError(
            f"y has labels of several types: {', '.join(kinds)}; expected one (TransferClassifier takes all)"
        )
    check_classification_targets(y)
    if type_of_target(y, input_name="y") != "multilabel-indicator":
        flat: Array = column_or_1d(y, warn=True)
        return flat
    labels: Array = y.toarray() if issparse(y) else np.asarray(y)
    if not np.isin(labels, (0, 1)).all():
        raise InputError(
            f"y has several columns, with the values {np.unique(labels).tolist()}; "
            "expected 0 and 1 for labels that apply or not, or one column of classes"
        )
    return labels


def places_of(y: Array, classes: Array) -> Array:
    """Return the place of each label among the classes.

    Parameters
    ----------
    y : ndarray of shape (n_rows,)
    classes : ndarray of shape (n_classes,)
        Sorted.

    Returns
    -------
    ndarray of shape (n_rows,), int64
        Places among `classes`.

    Raises
    ------
    InputError
        If a label is none of the classes.
    """
    found, places = np.unique(y, return_inverse=True)
    unknown = ~np.isin(found, classes)
    if unknown.any():
        raise InputError(f"y holds {found[unknown].tolist()}; expected only the classes {classes.tolist()}")
    return np.searchsorted(classes, found)[places].astype(np.int64)


def class_weights(class_weight: Any, classes: Array, places: Array, weights: Array) -> Array:
    """Return the weight of each row, times that of its class.

    Parameters
    ----------
    class_weight : None, "balanced" or dict
    classes : ndarray of shape (n_classes,)
    places : ndarray of int64, shape (n_rows,)
        Of each row's class.
    weights : ndarray of shape (n_rows,)

    Raises
    ------
    InputError
        If ``class_weight`` is something else, or names no class for want of which one has no weight.
    """
    given = given_weights(class_weight, classes)
    if given is None:
        sums = np.bincount(places, weights, len(classes))
        given = sums.sum() / (len(classes) * sums)
    weighted: Array = weights * given[places]
    return weighted


def given_weights(class_weight: Any, classes: Array) -> Array | None:
    """Return a weight for each class, or None if they are to be balanced.

    Parameters
    ----------
    class_weight : None, "balanced" or dict
    classes : ndarray of shape (n_classes,)

    Raises
    ------
    InputError
        As in :func:`class_weights`.
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
    unknown, missing = [key for key in class_weight if key not in names], [n for n in names if n not in class_weight]
    if unknown and missing:
        raise InputError(f"class_weight names {unknown}, which are no classes; expected some of {names}")
    given = np.array([class_weight.get(name, 1.0) for name in names], dtype=np.float64)
    if not (np.isfinite(given).all() and (given > 0).all()):
        raise InputError(f"class_weight is {class_weight!r}; expected positive, finite weights")
    return given
