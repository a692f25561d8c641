"""The engine: order, batches, failures and duplicates of a run, with a real session."""

from __future__ import annotations

import gc
import itertools
import threading
import weakref
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from topwork.extract.engine import batching
from topwork.extract.engine.batching import BatchSizes, make_batches
from topwork.extract.engine.engine import KnownFeatures, compute_features, infer
from topwork.extract.engine.ledger import Stages
from topwork.extract.engine.result import Result
from topwork.extract.extractor.extractor import Extractor
from topwork.extract.preprocess.by_kind import preprocessor_for
from topwork.extract.preprocess.image import ImagePreprocessor
from topwork.extract.preprocess.preprocessor import Feed, Prepared
from topwork.extract.preprocess.text import TextPreprocessor
from topwork.extract.runtime.session import Session
from topwork.extract.sources.file import read_file
from topwork.extract.sources.item import Item, content_digest
from topwork.models.text_spec import TextSpec


@pytest.fixture(scope="module")
def tiny() -> Extractor:
    return Extractor("topwork:tiny", layer=["layer2", "last"])


def image(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (36, 40, 3), dtype=np.uint8)


def items(seeds: list[int]) -> list[Item]:
    return [Item(f"{place}", partial(image, seed)) for place, seed in enumerate(seeds)]


def results(tiny: Extractor, given: list[Item], sizes: BatchSizes, workers: int | None = None) -> list[Result]:
    return list(compute_features(given, tiny.session, tiny.preprocessor, sizes=sizes, workers=workers))


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 1), (4, 3), (32, None)])
def test_features_do_not_depend_on_batches_and_threads(tiny: Extractor, batch_size: int, workers: int | None) -> None:
    found = results(tiny, items(list(range(11))), BatchSizes(batch_size), workers)
    assert [result.item.id for result in found] == [str(i) for i in range(11)]
    for seed, result in enumerate(found):
        alone = results(tiny, items([seed]), BatchSizes(1))[0]
        assert result.vectors is not None
        assert [vector.shape for vector in result.vectors] == [(column.width,) for column in tiny.columns]
        for ours, theirs in zip(result.vectors, alone.vectors or (), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_items_that_fail_keep_their_place_and_spare_their_neighbours(tiny: Extractor, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no image")
    broken = [Item(name, partial(read_file, str(tmp_path / name))) for name in ("text.jpg", "missing.jpg")]
    good = items([0, 1])
    found = results(tiny, [good[0], *broken, good[1]], BatchSizes(2))
    assert [result.item.id for result in found] == ["0", "text.jpg", "missing.jpg", "1"]
    assert [result.vectors is None for result in found] == [False, True, True, False]
    assert found[1].reason
    assert found[2].reason == "FileNotFoundError: No such file or directory"
    for result, seed in ((found[0], 0), (found[3], 1)):
        assert result.vectors is not None
        np.testing.assert_allclose(result.vectors[1], tiny.transform([image(seed)])[0, -len(result.vectors[1]) :], 1e-5)


def test_an_image_over_max_pixels_fails_alone(tiny: Extractor) -> None:
    large = Item("large", lambda: np.zeros((50, 50, 3), np.uint8))
    preprocessor = preprocessor_for(tiny.graph.input_spec, max_pixels=2499)
    found = list(compute_features([large, *items([0])], tiny.session, preprocessor))
    assert "max_pixels=2,499" in str(found[0].reason)
    assert found[1].vectors is not None


def test_equal_content_is_computed_once_and_names_its_original(tiny: Extractor) -> None:
    stored = KnownFeatures("stored", tuple(np.full(column.width, 7, np.float32) for column in tiny.columns))
    known, stages = {content_digest(image(7)): stored}, Stages()

    def look_up(digests: Sequence[str]) -> dict[str, KnownFeatures]:
        return {digest: known[digest] for digest in digests if digest in known}

    given = items([0, 1, 0, 7])
    found = list(compute_features(given, tiny.session, tiny.preprocessor, stages=stages, lookup=look_up))
    assert [result.duplicate_of for result in found] == [None, None, "0", "stored"]
    assert found[2].vectors is found[0].vectors
    assert found[3].vectors is stored.vectors
    assert min(stages.read, stages.decode, stages.infer) > 0


def test_equal_content_of_windows_in_flight_is_computed_once(tiny: Extractor) -> None:
    found = results(tiny, items([0, 0, 1, 1]), BatchSizes(1), workers=1)
    assert [result.duplicate_of for result in found] == [None, "0", None, "2"]
    assert found[1].vectors is found[0].vectors


def test_pixels_go_with_their_window(tiny: Extractor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the garbage collector, which may come late."""
    arrays, prepare = list[weakref.ref[NDArray[Any]]](), ImagePreprocessor.prepare

    def noted(self: ImagePreprocessor, content: Any) -> Prepared:
        prepared = prepare(self, content)
        arrays.append(weakref.ref(prepared.array))
        return prepared

    monkeypatch.setattr(ImagePreprocessor, "prepare", noted)
    gc.disable()
    try:
        for _ in compute_features(items(list(range(60))), tiny.session, tiny.preprocessor, sizes=BatchSizes(2)):
            assert sum(array() is not None for array in arrays) <= 5 * 2
    finally:
        gc.enable()


def test_inference_that_takes_one_batch_at_a_time_has_a_thread_of_its_own(tiny: Extractor) -> None:
    threads = set()

    class Noted(Session):
        def run(self, feed: Feed) -> list[NDArray[Any]]:
            threads.add(threading.current_thread().name)
            return super().run(feed)

    session = Noted(tiny.session.runtime, "cpu", runs=1)
    found = list(compute_features(items(list(range(20))), session, tiny.preprocessor, sizes=BatchSizes(2), workers=3))
    assert len(found) == 20
    assert threads == {"topwork-inference_0"}
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("topwork")]


def test_items_are_taken_only_a_few_batches_ahead(tiny: Extractor) -> None:
    taken = 0

    def endless() -> Iterator[Item]:
        nonlocal taken
        for taken in itertools.count(1):
            yield Item(str(taken), partial(image, taken % 5))

    sizes = BatchSizes(batch_size=4)
    running = compute_features(endless(), tiny.session, tiny.preprocessor, sizes=sizes, workers=2)
    first = list(itertools.islice(running, 40))
    running.close()  # type: ignore[attr-defined]
    assert [result.item.id for result in first] == [str(i) for i in range(1, 41)]
    assert taken <= 40 + 5 * sizes.batch_size
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("topwork-worker")]


@pytest.mark.parametrize(("batch_size", "workers"), [(2, 16), (16, 16), (64, 16), (1, 3)])
def test_a_device_finds_items_for_all_cores_decoded_ahead(tiny: Extractor, batch_size: int, workers: int) -> None:
    """Two batches lie on the device, which waits; behind the next one each worker has two items to decode."""
    expected = 3 * batch_size + 2 * workers
    taken = 0
    is_enough = threading.Event()

    def endless() -> Iterator[Item]:
        nonlocal taken
        for taken in itertools.count(1):
            if taken >= expected:
                is_enough.set()
            yield Item(str(taken), partial(image, taken))

    class Waiting(Session):
        def run(self, feed: Feed) -> list[NDArray[Any]]:
            assert is_enough.wait(timeout=60)
            return super().run(feed)

    session = Waiting(tiny.session.runtime, "cuda")
    sizes = BatchSizes(batch_size)
    running = compute_features(endless(), session, tiny.preprocessor, sizes=sizes, workers=workers)
    assert next(running).item.id == "1"
    running.close()
    assert taken <= expected + 2 * batch_size  # which bounds the memory


def test_measuring_keeps_two_batches_on_a_device_as_jobs_do(tiny: Extractor) -> None:
    both = threading.Barrier(2)

    class Meeting(Session):
        def run(self, feed: Feed) -> list[NDArray[Any]]:
            both.wait(timeout=10)
            return super().run(feed)

    prepared = [tiny.preprocessor.prepare(image(number)) for number in range(4)]
    vectors = infer(prepared, Meeting(tiny.session.runtime, "cuda"), tiny.preprocessor, BatchSizes(2))
    assert len(vectors) == 4


LONGEST = 24
"""Tokens that the small BERT takes, two special ones included."""


@pytest.fixture(scope="module")
def bert(text_folder: Path) -> Extractor:
    return Extractor(f"hf:{text_folder}")


class Recording(TextPreprocessor):
    """A preprocessor that remembers the lengths of the texts in each batch."""

    def __init__(self, spec: TextSpec) -> None:
        super().__init__(spec)
        self.batches: list[list[int]] = []

    def collate(self, arrays: Sequence[NDArray[Any]]) -> Feed:
        self.batches.append([len(array) for array in arrays])
        return super().collate(arrays)


def written(words: list[int]) -> list[Item]:
    """Return texts of so many words, all of them different."""
    texts = ["cat " * (count - 1) + "abcdefghijklmnopqrstuvwxyz"[place] for place, count in enumerate(words)]
    return [Item(str(place), lambda text=text: text) for place, text in enumerate(texts)]


def record(
    bert: Extractor, given: list[Item], sizes: BatchSizes, workers: int | None = None
) -> tuple[list[Result], list[list[int]]]:
    assert isinstance(bert.graph.input_spec, TextSpec)
    preprocessor = Recording(bert.graph.input_spec)
    return list(compute_features(given, bert.session, preprocessor, sizes=sizes, workers=workers)), preprocessor.batches


WORDS = [9, 1, 20, 2, 15, 1, 8, 3, 12, 1, 5]


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 1), (3, 2), (32, None)])
def test_text_keeps_its_order_and_equals_single_runs(bert: Extractor, batch_size: int, workers: int | None) -> None:
    found, batches = record(bert, written(WORDS), BatchSizes(batch_size), workers)
    assert [result.item.id for result in found] == [str(place) for place in range(len(WORDS))]
    starts = range(0, len(WORDS), batch_size)
    assert sorted(batches) == sorted([count + 2 for count in sorted(WORDS)[i : i + batch_size]] for i in starts)
    for item, result in zip(written(WORDS), found, strict=True):
        (alone,) = record(bert, [item], BatchSizes())[0]
        assert result.vectors is not None
        assert alone.vectors is not None
        np.testing.assert_allclose(result.vectors[0], alone.vectors[0], rtol=1e-4, atol=1e-5)
    assert len({result.vectors[0].tobytes() for result in found if result.vectors}) == len(WORDS)


def test_text_is_grouped_within_windows_made_by_position(bert: Extractor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "ITEMS_PER_WINDOW", 6)
    given = written(WORDS)
    given[1] = Item("1", lambda: 3)  # no text: it keeps its place in the window
    found, batches = record(bert, given, BatchSizes(2))
    first, second = sorted([9, 20, 2, 15, 1]), sorted([8, 3, 12, 1, 5])
    expected = [[n + 2 for n in words[start : start + 2]] for words in (first, second) for start in (4, 2, 0)]
    assert batches == expected  # of each window the longest first
    assert [result.item.id for result in found] == [str(place) for place in range(len(WORDS))]
    assert [result.reason for result in found if result.vectors is None] == ["a int; expected a text"]


@pytest.mark.parametrize(("batch_size", "window"), [(1, 1024), (32, 1024), (33, 1023), (1000, 1000), (1500, 1500)])
def test_window_holds_whole_batches(batch_size: int, window: int) -> None:
    assert BatchSizes(batch_size).window == window


def test_text_longer_than_the_input_is_flagged_and_truncated(bert: Extractor) -> None:
    words = [LONGEST - 2, LONGEST - 1, 3, LONGEST + 40]
    given = [Item(str(count), lambda count=count: "cat " * count) for count in words]
    found, batches = record(bert, [*given, Item("again", given[1].read)], BatchSizes())
    assert [result.truncated for result in found] == [False, True, False, True, True]
    assert max(map(max, batches)) == LONGEST
    assert [result.duplicate_of for result in found] == [None, None, None, None, str(LONGEST - 1)]
    assert found[0].vectors is not None
    assert found[3].vectors is not None
    np.testing.assert_allclose(found[3].vectors[0], found[0].vectors[0], rtol=1e-4, atol=1e-5)


def test_images_are_never_truncated(tiny: Extractor) -> None:
    assert [result.truncated for result in results(tiny, items([0, 1]), BatchSizes())] == [False, False]


def test_batches_of_text_hold_a_limited_number_of_tokens() -> None:
    lengths = [9, 2, 30, 2, 3, 9, 2, 9]
    prepared = {place: Prepared(np.zeros(length, np.int64), length) for place, length in enumerate(lengths)}
    found = make_batches(prepared, BatchSizes(2, tokens=20))
    assert sorted(place for batch in found for place in batch) == list(range(8))
    assert [[lengths[place] for place in batch] for batch in found] == [[2, 2, 2, 3], [9, 9], [9], [30]]
    assert [len(batch) for batch in make_batches(prepared, BatchSizes(3))] == [3, 3, 2]
