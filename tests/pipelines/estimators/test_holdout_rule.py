"""Which rows are held out: the same ones whatever comes and goes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from topwork.errors import InputError
from topwork.pipelines.estimators.holdout_rule import HoldOutRule

IDS = [f"item-{number}" for number in range(2000)]


def test_share_of_items_is_held_out() -> None:
    held = HoldOutRule("id", 0.3, 1).select(IDS, [None] * len(IDS))
    assert 0.27 < held.mean() < 0.33
    other = HoldOutRule("id", 0.3, 2).select(IDS, [None] * len(IDS))
    assert 0.3 < (held != other).mean() < 0.55


@given(st.lists(st.text(), min_size=1, unique=True), st.integers(0, 10), st.randoms())
def test_choice_of_an_item_does_not_depend_on_others(ids: list[str], seed: int, random: object) -> None:
    rule = HoldOutRule("id", 0.5, seed)
    together = dict(zip(ids, rule.select(ids, [None] * len(ids)).tolist(), strict=True))
    assert all(rule.select([each], [None])[0] == held for each, held in together.items())


def test_smaller_share_lies_within_a_larger_one() -> None:
    small, large = (HoldOutRule("id", share, 0).select(IDS, [None] * len(IDS)) for share in (0.1, 0.2))
    assert not (small & ~large).any()


def test_splits_decide_if_there_are_any_and_nothing_else_was_asked_for() -> None:
    splits = ["train", "test", None, "val"]
    rule = HoldOutRule.choose(None, None, None, splits)
    assert rule.select(IDS[:4], splits).tolist() == [False, True, False, True]
    assert HoldOutRule.choose(0.5, None, None, splits).by == "id"
    parent = {"by": "id", "share": 0.4, "seed": 3, "n": 7}
    assert HoldOutRule.choose(None, None, parent, splits) == HoldOutRule("id", 0.4, 3)
    assert HoldOutRule.choose(None, None, None, [None]) == HoldOutRule("id", 0.2, 0)
    assert HoldOutRule.choose(None, 7, parent, splits) == HoldOutRule("id", 0.4, 7)
    assert HoldOutRule.choose(0.1, None, parent, splits) == HoldOutRule("id", 0.1, 3)
    assert HoldOutRule.choose(None, 7, {"by": "split", "share": 0.0, "seed": 0}, splits) == HoldOutRule("id", 0.2, 7)


@pytest.mark.parametrize("share", [-0.1, 1.0, 20, "0.2"])
def test_no_share_is_refused(share: float) -> None:
    with pytest.raises(InputError, match="held_out"):
        HoldOutRule.choose(share, None, None, [])
