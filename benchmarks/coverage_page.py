"""The page about coverage: totals, failures with their reasons, and every model."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

from page import machine

Found = dict[tuple[str, str, str], dict[str, Any]]
Case = tuple[str, str]

TITLES = {"timm": "timm", "torchvision": "torchvision", "hf": "transformers"}
PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime", "timm", "torchvision", "transformers", "numpy")
PLAIN = ("ok", "fails at export", "wrong numbers", "fails to run", "stopped", "fails at loading")
LONGEST = 300
"""Characters of a reason."""


def page(found: Found, cases: list[Case]) -> str:
    """Return the text of ``docs/coverage.md``."""
    measured = [case for case in cases if any((*case, way) in found for way in ("topwork", "plain"))]
    return TEMPLATE.format(
        machine=machine(),
        versions=", ".join(f"{package} {version(package)}" for package in PACKAGES),
        python=platform.python_version(),
        header=header("source", "models", "topwork", "plain export", *PLAIN[1:]),
        totals="\n".join(totals(found, cases)),
        missing=missing(cases, measured),
        failures="\n".join(failures(found, measured)) or "None.",
        routes="\n".join(routes(found, measured)),
        models="\n\n".join(table(found, measured, source) for source in TITLES),
    )


def totals(found: Found, cases: list[Case]) -> Iterable[str]:
    """Yield one row for each source."""
    for source, title in [*TITLES.items(), (None, "all")]:
        chosen = [case for case in cases if source in (None, case[0])]
        ours, theirs = (outcomes(found, chosen, way) for way in ("topwork", "plain"))
        cells = [title, len(chosen), f"{ours['ok']} of {ours.total()}", f"{theirs['ok']} of {theirs.total()}"]
        yield row([*cells, *(theirs[outcome] for outcome in PLAIN[1:])])


def outcomes(found: Found, cases: list[Case], way: str) -> Counter[str]:
    return Counter(found[(*case, way)]["outcome"] for case in cases if (*case, way) in found)


def missing(cases: list[Case], measured: list[Case]) -> str:
    """Say which models the page does not tell about."""
    left = [f"{source}:{model}" for source, model in cases if (source, model) not in measured]
    return f"Not measured: {', '.join(left)}." if left else "Every model was measured."


def failures(found: Found, cases: list[Case]) -> Iterable[str]:
    """Yield what topwork could not export, with reasons."""
    for case in cases:
        result = found.get((*case, "topwork"))
        if result is not None and result["outcome"] != "ok":
            yield f"- `{case[0]}:{case[1]}` {result['outcome']}: {short(result['reason'])}"


def routes(found: Found, cases: list[Case]) -> Iterable[str]:
    """Yield how many models each route exported."""
    yield header("route", "models")
    results = [found.get((*case, "topwork"), {}) for case in cases]
    for route, count in Counter(r["route"] for r in results if "route" in r).most_common():
        yield row([route, count])


def table(found: Found, cases: list[Case], source: str) -> str:
    """Return the table of one source."""
    rows = [model_row(found, case) for case in cases if case[0] == source]
    return "\n".join([f"## {TITLES[source]}", "", header(*COLUMNS), *rows])


def model_row(found: Found, case: Case) -> str:
    ours, theirs = (found.get((*case, way), {"outcome": "not measured"}) for way in ("topwork", "plain"))
    told = ours.get("route") or ours["outcome"]
    cells = [
        case[1],
        ", ".join(ours.get("layers", [])),
        told,
        number(ours, "error", ".1e"),
        number(ours, "seconds", ".0f"),
    ]
    reason = f": {short(theirs['reason'])}" if "reason" in theirs else ""
    return row([*cells, theirs["outcome"] + reason, number(theirs, "error", ".1e"), number(theirs, "seconds", ".0f")])


def number(result: dict[str, Any], name: str, form: str) -> str:
    return format(result[name], form) if name in result else ""


def short(reason: str) -> str:
    """Return a reason on one line that a table can hold."""
    text = " ".join(reason.split()).replace("|", "\\|").replace("<", "&lt;")
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"


def row(cells: Iterable[Any]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def header(*names: str) -> str:
    return f"{row(names)}\n{row('---' for _ in names)}"


COLUMNS = ("model", "layers (pooling)", "topwork: route", "error", "seconds", "plain export", "error", "seconds")

TEMPLATE = """# Which networks can be exported

Written by `python benchmarks/coverage.py`. Every network has random weights, without constants that hide faults, and
calmed where rounding errors would grow to what is measured (`settled`). topwork exports an early, a middle and the
last layer of it in one graph and certifies that graph against the network in batches of 1, 2 and 5, texts also with
padding, to a relative L2 error of 1e-4. The peer is `torch.onnx.export(network, example, dynamo=True)` of the whole
network as topwork loaded it, with a free batch size and for texts a free length (`Dim.DYNAMIC`); its file is run on
batches of 1, 2 and 5 and its first output held against the network's, to the same bound, but for what stands at the
padding of texts. Seconds are those of tracing, exporting and checking.

{machine}. {versions}.

{header}
{totals}

{missing}

## What topwork cannot export

{failures}

## Routes that topwork took

{routes}

{models}
"""
