"""The table of CONTRIBUTING.md names files that exist, and covers every package."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("models", "extract", "heads", "pipelines")
PATH = re.compile(r"`((?:\w+/)*(?:\w+\.(?:py|md|toml|rst)|\w+/))`")


def rows() -> list[tuple[str, list[str]]]:
    """Return what each row of the table changes, and the files it names."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text.partition("| to change | open |\n|---|---|\n")[2].partition("\n\n")[0]
    cells = [line.strip("|").split("|") for line in table.splitlines()]
    return [(subject.strip(), PATH.findall(files)) for subject, files in cells]


def test_every_row_names_existing_files() -> None:
    assert len(rows()) >= 30
    for subject, files in rows():
        assert files, subject
        assert [file for file in files if not (ROOT / file).exists()] == [], subject


def test_every_subject_has_one_row() -> None:
    subjects = [subject for subject, _ in rows()]
    assert len(subjects) == len(set(subjects))


def test_every_package_is_in_the_table() -> None:
    named = {str(Path(file).parent) for _, files in rows() for file in files}
    packages = {
        path.parent.relative_to(ROOT).as_posix()
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("__init__.py")
        if any(module.name != "__init__.py" for module in path.parent.glob("*.py"))
    }
    assert packages - named == set()


@pytest.mark.parametrize("document", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_files_named_in_a_document_exist(document: str) -> None:
    names = PATH.findall((ROOT / document).read_text(encoding="utf-8"))
    assert len(names) > 10
    assert [name for name in names if not (ROOT / name).exists()] == []
