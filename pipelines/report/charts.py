"""Charts as inline SVG: they print, follow the colours of the page, and need no script."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .curves import ScoreCurve
from .markup import Markup, element, join
from .reliability import Bin

if TYPE_CHECKING:
    from numpy.typing import NDArray

WIDTH = 380
HEIGHT = 300
LEFT = 46
RIGHT = 10
TOP = 10
BOTTOM = 36
"""Size of a chart and of the space around its axes, in units of its own that are scaled to the page."""
POINT_RADIUS = 3.2
TICKS = 5
MAX_COLUMNS = 30
"""Largest number of bars in a histogram."""
CLASS_COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#B8A900", "#8A8A8A")
"""Colours that are told apart with deficient colour vision as well (Okabe and Ito 2008), two of them darker."""
MAX_LABELS = 8
"""So many labels of points fit below a curve."""
MAX_LETTERS = 9
GOLDEN_ANGLE_DEGREES = 137.508
LOW_COLOR = (0, 114, 178)
HIGH_COLOR = (230, 159, 0)
"""Red, green and blue of the lowest and the highest value."""


@dataclass(frozen=True)
class Axis:
    """Where values from `low` to `high` lie between two places of a chart."""

    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        """Return the place of a value, in units of the chart."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    def list_ticks(self) -> list[float]:
        """Return about :data:`TICKS` round numbers within the range: multiples of 1, 2 or 5 times a power of ten."""
        rough = (self.high - self.low) / TICKS
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]


@dataclass(frozen=True)
class Points:
    """What is drawn of each item of a scatter plot.

    Parameters
    ----------
    x, y : ndarray of float, shape (n_points,)
    titles : sequence of str
        What is told of an item on hover.
    colors : sequence of str
    thumbnails : sequence of str or None
        Names of the elements that show the items.
    """

    x: NDArray[np.floating[Any]]
    y: NDArray[np.floating[Any]]
    titles: Sequence[str]
    colors: Sequence[str]
    thumbnails: Sequence[str | None]


def choose_color(number: int, n_colors: int) -> str:
    """Return the colour of a class: of a fixed palette for a few classes, else of hues that are far apart."""
    if n_colors <= len(CLASS_COLORS):
        return CLASS_COLORS[number]
    hue = (number * GOLDEN_ANGLE_DEGREES % 360) / 360
    lightness = 0.42 + 0.12 * (number % 3)
    channels = colorsys.hls_to_rgb(hue, lightness, 0.65)
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in channels)


def mix_color(share: float) -> str:
    """Return the colour of a value between the lowest (0) and the highest (1)."""
    channels = [round(low + share * (high - low)) for low, high in zip(LOW_COLOR, HIGH_COLOR, strict=True)]
    return "#" + "".join(f"{channel:02x}" for channel in channels)


def make_axis(values: NDArray[np.floating[Any]], start: float, end: float) -> Axis:
    """Return an axis for values, with some space at both ends."""
    low = float(values.min())
    high = float(values.max())
    margin = 0.04 * (high - low) or max(abs(low) * 0.1, 0.5)
    return Axis(low - margin, high + margin, start, end)


def draw_scatter(points: Points, names: tuple[str, str], label: str, *, has_diagonal: bool = False) -> Markup:
    """Draw items as points that say on hover what they are; the diagonal is where both values are equal."""
    x_values = points.x
    y_values = points.y
    if has_diagonal:
        x_values = np.concatenate([points.x, points.y])
        y_values = x_values
    x_axis = make_axis(x_values, LEFT, WIDTH - RIGHT)
    y_axis = make_axis(y_values, HEIGHT - BOTTOM, TOP)
    parts = [draw_axes(x_axis, y_axis, names)]
    if has_diagonal:
        parts.append(draw_line(x_axis, y_axis, x_axis.low, x_axis.high))
    circles = []
    rows = zip(points.x.tolist(), points.y.tolist(), points.titles, points.colors, points.thumbnails, strict=True)
    for x, y, title, color, thumbnail in rows:
        circle = element(
            "circle",
            element("title", title),
            cx=x_axis.place(x),
            cy=y_axis.place(y),
            r=POINT_RADIUS,
            fill=color,
            data_thumbnail=thumbnail,
        )
        circles.append(circle)
    parts.append(element("g", *circles, class_="points"))
    return wrap_chart(parts, label)


def draw_curve(curve: ScoreCurve) -> Markup:
    """Draw scores in order, joined by lines, with their intervals; each says on hover what it is."""
    n_points = len(curve.scores)
    x_axis = Axis(-0.5, n_points - 0.5, LEFT, WIDTH - RIGHT)
    y_axis = make_axis(np.array([*curve.lows, *curve.highs]), HEIGHT - BOTTOM, TOP)
    parts = [draw_frame(y_axis, curve.axis_names)]
    path = " ".join(f"{x_axis.place(number)} {y_axis.place(score)}" for number, score in enumerate(curve.scores))
    parts.append(element("path", d=f"M{path}", class_="joined"))
    dots = []
    shown_every = -(-n_points // MAX_LABELS)
    for number, (label, score) in enumerate(zip(curve.labels, curve.scores, strict=True)):
        x = x_axis.place(number)
        interval = f"M{x} {y_axis.place(curve.lows[number])}V{y_axis.place(curve.highs[number])}"
        parts.append(element("path", d=interval, class_="joined"))
        title = f"{label}: {score:.3f} ({curve.lows[number]:.3f} to {curve.highs[number]:.3f})"
        y = y_axis.place(score)
        dots.append(element("circle", element("title", title), cx=x, cy=y, r=POINT_RADIUS, fill=CLASS_COLORS[0]))
        if number % shown_every == 0:
            parts.append(element("text", shorten(label), x=x, y=HEIGHT - BOTTOM + 13, text_anchor="middle"))
    parts.append(element("g", *dots, class_="points"))
    return wrap_chart(parts, f"{curve.axis_names[1]} by {curve.axis_names[0]}")


def shorten(label: str) -> str:
    """Return the end of a long label, such as the name of a layer."""
    return label if len(label) <= MAX_LETTERS else f"…{label[1 - MAX_LETTERS :]}"


def draw_reliability(bins: Sequence[Bin], label: str) -> Markup:
    """Draw the share of right answers in each bin of probability, with the number of items above each bar."""
    x_axis = Axis(0.0, 1.0, LEFT, WIDTH - RIGHT)
    y_axis = Axis(0.0, 1.12, HEIGHT - BOTTOM, TOP)
    parts = [draw_axes(x_axis, y_axis, ("probability of the answer", "share that is right"))]
    for bin_ in bins:
        if bin_.accuracy is None:
            continue
        left = x_axis.place(bin_.low)
        width = x_axis.place(bin_.high) - left
        top = y_axis.place(bin_.accuracy)
        parts.append(draw_bar(left, top, width, bottom=y_axis.place(0.0), title=describe_bin(bin_)))
        parts.append(element("text", bin_.n, x=left + width / 2, y=top - 3, text_anchor="middle"))
    parts.append(draw_line(x_axis, y_axis, 0.0, 1.0))
    return wrap_chart(parts, label)


def describe_bin(bin_: Bin) -> str:
    """Return what is told of a bin that has items, on hover."""
    return (
        f"{bin_.n} items from {bin_.low:.1f} to {bin_.high:.1f}: "
        f"mean probability {bin_.confidence:.3f}, right {bin_.accuracy:.3f}"
    )


def draw_histogram(values: NDArray[np.floating[Any]], names: tuple[str, str], label: str) -> Markup:
    """Draw how many values lie in each of some bins of equal width."""
    n_columns = min(MAX_COLUMNS, max(5, round(math.sqrt(len(values)))))
    counts, edges = np.histogram(values, bins=n_columns)
    x_axis = Axis(float(edges[0]), float(edges[-1]), LEFT, WIDTH - RIGHT)
    y_axis = Axis(0.0, float(counts.max()) * 1.05, HEIGHT - BOTTOM, TOP)
    parts = [draw_axes(x_axis, y_axis, names)]
    for count, low, high in zip(counts.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        left = x_axis.place(low)
        width = x_axis.place(high) - left
        title = f"{count} items from {low:.4g} to {high:.4g}"
        parts.append(draw_bar(left, y_axis.place(count), width, bottom=y_axis.place(0.0), title=title))
    return wrap_chart(parts, label)


def draw_bar(left: float, top: float, width: float, *, bottom: float, title: str) -> Markup:
    """Draw a bar up from the axis."""
    return element(
        "rect",
        element("title", title),
        x=left,
        y=top,
        width=round(max(width - 1, 0.5), 1),
        height=round(bottom - top, 1),
        class_="bar",
    )


def draw_line(x_axis: Axis, y_axis: Axis, low: float, high: float) -> Markup:
    """Draw the line on which both values are equal."""
    return element(
        "line",
        x1=x_axis.place(low),
        y1=y_axis.place(low),
        x2=x_axis.place(high),
        y2=y_axis.place(high),
        class_="ideal",
    )


def draw_axes(x_axis: Axis, y_axis: Axis, names: tuple[str, str]) -> Markup:
    """Draw both axes with their round numbers and names."""
    parts = [draw_frame(y_axis, names)]
    for tick in x_axis.list_ticks():
        place = x_axis.place(tick)
        parts.append(element("text", f"{tick:.4g}", x=place, y=HEIGHT - BOTTOM + 13, text_anchor="middle"))
    return join(*parts)


def draw_frame(y_axis: Axis, names: tuple[str, str]) -> Markup:
    """Draw the lines of both axes, their names, and the round numbers of the upright one."""
    bottom = HEIGHT - BOTTOM
    frame = f"M{LEFT} {TOP}V{bottom}H{WIDTH - RIGHT}"
    parts = [element("path", d=frame, class_="line")]
    for tick in y_axis.list_ticks():
        place = y_axis.place(tick)
        parts.append(element("path", d=f"M{LEFT} {place}H{WIDTH - RIGHT}", class_="line", stroke_opacity=0.5))
        parts.append(element("text", f"{tick:.4g}", x=LEFT - 4, y=place + 3, text_anchor="end"))
    parts.append(element("text", names[0], x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 6, text_anchor="middle"))
    middle = (TOP + bottom) / 2
    turned = f"rotate(-90 10 {middle})"
    parts.append(element("text", names[1], x=10, y=middle, text_anchor="middle", transform=turned))
    return join(*parts)


def wrap_chart(parts: Sequence[Markup], label: str) -> Markup:
    """Return the parts of a chart as one drawing that fits the width of the page."""
    return element("svg", *parts, class_="chart", viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=label)
