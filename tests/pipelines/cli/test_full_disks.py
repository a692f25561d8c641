"""Full disks: each command names the destination that is full, and what to do; what was there before stays."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .running import topwork_command

ROOM = 256 * 1024
PROBED_BLOCKS = 17
"""More than what is written to see whether there is room: the disk is full in the middle of the work."""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return the folder of a file system that is full but for a few blocks."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(folder)]
    if subprocess.run(mounting, capture_output=True, check=False).returncode:
        pytest.skip("only the superuser mounts file systems")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path, leave: int) -> None:
    """Fill a disk up to some blocks of 4,096 bytes."""
    with open(disk / "filler", "wb", buffering=0) as stream:
        stream.write(bytes(ROOM - leave * 4096))


COMMANDS = {
    "bundle": ["fit", "{work}/store", "--head", "centroid", "--out", "{disk}/bundle"],
    "model.onnx": ["export", "{work}/bundle", "{disk}/model.onnx"],
    "store": ["extract", "{work}/photos", "--store", "{disk}/store"],
    "out.csv": ["predict", "{work}/bundle", "{work}/photos", "--out", "{disk}/out.csv"],
    "out.parquet": ["predict", "{work}/bundle", "{work}/store", "--out", "{disk}/out.parquet"],
    "table.parquet": ["store", "export", "{work}/store", "{disk}/table.parquet"],
}
LARGE = ("bundle", "model.onnx", "store")


@pytest.mark.parametrize(
    ("name", "blocks"), [*((name, 1) for name in COMMANDS), *((name, PROBED_BLOCKS) for name in LARGE)]
)
def test_destination_that_is_full_is_named(name: str, blocks: int, work: Path, small_disk: Path) -> None:
    fill(small_disk, leave=blocks)
    before = sorted(small_disk.iterdir())
    arguments = [argument.format(work=work, disk=small_disk) for argument in COMMANDS[name]]
    result = topwork_command(*arguments, code=3)
    assert str(small_disk / name) in result.stderr
    assert "the disk is full; free some space, and run the command again" in result.stderr
    assert [path for path in sorted(small_disk.iterdir()) if "unfinished" not in path.name] == before


def test_cache_and_temporary_folder_that_are_full_are_named(
    work: Path, small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(small_disk, leave=2)
    small_disk.chmod(0o700)
    command = ["extract", work / "photos", "--store", tmp_path / "store", "--layer", "layer3", "--pool", "max"]
    with monkeypatch.context() as patch:
        patch.setenv("TOPWORK_CACHE", str(small_disk / "cache"))
        result = topwork_command(*command, code=3)
    assert str(small_disk / "cache") in result.stderr
    assert "the disk is full" in result.stderr

    monkeypatch.setattr(tempfile, "tempdir", str(small_disk))
    result = topwork_command("export", work / "bundle", tmp_path / "model.onnx", code=3)
    assert str(small_disk) in result.stderr
    assert "the disk is full" in result.stderr
    assert not (tmp_path / "model.onnx").exists()
