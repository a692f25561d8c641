"""From what the user gave to a source."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from topwork.errors import SourceError
from topwork.extract.sources.folder import FolderSource
from topwork.extract.sources.opening import open_source
from topwork.extract.sources.sequence import SequenceSource


def test_a_folder_is_opened_by_its_path(write_images: Callable[..., Path]) -> None:
    root = write_images()
    for given in (root, str(root)):
        source = open_source(given)
        assert isinstance(source, FolderSource)
        assert len(source) == 6


def test_a_list_or_array_is_a_sequence() -> None:
    for given in ([np.zeros((2, 2, 3), np.uint8)], np.zeros((1, 2, 2, 3), np.uint8)):
        source = open_source(given, labels=["cat"])
        assert isinstance(source, SequenceSource)
        assert [item.label for item in source] == ["cat"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nothing", "does not exist; expected a folder"),
        ("table.xlsx", "unknown kind"),
        ("empty", r"no images \(1 other"),
    ],
)
def test_what_cannot_be_a_source_is_refused(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "table.xlsx").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_bytes(b"x")
    with pytest.raises(SourceError, match=reason):
        open_source(tmp_path / name)
