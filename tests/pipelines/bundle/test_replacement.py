"""Bundles that other processes replace, or are killed as they replace: what is loaded is the old or the new one."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
import topwork
from topwork import TransferClassifier, atomic
from topwork.extract.graphs.exported_graph import ExportedGraph

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")

REPLACEMENTS = 12
FILE_EVENTS = ("os.rename", "shutil.rmtree")
"""Audit events of a save that moves files into place or removes folders; each is raised before the change."""
WAYS = ("exchange", "two steps")


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the way in which a bundle is replaced."""
    if request.param == "two steps":
        monkeypatch.setattr(atomic, "exchange", lambda one, other: False)
    return str(request.param)


@pytest.fixture(scope="module")
def classifiers(graph: ExportedGraph, photos: Path) -> list[TransferClassifier]:
    """Return two fitted classifiers, of several graphs; they are not to be changed."""
    return [
        TransferClassifier(graph, layer, head=head, cv=0).fit(photos)
        for layer, head in (("layer2", "centroid"), ("layer3", "linear"))
    ]


@pytest.fixture(scope="module")
def item(paths: list[Path]) -> list[Path]:
    return paths[:1]


@pytest.fixture(scope="module")
def expected(
    classifiers: list[TransferClassifier], item: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> list[bytes]:
    """Return the features and predictions of both bundles."""
    folder = tmp_path_factory.mktemp("versions")
    for number, classifier in enumerate(classifiers):
        classifier.save(folder / str(number))
    return [read_whole(folder / str(number), item) for number in range(len(classifiers))]


def read_whole(bundle: Path, item: list[Path]) -> bytes:
    """Load a bundle and predict; return what the graph and the head computed."""
    loaded = topwork.load(bundle)
    features = loaded.extractor_.transform(item)
    return features.tobytes() + str(loaded.predict(item)).encode() + str(loaded.head).encode()


def start(task: Callable[[], None]) -> int:
    """Run a task in a process of its own, and return its number."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        task()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def wait_for(process: int) -> int:
    """Return the exit code of a process, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def list_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_other_processes_read_the_old_or_the_new_bundle(
    way: str, classifiers: list[TransferClassifier], expected: list[bytes], item: list[Path], tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    classifiers[0].save(bundle)
    end = tmp_path / "end"

    def read_again_and_again() -> None:
        while not end.exists():
            assert read_whole(bundle, item) in expected

    def replace_again_and_again() -> None:
        for number in range(1, REPLACEMENTS + 1):
            classifiers[number % 2].save(bundle, overwrite=True)

    reader = start(read_again_and_again)
    writer = start(replace_again_and_again)
    writer_code = wait_for(writer)
    end.touch()
    assert (writer_code, wait_for(reader)) == (0, 0)
    assert list_names(tmp_path) == ["bundle", "end"]


@pytest.mark.parametrize("way", ["exchange", pytest.param("two steps", marks=pytest.mark.coverage)], indirect=True)
def test_killed_save_leaves_the_old_or_the_new_bundle_and_no_litter(
    way: str, classifiers: list[TransferClassifier], expected: list[bytes], item: list[Path], tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    classifiers[0].save(bundle)
    found = []
    for number in range(1000):

        def save_and_die(number: int = number) -> None:
            kill_before_event(number)
            classifiers[1].save(bundle, overwrite=True)

        code = wait_for(start(save_and_die))
        assert code in (0, -signal.SIGKILL)
        found.append(expected.index(read_whole(bundle, item)))
        if found[-1] == 1:
            classifiers[0].save(bundle, overwrite=True)
            assert list_names(tmp_path) == ["bundle"]  # also what was left by those that were killed before
        if code == 0:
            break
    assert found == sorted(found)
    assert set(found) == {0, 1}


def kill_before_event(number: int) -> None:
    """Kill this process before its event of a number that changes a folder."""
    remaining = [number]

    def count(event: str, arguments: tuple[object, ...]) -> None:
        if event not in FILE_EVENTS:
            return
        if remaining[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        remaining[0] -= 1

    sys.addaudithook(count)
