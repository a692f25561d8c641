"""Which rows are trained on, stopped by and scored by; and what is said of the comparison."""

from __future__ import annotations

import numpy as np
import pytest
from topwork.pipelines.finetuning.tuning import Comparison, divide_rows


def test_every_class_is_trained_on_and_groups_stay_together() -> None:
    y = np.repeat([0, 1, 2, 3], [60, 60, 60, 2])
    groups = np.arange(182) // 2  # the last class is a single group
    for seed in range(8):
        division = divide_rows(y, groups, np.ones(182, bool), shares=(0.2, 0.2), by_class=True, seed=seed)
        parts = [division.training, division.validation, division.test]
        assert sorted(np.concatenate(parts)) == list(range(182))
        assert set(y[division.training]) == {0, 1, 2, 3}
        for one, other in ((0, 1), (0, 2), (1, 2)):
            assert not np.isin(groups[parts[one]], groups[parts[other]]).any()
        assert min(map(len, parts)) >= 10


def test_views_are_trained_on_only_and_not_of_items_that_are_held_out() -> None:
    items = np.arange(200) // 4
    is_original = np.arange(200) % 4 == 0
    division = divide_rows(np.zeros(200), items, is_original, shares=(0.25, 0.25), by_class=False, seed=0)
    held = np.concatenate([division.validation, division.test])
    assert is_original[held].all()
    assert not np.isin(items[division.training], items[held]).any()


def test_few_originals_are_not_held_out() -> None:
    is_original = np.arange(120) % 10 == 0  # 12 images with 9 views each
    division = divide_rows(
        np.zeros(120), np.arange(120) // 10, is_original, shares=(0.15, 0.15), by_class=False, seed=0
    )
    assert len(division.training) == 120
    assert len(division.validation) == len(division.test) == 0


@pytest.mark.parametrize(
    ("gain", "words"), [(0.1, "held-out rows"), (0.01, "within the error"), (-0.1, "the frozen features are better")]
)
def test_comparison_says_which_is_better(gain: float, words: str) -> None:
    comparison = Comparison("accuracy", 0.8, "last", 0.8 + gain, gain, standard_error=0.02, n_rows=50)
    assert str(comparison).endswith(words) or f"; {words}" in str(comparison)
    assert comparison.is_better == (gain > 0.04)


def test_rows_that_are_known_are_not_held_out() -> None:
    generator = np.random.default_rng(0)
    y = generator.integers(0, 3, 400)
    is_new = np.arange(400) >= 300
    for seed in range(4):
        division = divide_rows(y, None, is_new, shares=(0.1, 0.1), by_class=True, seed=seed)
        assert is_new[division.validation].all()
        assert is_new[division.test].all()
        assert (len(division.validation), len(division.test)) == (40, 30)  # at most half of what may be held out
        assert len(division.training) + len(division.validation) + len(division.test) == 400
    few = divide_rows(y, None, np.arange(400) >= 390, shares=(0.1, 0.1), by_class=True, seed=0)
    assert len(few.training) == 400  # half of ten new rows tell nothing
