"""The sections of the page about the predictions of a split: scores, confusions, calibration, mistakes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..estimators.evaluation import LABEL_SETS, REGRESSION
from ..estimators.measures import TOP
from .charts import draw_reliability
from .facts import MAX_MISTAKES, EvaluationFacts
from .item_cards import ItemCards
from .markup import Markup, element, name_from_outside, section, table
from .point_sections import render_map, render_values
from .reliability import N_BINS, compute_calibration_error
from .wording import compare_labels, format_measure, format_share, format_values, name_with_split, quote_label

if TYPE_CHECKING:
    from .confusion import Confusion

MAX_LISTED_OF_CELL = 200
MAX_CARDS_OF_CELL = 24
N_SHADES = 4
"""Number of the style sheet's colours for cells of right and of wrong answers."""
MEASURE_NAMES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy (mean recall of the classes)",
    "f1_macro": "F1, mean of the classes",
    "f1_weighted": "F1, weighted by the items of the classes",
    "f1_micro": "F1, over all labels of all items",
    "f1_samples": "F1, mean of the items",
    "mean_average_precision": "mean average precision",
    "top5_accuracy": "accuracy of the five likeliest labels",
    "log_loss": "log loss",
    "abstained": "items without an answer",
    "accuracy_answered": "accuracy of the answers that were given",
    "unknown": "items of labels that the head has not learned",
    "r2": "R2",
    "mean_absolute_error": "mean absolute error",
    "root_mean_squared_error": "root mean squared error",
    "rank_correlation": "rank correlation (Spearman)",
    "n": "items",
    "failed": "failed items",
    "unlabelled": "items without a label",
}
"""The measures that are shown, in this order, and what they are called."""
UNFAMILIAR_NAME = "items unlike those that the head was trained on (about 5 % are usual)"


def describe_score(found: EvaluationFacts) -> str:
    """Return the first measure with its interval: ``accuracy 0.921 (0.87 to 0.95)``."""
    is_regression = found.evaluation.kind == REGRESSION
    name = "R2" if is_regression else "accuracy"
    value = found.measures[name.lower()]
    if value is None:
        return f"{name} unknown"
    if found.interval is None:
        return f"{name} {value:.3f}"
    return f"{name} {value:.3f} ({found.interval.low:.3f} to {found.interval.high:.3f})"


def render_evaluation(found: EvaluationFacts, number: int, cards: ItemCards) -> list[Markup]:
    """Return the sections about the predictions of a split; `number` tells their names from those of other splits."""
    sections = [render_measures(found, number)]
    if found.confusion is not None:
        sections.append(render_confusion(found, found.confusion, number, cards))
    if found.evaluation.kind == REGRESSION:
        sections.append(render_values(found, number, cards))
    else:
        sections.append(render_calibration(found, number))
    sections.append(render_mistakes(found, number, cards))
    sections.append(render_map(found, number, cards))
    return sections


def render_measures(found: EvaluationFacts, number: int) -> Markup:
    """Return the measures, and those of each class."""
    split = found.evaluation.split
    measures = found.measures
    rows: list[list[object]] = []
    for key, name in MEASURE_NAMES.items():
        is_trivial = key == "top5_accuracy" and len(found.evaluation.answers.classes) <= TOP
        if key in measures and not is_trivial:
            rows.append([name, format_measure(measures[key])])
    baseline = found.find_baseline()
    if baseline is not None:
        rows.insert(1, ["accuracy of always answering the most frequent label", format_measure(baseline)])
    if found.unfamiliar is not None:
        rows.append([UNFAMILIAR_NAME, format_measure(found.unfamiliar)])
    parts: list[object] = [element("p", describe_score(found), class_="score")]
    if found.interval is not None:
        text = "The range is a confidence interval of 95 % of the score on items of this kind."
        parts.append(element("p", text, class_="soft"))
    if measures["trained_on"]:
        text = (
            f"{measures['trained_on']:,} of {measures['n']:,} items equal items that the head was trained on: the "
            "score says little about new ones. Give items that it has not seen."
        )
        parts.append(element("p", text, class_="note"))
    parts.append(table(["measure", "value"], rows))
    if "per_class" in measures:
        parts.append(element("h3", "Each class"))
        parts.append(render_classes(measures["per_class"]))
    return section(f"evaluation-{number}", name_with_split("Evaluation", split), *parts)


def render_classes(per_class: dict[str, dict[str, Any]]) -> Markup:
    """Return the table of all classes."""
    rows: list[list[object]] = []
    for name, entry in per_class.items():
        values = [f"{entry[measure]:.3f}" for measure in ("precision", "recall", "f1")]
        rows.append([name_from_outside(name), format_measure(entry["n"]), *values])
    return table(["class", "items", "precision", "recall", "F1"], rows)


def render_confusion(found: EvaluationFacts, confusion: Confusion, number: int, cards: ItemCards) -> Markup:
    """Return the confusion matrix, whose cells lead to lists of their items."""
    text = "Choose a number to see its items."
    if len(confusion.names) < confusion.n_names:
        text += f" Of {confusion.n_names} labels the {len(confusion.names)} with the most mistakes are shown."
    name = f"confusion-{number}"
    lists = []
    for truth in confusion.names:
        for predicted in confusion.predicted_names:
            rows = confusion.cells.get((truth, predicted))
            if rows:
                cell = name_cell(confusion, truth, predicted, number)
                lists.append(render_cell_items(found, rows, name=cell, matrix=name, cards=cards))
    return section(
        name,
        name_with_split("Confusion matrix", found.evaluation.split),
        element("p", text, class_="soft"),
        element("div", render_matrix(confusion, number), class_="scroll"),
        *lists,
    )


def render_matrix(confusion: Confusion, number: int) -> Markup:
    """Return the table of a confusion matrix."""
    header = [element("th", "true ↓, predicted →", scope="col")]
    header += [element("th", quote_label(name), scope="col") for name in confusion.predicted_names]
    lines = []
    for truth in confusion.names:
        total = confusion.count(truth)
        cells = [element("th", name_from_outside(truth), scope="row")]
        for predicted in confusion.predicted_names:
            count = len(confusion.cells.get((truth, predicted), ()))
            name = name_cell(confusion, truth, predicted, number)
            cells.append(render_cell(count, total, name, is_right=truth == predicted))
        lines.append(element("tr", *cells))
    head = element("thead", element("tr", *header))
    return element("table", head, element("tbody", *lines), class_="matrix")


def name_cell(confusion: Confusion, truth: str, predicted: str | None, number: int) -> str:
    """Return the name of the list of the items of a cell."""
    row = confusion.names.index(truth)
    column = confusion.predicted_names.index(predicted)
    return f"cell-{number}-{row}-{column}"


def render_cell(count: int, total: int, name: str, *, is_right: bool) -> Markup:
    """Return a cell of the matrix: darker for a larger share of the items of its true label."""
    if not count:
        return element("td")
    strength = min(N_SHADES, 1 + N_SHADES * count // total)
    shade = "right" if is_right else "wrong"
    return element("td", element("a", count, href=f"#{name}"), class_=f"{shade}{strength}")


def render_cell_items(found: EvaluationFacts, rows: list[int], *, name: str, matrix: str, cards: ItemCards) -> Markup:
    """Return the list of the items of a cell, which shows when the cell is chosen."""
    answers = found.evaluation.answers
    title = compare_labels(answers.truth[rows[0]], answers.predicted[rows[0]])
    pictured: list[Markup] = []
    others: list[Markup] = []
    for row in rows[:MAX_LISTED_OF_CELL]:
        card = cards.make_card(answers.ids[row], *note_probability(found, row))
        has_thumbnail = cards.name_thumbnail(answers.ids[row]) is not None
        if has_thumbnail and len(pictured) < MAX_CARDS_OF_CELL:
            pictured.append(card)
        else:
            others.append(card)
    parts: list[object] = [element("h3", title, f": {len(rows):,} items ", element("a", "back", href=f"#{matrix}"))]
    if pictured:
        parts.append(cards.make_list(pictured))
    if others:
        parts.append(element("ul", *others))
    if len(rows) > MAX_LISTED_OF_CELL:
        parts.append(element("p", f"… and {len(rows) - MAX_LISTED_OF_CELL:,} more"))
    return element("div", *parts, class_="cell", id=name)


def note_probability(found: EvaluationFacts, row: int) -> list[str]:
    """Return the probability of the likeliest class as a note; nothing where there is none."""
    probabilities = found.evaluation.answers.probabilities
    return [] if probabilities is None else [f"probability {probabilities[row].max():.3f}"]


def render_calibration(found: EvaluationFacts, number: int) -> Markup:
    """Return the reliability diagram and its numbers, or why there is none."""
    split = found.evaluation.split
    if found.bins is None:
        text = "There is no reliability diagram: the head has no probabilities."
        if found.evaluation.kind == LABEL_SETS:
            text = "There is no reliability diagram: the items have several labels each."
        note = element("p", text, class_="note")
        return section(f"calibration-{number}", name_with_split("Calibration", split), note)
    error = compute_calibration_error(found.bins)
    text = (
        "Of the answers with a probability of 0.8, eight in ten should be right: bars below the dashed line are too "
        f"sure, bars above it not sure enough. On average probability and accuracy differ by {error:.3f} (expected "
        f"calibration error, {N_BINS} bins). The numbers count the items."
    )
    rows: list[list[object]] = []
    for bin_ in found.bins:
        bounds = f"{bin_.low:.1f} to {bin_.high:.1f}"
        rows.append([bounds, format_measure(bin_.n), format_share(bin_.confidence), format_share(bin_.accuracy)])
    return section(
        f"calibration-{number}",
        name_with_split("Calibration", split),
        element("p", text, class_="soft"),
        draw_reliability(found.bins, "Reliability diagram"),
        table(["probability", "items", "mean probability", "share right"], rows),
    )


def render_mistakes(found: EvaluationFacts, number: int, cards: ItemCards) -> Markup:
    """Return the worst mistakes; of values the items with the largest errors."""
    split = found.evaluation.split
    is_regression = found.evaluation.kind == REGRESSION
    shown = found.mistakes[:MAX_MISTAKES]
    title = "Largest errors" if is_regression else "Worst mistakes"
    if not shown:
        return section(
            f"mistakes-{number}", name_with_split(title, split), element("p", "Every item is predicted correctly.")
        )
    items = [cards.make_card(mistake["id"], *note_mistake(mistake)) for mistake in shown]
    text = f"{len(shown)} of {len(found.mistakes):,}"
    if not is_regression:
        text += " wrong predictions; the first are those that the head is surest of. Each may be a wrong label as well"
    note = element("p", f"{text}.", class_="soft")
    return section(f"mistakes-{number}", name_with_split(title, split), note, cards.make_list(items))


def note_mistake(mistake: dict[str, Any]) -> list[object]:
    """Return what is told of a mistake: the labels and the probability, or the values and the error."""
    if "error" in mistake:
        values = f"true {format_values(mistake['truth'])}, predicted {format_values(mistake['prediction'])}"
        return [values, f"error {mistake['error']:.4g}"]
    notes: list[object] = [compare_labels(mistake["truth"], mistake["prediction"])]
    if mistake["probability"] is not None:
        notes.append(f"probability {mistake['probability']:.3f}")
    return notes
