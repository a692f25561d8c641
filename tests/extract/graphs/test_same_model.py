"""What canaries accepted, and canaries that were adopted, count only as they were remembered, and for their graph."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from topwork.errors import CacheError
from topwork.extract.graphs.cache_check import verify_cache
from topwork.extract.graphs.editing import select_columns
from topwork.extract.graphs.exported_graph import ExportedGraph
from topwork.extract.graphs.same_model import is_accepted, locate_accepted, remember_accepted
from topwork.user_cache import remember


@pytest.fixture
def graphs(tiny_graph: ExportedGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[ExportedGraph]:
    """Return two graphs with different columns, and an empty cache."""
    monkeypatch.setenv("TOPWORK_CACHE", str(tmp_path / "cache"))
    return [select_columns(tiny_graph, [name], tmp_path / name / "graph.onnx") for name in make_folders(tmp_path)]


def make_folders(folder: Path) -> tuple[str, ...]:
    names = ("layer2.avg", "last")
    for name in names:
        (folder / name).mkdir()
    return names


def add_computation(path: Path) -> None:
    content = json.loads(path.read_text())
    content["value"]["accepted"].append({"computation": "planted", "versions": {}})
    path.write_text(json.dumps(content))


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def rename_graph(path: Path) -> None:
    content = json.loads(path.read_text())
    remember(path, {**content["value"], "graph": "of another"})


def write_older_form(path: Path) -> None:
    remember(path, json.loads(path.read_text())["value"]["accepted"])


def write_number(path: Path) -> None:
    remember(path, {"graph": path.stem, "accepted": 5})


@pytest.mark.parametrize("damage", [add_computation, cut_short, rename_graph, write_older_form, write_number])
def test_damaged_or_planted_acceptance_does_not_count(
    damage: Callable[[Path], None], graphs: list[ExportedGraph]
) -> None:
    found, expected = graphs
    assert not is_accepted(found, expected)
    remember_accepted(found, expected)
    assert is_accepted(found, expected)
    damage(locate_accepted(expected))
    assert not is_accepted(found, expected)
    remember_accepted(found, expected)
    assert is_accepted(found, expected)


def test_acceptance_of_another_graph_does_not_count(graphs: list[ExportedGraph]) -> None:
    found, expected = graphs
    remember_accepted(found, found)
    shutil.copy(locate_accepted(found), locate_accepted(expected))
    assert not is_accepted(found, expected)


def test_acceptance_that_others_may_write_is_refused(graphs: list[ExportedGraph]) -> None:
    found, expected = graphs
    remember_accepted(found, expected)
    locate_accepted(expected).chmod(0o666)
    with pytest.raises(CacheError, match="666"):
        is_accepted(found, expected)
    assert len(verify_cache()["unsafe"]) == 1


def enlarge_features(path: Path) -> None:
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays["reference:last"] = 2 * arrays["reference:last"]
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    path.write_bytes(stream.getvalue())


def remove_seal(path: Path) -> None:
    path.with_suffix(".json").unlink()


@pytest.mark.parametrize(
    ("damage", "status"), [(enlarge_features, "damaged"), (cut_short, "damaged"), (remove_seal, "unsealed")]
)
def test_damaged_or_planted_canaries_are_not_adopted(
    damage: Callable[[Path], None], status: str, tiny_graph: ExportedGraph, graphs: list[ExportedGraph], tmp_path: Path
) -> None:
    graph = graphs[1]
    graph.canaries_path.unlink()
    assert graph.canaries is None
    graph.adopt_canaries(tiny_graph)
    (adopted,) = (tmp_path / "cache" / "canaries").glob("*.npz")
    assert graph.canaries is not None
    assert verify_cache()["intact"] == [f"canaries/{adopted.name}"]
    before = adopted.read_bytes()
    damage(adopted)
    assert graph.canaries is None
    assert verify_cache()[status] == [f"canaries/{adopted.name}"]
    graph.adopt_canaries(tiny_graph)
    assert graph.canaries is not None
    assert adopted.read_bytes() == before


def test_canaries_of_another_graph_are_not_adopted(
    tiny_graph: ExportedGraph, graphs: list[ExportedGraph], tmp_path: Path
) -> None:
    folder = tmp_path / "cache" / "canaries"
    for graph in graphs:
        graph.canaries_path.unlink()
        graph.adopt_canaries(tiny_graph)
    first, second = sorted(folder.glob("*.npz"))
    for suffix in (".npz", ".json"):
        shutil.copy(first.with_suffix(suffix), second.with_suffix(suffix))
    assert [graph.canaries is None for graph in graphs].count(True) == 1
