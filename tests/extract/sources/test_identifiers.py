"""Ids, labels and splits of items, by their paths."""

from __future__ import annotations

import os

import pytest
from topwork.extract.sources.identifiers import label_and_split, storable_text


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
    assert storable_text("Grüße 蚂蚁.jpg") == "Grüße 蚂蚁.jpg"
    assert storable_text(os.fsdecode(b"caf\xe9.jpg")).encode() == rb"caf\xe9.jpg"
