"""Labels in the types that ONNX has, and classifiers that predict positions of labels instead."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ExportError

MAX_NAMED_LABELS = 3
"""Number of labels that an error names."""


def to_onnx_labels(classes: NDArray[Any]) -> NDArray[Any]:
    """Return class labels in a type that ONNX has, with the same values in the same order.

    Booleans and integers become int64, or uint64 if they are beyond it; float16 becomes float32; strings become
    objects. Raise an ExportError for labels of other types.
    """
    kinds = find_kinds(classes)
    values = classes.tolist()
    if kinds <= {"b"} or kinds <= {"i", "u"}:
        return to_integers(classes)
    if kinds <= {"f"}:
        return to_floats(classes)
    if kinds <= {"U"} and all(map(is_utf8, values)):
        return np.array(values, dtype=object)
    raise ExportError(f"{describe_labels(classes)} cannot be written as ONNX; expected integers, floats or texts")


def find_kinds(classes: NDArray[Any]) -> set[str]:
    """Return the kinds of labels, as in ``dtype.kind``; those of each label if they are objects."""
    if classes.dtype.kind != "O":
        return {classes.dtype.kind}
    return {np.asarray(label).dtype.kind for label in classes.tolist()}


def to_integers(classes: NDArray[Any]) -> NDArray[Any]:
    """Return integers and booleans as int64, or as uint64 if they are beyond it."""
    values = [int(label) for label in classes.tolist()]
    for dtype in (np.int64, np.uint64):
        limits = np.iinfo(dtype)
        if limits.min <= min(values) and max(values) <= limits.max:
            return np.array(values, dtype=dtype)
    raise ExportError(
        f"{describe_labels(classes)} cannot be written as ONNX; expected all of them within int64, or all within uint64"
    )


def to_floats(classes: NDArray[Any]) -> NDArray[Any]:
    """Return floats as float32 or float64."""
    size = np.dtype(classes.dtype).itemsize
    if classes.dtype.kind == "f" and size > np.dtype(np.float64).itemsize:
        raise ExportError(f"{describe_labels(classes)} cannot be written as ONNX; expected float64 at most")
    is_short = classes.dtype.kind == "f" and size < np.dtype(np.float64).itemsize
    return classes.astype(np.float32 if is_short else np.float64)


def is_utf8(text: str) -> bool:
    """Check whether a text can be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def describe_labels(classes: NDArray[Any]) -> str:
    """Return some labels and their types, for an error."""
    names = [repr(label) for label in classes[:MAX_NAMED_LABELS]]
    if len(classes) > MAX_NAMED_LABELS:
        names.append("…")
    types = sorted({type(label).__name__ for label in classes.tolist()})
    kind = str(classes.dtype)
    if classes.dtype.kind == "O":
        kind = " and ".join(types)
    return f"the labels {', '.join(names)} of type {kind}"


def with_positions(head: Any) -> Any:
    """Return a copy of a fitted classifier that predicts positions of its classes, for skl2onnx."""
    changed = copy.copy(head)
    if hasattr(head, "steps"):
        name, last = head.steps[-1]
        changed.steps = [*head.steps[:-1], (name, with_positions(last))]
    elif hasattr(head, "best_estimator_"):
        changed.best_estimator_ = with_positions(head.best_estimator_)
    else:
        changed.classes_ = np.arange(len(head.classes_))
    return changed
