"""How a case of each format is read: opened, run or prepared, with all that it holds accounted for."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from damage import blocks, images, make_archive, make_image
from damage_bundles import make_bundle, original_bundle
from damage_onnx import MODEL, SIDE, make_onnx, original_model
from damage_tables import IMAGE, make_table

if TYPE_CHECKING:
    from topwork.extract.sources.item import Item

SIZE = 32
MAX_PIXELS = 4_000_000
PLAIN_TABLE = b"path,text\na.png,a text\n"


@dataclass(frozen=True)
class Format:
    """How cases of a format are made and read.

    `original` are the files of a case without damage. `read` takes their folder, and returns why items failed; it
    raises a TopworkError if nothing can be read. A format that `imports` opens files of Python while it is read. One
    case may take so many `seconds`.
    """

    make: Callable[[random.Random], dict[str, bytes]]
    original: Callable[[], dict[str, bytes]]
    read: Callable[[Path], list[str]]
    imports: bool = True
    seconds: float = 20.0


def read_images(folder: Path) -> list[str]:
    """Read all images of a folder."""
    from topwork.extract.sources.opening import open_source

    return read_items(open_source(folder))


def read_archive(folder: Path) -> list[str]:
    """Read all images of an archive."""
    from topwork.extract.sources.opening import open_source

    (file,) = folder.iterdir()
    return read_items(open_source(file))


def read_table(folder: Path) -> list[str]:
    """Read all rows of a table, as images and as texts."""
    from topwork.errors import SourceError
    from topwork.extract.sources.opening import open_source

    (file,) = folder.glob("case.*")
    reasons = []
    for kind in ("image", "text"):
        try:
            reasons += read_items(open_source(file, kind), kind)
        except SourceError as error:
            reasons.append(str(error))
    return reasons


def read_items(source: Any, kind: str = "image") -> list[str]:
    """Read and prepare all items of a source; return why some failed. There must be as many as the source says."""
    from topwork.errors import DecodeError

    reasons = []
    n_items = 0
    for item in source:
        n_items += 1
        item.id.encode()
        try:
            prepare(item, kind)
        except (OSError, DecodeError) as error:
            reasons.append(str(error))
    assert n_items == len(source), f"{n_items} items of {len(source)}"
    return reasons


def prepare(item: Item, kind: str) -> None:
    """Read an item; an image is decoded as well."""
    from topwork.extract.preprocess.by_kind import preprocessor_for
    from topwork.models.image_spec import ImageSpec

    content = item.read()
    if kind == "text":
        str(content).encode("utf-8", "surrogatepass")
        return
    spec = ImageSpec(size=(SIZE, SIZE), resize=SIZE + 4)
    array = preprocessor_for(spec, max_pixels=MAX_PIXELS).prepare(content).array
    assert (array.shape, array.dtype) == ((SIZE, SIZE, 3), np.uint8), f"{array.dtype} of {array.shape}"


def read_onnx(folder: Path) -> list[str]:
    """Load a model as a backbone, cut it at its first and at its last layer, and compute features."""
    import topwork

    backbone = topwork.load_backbone(f"onnx:{folder / MODEL}", mean=(0, 0, 0), std=(1, 1, 1))
    names = [layer.name for layer in topwork.layers(backbone)]
    for name in dict.fromkeys((names[0], names[-1])):
        extractor = topwork.Extractor(backbone, layer=name, provider="cpu", precision="fp32")
        features = extractor.fit_transform(make_items(backbone.input_spec))
        assert len(features) == 2, features.shape
    return []


def make_items(spec: Any) -> list[Any]:
    """Return two items as a model takes them."""
    if type(spec).__name__ == "TensorSpec":
        return [np.zeros(spec.shape, np.float32)] * 2
    return [np.zeros((SIDE, SIDE, 3), np.uint8), np.full((SIDE, SIDE, 3), 99, np.uint8)]


def read_bundle(folder: Path) -> list[str]:
    """Load a bundle, and predict two items."""
    import topwork

    classifier = topwork.load(folder)
    items = make_items(None)
    labels = classifier.predict(items)
    assert len(labels) == len(items), f"{len(labels)} predictions"
    return []


def quiet(read: Callable[[Path], list[str]], folder: Path) -> list[str]:
    """Read without warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read(folder)


FORMATS: dict[str, Format] = {
    "image": Format(
        make=make_image,
        original=lambda: {"plain.png": images()["plain.png"]},
        read=read_images,
        imports=False,
    ),
    "table": Format(
        make=make_table,
        original=lambda: {"case.csv": PLAIN_TABLE, IMAGE: images()["plain.png"]},
        read=read_table,
    ),
    "archive": Format(
        make=make_archive,
        original=lambda: {"case.tar": blocks("a/plain.png", images()["plain.png"]) + bytes(1024)},
        read=read_archive,
        imports=False,
    ),
    "onnx": Format(make=make_onnx, original=lambda: {MODEL: original_model()}, read=read_onnx, seconds=60),
    "bundle": Format(make=make_bundle, original=lambda: dict(original_bundle("linear")), read=read_bundle),
}
