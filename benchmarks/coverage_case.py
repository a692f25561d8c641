"""Measure one model in a process of its own: ``python coverage_case.py SOURCE MODEL WAY RESULT``.

WAY is "topwork" (three layers in one graph, with its certificate, on the provider that "auto" takes and on "cpu") or
"plain" (``torch.onnx.export`` of the whole model). The result is appended to the file RESULT as one line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

SEED = 0
NUDGE = 0.1
SHORTER = 0.35
"""About the fourth root of 1 / 64: products of 64 channels then vary as much as one channel does."""
STATISTICS_BATCH = 4
CALM = 1e-5
"""Largest relative L2 difference between the network in float32 and in float64."""
PROVIDERS = ("auto", "cpu")
"""What the graph is opened with, as users write it."""


def main(source: str, model: str, way: str, result: str) -> None:
    warnings.simplefilter("ignore")
    os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_PROGRESS_BARS="1", TQDM_DISABLE="1")
    from page import machine

    with tempfile.TemporaryDirectory() as name:
        os.environ["TOPWORK_CACHE"] = str(Path(name) / "cache")  # so that each provider is measured anew
        case = {"source": source, "model": model, "way": way, "machine": machine()}
        found = {**case, **measured(source, model, way, Path(name))}
    with Path(result).open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(found) + "\n")


def measured(source: str, model: str, way: str, folder: Path) -> dict[str, Any]:
    """Load and export a model; whatever is raised is what was found."""
    stage = {"name": "loading"}
    try:
        backbone = load(source, model, folder / "model")
        started = time.perf_counter()
        if way == "topwork":
            found = by_topwork(backbone, folder / "graph", stage)
        else:
            from coverage_plain import by_plain_export

            found = by_plain_export(backbone, folder / "plain.onnx", stage)
            found = {
                name: str(value).replace(str(folder), "FOLDER") if name == "reason" else value
                for name, value in found.items()
            }
        return {**found, "seconds": time.perf_counter() - started}
    except Exception as error:
        reason = told(error).replace(str(folder), "FOLDER")
        return {"outcome": f"fails at {stage['name']}", "reason": reason}


def told(error: BaseException) -> str:
    """Return the first line of what the root cause says after its type, of topwork's own errors what these say."""
    root = error
    while root.__cause__ is not None:
        root = root.__cause__
    own = type(error).__module__.startswith("topwork.")
    lines = str(error if own else root).strip().splitlines()
    return f"{type(root).__name__}: {lines[0] if lines else ''}"


def load(source: str, model: str, folder: Path, arguments: dict[str, Any] | None = None) -> Any:
    """Load a model with random weights as a user would, perhaps with other arguments than its own."""
    from topwork import load_backbone
    from topwork.models.torchvision_operators import ensure_torchvision_operators

    ensure_torchvision_operators()
    if source != "hf":
        return settled(load_backbone(f"{source}:{model}", weights="random", model_args=arguments))
    from coverage_folders import make_folder

    name, model_args = make_folder(model, folder)
    return settled(load_backbone(name, model_args={**model_args, **(arguments or {})}))


def settled(backbone: Any) -> Any:
    """Make random weights fit to test with: no constants that hide faults, no network that amplifies rounding errors.

    Parameters that are constant, such as layer scales of 1e-6, get noise. Where the network in float32 then differs
    from itself in float64 by nearly as much as an export may, as when attention has become so sharp that it jumps
    between tokens, queries and keys are made shorter, and batch normalisation gets the statistics of a random batch.
    """
    import torch

    torch.manual_seed(SEED)
    for parameter in backbone.module.parameters():
        if parameter.is_floating_point() and parameter.numel() and (parameter == parameter.flatten()[0]).all():
            parameter.data += NUDGE * torch.randn_like(parameter)
    for calm in (shorten_queries, measure_statistics):
        if rounding(backbone) <= CALM:
            break
        calm(backbone)
    return backbone


def rounding(backbone: Any) -> float:
    """Return how far the network's output in float32 is from that in float64; 0 if it cannot run in float64."""
    import copy
    from dataclasses import replace

    import torch

    inputs = random_inputs(backbone, 1)
    double = replace(backbone, module=copy.deepcopy(backbone.module).double())
    wide = tuple(x.double() if x.is_floating_point() else x for x in inputs)
    try:
        with torch.no_grad():
            found, exact = backbone.run(inputs), double.run(wide)
    except Exception:  # as of networks that cast to float32 inside
        return 0.0
    return float((found - exact).norm() / exact.norm())


def random_inputs(backbone: Any, count: int) -> Any:
    import numpy as np
    from topwork.extract.graphs.torch.inputs import model_inputs, to_tensors
    from topwork.extract.preprocess.by_kind import preprocessor_for

    feeds = preprocessor_for(backbone.input_spec).random_feeds(count, np.random.default_rng(SEED))
    return model_inputs(backbone.input_spec, to_tensors(feeds["random"]))


def shorten_queries(backbone: Any) -> None:
    """Let products of normalised queries and keys, which some networks do not scale, vary as much as one channel."""
    for name, parameter in backbone.module.named_parameters():
        parameter.data *= SHORTER if name.endswith((".q_norm.weight", ".k_norm.weight")) else 1


def measure_statistics(backbone: Any) -> None:
    """Run a random batch through the network with batch normalisation, and nothing else, in training mode."""
    import torch

    for module in backbone.module.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.train().momentum = None
    with torch.no_grad():
        backbone.run(random_inputs(backbone, STATISTICS_BATCH))
    backbone.module.eval()


def by_topwork(backbone: Any, folder: Path, stage: dict[str, str]) -> dict[str, Any]:
    """Export an early, a middle and the last layer in one graph."""
    from topwork.extract.graphs.cut import CutRequest
    from topwork.extract.graphs.cutting import layers
    from topwork.extract.graphs.export import export

    stage["name"] = "listing layers"
    chosen = chosen_layers(layers(backbone))
    stage["name"] = "export"
    graph = export(backbone, CutRequest(chosen, ("auto",)), folder)
    stage["name"] = "running"
    providers = {asked: run_on(graph, asked) for asked in PROVIDERS}
    certificate = graph.certificate
    return {
        "providers": providers,
        "outcome": "ok",
        "layers": [f"{column.name} ({column.pool})" for column in graph.metadata.columns],
        "route": certificate.route,
        "refused": certificate.refused,
        "error": certificate.worst.relative_l2,
        "worst": f"{certificate.worst.output}, {certificate.worst.case} batch of {certificate.worst.batch}",
    }


def run_on(graph: Any, asked: str) -> dict[str, Any]:
    """Open a graph in float32 as an ``Extractor`` does; return what computes it, its error, and what was refused."""
    from topwork.errors import TopworkError

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            session = graph.open(asked)
        except TopworkError as error:
            return {"outcome": "refused", "reason": told(error)}
    passed = [m for m in graph.certificate.measurements if m.provider == session.provider and m.passes]
    worst = max(passed, key=lambda measurement: measurement.relative_l2)
    return {
        "outcome": "ok",
        "provider": session.provider,
        "runtime": session.runtime_name,
        "precision": worst.precision,
        "error": worst.relative_l2,
        "column": worst.column,
        "refused": [str(warning.message) for warning in warned if "is not used" in str(warning.message)],
    }


def chosen_layers(found: list[Any]) -> tuple[str, ...]:
    """Return an early cut through which all data flows, the one nearest to half of the operations, and the last."""
    below = found[:-1] or found
    single = [layer for layer in below if layer.single_tensor] or below
    early, middle = single[len(single) // 8], min(below, key=lambda layer: abs(layer.flops - 0.5))
    return tuple(dict.fromkeys((early.name, middle.name, "last")))


if __name__ == "__main__":
    main(*sys.argv[1:])
