"""The engine: order, batches, failures and duplicates of a run, with a real session."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from topwork.extract.engine import Original, Result, RunOptions, Stages, run
from topwork.extract.extractor import Extractor
from topwork.extract.item import Item, content_digest
from topwork.extract.sources.file import read_file


@pytest.fixture(scope="module")
def tiny() -> Extractor:
    return Extractor("topwork:tiny", layer=["layer2", "last"])


def image(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (36, 40, 3), dtype=np.uint8)


def items(seeds: list[int]) -> list[Item]:
    return [Item(f"{place}", partial(image, seed)) for place, seed in enumerate(seeds)]


def results(tiny: Extractor, given: list[Item], options: RunOptions) -> list[Result]:
    return list(run(given, tiny.session, tiny.graph.metadata.input_spec, options, Stages()))


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 1), (4, 3), (32, None)])
def test_features_do_not_depend_on_batches_and_threads(tiny: Extractor, batch_size: int, workers: int | None) -> None:
    found = results(tiny, items(list(range(11))), RunOptions(batch_size, workers=workers))
    assert [result.item.id for result in found] == [str(i) for i in range(11)]
    for seed, result in enumerate(found):
        alone = results(tiny, items([seed]), RunOptions(1))[0]
        assert result.vectors is not None
        assert [vector.shape for vector in result.vectors] == [(column.width,) for column in tiny.columns]
        for ours, theirs in zip(result.vectors, alone.vectors or (), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_items_that_fail_keep_their_place_and_spare_their_neighbours(tiny: Extractor, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no image")
    broken = [Item(name, partial(read_file, str(tmp_path / name))) for name in ("text.jpg", "missing.jpg")]
    good = items([0, 1])
    found = results(tiny, [good[0], *broken, good[1]], RunOptions(2))
    assert [result.item.id for result in found] == ["0", "text.jpg", "missing.jpg", "1"]
    assert [result.vectors is None for result in found] == [False, True, True, False]
    assert found[1].reason
    assert found[2].reason == "FileNotFoundError: No such file or directory"
    for result, seed in ((found[0], 0), (found[3], 1)):
        assert result.vectors is not None
        np.testing.assert_allclose(result.vectors[1], tiny.transform([image(seed)])[0, -len(result.vectors[1]) :], 1e-5)


def test_an_image_over_max_pixels_fails_alone(tiny: Extractor) -> None:
    large = Item("large", lambda: np.zeros((50, 50, 3), np.uint8))
    found = results(tiny, [large, *items([0])], RunOptions(max_pixels=2499))
    assert "max_pixels=2,499" in str(found[0].reason)
    assert found[1].vectors is not None


def test_equal_content_is_computed_once_and_names_its_original(tiny: Extractor) -> None:
    stored = Original("stored", tuple(np.full(column.width, 7, np.float32) for column in tiny.columns))
    known, stages = {content_digest(image(7)): stored}, Stages()
    given = items([0, 1, 0, 7])
    found = list(run(given, tiny.session, tiny.graph.metadata.input_spec, RunOptions(), stages, known.get))
    assert [result.duplicate_of for result in found] == [None, None, "0", "stored"]
    assert found[2].vectors is found[0].vectors
    assert found[3].vectors is stored.vectors
    assert min(stages.read, stages.decode, stages.infer) > 0


def test_items_are_taken_only_a_few_batches_ahead(tiny: Extractor) -> None:
    taken = 0

    def endless() -> Iterator[Item]:
        nonlocal taken
        for taken in itertools.count(1):
            yield Item(str(taken), partial(image, taken % 5))

    spec, options = tiny.graph.metadata.input_spec, RunOptions(batch_size=4, workers=2)
    running = run(endless(), tiny.session, spec, options, Stages())
    first = list(itertools.islice(running, 40))
    running.close()  # type: ignore[attr-defined]
    assert [result.item.id for result in first] == [str(i) for i in range(1, 41)]
    assert taken <= 40 + 3 * options.batch_size + 2
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("topwork-decode")]
