"""Labels and splits by the folders of files: the same for a folder, an archive and a URL."""

from __future__ import annotations

import unicodedata

import pytest
from topwork.extract.sources.path_labels import (
    HELD_OUT_SPLITS,
    find_layout,
    lies_in_system_folder,
    list_folders,
    name_split,
)


def found(*names: str) -> list[tuple[str | None, str | None]]:
    layout = find_layout(list_folders(name) for name in names)
    return [layout.label_and_split(name) for name in names]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("1.jpg", (None, None)),
        ("ants/1.jpg", ("ants", None)),
        ("ants/deep/1.jpg", ("ants", None)),
        ("train/ants/1.jpg", ("ants", "train")),
        ("Validation/ants/1.jpg", ("ants", "val")),
        ("test/1.jpg", (None, "test")),
        ("trainers/1.jpg", ("trainers", None)),
    ],
)
def test_first_folder_is_the_label_unless_it_is_a_split(name: str, expected: tuple[str | None, str | None]) -> None:
    assert find_layout([]).label_and_split(name) == expected


@pytest.mark.parametrize("top", ["data/", "data/photos/", "./data/"])
@pytest.mark.parametrize("stray", [(), ("stray.jpg",), ("data/stray.jpg",)])
def test_folders_that_all_lie_in_say_nothing(top: str, stray: tuple[str, ...]) -> None:
    names = [f"{top}{split}/{label}/1.jpg" for split in ("train", "val") for label in ("ants", "bees")]
    expected = [(label, split) for split in ("train", "val") for label in ("ants", "bees")]
    assert found(*names, *stray)[:4] == expected


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["ants/1.jpg", "ants/2.jpg"], ["ants", "ants"]),
        (["ants/1.jpg", "ants/wings/2.jpg"], ["ants", "ants"]),
        (["data/ants/1.jpg"], ["ants"]),
        (["data/ants/1.jpg", "data/bees/1.jpg"], ["ants", "bees"]),
        (["ants/old/1.jpg", "bees/old/1.jpg"], ["ants", "bees"]),
        (["stray.jpg", "ants/1.jpg", "bees/1.jpg"], [None, "ants", "bees"]),
    ],
)
def test_labels_without_splits(names: list[str], expected: list[str | None]) -> None:
    assert found(*names) == [(label, None) for label in expected]


@pytest.mark.parametrize("name", ["dev", "testing", "Eval", "evaluation", "holdout", "held_out"])
def test_doubtful_names_are_splits_beside_a_folder_for_training(name: str) -> None:
    (_, (label, split)) = found("train/ants/1.jpg", f"{name}/ants/1.jpg")
    assert label == "ants"
    assert split in HELD_OUT_SPLITS
    assert found("ops/1.jpg", f"{name}/1.jpg") == [("ops", None), (name, None)]


def test_names_in_tables_are_those_of_folders() -> None:
    assert [name_split(cell) for cell in ("Training", "valid", "dev", "testing", "fold 3")] == [
        *("train", "val", "dev", "test", "fold 3")
    ]


def test_composed_and_decomposed_names_are_one_label() -> None:
    names = [f"{unicodedata.normalize(form, 'café')}/1.jpg" for form in ("NFC", "NFD")]
    assert {label for label, _ in found(*names, "thé/1.jpg")} == {"café", "thé"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (".ipynb_checkpoints/1.jpg", True),
        ("ants/.ipynb_checkpoints/1.jpg", True),
        ("ants/@eaDir/1.jpg/SYNOPHOTO_THUMB.jpg", True),
        ("__MACOSX/ants/1.jpg", True),
        (".git/1.jpg", True),
        ("ants/1.jpg", False),
        ("./ants/1.jpg", False),
        ("ants.v2/1.jpg", False),
    ],
)
def test_folders_of_systems_hold_no_items(name: str, expected: bool) -> None:
    assert lies_in_system_folder(name) == expected
