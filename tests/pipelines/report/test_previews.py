"""Thumbnails and snippets are small, of the items that are wanted, and absent for what cannot be read."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from topwork.extract.graphs.exported_graph import ExportedGraph
from topwork.extract.sources.opening import open_source
from topwork.pipelines.report.previews import (
    MAX_THUMBNAILS,
    SNIPPET_LETTERS,
    THUMBNAIL_PIXELS,
    make_snippet,
    make_thumbnail,
    read_previews,
)


def test_thumbnail_is_a_small_jpeg_of_the_image(graph: ExportedGraph, photos: Path) -> None:
    content = (photos / "sky" / "0.png").read_bytes()
    image = Image.open(io.BytesIO(base64.b64decode(make_thumbnail(content, graph.input_spec))))
    assert image.format == "JPEG"
    assert max(image.size) <= THUMBNAIL_PIXELS
    original = np.asarray(Image.open(photos / "sky" / "0.png").convert("RGB")).mean(axis=(0, 1))
    assert np.asarray(image).mean(axis=(0, 1)) == pytest.approx(original, abs=6)


def test_only_wanted_items_are_read_without_broken_ones(graph: ExportedGraph, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "broken.png").write_bytes(b"no image")
    (tmp_path / "a" / "sky.png").write_bytes((photos / "sky" / "0.png").read_bytes())
    (tmp_path / "a" / "other.png").write_bytes((photos / "sky" / "1.png").read_bytes())
    source = open_source(tmp_path)
    found = read_previews(source, ["a/broken.png", "a/sky.png", "a/absent.png"], graph.input_spec)
    assert list(found.thumbnails) == ["a/sky.png"]


def test_number_of_thumbnails_is_bounded(graph: ExportedGraph) -> None:
    images = np.zeros((MAX_THUMBNAILS + 5, 4, 4, 3), np.uint8)
    images[:, 0, 0, 0] = np.arange(len(images)) % 256
    source = open_source(images, ids=[str(number) for number in range(len(images))])
    wanted = [item.id for item in source]
    found = read_previews(source, [*wanted[:2], *wanted], graph.input_spec)
    assert list(found.thumbnails) == wanted[:MAX_THUMBNAILS]


def test_snippets_are_one_short_line() -> None:
    assert make_snippet("a\n  b\tc") == "a b c"
    assert make_snippet(b"\xff") == "\ufffd"
    assert len(make_snippet("word " * 1000)) == SNIPPET_LETTERS
