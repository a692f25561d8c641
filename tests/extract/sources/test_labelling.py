"""What paths say about images."""

from __future__ import annotations

import os

import pytest
from topwork.extract.sources.labelling import is_image, label_and_split, text_of


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.jpg", True),
        ("A.JPEG", True),
        ("folder.x/b.Png", True),
        ("c.tiff", True),
        (".hidden.jpg", False),
        ("ants/._a.jpg", False),
        ("notes.txt", False),
        ("jpg", False),
        ("a.jpg.part", False),
    ],
)
def test_images_are_told_by_their_suffix_and_hidden_files_are_none(name: str, expected: bool) -> None:
    assert is_image(name) is expected


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
