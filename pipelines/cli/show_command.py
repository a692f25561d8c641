"""``topwork show``: what a bundle, a feature store or an ONNX file is, in one screen."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Annotated, Any

import typer

from ...extract.graphs.pooling import name_pooled
from ...safe_text import escape_line
from .options import JsonOption
from .output import echo, format_size, print_json

DIGEST_LENGTH = 12
"""Characters of a SHA-256 that are shown."""
MAX_SHOWN_NAMES = 8
NAME_WIDTH = 13
WIDTH = 80


def show(
    path: Annotated[Path, typer.Argument(help="A bundle, a feature store, or an ONNX file.")],
    as_json: JsonOption = False,
) -> None:
    """Tell in one screen what a bundle, a feature store or an ONNX file is; nothing in it is run."""
    from ..show import describe_path

    facts = describe_path(path)
    if as_json:
        print_json(facts)
        return
    describe_kind = {"bundle": list_bundle_lines, "store": list_store_lines, "onnx": list_onnx_lines}[facts["kind"]]
    lines = [(facts["kind"], f"{facts['path']}, {format_size(facts['bytes'])}"), *describe_kind(facts)]
    for name, text in lines:
        for line in textwrap.wrap(f"{name.ljust(NAME_WIDTH)}{text}", WIDTH, subsequent_indent=" " * NAME_WIDTH):
            echo(line)


def list_bundle_lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the lines about a bundle: a name and a text each."""
    lines = [("files", f"DAMAGED: {facts['damage']}" if facts["damage"] else "all match their SHA-256")]
    lines.append(("task", describe_task(facts)))
    head = facts["head"] or "an own estimator"
    lines.append(("head", f"{head}, calibrated" if facts["calibrate"] else str(head)))
    if facts["types"]:
        lines.append(("needs trust", ", ".join(facts["types"])))
    lines += list_graph_lines(facts)
    lines.append(("trained on", f"{facts['rows']} rows{describe_scores(facts)}"))
    if facts["finetuning"] is not None:
        trained = facts["finetuning"]
        lines.append(
            ("layers", f"trained above {trained['from']}, up to {name_pooled(trained['to'], trained['pool'])}")
        )
    if facts["abstain_below"] is not None:
        lines.append(("abstains", f"below a probability of {facts['abstain_below']:g}"))
    lines += list_lineage_lines(facts["lineage"])
    return [*lines, ("written by", describe_versions(facts["versions"]))]


def list_store_lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the lines about a store."""
    counts = [f"{facts[status]} {status}" for status in ("ok", "failed", "duplicate", "pending") if facts[status]]
    lines = [("items", f"{facts['items']}: {', '.join(counts) or 'none yet'}")]
    for name, found in facts["labels"].items():
        shown = [f"{label} ({count})" for label, count in found["counts"].items()]
        lines.append((name, f"{found['rows']} rows: {join_some(shown, found['different'])}"))
    if facts["backbone"] is None:
        return [*lines, ("features", f"computed by another tool: {describe_columns(facts['columns'])}")]
    return [*lines, *list_graph_lines(facts), ("fingerprint", facts["fingerprint"][:DIGEST_LENGTH])]


def list_onnx_lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the lines about an ONNX file."""
    opset = ", ".join(f"{domain} {version}" for domain, version in facts["opset"].items())
    lines = [("model", f"{facts['nodes']} nodes, {facts['parameters']:,} parameters; opset {opset}")]
    for name in ("inputs", "outputs"):
        lines += [(name.removesuffix("s"), describe_port(port)) for port in facts[name]]
    if "backbone" not in facts:
        return [*lines, ("made by", facts["producer"] or "unknown")]
    if facts["classes"]:
        lines.append(("classes", join_some(facts["classes"])))
    return [*lines, *list_graph_lines(facts)]


def list_graph_lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the lines about a backbone, its input, its columns, and how exactly its graph computes them."""
    lines = [
        ("backbone", f"{facts['backbone']}, weights {str(facts['weights'])[:DIGEST_LENGTH]}"),
        ("input", describe_input(facts["input"])),
        ("features", describe_columns(facts["columns"])),
    ]
    certificate = facts.get("certificate")
    if certificate is None:
        return lines
    worst = certificate["worst"]
    exact = f"differs from the model by at most {worst['relative_l2']:.1e} (relative L2)"
    lines.append(("certificate", f"{exact}, on {certificate['provider']} in {certificate['precision']}"))
    for found in certificate["measurements"]:
        error = "unknown" if found["relative_l2"] is None else f"{found['relative_l2']:.1e}"
        verdict = "" if found["passes"] else ", not used"
        lines.append(("", f"{found['provider']} in {found['precision']}: {error}{verdict}"))
    return lines


def list_lineage_lines(lineage: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the lines about the parent of a bundle and its score beside the parent's."""
    if not lineage.get("parent"):
        return []
    metrics = lineage.get("metrics")
    text = f"bundle {lineage['parent'][:DIGEST_LENGTH]}"
    if metrics:
        text += f"; {metrics['metric']} {metrics['held_out']:.3f}, the parent's {metrics['parent']:.3f}"
    return [("parent", text)]


def describe_task(facts: dict[str, Any]) -> str:
    """Return the task of a bundle, and its classes."""
    if facts["classes"] is None:
        return str(facts["task"])
    return f"{facts['task']}, {len(facts['classes'])} classes: {join_some(facts['classes'])}"


def describe_scores(facts: dict[str, Any]) -> str:
    """Return the scores of a head after the number of its rows."""
    report = facts["report"]
    if report is None:
        return "; not evaluated"
    spread = "" if report["spread"] is None else f" ± {report['spread']:.3f}"
    return (
        f"; {report['metric']} {report['held_out']:.3f}{spread} on held-out rows, {report['training']:.3f} on its own"
    )


def describe_input(spec: dict[str, Any]) -> str:
    """Return what a backbone takes: ``image 224 x 224``, ``text of at most 256 tokens``."""
    kind = spec.get("kind", "tensor")
    if "size" in spec and isinstance(spec["size"], list):
        return f"{kind} {' x '.join(map(str, spec['size']))}, decode {spec.get('decode', 'exact')}"
    if "max_length" in spec:
        return f"{kind} of at most {spec['max_length']} tokens"
    if "window" in spec:
        at_most = "at most " if spec.get("padding") == "none" else ""
        return f"{kind} of {at_most}{spec['window']:g} s at {spec['rate']:,} Hz, {spec['long']} if longer"
    return str(kind)


def describe_columns(columns: list[dict[str, Any]]) -> str:
    """Return the columns of features with their widths and precisions."""
    texts = [f"{column['name']} ({column['pool']}, {column['width']} {column['precision']})" for column in columns]
    return join_some(texts)


def describe_port(port: dict[str, Any]) -> str:
    """Return an input or output of a graph."""
    return f"{port['name']}: {port['type']} {' x '.join(map(str, port['axes']))}"


def describe_versions(versions: dict[str, str | None]) -> str:
    """Return the versions that are known."""
    return ", ".join(f"{name} {version}" for name, version in versions.items() if version)


def join_some(names: list[Any], total: int | None = None) -> str:
    """Return the first names, each on one line, and how many more there are of `total`."""
    shown = ", ".join(escape_line(str(name)) for name in names[:MAX_SHOWN_NAMES])
    n_more = (len(names) if total is None else total) - min(len(names), MAX_SHOWN_NAMES)
    return f"{shown}, … and {n_more} more" if n_more > 0 else shown
