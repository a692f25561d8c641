"""Folds: every class has its share, groups stay together, and what cannot be held out is not."""

from __future__ import annotations

import numpy as np
from topwork.heads.folds import make_folds, select_learnable_rows

Y = np.repeat(["a", "b", "c"], [10, 7, 2])


def test_each_row_is_held_out_once_and_never_trained_on_in_its_fold() -> None:
    folds = make_folds(Y, None, 5)
    assert len(folds) == 5
    assert sorted(np.concatenate([held for _, held in folds]).tolist()) == list(range(len(Y)))
    for train, held in folds:
        assert sorted([*train, *held]) == list(range(len(Y)))
        assert (Y[held] == "a").sum() == 2
        assert set(Y[train]) == {"a", "b", "c"}


def test_groups_are_held_out_together() -> None:
    groups = np.arange(len(Y)) // 2
    for train, held in make_folds(Y, groups, 3):
        assert not set(groups[train]) & set(groups[held])


def test_values_are_divided_without_regard_to_them() -> None:
    values = np.random.default_rng(0).normal(size=(12, 2))
    held = [held.tolist() for _, held in make_folds(values, None, 3, by_class=False)]
    assert sorted(row for each in held for row in each) == list(range(12))
    assert [len(each) for each in held] == [4, 4, 4]


def test_nothing_is_held_out_where_nothing_is_left() -> None:
    assert make_folds(np.array(["a", "b"]), None, 5) == []
    assert make_folds(Y, np.zeros(len(Y)), 5) == []
    assert len(make_folds(np.repeat(["a", "b"], [3, 1]), None, 5)) == 3


def test_rows_of_classes_that_were_not_learned_are_not_judged() -> None:
    assert select_learnable_rows(np.array(["a", "b", "a", "c"]), np.array([0, 1]), np.array([2, 3])).tolist() == [2]
