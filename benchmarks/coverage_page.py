"""The page about coverage: totals, failures with their reasons, and every model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import image_processors
import upper_parts_page
from topwork.hardware import installed

Found = dict[tuple[str, str, str], dict[str, Any]]
Case = tuple[str, str]

TITLES = {"timm": "timm", "torchvision": "torchvision", "hf": "transformers"}
RUNNING = ("onnx", "onnxscript", "onnxruntime", "openvino", "onnxruntime-ep-openvino")
PACKAGES = ("torch", *RUNNING, "timm", "torchvision", "transformers", "numpy")
PROVIDERS = ("auto", "cpu")
PLAIN = ("ok", "fails at export", "wrong numbers", "fails to run", "stopped", "fails at loading")
LONGEST = 300
"""Characters of a reason."""


def page(found: Found, cases: list[Case]) -> str:
    """Return the text of ``docs/coverage.md``."""
    measured = [case for case in cases if any((*case, way) in found for way in ("topwork", "plain"))]
    return TEMPLATE.format(
        machines="\n".join(machines(found, measured)),
        versions=", ".join(f"{package} {release}" for package, release in installed(PACKAGES).items()),
        header=header("source", "models", "topwork", *map(right_on, PROVIDERS), "plain export", *PLAIN[1:]),
        totals="\n".join(totals(found, cases)),
        missing=missing(found, cases),
        failures="\n".join(failures(found, measured)) or "None.",
        choices="\n".join(choices(found, measured)),
        refused="\n".join(refused(found, measured)) or "None.",
        routes="\n".join(routes(found, measured)),
        processors="\n".join(image_processors.section(image_processors.recorded())) or "Not compared.",
        uppers="\n".join(upper_parts_page.section(upper_parts_page.recorded())) or "Not compared.",
        models="\n\n".join(table(found, measured, source) for source in TITLES),
    )


def machines(found: Found, cases: list[Case]) -> Iterable[str]:
    """Yield where how many of the results were measured."""
    ways = {"topwork": "exports by topwork", "plain": "plain exports"}
    for way, title in ways.items():
        used = Counter(found[(*case, way)].get("machine") for case in cases if (*case, way) in found)
        for machine, count in used.most_common():
            yield f"- {count} {title}: {machine or 'stopped before they could tell'}."


def totals(found: Found, cases: list[Case]) -> Iterable[str]:
    """Yield one row for each source."""
    for source, title in [*TITLES.items(), (None, "all")]:
        chosen = [case for case in cases if source in (None, case[0])]
        ours, theirs = (outcomes(found, chosen, way) for way in ("topwork", "plain"))
        cells = [title, len(chosen), share(ours), *(share(outcomes_on(found, chosen, asked)) for asked in PROVIDERS)]
        yield row([*cells, share(theirs), *(theirs[outcome] for outcome in PLAIN[1:])])


def outcomes(found: Found, cases: list[Case], way: str) -> Counter[str]:
    return Counter(found[(*case, way)]["outcome"] for case in cases if (*case, way) in found)


def outcomes_on(found: Found, cases: list[Case], asked: str) -> Counter[str]:
    """Count the outcomes of running what was exported on a provider."""
    return Counter(result["outcome"] for _, result in runs(found, cases, asked))


def runs(found: Found, cases: list[Case], asked: str) -> Iterable[tuple[Case, dict[str, Any]]]:
    """Yield what was found on a provider of the models that were run there."""
    for case in cases:
        providers = found.get((*case, "topwork"), {}).get("providers", {})
        if asked in providers:
            yield case, providers[asked]


def share(outcomes: Counter[str]) -> str:
    return f"{outcomes['ok']} of {outcomes.total()}"


def right_on(asked: str) -> str:
    return f"right on `{asked}`"


def choices(found: Found, cases: list[Case]) -> Iterable[str]:
    """Yield which providers computed how many models, and the largest error."""
    yield header("asked for", "taken", "models", "median error", "largest error", "of")
    for asked in PROVIDERS:
        right = [(case, result) for case, result in runs(found, cases, asked) if result["outcome"] == "ok"]
        for taken, count in Counter(taken_by(result) for _, result in right).most_common():
            errors = sorted((result["error"], case) for case, result in right if taken_by(result) == taken)
            largest, (source, model) = errors[-1]
            median = errors[count // 2][0]
            yield row([f"`{asked}`", taken, count, f"{median:.1e}", f"{largest:.1e}", f"`{source}:{model}`"])


def taken_by(result: dict[str, Any]) -> str:
    """Name the provider that computed, its precision, and what ran it if that is not ONNX Runtime."""
    by_itself = ", without ONNX Runtime" if result["runtime"] == "openvino" else ""
    return f"{result['provider']} in {result['precision']}{by_itself}"


def refused(found: Found, cases: list[Case]) -> Iterable[str]:
    """Yield the providers that were not used, with reasons, and where none was left."""
    for asked in PROVIDERS:
        for (source, model), result in runs(found, cases, asked):
            if result["outcome"] != "ok":
                yield f"- `{source}:{model}` has no right provider for `{asked}`: {short(result['reason'])}"
            for reason in result.get("refused", []):
                yield f"- `{source}:{model}` on `{asked}`: {short(reason)}"


def missing(found: Found, cases: list[Case]) -> str:
    """Say which models were not measured with topwork, and how many only in part."""
    left = [f"`{source}:{model}`" for source, model in cases if (source, model, "topwork") not in found]
    text = f"Not measured with topwork: {', '.join(left)}." if left else "No model is left out."
    n_unrun = sum(is_unrun(found.get((*case, "topwork"), {})) for case in cases)
    if n_unrun:
        text += f" {n_unrun} were exported before providers were compared, and their cells are empty."
    return text


def is_unrun(result: dict[str, Any]) -> bool:
    """Return whether a model was exported, and not run on the providers."""
    return result.get("outcome") == "ok" and "providers" not in result


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
        *(on_provider(ours, asked) for asked in PROVIDERS),
        number(ours, "seconds", ".0f"),
    ]
    reason = f": {short(theirs['reason'])}" if "reason" in theirs else ""
    return row([*cells, theirs["outcome"] + reason, number(theirs, "error", ".1e"), number(theirs, "seconds", ".0f")])


def on_provider(ours: dict[str, Any], asked: str) -> str:
    """Return which provider computed a model, and its error."""
    if "providers" not in ours:
        return ""
    result = ours["providers"][asked]
    return f"{result['provider']} {result['error']:.1e}" if result["outcome"] == "ok" else result["outcome"]


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


COLUMNS = (
    "model",
    "layers (pooling)",
    "topwork: route",
    "error",
    "`auto`",
    "`cpu`",
    "seconds",
    "plain export",
    "error",
    "seconds",
)

TEMPLATE = """# Which networks can be exported and run

Written by `python benchmarks/coverage.py`. Every network has random weights, without constants that hide faults, and
calmed where rounding errors would grow to what is measured (`settled`). topwork exports an early, a middle and the
last layer of it in one graph and certifies that graph against the network in batches of 1, 2 and 5, texts also with
padding, to a relative L2 error of 1e-4. The graph is then opened in float32 as an `Extractor` opens it, with the
provider `auto` and with `cpu`, where eight synthetic items in batches of 1, 2, 5, 8 and 16 are compared with what the
network itself computes of them; the largest relative L2 error of an item is at most 1e-3, and stands beside the
provider that was taken.

The peer is `torch.onnx.export(network, example, dynamo=True)` of the whole network as topwork loaded it, with a free
batch size and for texts a free length (`Dim.DYNAMIC`); its file is run on batches of 1, 2 and 5 and its first output
held against the network's, to the same bound as the certificate, but for what stands at the padding of texts. Seconds
are those of tracing, exporting and checking, for topwork also of running on the providers.

{versions}. Measured on:

{machines}

{header}
{totals}

{missing}

## What topwork cannot export

{failures}

## Image processors of transformers

Written by `python benchmarks/image_processors.py`. A processor of every class of the installed transformers is saved
with its default arguments, and read as `load_backbone` reads the folder of a model. What topwork then makes of images
of five shapes is compared with what the processor itself makes of them, in normalised values: equal are those that
differ by at most 2e-5, the rounding of float32. Names are those of the classes without `ImageProcessor`.

{processors}

## Upper parts

Written by `python benchmarks/upper_parts.py`. Each network has random weights, minilm its trained ones, and is cut at
three layers that all data flow through, nearest to 1/4, 1/2 and 3/4 of the operations below its features, the layer
`last`; the share of all operations that lies below a cut stands in brackets. The lower part is the graph of
`Extractor(…, pool="none", precision="fp32", provider="cpu")`, run on three random images, or four texts of 5 to 30
words. The upper part is that of `topwork.upper_part`, which takes these maps.

- Values: the features are compared with those of the library's own network in PyTorch. The relative L2 error is the
  largest of the three cuts.
- Gradients: a random projection of the features is differentiated with respect to every parameter that the upper part
  trains, and the gradients are compared with those of the network with a frozen trunk. The relative L2 error is that of
  the worst parameter at the worst cut. In training mode both are in training mode, BatchNorm frozen, dropout and
  stochastic depth at 0. Where the input of a ReLU is zero but for rounding, its derivative may be 0 in one and 1 in the
  other; in the column "own values" the upper part therefore takes what the network itself has at the cut, not what the
  lower part yields, in both modes. A parameter whose gradients are both below 1e-8 of the norm of all gradients, such
  as the bias of keys, on which attention does not depend, is compared with that norm. Parameters that the lower part
  uses as well are not trained; in ALBERT, which runs one layer again and again, these are all of them.
- Acts in training: what the library's own network has of dropout and stochastic depth, each alone with the rate 0.5,
  given as an argument. With it runs of the upper part in training mode differ, and those in evaluation mode do not.

{uppers}

## Providers that computed

{choices}

## Providers that were refused

{refused}

## Routes that topwork took

{routes}

{models}
"""
