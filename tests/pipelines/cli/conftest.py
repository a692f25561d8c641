"""Fixtures of the command line's tests: photographs with a broken file, a store and a bundle made from them."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import pytest

from .running import BROKEN_ID, topwork_command


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """Return a folder with ``photos/`` (one file is broken), ``photos.tar``, ``store/`` and ``bundle/``."""
    folder = tmp_path_factory.mktemp("work")
    with tarfile.open(folder / "photos.tar", "w") as archive:
        archive.add(photos, "photos")
    shutil.copytree(photos, folder / "photos")
    (folder / "photos" / BROKEN_ID).write_bytes(b"no image")
    topwork_command("extract", folder / "photos", "--store", folder / "store")
    topwork_command("fit", folder / "store", "--head", "lda", "--out", folder / "bundle")
    return folder


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """Return a folder of broken files alone."""
    for label in ("a", "b"):
        (tmp_path / "broken" / label).mkdir(parents=True)
        (tmp_path / "broken" / label / "0.png").write_bytes(b"no image")
    return tmp_path / "broken"
