"""Measure the upper parts of one network in a process of its own: ``python upper_parts_case.py NAME RESULT``.

NAME is one of ``upper_parts_models.NETWORKS``. The result is appended to the file RESULT as one line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from coverage_case import load, told
from upper_parts_models import NETWORKS, Network

SEED = 0
DEPTHS = (0.25, 0.5, 0.75)
"""Shares of a network's operations that lie below its cuts."""
WORDS_OF_TEXTS = (5, 9, 17, 30)
IMAGES = 3
RANDOM_SIDES = (60, 300)
"""Smallest and largest side of an image, in pixels."""
ZERO = 1e-8
"""A gradient below this share of the norm of all gradients counts as zero."""
RUNS = 8


def main(name: str, result: str) -> None:
    warnings.simplefilter("ignore")
    os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_PROGRESS_BARS="1", TQDM_DISABLE="1")
    from page import machine

    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TOPWORK_CACHE"] = str(Path(folder) / "cache")
        try:
            found = {"outcome": "ok", **measure(NETWORKS[name], Path(folder) / "model")}
        except Exception as error:
            found = {"outcome": "fails", "reason": told(error).replace(folder, "FOLDER")}
    seconds = round(time.perf_counter() - started)
    with Path(result).open("a", encoding="utf-8") as lines:
        lines.write(json.dumps({"name": name, "machine": machine(), **found, "seconds": seconds}) + "\n")


def measure(network: Network, folder: Path) -> dict[str, Any]:
    """Compare the upper parts at three cuts with the network without randomness; then see what acts in training."""
    import topwork
    import torch
    from topwork.extract.graphs.routes import DEFAULT_TRACING
    from topwork.extract.graphs.torch.trace import trace

    backbone = load_network(network, folder, active="")
    layers = choose_cuts(topwork.layers(backbone))
    batch = Batch(backbone)
    maps = extract_maps(backbone, layers, batch.items)
    traced = trace(backbone)
    cuts = []
    for layer in layers:
        upper = topwork.upper_part(backbone, layer.name)
        cut = {"layer": layer.name, "flops": layer.flops, "shared": len(upper.shared)}
        with torch.no_grad():
            _, expected = run_network(traced, upper, batch.inputs)
            cut["error"] = batch.compare(upper(*maps[layer.name]), expected)
        for mode in ("evaluation", "training"):
            cut[mode] = compare_gradients(traced, upper, maps[layer.name], batch, mode=mode)
        cuts.append({**cut, "acts": []})
    varying = []
    for kind in network.randomness:
        random = load_network(network, folder, active=kind)
        # In evaluation mode it computes the same, which takes long to trace.
        random.traces[DEFAULT_TRACING] = replace(traced, backbone=random)
        if network_varies(random.traces[DEFAULT_TRACING], upper.to_layer, batch.inputs):
            varying.append(kind)
        for cut in cuts:
            upper = topwork.upper_part(random, cut["layer"])
            if acts_in_training(upper, maps[cut["layer"]]):
                cut["acts"].append(kind)
    return {"cuts": cuts, "random": varying}


def load_network(network: Network, folder: Path, active: str) -> Any:
    """Load a network whose kinds of randomness are off but for one."""
    from data_sets import minilm
    from topwork import load_backbone

    arguments = dict(network.arguments)
    for kind, names in network.randomness.items():
        arguments |= dict.fromkeys(names, 0.5 if kind == active else 0.0)
    if network.model == "minilm":
        return load_backbone(f"hf:{minilm()}", model_args=arguments)
    return load(network.source, network.model, folder / (active or "fixed"), arguments)


def choose_cuts(layers: list[Any]) -> list[Any]:
    """Return the cuts that all data flow through, nearest to some shares of the operations; of equals the outermost.

    Operations are those below the features, which are what an upper part yields.
    """
    *below, last = layers
    left = [layer for layer in below if layer.single_tensor]
    chosen = []
    for depth in DEPTHS:
        nearest = min(left, key=lambda layer: (abs(layer.flops - depth * last.flops), layer.name.count(".")))
        left = [layer for layer in left if layer.flops > nearest.flops]
        chosen.append(nearest)
    return chosen


class Batch:
    """Random images or texts, what enters the network for them, and which tokens count."""

    def __init__(self, backbone: Any) -> None:
        import numpy as np
        from topwork.extract.graphs.torch.inputs import model_inputs, to_tensors, token_mask
        from topwork.extract.preprocess.by_kind import preprocessor_for

        generator = np.random.default_rng(SEED)
        spec = backbone.input_spec
        self.items: Any = []
        if spec.kind == "text":
            for count in WORDS_OF_TEXTS:
                self.items.append(" ".join(f"word{number}" for number in generator.integers(100, size=count)))
        else:
            for _ in range(IMAGES):
                sides = generator.integers(*RANDOM_SIDES, size=2)
                self.items.append(generator.integers(256, size=(*sides, 3), dtype=np.uint8))
        preprocessor = preprocessor_for(spec)
        feed = preprocessor.collate([preprocessor.prepare(item).array for item in self.items])
        self.inputs = model_inputs(spec, to_tensors(feed))
        self.mask = token_mask(spec, to_tensors(feed)).bool() if spec.kind == "text" else None

    def select(self, value: Any) -> Any:
        """Return what counts of the network's output: of the tokens of texts those that are no padding."""
        if self.mask is not None and value.shape[:2] == self.mask.shape:
            return value[self.mask]
        return value

    def compare(self, found: Any, expected: Any) -> float:
        """Return the norm of the difference, relative to that of what is expected."""
        found, expected = self.select(found).double(), self.select(expected).double()
        return float((found - expected).norm() / expected.norm())


def extract_maps(backbone: Any, layers: list[Any], items: Any) -> dict[str, list[Any]]:
    """Return the values of some layers, and the mask of texts, as ONNX Runtime computes and a store returns them."""
    import numpy as np
    import topwork
    import torch
    from topwork.pipelines.finetuning.stored_maps import StoredMaps

    names = [layer.name for layer in layers]
    extractor = topwork.Extractor(backbone, names, pool="none", precision="fp32", provider="cpu")
    matrix = extractor.transform(items)
    ends = np.cumsum([column.width for column in extractor.columns])
    rows = np.arange(len(matrix))
    maps = {}
    for layer, columns in zip(layers, np.split(matrix, ends[:-1], axis=1), strict=True):
        arrays = StoredMaps(columns, rows, layer).read(rows)
        maps[layer.name] = [torch.from_numpy(array) for array in arrays]
    return maps


def run_network(traced: Any, upper: Any, inputs: Any) -> tuple[Any, Any]:
    """Run the library's own network; return its value at the cut, and its features: what enters its classifier."""
    from topwork.extract.graphs.torch.reference import record_layers

    values = record_layers(traced, (upper.layer, upper.to_layer), inputs)
    return values[upper.layer.name].detach(), values[upper.to_layer.name]


def compare_gradients(traced: Any, upper: Any, maps: list[Any], batch: Batch, *, mode: str) -> dict[str, Any]:
    """Compare the gradients of a random projection of the features, for each parameter that the upper part trains.

    The upper part takes the exported maps, and then the network's own values at the cut.
    """
    import torch

    trained = {name: parameter for name, parameter in upper.named_parameters() if parameter.requires_grad}
    if not trained:
        return {"parameters": 0, "zero": 0}
    with trainable(traced.backbone.module, list(trained), mode=mode) as own:
        value, whole = run_network(traced, upper, batch.inputs)
        counted = batch.select(whole)
        direction = torch.randn(counted.shape, generator=torch.Generator().manual_seed(SEED))
        expected = gradients_of((counted * direction).sum(), own)
    upper.train(mode == "training")
    compared = []
    for inputs in (maps, [value, *maps[1:]]):
        projected = (batch.select(upper(*inputs)) * direction).sum()
        found = gradients_of(projected, list(trained.values()))
        compared.append(find_worst(dict(zip(trained, zip(found, expected, strict=True), strict=True))))
    upper.eval()
    from_maps, from_own = compared
    return {"parameters": len(trained), **from_maps, "own": from_own["error"]}


def find_worst(gradients: dict[str, tuple[Any, Any]]) -> dict[str, Any]:
    """Return the largest relative error of a gradient, the parameter's name, and how many gradients are zero.

    One that is zero in both but for rounding is compared with the norm of all gradients instead of its own.
    """
    import torch

    total = torch.stack([expected.norm() for _, expected in gradients.values()]).norm()
    errors = {}
    n_zero = 0
    for name, (found, expected) in gradients.items():
        scale = expected.norm()
        if max(found.norm(), scale) <= ZERO * total:
            scale = total
            n_zero += 1
        errors[name] = float((found - expected).norm() / scale)
    worst = max(errors, key=lambda name: errors[name])
    return {"error": errors[worst], "worst": worst, "zero": n_zero}


@contextmanager
def trainable(module: Any, names: list[str], *, mode: str) -> Iterator[list[Any]]:
    """Yield some parameters of a network, the only ones with gradients; in training mode BatchNorm is frozen."""
    import torch

    own = dict(module.named_parameters())
    parameters = [own[name].requires_grad_(True) for name in names]
    if mode == "training":
        module.train()
        for part in module.modules():
            if isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
                part.eval()
    try:
        yield parameters
    finally:
        module.eval().requires_grad_(False)


def gradients_of(loss: Any, parameters: list[Any]) -> list[Any]:
    """Return the gradients in double precision; zeros for a parameter that the loss does not depend on."""
    import torch

    gradients = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
    return [gradient.double() for gradient in gradients]


def network_varies(traced: Any, last: Any, inputs: Any) -> bool:
    """Return whether the features of the library's own network in training mode differ from run to run."""
    from topwork.extract.graphs.torch.reference import record_layers

    with trainable(traced.backbone.module, [], mode="training"):
        return varies(lambda: record_layers(traced, [last], inputs)[last.name])


def acts_in_training(upper: Any, maps: list[Any]) -> bool:
    """Return whether runs in training mode differ; raise an error if those in evaluation mode do."""
    if varies(lambda: upper.eval()(*maps)):
        raise AssertionError(f"{upper.layer.name}: runs in evaluation mode differ")
    return varies(lambda: upper.train()(*maps))


def varies(run: Callable[[], Any]) -> bool:
    """Return whether several runs yield different values."""
    import torch

    torch.manual_seed(SEED)
    with torch.no_grad():
        first, *others = (run() for _ in range(RUNS))
    return any(not torch.equal(first, other) for other in others)


if __name__ == "__main__":
    main(*sys.argv[1:])
