"""Which image processors of transformers topwork reproduces: each of the installed version, pixel for pixel.

``python benchmarks/image_processors.py`` saves a processor of each class with its default arguments, reads it as
``load_backbone`` does, and compares what both make of images of five shapes. The results are kept in the folder
``coverage_results``; ``benchmarks/coverage.py`` writes them into ``docs/coverage.md``.
"""

from __future__ import annotations

import json
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

RESULTS = Path(__file__).resolve().parent / "coverage_results" / "image_processors.json"
SHAPES = [(300, 400), (400, 251), (97, 333), (231, 60), (30, 41)]
"""Height and width of images; the last are smaller than some crops."""
ROUNDING = 2e-5
"""Largest difference of a normalised pixel that rounding in float32 explains."""
PLAIN_STEPS = ("do_center_crop", "do_convert_annotations", "do_convert_rgb", "do_normalize", "do_rescale", "do_resize")
"""Steps that a specification expresses, or that do not concern the image."""


def main() -> None:
    warnings.simplefilter("ignore")
    results = [measured(kind, count) for kind, count in sorted(processor_classes().items())]
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text("".join(json.dumps(result) + "\n" for result in results), encoding="utf-8")
    print("\n".join(section(results)))


def processor_classes() -> Counter[str]:
    """Return the names of the classes that transformers maps to kinds of models, and to how many."""
    from topwork.models.torchvision_operators import ensure_torchvision_operators

    ensure_torchvision_operators()
    from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES

    return Counter(classes.get("pil") or classes["torchvision"] for classes in IMAGE_PROCESSOR_MAPPING_NAMES.values())


def measured(kind: str, count: int) -> dict[str, Any]:
    """Compare topwork's preparation with a class's own; whatever is raised is what was found."""
    import transformers
    from topwork.errors import InputError
    from topwork.models.hf_images import image_spec

    found: dict[str, Any] = {"class": kind, "models": count}
    with tempfile.TemporaryDirectory() as name:
        try:
            processor = getattr(transformers, kind)()
            processor.save_pretrained(name)
        except TypeError:
            return {**found, "outcome": "no defaults", "reason": "cannot be made without arguments"}
        try:
            spec, unstated = image_spec(name, None)
        except InputError as error:
            return {**found, "outcome": "refused", "error": told(error, name), "reason": describe_output(processor)}
        if unstated:
            return {**found, "outcome": "refused", "reason": f"its defaults do not state {', '.join(unstated)}"}
        difference = find_largest_difference(Path(name), spec)
    outcome = "equal" if difference <= ROUNDING else "differs"
    return {**found, "outcome": outcome, "difference": difference, "size": spec.size}


def told(error: BaseException, folder: str) -> str:
    """Return the first line of an error without the name of the folder."""
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return first.replace(f"hf:{folder} ", "")


def describe_output(processor: Any) -> str:
    """Say what a processor makes of images, by which one understands why no specification expresses it."""
    try:
        outputs = [processor(image, return_tensors=returned_tensors(processor)) for image in random_images()]
    except Exception:
        return "does not take these images alone: needs another input, package or size"
    if not all(isinstance(output, Mapping) and "pixel_values" in output for output in outputs):
        return "its output has no pixel_values"
    shapes = {tuple(output["pixel_values"].shape) for output in outputs}
    if len(shapes) > 1:
        return "the shape of its output depends on the image"
    (shape,) = shapes
    if len(shape) != 4 or shape[:2] != (1, 3):
        return f"its output of an image is {describe_shape(shape)}"
    if returned_tensors(processor) == "pt":
        return "runs on torch only, which resizes otherwise than Pillow"
    steps = [name for name in dir(processor) if name.startswith("do_") and name not in PLAIN_STEPS]
    taken = [name for name in steps if getattr(processor, name) is True]
    return f"takes the steps {', '.join(taken)}" if taken else "resizes or crops in a way of its own"


def describe_shape(shape: tuple[int, ...]) -> str:
    """Say what an output is that is not one picture of three channels."""
    return "a sequence of patches" if len(shape) == 3 else "several pictures, or a film"


def returned_tensors(processor: Any) -> str:
    """Return the kind of tensors that a processor can return."""
    return "np" if type(processor).__name__.endswith("Pil") else "pt"


def random_images() -> list[Image.Image]:
    """Return an image of each shape."""
    arrays = [np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in SHAPES]
    return [Image.fromarray(array) for array in arrays]


def find_largest_difference(folder: Path, spec: Any) -> float:
    """Return the largest difference of a normalised pixel between a specification and the processor of a folder."""
    import transformers
    from topwork.extract.preprocess.by_kind import preprocessor_for

    theirs = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    differences = []
    for image in random_images():
        pixels = preprocessor_for(spec).prepare(image).array.astype(np.float64)
        found = ((pixels / 255 - spec.mean) / spec.std).transpose(2, 0, 1)
        expected = theirs(image, return_tensors="np", do_convert_rgb=True)["pixel_values"][0]
        is_alike = found.shape == expected.shape
        differences.append(float(np.abs(found - expected).max()) if is_alike else float("inf"))
    return max(differences)


def recorded() -> list[dict[str, Any]]:
    """Return what was found before."""
    lines = RESULTS.read_text(encoding="utf-8").splitlines() if RESULTS.is_file() else []
    return [json.loads(line) for line in lines]


def section(results: list[dict[str, Any]]) -> Iterable[str]:
    """Yield the lines of the section of ``docs/coverage.md``."""
    yield from totals(results)
    yield ""
    yield from comparisons(results)
    yield from ("", "Refused, with an error that names the class or the step:", "")
    yield from refusals(results)


def totals(results: list[dict[str, Any]]) -> Iterable[str]:
    """Yield the number of classes, and of kinds of models that use them, for each outcome."""
    yield "| image processors | classes | kinds of models |"
    yield "| --- | --- | --- |"
    for outcome in ("equal", "differs", "refused", "no defaults", "all"):
        models = [result["models"] for result in results if outcome in (result["outcome"], "all")]
        yield f"| {outcome} | {len(models)} | {sum(models)} |"


def comparisons(results: list[dict[str, Any]]) -> Iterable[str]:
    """Yield the classes that were compared."""
    yield "| class | kinds of models | size | result | largest difference |"
    yield "| --- | --- | --- | --- | --- |"
    for result in results:
        if "difference" in result:
            size = " x ".join(map(str, result["size"]))
            cells = [shown_class(result), result["models"], size, result["outcome"], f"{result['difference']:.1e}"]
            yield f"| {' | '.join(map(str, cells))} |"


def refusals(results: list[dict[str, Any]]) -> Iterable[str]:
    """Yield the classes that were refused, by reason."""
    classes: dict[str, list[str]] = {}
    for result in results:
        if "reason" in result:
            classes.setdefault(result["reason"], []).append(shown_class(result))
    for reason, names in sorted(classes.items(), key=lambda found: -len(found[1])):
        yield f"- {reason}: {', '.join(names)}"


def shown_class(result: dict[str, Any]) -> str:
    """Return the name of a class without what all have in common."""
    name: str = result["class"]
    return name.removesuffix("Pil").removesuffix("ImageProcessor")


if __name__ == "__main__":
    main()
