"""The items behind the cells of a confusion matrix are all items, each once."""

from __future__ import annotations

import numpy as np
from topwork.pipelines.estimators.measures import Answers
from topwork.pipelines.report.confusion import MAX_CLASSES, SHOWN_CLASSES, tabulate_confusions


def test_cells_hold_every_item_once_and_the_surest_first() -> None:
    answers = Answers(
        ids=list("abcd"),
        truth=np.array(["x", "x", "y", "x"], object),
        predicted=np.array(["x", "x", "x", None], object),
        probabilities=np.array([[0.6, 0.4], [0.9, 0.1], [0.8, 0.2], [0.5, 0.5]]),
        classes=["x", "y"],
    )
    confusion = tabulate_confusions(answers)
    assert confusion.cells == {("x", "x"): [1, 0], ("y", "x"): [2], ("x", None): [3]}
    assert confusion.predicted_names == ["x", "y", None]
    assert (confusion.count("x"), confusion.count("y")) == (3, 1)


def test_of_many_labels_those_with_the_most_mistakes_are_shown() -> None:
    names = [f"{number:03}" for number in range(MAX_CLASSES + 1)]
    truth = np.array([*names, "000", "000"], object)
    predicted = np.array([*names, "007", "007"], object)
    answers = Answers([str(row) for row in range(len(truth))], truth, predicted, probabilities=None, classes=names)
    confusion = tabulate_confusions(answers)
    assert confusion.n_names == MAX_CLASSES + 1
    assert confusion.names == ["000", "007"]
    assert len(confusion.names) <= SHOWN_CLASSES
