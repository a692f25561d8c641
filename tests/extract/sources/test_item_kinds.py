"""Kinds of items: which files and arrays are items, and that every kind of input has items and a preprocessor."""

from __future__ import annotations

import numpy as np
import pytest
from topwork.extract.preprocess.by_kind import PREPROCESSORS
from topwork.extract.sources.item_kinds import ITEM_KINDS
from topwork.models.input_kinds import INPUT_SPECS


def test_every_kind_of_input_has_items_and_a_preprocessor() -> None:
    assert list(ITEM_KINDS) == list(PREPROCESSORS) == list(INPUT_SPECS)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.jpg", "image"),
        ("A.JPEG", "image"),
        ("folder.x/b.Png", "image"),
        ("c.tiff", "image"),
        (".hidden.jpg", None),
        ("ants/._a.jpg", None),
        ("notes.txt", "text"),
        ("folder.npy/Notes.TXT", "text"),
        (".hidden.txt", None),
        ("series.npy", "tensor"),
        ("Series.NPY", "tensor"),
        ("ants/.series.npy", None),
        ("series.npz", None),
        ("jpg", None),
        ("txt", None),
        ("a.jpg.part", None),
        ("a.txt.gz", None),
        ("notes.md", None),
    ],
)
def test_items_are_recognised_by_their_suffix_and_hidden_files_are_ignored(name: str, kind: str | None) -> None:
    matching = [other for other, item_kind in ITEM_KINDS.items() if item_kind.matches(name)]
    assert matching == ([] if kind is None else [kind])


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((), False), ((3,), True), ((8, 4), True), ((8, 8, 3), True), ((8, 8), False), ((2, 8, 8, 3), False)],
)
def test_array_that_is_one_image_is_recognised(shape: tuple[int, ...], expected: bool) -> None:
    assert ITEM_KINDS["image"].is_single_item(np.zeros(shape, np.uint8)) is expected
    assert not ITEM_KINDS["tensor"].is_single_item(np.zeros(shape, np.uint8))
