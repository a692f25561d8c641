"""Pictures of what a classifier predicts, beside the truth: scikit-learn's displays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import InputError
from ...plotting import draw_name, open_axes

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from sklearn.calibration import CalibrationDisplay
    from sklearn.metrics import ConfusionMatrixDisplay

MAX_CLASSES_WITH_NUMBERS = 20
"""With more classes the cells of a confusion matrix have no numbers, which would overlap."""
INCHES_PER_CLASS = 0.3
MIN_SIDE = 4.0
MAX_SIDE = 16.0


def draw_confusion(
    truth: NDArray[Any], predicted: NDArray[Any], classes: Sequence[Any], *, normalize: str | None, ax: Any
) -> ConfusionMatrixDisplay:
    """Draw the confusion matrix of labels; the title says how many items have no answer (None) and are left out.

    Its rows and columns are the classes in their order, then labels that the head has not learned.
    """
    from sklearn.metrics import ConfusionMatrixDisplay

    is_answered = np.array([answer is not None for answer in predicted.tolist()], bool)
    if not is_answered.any():
        raise InputError(f"none of {len(truth)} items has an answer; expected one or more: lower abstain_below")
    unknown = sorted({label for label in truth.tolist() if label not in classes}, key=str)
    names = [*classes, *unknown]
    number_of = {name: number for number, name in enumerate(names)}
    side = float(np.clip(INCHES_PER_CLASS * len(names) + 2, MIN_SIDE, MAX_SIDE))
    axes = open_axes(ax, (side + 1, side))
    display = ConfusionMatrixDisplay.from_predictions(
        [number_of[label] for label in truth[is_answered].tolist()],
        [number_of[label] for label in predicted[is_answered].tolist()],
        labels=range(len(names)),
        display_labels=[draw_name(name) for name in names],
        normalize=normalize,
        include_values=len(names) <= MAX_CLASSES_WITH_NUMBERS,
        xticks_rotation="vertical",
        cmap="Blues",
        ax=axes,
    )
    title = f"{is_answered.sum():,} items"
    if not is_answered.all():
        title = f"{title}; {(~is_answered).sum():,} without an answer are left out"
    axes.set_title(title, fontsize="medium")
    return display


def draw_calibration(
    is_true: NDArray[np.bool_], probabilities: NDArray[np.floating[Any]], label: Any, *, n_bins: int, ax: Any
) -> CalibrationDisplay:
    """Draw how often a label is the true one, by its probability; a label of None means the likeliest of each item."""
    from sklearn.calibration import CalibrationDisplay

    name = "the likeliest label" if label is None else draw_name(label)
    axes = open_axes(ax)
    display = CalibrationDisplay.from_predictions(
        is_true, probabilities, n_bins=n_bins, pos_label=True, name=name, ax=axes
    )
    axes.set_xlabel(f"mean probability of {name}")
    axes.set_ylabel("share of items of which it is the label")
    axes.set_title(f"{len(is_true):,} items", fontsize="medium")
    return display
