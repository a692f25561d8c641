"""The confusion matrix with the items behind each of its cells."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..estimators.measures import list_labels_of

if TYPE_CHECKING:
    from ..estimators.measures import Answers

MAX_CLASSES = 100
"""Largest number of labels whose whole matrix is shown."""
SHOWN_CLASSES = 40
"""Number of labels, those with the most mistakes, that are shown of more."""


@dataclass(frozen=True)
class Confusion:
    """Items by true and predicted label.

    Parameters
    ----------
    names : list of str
        The labels that are shown.
    n_names : int
        Number of all labels.
    cells : dict
        Positions of the items of each cell that has some, by true and predicted label (None where the head abstains),
        those that are predicted with the highest probability first.
    """

    names: list[str]
    n_names: int
    cells: dict[tuple[str, str | None], list[int]]

    def count(self, truth: str) -> int:
        """Return the number of items with a true label."""
        return sum(len(rows) for (own, _), rows in self.cells.items() if own == truth)

    @property
    def predicted_names(self) -> list[str | None]:
        """The labels of the columns."""
        has_abstained = any(predicted is None for _, predicted in self.cells)
        return [*self.names, None] if has_abstained else list(self.names)


def tabulate_confusions(answers: Answers) -> Confusion:
    """Return the confusion matrix of answers of one label for each item."""
    order = np.arange(len(answers))
    if answers.probabilities is not None:
        order = np.argsort(-answers.probabilities.max(axis=1), kind="stable")
    truth = answers.truth.tolist()
    predicted = answers.predicted.tolist()
    cells: dict[tuple[str, str | None], list[int]] = {}
    for row in order.tolist():
        cells.setdefault((truth[row], predicted[row]), []).append(row)
    names = list_labels_of(answers)
    return Confusion(choose_names(names, cells), len(names), cells)


def choose_names(names: list[str], cells: dict[tuple[str, str | None], list[int]]) -> list[str]:
    """Return all labels, or of many those that most mistakes are about, sorted."""
    if len(names) <= MAX_CLASSES:
        return names
    mistakes: Counter[str] = Counter()
    for (truth, predicted), rows in cells.items():
        if truth != predicted:
            mistakes[truth] += len(rows)
            mistakes[predicted or truth] += len(rows)
    return sorted(name for name, _ in mistakes.most_common(SHOWN_CLASSES))
