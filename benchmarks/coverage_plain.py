"""The peer: export a whole model by ``torch.onnx.export``, and compare the result with the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

TOLERANCE = 1e-4
BATCHES = (1, 2, 5)
SEED = 0


class DifferentError(Exception):
    """The graph's numbers are not the network's."""


def by_plain_export(backbone: Any, path: Path, stage: dict[str, str]) -> dict[str, Any]:
    """Export the network with its defaults and a free batch size, for texts also a free length, and check the file."""
    import onnxruntime

    stage["name"] = "export"
    expected = [(feed, output_of(backbone, feed)) for batch in BATCHES for feed in feeds(backbone, batch)]
    exported(backbone, path)
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        errors = [difference(session, feed, output) for feed, output in expected]
    except DifferentError as error:
        return {"outcome": "wrong numbers", "reason": str(error)}
    except Exception as error:
        return {"outcome": "fails to run", "reason": " ".join(f"{type(error).__name__}: {error}".split())}
    worst = max(errors)
    if not worst <= TOLERANCE:
        return {"outcome": "wrong numbers", "reason": f"relative L2 error {worst:.1e}", "error": worst}
    return {"outcome": "ok", "error": worst}


def exported(backbone: Any, path: Path) -> None:
    import torch

    positional, named = backbone.arguments_of(feeds(backbone, 2)[-1])
    axes = tuple(dict.fromkeys(range(2 if named else 1), torch.export.Dim.DYNAMIC) for _ in positional or named)
    with torch.no_grad():
        torch.onnx.export(
            backbone.module,
            positional,
            path,
            kwargs=named,
            dynamo=True,
            dynamic_shapes=dict(zip(named, axes, strict=True)) if named else axes,
            verbose=False,
        )


def feeds(backbone: Any, batch: int) -> list[tuple[Any, ...]]:
    """Return what enters the network: random pixels, or random tokens without padding and with it."""
    import torch
    from topwork.extract.preprocess.by_kind import preprocessor_for

    spec = backbone.input_spec
    generator = np.random.default_rng(SEED)
    if spec.kind == "image":
        return [(torch.from_numpy(generator.standard_normal((batch, 3, *spec.size), dtype=np.float32)),)]
    random = preprocessor_for(spec).random_feeds(batch, generator).values()
    return [tuple(torch.from_numpy(array) for array in feed.values()) for feed in random]


def output_of(backbone: Any, inputs: tuple[Any, ...]) -> Any:
    import torch

    with torch.no_grad():
        return backbone.run(inputs).numpy()


def difference(session: Any, inputs: tuple[Any, ...], expected: Any) -> float:
    """Return the relative L2 error of the graph's first output; a network's other outputs are not looked at."""
    names = ("input_ids", "attention_mask") if len(inputs) == 2 else ()
    ports = [port.name for port in session.get_inputs()]
    values = dict(zip(names or ports, (tensor.numpy() for tensor in inputs), strict=True))
    found = session.run(None, {name: values[name] for name in ports})[0]
    if found.shape != expected.shape:
        raise DifferentError(f"shape {found.shape} on a batch of {len(expected)}, expected {expected.shape}")
    ours, theirs = found.astype(np.float64), expected.astype(np.float64)
    if names and expected.shape[1:-1] == inputs[1].shape[1:]:  # what stands at the padding does not count
        counted = inputs[1].numpy() == 1  # (batch, tokens)
        ours, theirs = ours[counted], theirs[counted]
    return float(np.linalg.norm(ours - theirs) / max(float(np.linalg.norm(theirs)), 1e-300))
