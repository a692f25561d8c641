"""Charts show each item once, at the right place, on axes with round numbers."""

from __future__ import annotations

import re

import numpy as np
import pytest
from topwork.pipelines.report.charts import (
    BOTTOM,
    CLASS_COLORS,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Axis,
    Points,
    choose_color,
    draw_histogram,
    draw_reliability,
    draw_scatter,
    make_axis,
    mix_color,
)
from topwork.pipelines.report.reliability import Bin


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.0, 1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (-3.0, 12.0, [0.0, 5.0, 10.0]),
        (0.0, 47.0, [0.0, 10.0, 20.0, 30.0, 40.0]),
        (1e-7, 3e-7, [1e-7, 1.5e-7, 2e-7, 2.5e-7, 3e-7]),
    ],
)
def test_ticks_are_round_numbers_within_the_range(low: float, high: float, ticks: list[float]) -> None:
    assert Axis(low, high, 0.0, 1.0).list_ticks() == pytest.approx(ticks)


@pytest.mark.parametrize("values", [[3.0, 3.0], [0.0], [-1e9, 1e9], [1e-12, 2e-12]])
def test_axis_holds_all_values(values: list[float]) -> None:
    axis = make_axis(np.array(values), 0.0, 100.0)
    assert all(0 < axis.place(value) < 100 for value in values)
    assert axis.list_ticks()


def test_points_lie_where_their_values_are() -> None:
    points = Points(np.array([0.0, 10.0]), np.array([5.0, -5.0]), ["<a>", "b"], ["#123456", "#654321"], [None, "t-1"])
    drawn = draw_scatter(points, ("x", "y"), "both")
    first, second = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', drawn)
    assert LEFT < float(first[0]) < float(second[0]) < WIDTH - RIGHT
    assert TOP < float(first[1]) < float(second[1]) < HEIGHT - BOTTOM  # larger values are higher
    assert "<title>&lt;a&gt;</title>" in drawn
    assert drawn.count("data-thumbnail") == 1


def test_diagonal_joins_equal_values() -> None:
    points = Points(np.array([0.0, 4.0]), np.array([1.0, 3.0]), ["a", "b"], ["#000", "#000"], [None, None])
    drawn = draw_scatter(points, ("true", "predicted"), "values", has_diagonal=True)
    (ends,) = re.findall(r'<line x1="([\d.]+)" y1="([\d.]+)" x2="([\d.]+)" y2="([\d.]+)"', drawn)
    assert [float(end) for end in ends] == [LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, TOP]


def test_bars_are_as_high_as_their_shares_and_empty_bins_have_none() -> None:
    bins = [Bin(0.0, 0.5, 0, None, None), Bin(0.5, 0.75, 7, 0.6, 0.5), Bin(0.75, 1.0, 3, 0.9, 1.0)]
    drawn = draw_reliability(bins, "reliability")
    heights = [float(height) for height in re.findall(r'<rect [^>]*height="([\d.]+)"', drawn)]
    assert len(heights) == 2
    assert heights[1] == pytest.approx(2 * heights[0], abs=0.2)
    assert "7 items from 0.5 to 0.8: mean probability 0.600, right 0.500" in drawn


def test_histogram_counts_every_value() -> None:
    values = np.random.default_rng(0).standard_normal(500)
    drawn = draw_histogram(values, ("x", "n"), "histogram")
    assert sum(int(count) for count in re.findall(r"<title>(\d+) items", drawn)) == 500
    assert draw_histogram(np.zeros(3), ("x", "n"), "histogram").count("<rect") == 5


def test_colors_differ() -> None:
    assert [choose_color(number, 3) for number in range(3)] == list(CLASS_COLORS[:3])
    assert len({choose_color(number, 77) for number in range(77)}) == 77
    assert (mix_color(0.0), mix_color(1.0)) == ("#0072b2", "#e69f00")
