"""The page: its head, what a bundle knows by itself, the sections of each split, failures and findings."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...extract.graphs.pooling import name_pooled
from .charts import draw_curve
from .curves import ScoreCurve
from .facts import MAX_FINDINGS_OF_KIND, ReportFacts, select_findings
from .item_cards import BOX, ItemCards
from .markup import Markup, element, join, name_from_outside, section, table
from .sections import describe_score, render_evaluation
from .style import SCRIPT, STYLE

if TYPE_CHECKING:
    from ..selection.findings import Finding, Findings

MAX_FAILURES = 200
MAX_SHOWN_CLASSES = 200
DIGEST_LENGTH = 12
"""Characters of a SHA-256 that are shown."""
MEGABYTE = 1e6
SECTION_TITLES = {
    "summary": "Summary",
    "missing": "What is missing",
    "evaluation": "Evaluation",
    "confusion": "Confusion matrix",
    "values": "Values",
    "calibration": "Calibration",
    "mistakes": "Mistakes",
    "map": "Map",
    "failures": "Failures",
    "learning": "More labels",
    "layers": "Layers",
    "training": "Trained layers",
    "findings": "Audit",
    "certificate": "Certificate",
    "lineage": "Lineage",
    "cost": "Cost",
}


def render_page(facts: ReportFacts) -> str:
    """Return the whole page."""
    cards = ItemCards(facts.previews)
    sections = [render_summary(facts)]
    if facts.missing:
        sections.append(render_missing(facts.missing))
    for number, found in enumerate(facts.evaluations):
        sections += render_evaluation(found, number, cards)
    if facts.evaluations:
        sections.append(render_failures(facts.failures))
    sections += [render_curve(curve) for curve in facts.curves]
    if facts.bundle["finetuning"] is not None:
        sections.append(render_finetuning(facts.bundle["finetuning"]))
    if facts.findings is not None:
        sections.append(render_findings(facts.findings, cards))
    sections += [render_certificate(facts.bundle), render_lineage(facts.bundle), render_cost(facts)]
    title = f"Report on {Path(facts.bundle['path']).name}"
    body = element(
        "body",
        element("header", element("h1", title)),
        render_navigation(facts),
        element("main", *sections),
        cards.draw_all(),
        render_tip(),
        element("script", Markup(SCRIPT)),
    )
    return "<!DOCTYPE html>\n" + element("html", render_head(title), body, lang="en")


def render_head(title: str) -> Markup:
    """Return the head; its policy lets the page load nothing, and run nothing but its own script."""
    policy = (
        f"default-src 'none'; img-src data:; style-src '{hash_source(STYLE)}'; script-src '{hash_source(SCRIPT)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", Markup(STYLE)),
    )


def hash_source(content: str) -> str:
    """Return the hash by which a policy allows a script or style sheet (Content Security Policy Level 3)."""
    digest = hashlib.sha256(content.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def render_tip() -> Markup:
    """Return the box that the script shows beside a point."""
    picture = element("svg", element("use"), class_="thumbnail", viewBox=BOX, hidden="")
    return element("div", picture, element("span"), id="tip", role="status", hidden="")


def render_navigation(facts: ReportFacts) -> Markup:
    """Return links to the sections of the page, of several splits to those of the first."""
    names = ["summary"]
    if facts.missing:
        names.append("missing")
    if facts.evaluations:
        first = facts.evaluations[0]
        of_split = {
            "evaluation": True,
            "confusion": first.confusion is not None,
            "values": "r2" in first.measures,
            "calibration": "r2" not in first.measures,
            "mistakes": True,
            "map": True,
        }
        names += [f"{name}-0" for name, is_shown in of_split.items() if is_shown]
        names.append("failures")
    names += [curve.name for curve in facts.curves]
    if facts.bundle["finetuning"] is not None:
        names.append("training")
    if facts.findings is not None:
        names.append("findings")
    names += ["certificate", "lineage", "cost"]
    links = [element("a", SECTION_TITLES[name.partition("-")[0]], href=f"#{name}") for name in names]
    return element("nav", *links, aria_label="Sections")


def make_section(name: str, *parts: object) -> Markup:
    """Return a section with the heading that it is linked by."""
    return section(name, SECTION_TITLES[name], *parts)


def list_facts(pairs: Sequence[tuple[str, object]]) -> Markup:
    """Return names and values below each other."""
    parts = []
    for name, value in pairs:
        parts += [element("dt", name), element("dd", value)]
    return element("dl", *parts)


def render_summary(facts: ReportFacts) -> Markup:
    """Return what the bundle is, and how good it is."""
    bundle = facts.bundle
    pairs: list[tuple[str, object]] = [
        ("task", bundle["task"]),
        ("backbone", name_from_outside(bundle["backbone"])),
        ("features", join_names([describe_column(column) for column in bundle["columns"]])),
        ("head", describe_head(bundle)),
        ("trained on", describe_training(bundle)),
    ]
    if bundle["classes"] is not None:
        pairs.insert(1, (f"{len(bundle['classes'])} classes", join_names(bundle["classes"])))
    if bundle["abstain_below"] is not None:
        pairs.append(("no answer", f"below a probability of {bundle['abstain_below']:g}"))
    if bundle["damage"]:
        pairs.insert(0, ("DAMAGED", name_from_outside(bundle["damage"])))
    for found in facts.evaluations:
        split = found.evaluation.split
        of_split = "" if split is None else f" of the split {split}"
        text = f"{describe_score(found)} on {len(found.evaluation.answers):,} items{of_split}"
        pairs.append(("evaluation", name_from_outside(text)))
    return make_section("summary", list_facts(pairs))


def join_names(names: Sequence[object]) -> Markup:
    """Return names separated by commas, the first of many."""
    parts: list[object] = []
    for name in names[:MAX_SHOWN_CLASSES]:
        parts += [", ", name_from_outside(name)] if parts else [name_from_outside(name)]
    if len(names) > MAX_SHOWN_CLASSES:
        parts.append(f", … and {len(names) - MAX_SHOWN_CLASSES} more")
    return join(*parts)


def describe_column(column: dict[str, Any]) -> str:
    """Return the layer of features, the pooling, the width and the precision."""
    pooled = "" if column["pool"] == "none" else f"{column['pool']}, "
    return f"{column['name']} ({pooled}{column['width']:,} values, {column['precision']})"


def describe_head(bundle: dict[str, Any]) -> Markup:
    """Return the name of the head."""
    head = bundle["head"] or "an own estimator"
    return name_from_outside(f"{head}, calibrated" if bundle["calibrate"] else head)


def describe_training(bundle: dict[str, Any]) -> str:
    """Return the number of rows and the scores that the bundle was saved with."""
    rows = f"{bundle['rows']:,} rows"
    report = bundle["report"]
    if report is None:
        return f"{rows}; not evaluated when it was trained"
    spread = "" if report["spread"] is None else f" ± {report['spread']:.3f} in {report['n_folds']} folds"
    held_out = f"{report['metric']} {report['held_out']:.3f}{spread} on held-out rows"
    return f"{rows}; {held_out}, {report['training']:.3f} on its own"


def render_missing(missing: Sequence[str]) -> Markup:
    """Return what the report does not tell, and how to see it."""
    lines = [element("li", name_from_outside(text)) for text in missing]
    return make_section("missing", element("ul", *lines, class_="note"))


def render_curve(curve: ScoreCurve) -> Markup:
    """Return a curve, and what follows from it."""
    rows: list[list[object]] = []
    for label, score, low, high in zip(curve.labels, curve.scores, curve.lows, curve.highs, strict=True):
        rows.append([name_from_outside(label), f"{score:.3f}", f"{low:.3f} to {high:.3f}"])
    first, second = curve.axis_names
    return make_section(
        curve.name,
        element("p", name_from_outside(curve.text), class_="soft"),
        draw_curve(curve),
        table([first, second, "range"], rows),
    )


def render_finetuning(found: dict[str, Any]) -> Markup:
    """Return which layers were trained, how that went, and whether it was better than frozen features."""
    end = name_pooled(found["to"], found["pool"])
    pairs: list[tuple[str, object]] = [
        ("trained", name_from_outside(f"the layers above {found['from']}, up to {end}")),
        ("learning rate", f"{found['learning_rate']:g}"),
        ("epochs", str(len(found["history"]))),
    ]
    comparison = found["comparison"]
    text = "No row was held out to compare with frozen features." if comparison is None else comparison["text"]
    parts: list[object] = [element("p", name_from_outside(line), class_="soft") for line in text.splitlines()]
    parts.append(list_facts(pairs))
    losses = [record["validation_loss"] for record in found["history"]]
    if losses and None not in losses:
        names = ("epoch", "loss of rows that decide the end")
        epochs = [str(record["epoch"]) for record in found["history"]]
        parts.append(draw_curve(ScoreCurve("training", "", epochs, losses, losses, losses, names)))
    rows: list[list[object]] = []
    for trial in found["trials"]:
        values = [trial["validation_score"], trial["validation_loss"]]
        cells = ["none" if value is None else f"{value:.4f}" for value in values]
        rows.append([name_from_outside(trial["layer"]), f"{trial['learning_rate']:g}", str(trial["epochs"]), *cells])
    parts.append(table(["cut", "learning rate", "epochs", "best score", "its loss"], rows))
    return make_section("training", *parts)


def render_failures(failures: Sequence[tuple[str, str]]) -> Markup:
    """Return the items that could not be used, and why."""
    if not failures:
        return make_section("failures", element("p", "Every item could be read."))
    rows: list[list[object]] = []
    for item_id, reason in failures[:MAX_FAILURES]:
        rows.append([name_from_outside(item_id, class_="id"), name_from_outside(reason, class_="reason")])
    parts: list[object] = [element("p", f"{len(failures):,} items could not be used.")]
    parts.append(table(["item", "reason"], rows, class_="words"))
    if len(failures) > MAX_FAILURES:
        parts.append(element("p", f"… and {len(failures) - MAX_FAILURES:,} more: `topwork store failures` lists all."))
    return make_section("failures", *parts)


def render_findings(findings: Findings, cards: ItemCards) -> Markup:
    """Return what is probably wrong with the items of the store."""
    counts = {kind: count for kind, count in findings.counts.items() if count}
    text = f"{findings.n_items:,} items were audited, the labels of {findings.n_labelled:,} judged."
    parts: list[object] = [element("p", text)]
    parts += [element("p", name_from_outside(note), class_="note") for note in findings.notes]
    if not counts:
        parts.append(element("p", "Nothing was found."))
    for kind, count in counts.items():
        shown = [finding for finding in select_findings(findings) if finding.kind == kind]
        title = f"{kind.replace('_', ' ')}: {count:,}"
        if count > MAX_FINDINGS_OF_KIND:
            title += f", of which the first {MAX_FINDINGS_OF_KIND}"
        parts.append(element("h3", title))
        parts.append(cards.make_list([render_finding(finding, cards) for finding in shown]))
    return section("findings", "Suspected label errors, duplicates and outliers", *parts)


def render_finding(finding: Finding, cards: ItemCards) -> Markup:
    """Return a finding with what was measured, what is suggested, and the other item."""
    suggestion = finding.suggestion
    if finding.label is not None:
        labels = finding.label if isinstance(finding.label, list) else [finding.label]
        suggestion = f"{suggestion}: {', '.join(map(str, labels))}"
    notes: list[object] = [name_from_outside(finding.evidence), name_from_outside(suggestion)]
    if finding.related is not None:
        notes.append(join(cards.draw_thumbnail(finding.related), name_from_outside(finding.related, class_="id")))
    return cards.make_card(finding.id, *notes)


def render_certificate(bundle: dict[str, Any]) -> Markup:
    """Return how exactly the graph computes the features of the model."""
    certificate = bundle["certificate"]
    if certificate is None:
        return make_section("certificate", element("p", "The bundle is damaged: its graph was not looked at."))
    worst = certificate["worst"]
    pairs: list[tuple[str, object]] = [
        ("error of the export", f"{worst['relative_l2']:.2e} relative L2; {certificate['tolerance']:g} is allowed"),
        ("exported by", name_from_outside(certificate["route"])),
        ("runs", f"on {certificate['provider']} in {certificate['precision']}"),
    ]
    for found in certificate["fidelity"]:
        errors = f"{found['usual']:.4f} for 99 % of {found['items']} items, {found['worst']:.4f} at worst"
        name = f"error of {found['precision']} on {found['provider']}"
        score = "" if found["score"] is None else f"; held-out score {found['score']:.4f} ({found['difference']:+.4f})"
        pairs.append((name, f"{errors}; {found['speed']:.1f} times as fast as float32{score}"))
    for found in certificate["measurements"]:
        error = "unknown" if found["relative_l2"] is None else f"{found['relative_l2']:.2e}"
        verdict = "" if found["passes"] else ", not used"
        pairs.append((f"error on {found['provider']} in {found['precision']}", f"{error}{verdict}"))
    pairs.append(("versions", describe_versions(certificate["versions"])))
    return make_section("certificate", list_facts(pairs))


def describe_versions(versions: dict[str, Any]) -> Markup:
    """Return the versions that are known."""
    return join_names([f"{name} {version}" for name, version in versions.items() if version])


def render_lineage(bundle: dict[str, Any]) -> Markup:
    """Return what the head was trained on, its parent, and what wrote the bundle."""
    lineage = bundle["lineage"]
    parent = lineage.get("parent")
    pairs: list[tuple[str, object]] = [
        ("weights", name_from_outside(str(bundle["weights"])[:DIGEST_LENGTH], class_="id")),
        ("parent", f"bundle {parent[:DIGEST_LENGTH]}" if parent else "none: trained from scratch on cached features"),
    ]
    for name in ("ids", "labels"):
        if name in lineage:
            pairs.append((f"digest of the {name}", element("span", str(lineage[name])[:DIGEST_LENGTH], class_="id")))
    metrics = lineage.get("metrics")
    if metrics:
        text = f"{metrics['metric']} {metrics['held_out']:.3f}, the parent's {metrics['parent']:.3f}"
        pairs.append(("beside the parent", text))
    pairs.append(("written by", describe_versions(bundle["versions"])))
    return make_section("lineage", list_facts(pairs))


def render_cost(facts: ReportFacts) -> Markup:
    """Return the size of the bundle, and how fast it predicted."""
    pairs: list[tuple[str, object]] = [("bundle", f"{facts.bundle['bytes'] / MEGABYTE:.1f} MB")]
    if facts.items_per_second is not None:
        text = f"{facts.items_per_second:.1f} items a second from reading to prediction, when this report was made"
        pairs.append(("rate", text))
    elif facts.evaluations:
        pairs.append(("rate", "not measured: the features were read from the store"))
    return make_section("cost", list_facts(pairs))
