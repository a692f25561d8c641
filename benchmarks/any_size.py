"""Files that resize images themselves: how near they are to Pillow, and to ``predict``.

``python benchmarks/any_size.py`` writes a file for a classifier of ants and bees, gives it all 153 validation
photographs, decoded but not resized, in ONNX Runtime and OpenVINO, and compares its answers with ``predict``; and it
compares the pixels with Pillow's for every filter, beside those of ``Resize`` of ONNX.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import topwork
from contest import arguments, use_work_folder
from data_sets import hymenoptera
from onnx import TensorProto, helper
from page import table, write_section
from PIL import Image, ImageOps
from topwork.extract.preprocess.resize import FILTERS, to_pixels
from topwork.extract.runtime.providers import OPENVINO, PROVIDERS, explain_absence
from topwork.extract.runtime.session import Session, open_session
from topwork.models.image_spec import INTERPOLATIONS, ImageSpec
from topwork.pipelines.fused.any_size import PIXELS, make_resizing_model
from trained_cases import in_folders, mobilenet

OPSET = 18
IR_VERSION = 10
MODES_OF_RESIZE = {"nearest": "nearest", "bilinear": "linear", "bicubic": "cubic"}
"""Modes of the operator of ONNX that have a filter of Pillow."""
RULES: dict[str, ImageSpec] = {
    "shorter edge 256, crop 224": ImageSpec(size=(224, 224), resize=256),
    "squash to 224": ImageSpec(size=(224, 224), resize=(224, 224), fit="squash"),
    "fit into 224, border": ImageSpec(size=(224, 224), resize=(224, 224), fit="border"),
    "cover 160 x 288, crop 140 x 252": ImageSpec(size=(140, 252), resize=(160, 288), fit="cover"),
}
ANSWER_COLUMNS = [
    "run by",
    "equal labels",
    "largest difference of a probability",
    "equal `familiar`",
    "ms for each photograph",
]
PIXEL_COLUMNS = [
    "filter",
    "rule",
    "equal values",
    "within one level",
    "largest difference",
    "`Resize`: within one level",
]


def main() -> None:
    options = arguments(__doc__).parse_args()
    use_work_folder(options.work)
    paths, photographs = read_photographs(options, "val")
    text = TEMPLATE.format(
        n_photographs=len(photographs),
        answers=table(ANSWER_COLUMNS, compare_answers(options, paths, photographs)),
        pixels=table(PIXEL_COLUMNS, compare_pixels(photographs)),
    )
    write_section("Images of any size", text, options.page, ("timm",))


def read_photographs(options: argparse.Namespace, split: str) -> tuple[list[Path], list[np.ndarray]]:
    """Return paths and upright pixels of the photographs."""
    paths = sorted((hymenoptera(options.data, options.work) / split).rglob("*.jpg"))
    images = [ImageOps.exif_transpose(Image.open(path)).convert("RGB") for path in paths]
    return paths, [np.asarray(image) for image in images]


def compare_answers(options: argparse.Namespace, paths: list[Path], photographs: list[np.ndarray]) -> list[list[Any]]:
    """Return a row for each runtime: how the answers of a file differ from those of ``predict``."""
    train = hymenoptera(options.data, options.work) / "train"
    classifier = topwork.TransferClassifier(mobilenet(options.data, "exact"), head="logreg", cv=0)
    classifier.fit(*in_folders(train, None))
    path = options.work / "any-size.onnx"
    classifier.to_onnx(path, input="any-size")
    expected = Answers(classifier.predict(paths), classifier.predict_proba(paths), classifier.familiar(paths))
    providers = ["cpu"] if explain_absence(PROVIDERS[OPENVINO]) else ["cpu", OPENVINO]
    return [compare_with(expected, open_session(path, name), name, photographs) for name in providers]


@dataclass(frozen=True)
class Answers:
    """Labels, probabilities and what is familiar, one row for each photograph."""

    labels: np.ndarray
    probabilities: np.ndarray
    familiar: np.ndarray


def compare_with(expected: Answers, session: Session, name: str, photographs: list[np.ndarray]) -> list[Any]:
    """Return the row of one runtime."""
    started = time.perf_counter()
    outputs = [session.run({PIXELS: pixels[None]}) for pixels in photographs]
    milliseconds = 1000 * (time.perf_counter() - started) / len(photographs)
    found = Answers(*(np.concatenate(values) for values in zip(*outputs, strict=True)))
    n_photographs = len(photographs)
    n_labels = int((found.labels == expected.labels).sum())
    n_familiar = int((found.familiar == expected.familiar).sum())
    difference = float(np.abs(found.probabilities - expected.probabilities).max())
    return [
        name,
        f"{n_labels} of {n_photographs}",
        f"{difference:.1e}",
        f"{n_familiar} of {n_photographs}",
        f"{milliseconds:.0f}",
    ]


def compare_pixels(photographs: list[np.ndarray]) -> list[list[Any]]:
    """Return a row for each filter and rule: how the graph's pixels differ from Pillow's."""
    rows = []
    for filter_name in INTERPOLATIONS:
        for rule, spec in RULES.items():
            given = replace(spec, interpolation=filter_name)
            session = open_session(make_resizing_model(given, make_versions()).SerializeToString(), "cpu")
            differences = [measure_difference(session, given, pixels) for pixels in photographs]
            joined = np.concatenate(differences)
            shares = [f"{(joined == 0).mean():.3%}", f"{(joined <= 1).mean():.3%}", int(joined.max())]
            rows.append([filter_name, rule, *shares])
        if filter_name in MODES_OF_RESIZE:
            rows[-len(RULES)].append(f"{measure_operator(filter_name, photographs):.2%}")
    return rows


def measure_difference(session: Session, spec: ImageSpec, pixels: np.ndarray) -> np.ndarray:
    """Return the absolute differences of an image's values from Pillow's."""
    found = session.run({PIXELS: pixels[None]})[0][0]
    expected = to_pixels(Image.fromarray(pixels), spec)
    return np.abs(found.astype(np.int16) - expected.astype(np.int16)).ravel()


def measure_operator(filter_name: str, photographs: list[np.ndarray]) -> float:
    """Return the share of values that ``Resize`` of ONNX, with antialias, has within one level of Pillow."""
    attributes: dict[str, Any] = {"mode": MODES_OF_RESIZE[filter_name]}
    if filter_name != "nearest":
        attributes |= {"antialias": 1, "cubic_coeff_a": -0.5}
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, 3, None, None])
    sizes = helper.make_tensor_value_info("sizes", TensorProto.INT64, [4])
    resized = helper.make_tensor_value_info("resized", TensorProto.FLOAT, [1, 3, None, None])
    node = helper.make_node("Resize", ["pixels", "", "", "sizes"], ["resized"], **attributes)
    graph = helper.make_graph([node], "resize", [pixels, sizes], [resized])
    session = open_session(make_versions(graph).SerializeToString(), "cpu")
    n_near = 0
    n_values = 0
    for image in photographs:
        height, width = RULES["shorter edge 256, crop 224"].resized(*image.shape[:2])
        feed = {
            "pixels": image.transpose(2, 0, 1)[None].astype(np.float32),
            "sizes": np.array([1, 3, height, width], np.int64),
        }
        found = np.clip(np.floor(session.run(feed)[0][0] + 0.5), 0, 255).transpose(1, 2, 0)
        expected = np.asarray(Image.fromarray(image).resize((width, height), FILTERS[filter_name]))
        n_near += int((np.abs(found - expected) <= 1).sum())
        n_values += expected.size
    return n_near / n_values


def make_versions(graph: Any = None) -> Any:
    """Return a model of a graph, by default of none, in the operator set that is measured."""
    empty = helper.make_graph([], "empty", [], [])
    opsets = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph or empty, opset_imports=opsets, ir_version=IR_VERSION)


TEMPLATE = """`any_size.py`: a file of `topwork export --input any-size` is given the {n_photographs} validation
photographs of ants and bees, decoded and upright, each at its own size. The classifier is a logistic regression on
MobileNetV2 0.35.

{answers}

The pixels that such a file computes, compared with Pillow's for all photographs; in the last column those of the
operator `Resize` of ONNX with antialias in ONNX Runtime, before the crop, where it has such a filter.

{pixels}
"""


if __name__ == "__main__":
    main()
