"""What paths say about items."""

from __future__ import annotations

import os

import pytest
from topwork.extract.sources.labelling import is_item, label_and_split, text_of
from topwork.models.input_spec import KINDS


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
def test_items_are_told_by_their_suffix_and_hidden_files_are_none(name: str, kind: str | None) -> None:
    assert [other for other in KINDS if is_item(name, other)] == ([] if kind is None else [kind])


@pytest.mark.parametrize(
    ("identifier", "expected"),
    [
        ("1.jpg", (None, None)),
        ("ants/1.jpg", ("ants", None)),
        ("ants/deep/1.jpg", ("ants", None)),
        ("train/ants/1.jpg", ("ants", "train")),
        ("Validation/ants/1.jpg", ("ants", "val")),
        ("test/1.jpg", (None, "test")),
        ("ants/train/1.jpg", ("ants", None)),
        ("trainers/1.jpg", ("trainers", None)),
    ],
)
def test_first_folder_is_the_label_unless_it_is_a_split(
    identifier: str, expected: tuple[str | None, str | None]
) -> None:
    assert label_and_split(identifier) == expected


def test_any_file_name_becomes_text_that_can_be_stored() -> None:
    assert text_of("Grüße 蚂蚁.jpg") == "Grüße 蚂蚁.jpg"
    assert text_of(os.fsdecode(b"caf\xe9.jpg")).encode() == rb"caf\xe9.jpg"
