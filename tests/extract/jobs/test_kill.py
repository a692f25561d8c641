"""``kill -9`` in the middle of an extraction: the same command again ends as if nothing had happened."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from topwork.extract.store.feature_store import FeatureStore

EACH = 260
"""Images of each of the ten classes."""
ITEMS_PER_PART = 513
"""Batch size above half of a window: each batch is a part of its own."""


@pytest.fixture(scope="module")
def images(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of 2,600 CIFAR images, with broken files and duplicates among them."""
    folder = tmp_path_factory.mktemp("cifar")
    with tarfile.open(data / "cifar10-test.tar.gz") as archive:
        chosen = [member for member in archive if member.isfile() and int(Path(member.name).stem) < EACH]
        archive.extractall(folder, members=chosen, filter="data")
    root = folder / "test"
    paths = sorted(root.rglob("*.jpg"))
    assert len(paths) == 10 * EACH
    for number, path in enumerate(paths[::200]):
        content = path.read_bytes()
        (path.parent / f"copy{number}.jpg").write_bytes(content)
        (path.parent / f"broken{number}.jpg").write_bytes((b"", b"no image", content[: len(content) // 2])[number % 3])
    return root


def command(images: Path, store: Path) -> list[str]:
    options = ["--backbone", "topwork:tiny", "--layer", "layer2,last", "--on-error", "record", "--json"]
    options += ["--batch-size", str(ITEMS_PER_PART)]
    return [sys.executable, "-m", "topwork", "extract", str(images), "--store", str(store), *options]


def to_the_end(images: Path, store: Path) -> dict[str, Any]:
    """Run the command and return its ledger without what is of one run alone."""
    done = subprocess.run(command(images, store), check=True, capture_output=True, text=True)
    ledger = json.loads(done.stdout)
    return {name: ledger[name] for name in ("items", "ok", "failed", "duplicate", "ignored", "failures", "fingerprint")}


def kill_when(moment: Callable[[Path], bool], images: Path, store: Path) -> None:
    process = subprocess.Popen(command(images, store), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not moment(store):
        time.sleep(0.001)
    process.kill()
    assert process.wait() == -signal.SIGKILL, "the job ended before it could be killed"


def has_entries(count: int) -> Callable[[Path], bool]:
    return lambda store: len(list((store / "log").glob("0*.json"))) >= count


def writes_a_part_after(count: int) -> Callable[[Path], bool]:
    """Return the moment in which a part is being written."""
    return lambda store: has_entries(count)(store) and any((store / "parts").glob(".tmp-*"))


def state(path: Path) -> dict[str, Any]:
    store = FeatureStore.open(path)
    return {
        "ids": store.ids,
        "labels": store.labels,
        "failures": store.failures(),
        **{name: store.index.column(name) for name in ("status", "reason", "digest")},
        "matrices": [np.asarray(store.matrix(column.name)).tobytes() for column in store.columns],
    }


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_resume_after_kill_yields_identical_bytes(images: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    expected = to_the_end(images, whole)
    assert expected["items"] == 10 * EACH + 26
    assert expected["failed"] == len(expected["failures"]) == 13
    assert expected["duplicate"] >= 13
    for moment in (has_entries(2), writes_a_part_after(2), has_entries(4)):
        kill_when(moment, images, killed)
        FeatureStore.open(killed).matrix("last")
        assert FeatureStore.open(killed).verify() == []
    assert 0 < len(FeatureStore.open(killed).ids) < expected["ok"]
    assert to_the_end(images, killed) == expected
    assert state(killed) == state(whole)
    assert FeatureStore.open(killed).verify() == []
    names = [sorted(p.relative_to(root).as_posix() for p in root.rglob("*")) for root in (killed, whole)]
    assert names[0] == names[1]
    shutil.rmtree(whole)
    assert to_the_end(images, killed) == expected
