"""Folds: every class has its share, groups stay together, and what cannot be held out is not."""

from __future__ import annotations

import numpy as np
import pytest
from topwork.errors import InputError
from topwork.heads.folds import (
    are_held_out_by_name,
    check_folds,
    draw_rows_of_each_class,
    draw_sample,
    draw_splits,
    draw_validation_rows,
    make_folds,
    rank_within_classes,
    select_learnable_rows,
)

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


def test_splits_give_each_class_its_share_and_keep_groups_together() -> None:
    y = np.repeat(["a", "b"], [60, 20])
    for train, held in draw_splits(y, None, 3, test_size=0.25, random_state=0):
        assert sorted([*train, *held]) == list(range(80))
        assert [(y[held] == name).sum() for name in ("a", "b")] == [15, 5]
    groups = np.arange(80) // 4
    for train, held in draw_splits(y, groups, 3, test_size=0.25, random_state=0):
        assert not set(groups[train]) & set(groups[held])


def test_split_holds_out_a_row_of_each_of_many_classes() -> None:
    y = np.repeat(np.arange(20), 3)
    [(train, held)] = draw_splits(y, None, 1, test_size=0.1, random_state=0)
    assert sorted(y[held]) == list(range(20))
    assert len(train) == 40


def test_folds_that_are_not_a_partition_are_refused() -> None:
    first, second = np.arange(5), np.arange(5, 10)
    check_folds([(first, second), (second, first)], np.ones(10), name="cv")
    for wrong in ([(first, second)] * 2, [(first[:3], second)]):
        with pytest.raises(InputError, match="mine"):
            check_folds(wrong, np.ones(10), name="mine")
    with pytest.raises(InputError, match="mine"):
        check_folds([(first, second)], np.repeat([0.0, 1.0], 5), name="mine")


def test_validation_rows_leave_the_only_row_of_a_class_in_training() -> None:
    codes = np.repeat([0, 1, 2], [150, 49, 1])
    is_chosen = draw_validation_rows(codes, 0.2, np.random.default_rng(0))
    assert is_chosen is not None
    assert is_chosen.sum() == 40
    assert 28 <= (is_chosen & (codes == 0)).sum() <= 32
    assert not is_chosen[-1]
    assert draw_validation_rows(codes[:40], 0.2, np.random.default_rng(0)) is None


def test_rows_are_drawn_of_each_class() -> None:
    rows = draw_rows_of_each_class(Y, 2, np.random.default_rng(0))
    assert len(set(rows.tolist())) == 6
    assert Y[rows].tolist() == ["a", "a", "b", "b", "c", "c"]
    assert rank_within_classes(np.array(["b", "a", "b", "b"])).tolist() == [0, 0, 1, 2]


def test_name_is_held_out_whatever_other_rows_there_are() -> None:
    names = [f"item {number}" for number in range(1000)]
    is_held_out = are_held_out_by_name(names, share=0.2, seed=0)
    assert 150 < is_held_out.sum() < 250
    assert are_held_out_by_name(names[::-1], share=0.2, seed=0)[::-1].tolist() == is_held_out.tolist()
    assert are_held_out_by_name(names, share=0.2, seed=1).tolist() != is_held_out.tolist()


def test_sample_has_each_class_in_its_share() -> None:
    targets = np.repeat([0, 1, 2], [8000, 1500, 500])
    drawn = draw_sample(targets, 1000)
    assert len(np.unique(drawn)) == 1000
    np.testing.assert_allclose(np.bincount(targets[drawn]), [800, 150, 50], atol=1)
    np.testing.assert_array_equal(draw_sample(targets[:10], 1000), np.arange(10))
    values = np.random.default_rng(0).normal(size=5000)
    assert len(np.unique(draw_sample(values, 1000))) == 1000
    assert len(np.unique(draw_sample(np.stack([values, values], axis=1), 1000))) == 1000
