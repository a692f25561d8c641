"""The sections of the page in which every item is a point: predicted values, and the map of the features."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..estimators.evaluation import LABEL_SETS, LABELS, REGRESSION
from .charts import Points, choose_color, draw_histogram, draw_scatter, mix_color
from .facts import EvaluationFacts
from .feature_map import draw_rows
from .item_cards import ItemCards
from .markup import Markup, element, join, name_from_outside, section
from .wording import format_values, name_with_split

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..estimators.measures import Answers

MAX_LEGEND = 24
MAX_TARGETS = 4
"""Number of values of each item that are drawn, if a regression predicts several."""
RIGHT_COLOR = "#0072B2"
WRONG_COLOR = "#D55E00"


def render_values(found: EvaluationFacts, number: int, cards: ItemCards) -> Markup:
    """Return predicted against true values, and the residuals, of each of the first targets."""
    answers = found.evaluation.answers
    truth = answers.truth.astype(np.float64).reshape(len(answers), -1)
    predicted = answers.predicted.astype(np.float64).reshape(len(answers), -1)
    parts: list[object] = []
    for target in range(min(truth.shape[1], MAX_TARGETS)):
        if truth.shape[1] > 1:
            parts.append(element("h3", f"Value {target + 1}"))
        parts += draw_target(found, truth[:, target], predicted[:, target], cards)
    heading = name_with_split("Predicted and true values", found.evaluation.split)
    return section(f"values-{number}", heading, *parts)


def draw_target(
    found: EvaluationFacts, truth: NDArray[np.float64], predicted: NDArray[np.float64], cards: ItemCards
) -> list[Markup]:
    """Return predicted against true values of one target, and its residuals."""
    shown = draw_rows(len(truth))
    colors = [RIGHT_COLOR] * len(shown)
    points = make_points(found, truth[shown], predicted[shown], rows=shown, colors=colors, cards=cards)
    names = ("true value", "predicted value")
    residuals = predicted - truth
    text = f"Residuals: mean {residuals.mean():.4g}, standard deviation {residuals.std():.4g}."
    return [
        draw_scatter(points, names, "Predicted against true values", has_diagonal=True),
        element("p", text, class_="soft"),
        draw_histogram(residuals, ("predicted less true value", "items"), "Residuals"),
    ]


def render_map(found: EvaluationFacts, number: int, cards: ItemCards) -> Markup:
    """Return the map of the features, coloured by class, by value, or by right and wrong."""
    heading = name_with_split("Map of the features", found.evaluation.split)
    if found.feature_map is None:
        note = element("p", "There are too few different items for a map.", class_="note")
        return section(f"map-{number}", heading, note)
    rows = found.feature_map.rows
    colors, legend = color_rows(found, rows)
    places = found.feature_map.places
    points = make_points(found, places[:, 0], places[:, 1], rows=rows, colors=colors, cards=cards)
    text = (
        f"{len(rows):,} of {len(found.evaluation.answers):,} items by {found.feature_map.method}. Classes that overlap "
        "here may well be apart in other directions."
    )
    return section(
        f"map-{number}",
        heading,
        element("p", text, class_="soft"),
        draw_scatter(points, found.feature_map.axis_names, "Map of the features"),
        legend,
    )


def make_points(
    found: EvaluationFacts,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    *,
    rows: NDArray[np.intp],
    colors: list[str],
    cards: ItemCards,
) -> Points:
    """Return items as points that say what they are."""
    answers = found.evaluation.answers
    titles = []
    thumbnails = []
    for row in rows.tolist():
        titles.append(describe_point(found, row, cards))
        thumbnails.append(cards.name_thumbnail(answers.ids[row]))
    return Points(x, y, titles, colors, thumbnails)


def describe_point(found: EvaluationFacts, row: int, cards: ItemCards) -> str:
    """Return what is told of an item on hover: its id, the truth and the prediction."""
    answers = found.evaluation.answers
    text = answers.ids[row]
    snippet = cards.previews.snippets.get(text)
    if snippet is not None:
        text = f"{text}: {snippet}"
    if found.evaluation.kind == LABELS:
        predicted = answers.predicted[row]
        if predicted is None:
            predicted = "nothing"
        return f"{text}: {answers.truth[row]}, predicted {predicted}"
    if found.evaluation.kind == REGRESSION:
        truth = format_values(answers.truth[row].tolist())
        return f"{text}: {truth}, predicted {format_values(answers.predicted[row].tolist())}"
    if (answers.truth[row] == answers.predicted[row]).all():
        return f"{text}: all labels right"
    return f"{text}: a label wrong"


def color_rows(found: EvaluationFacts, rows: NDArray[np.intp]) -> tuple[list[str], Markup]:
    """Return the colour of each of some items, and the legend."""
    color_items = {LABELS: color_by_label, REGRESSION: color_by_value, LABEL_SETS: color_by_correctness}
    return color_items[found.evaluation.kind](found.evaluation.answers, rows)


def color_by_label(answers: Answers, rows: NDArray[np.intp]) -> tuple[list[str], Markup]:
    """Return a colour for each true label."""
    names = sorted(set(answers.truth.tolist()))
    color_of = {name: choose_color(number, len(names)) for number, name in enumerate(names)}
    legend = draw_legend([(color_of[name], name) for name in names])
    return [color_of[name] for name in answers.truth[rows].tolist()], legend


def color_by_value(answers: Answers, rows: NDArray[np.intp]) -> tuple[list[str], Markup]:
    """Return colours between those of the lowest and the highest value, of several values by the first."""
    values = answers.truth.astype(np.float64).reshape(len(answers), -1)[:, 0]
    low = float(values.min())
    high = float(values.max())
    shares = (values[rows] - low) / ((high - low) or 1.0)
    legend = draw_legend([(mix_color(0.0), f"lowest value, {low:.4g}"), (mix_color(1.0), f"highest, {high:.4g}")])
    return [mix_color(share) for share in shares.tolist()], legend


def color_by_correctness(answers: Answers, rows: NDArray[np.intp]) -> tuple[list[str], Markup]:
    """Return one colour for items whose labels are all right, and one for the others."""
    is_right = (answers.truth[rows] == answers.predicted[rows]).all(axis=1)
    colors = np.where(is_right, RIGHT_COLOR, WRONG_COLOR).tolist()
    return colors, draw_legend([(RIGHT_COLOR, "all labels right"), (WRONG_COLOR, "a label wrong")])


def draw_legend(entries: list[tuple[str, str]]) -> Markup:
    """Return which colours stand for what."""
    lines = []
    for color, name in entries[:MAX_LEGEND]:
        dot = element("svg", element("circle", cx=6, cy=6, r=5, fill=color), viewBox="0 0 12 12", aria_hidden="true")
        lines.append(element("li", join(dot, name_from_outside(name))))
    if len(entries) > MAX_LEGEND:
        lines.append(element("li", f"… and {len(entries) - MAX_LEGEND} more"))
    return element("ul", *lines, class_="legend")
