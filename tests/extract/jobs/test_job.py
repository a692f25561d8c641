"""The main job: every input accounted for, nothing computed twice, the same end whatever happened before."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from topwork.errors import IdentityError, InputError, SourceError, StoppedError, StoreLockedError
from topwork.extract.engine import batching
from topwork.extract.engine.batching import DEFAULT_BATCH_SIZES, BatchSizes
from topwork.extract.engine.ledger import Ledger
from topwork.extract.engine.run_config import RunConfig
from topwork.extract.engine.tuning import Tuning, locate_tuning, write_tuning
from topwork.extract.extractor.extractor import Extractor
from topwork.extract.jobs.job import extract_features
from topwork.extract.sources.archive import ArchiveSource
from topwork.extract.sources.item import Item
from topwork.extract.store.feature_store import FeatureStore
from topwork.extract.store.lock import write_lock
from topwork.extract.store.writer import open_writer
from topwork.progress import Progress

BATCH_SIZE = 2


@pytest.fixture(scope="module")
def tiny() -> Extractor:
    return Extractor("topwork:tiny", layer=["layer2", "last"])


@pytest.fixture(autouse=True, scope="module")
def small_parts() -> Iterator[None]:
    """Let four items fill a part, so that a few images are a job of several parts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batching, "ITEMS_PER_WINDOW", 4)
        yield


def png(seed: int) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (36, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


BROKEN = {"empty": b"", "text": b"no image", "truncated": png(0)[:-500]}


def write(root: Path, contents: list[bytes]) -> Path:
    for number, content in enumerate(contents):
        path = root / f"label{number % 3}" / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def new_store(path: Path, tiny: Extractor) -> FeatureStore:
    return FeatureStore.create(path / "features", tiny)


def account(ledger: Ledger) -> tuple[int, int, int, int]:
    return ledger.items, ledger.ok, ledger.failed, ledger.duplicate


def state(store: FeatureStore) -> dict[str, Any]:
    """Return all that a store says; matrices as bytes."""
    store = FeatureStore.open(store.path)
    return {
        "ids": store.ids,
        "labels": store.labels,
        "failures": store.failures(),
        "status": store.index.column("status"),
        "reason": store.index.column("reason"),
        "matrices": [np.asarray(store.matrix(column.name)).tobytes() for column in store.columns],
    }


def features(tiny: Extractor, root: Path, ids: list[str]) -> np.ndarray:
    return np.vstack([tiny.transform([root / item_id]) for item_id in ids])


def stored(store: FeatureStore) -> np.ndarray:
    store = FeatureStore.open(store.path)
    return np.hstack([store.matrix(column.name) for column in store.columns])


def assert_right(store: FeatureStore, tiny: Extractor, root: Path) -> None:
    """Check that every row is the feature of the file that its id names."""
    np.testing.assert_allclose(stored(store), features(tiny, root, store.ids), rtol=1e-5, atol=1e-6)


CONTENT = st.one_of(st.integers(0, 5), st.sampled_from(sorted(BROKEN)))


@settings(max_examples=12, deadline=None)
@given(kinds=st.lists(CONTENT, min_size=1, max_size=14), stop_after=st.integers(0, 14))
def test_any_mix_of_items_is_accounted_for_even_after_an_interruption(
    tiny: Extractor, tmp_path_factory: pytest.TempPathFactory, kinds: list[int | str], stop_after: int
) -> None:
    folder = tmp_path_factory.mktemp("mix")
    root = write(folder / "images", [BROKEN[k] if isinstance(k, str) else png(k) for k in kinds])
    paths = sorted(root.rglob("*.png"))
    kind_of = {path.relative_to(root).as_posix(): kinds[int(path.stem)] for path in paths}
    good = [item_id for item_id, kind in kind_of.items() if isinstance(kind, int)]

    def interrupt(progress: Progress) -> None:
        if progress.done > stop_after:
            raise KeyboardInterrupt

    interrupted, whole = new_store(folder / "a", tiny), new_store(folder / "b", tiny)
    try:
        extract_features(
            root, interrupted, on_error="record", provider="cpu", batch_size=BATCH_SIZE, progress=interrupt
        )
    except KeyboardInterrupt:
        assert len(FeatureStore.open(interrupted.path).ids) <= stop_after
    resumed = extract_features(root, interrupted, on_error="record", provider="cpu", batch_size=BATCH_SIZE)
    ledger = extract_features(root, whole, on_error="record", provider="cpu", batch_size=BATCH_SIZE)

    distinct = len({kind_of[item_id] for item_id in good})
    assert account(ledger) == (len(kinds), distinct, len(kinds) - len(good), len(good) - distinct)
    assert (account(resumed), resumed.failures) == (account(ledger), ledger.failures)
    assert state(interrupted) == state(whole)
    assert whole.ids == good
    assert whole.labels == [item_id.split("/")[0] for item_id in good]
    assert [item_id for item_id, _ in whole.failures()] == [i for i in kind_of if i not in good]
    if good:
        assert_right(whole, tiny, root)


def test_duplicates_name_the_first_item_through_many_windows(tiny: Extractor, tmp_path: Path) -> None:
    root, store = write(tmp_path / "images", [png(0)] * 11), new_store(tmp_path, tiny)
    assert account(extract_features(root, store, batch_size=BATCH_SIZE)) == (11, 1, 0, 10)
    assert store.index.column("reason") == [None, *[store.ids[0]] * 10]


def test_running_again_computes_nothing_and_changes_nothing(tiny: Extractor, tmp_path: Path) -> None:
    root = write(tmp_path / "images", [png(0), b"", png(0), png(1), png(2), b"text", png(1)])
    store = new_store(tmp_path, tiny)
    first = extract_features(root, store, on_error="record", batch_size=BATCH_SIZE)
    files = {path: path.read_bytes() for path in store.path.rglob("*") if path.is_file()}
    again = extract_features(root, store, on_error="record", batch_size=BATCH_SIZE)
    assert (first.computed, again.computed) == (7, 0)
    assert account(first) == account(again) == (7, 3, 2, 2)
    assert first.failures == again.failures
    assert {path: path.read_bytes() for path in store.path.rglob("*") if path.is_file()} == files


def test_touching_a_file_computes_nothing(tiny: Extractor, tmp_path: Path) -> None:
    root = write(tmp_path / "images", [png(0), b"", png(1)])
    store = new_store(tmp_path, tiny)
    extract_features(root, store, on_error="record")
    before = state(store)
    for path in root.rglob("*.png"):
        os.utime(path, ns=(1, 1))
    assert extract_features(root, store, on_error="record").computed == 0
    assert state(store) == before


def test_former_content_of_an_item_is_no_duplicate_of_it(
    tiny: Extractor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "ITEMS_PER_WINDOW", 64)
    photos, store = tmp_path / "photos", new_store(tmp_path, tiny)
    photos.mkdir()
    (photos / "000.png").write_bytes(png(0))
    extract_features(photos, store, batch_size=1)
    for number in range(13):
        (photos / f"{number:03d}.png").write_bytes(png(100 + number))
    (photos / "013.png").write_bytes(png(0))
    assert account(extract_features(photos, store, batch_size=1)) == (14, 14, 0, 0)
    store.refresh()
    np.testing.assert_allclose(store.matrix("last")[-1], tiny.transform([png_path(tmp_path, 0)])[0, -80:], 1e-4, 1e-5)


def png_path(folder: Path, seed: int) -> Path:
    (folder / f"{seed}.png").write_bytes(png(seed))
    return folder / f"{seed}.png"


def test_changed_content_replaces_the_row_in_place(tiny: Extractor, tmp_path: Path) -> None:
    root = write(tmp_path / "images", [png(i) for i in range(6)])
    store = new_store(tmp_path, tiny)
    extract_features(root, store)
    ids = store.ids
    (root / ids[1]).write_bytes(png(100))
    (root / ids[4]).write_bytes(b"broken now, and of another size")
    ledger = extract_features(root, store, on_error="record")
    assert (ledger.computed, *account(ledger)) == (2, 6, 5, 1, 0)
    assert store.ids == [*ids[:4], ids[5]]
    assert [item_id for item_id, _ in store.failures()] == [ids[4]]
    assert_right(store, tiny, root)
    (root / ids[4]).write_bytes(png(101))
    extract_features(root, store)
    assert (store.ids, store.failures()) == (ids, [])
    assert_right(store, tiny, root)


def test_contents_that_change_places_keep_their_features(tiny: Extractor, tmp_path: Path) -> None:
    root = write(tmp_path / "images", [png(i) for i in range(6)])
    store = new_store(tmp_path, tiny)
    extract_features(root, store)
    first, second = root / store.ids[0], root / store.ids[3]
    contents = first.read_bytes(), second.read_bytes()
    for path, content in zip((second, first), contents, strict=True):
        path.write_bytes(content)
        os.utime(path, ns=(1, 1))
    assert extract_features(root, store).computed == 2
    assert_right(store, tiny, root)
    rows = store.index.find(store.ids)
    for item_id, row in rows.items():
        if row.status == "duplicate":
            assert rows[row.reason or ""].digest == row.digest, f"{item_id} is no duplicate of {row.reason}"


def test_new_content_of_a_changed_item_is_the_original_of_later_ones(tiny: Extractor, tmp_path: Path) -> None:
    root = write(tmp_path / "images", [png(0), png(1)])
    store = new_store(tmp_path, tiny)
    extract_features(root, store)
    write(root, [png(50), png(1), *(png(60 + number) for number in range(17)), png(50)])
    ledger = extract_features(root, store, batch_size=BATCH_SIZE)
    assert (account(ledger), ledger.replaced) == ((20, 19, 0, 1), 1)
    (failed_or_copied,) = (row for row in store.index.find(store.ids).values() if row.status != "ok")
    assert (failed_or_copied.id, failed_or_copied.reason) == ("label1/019.png", "label0/000.png")


def test_compressed_archive_is_looked_through_without_keeping_its_content(
    tiny: Extractor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tarfile.open(tmp_path / "photos.tar.gz", "w:gz") as archive:
        archive.add(write(tmp_path / "images", [png(seed) for seed in range(60)]), "photos")
    store = new_store(tmp_path, tiny)
    extract_features(tmp_path / "photos.tar.gz", store)
    alive, items_of = list[weakref.ref[Item]](), ArchiveSource.__iter__
    most = 0

    def noted(self: ArchiveSource) -> Iterator[Item]:
        nonlocal most
        for item in items_of(self):
            alive.append(weakref.ref(item))
            most = max(most, sum(other() is not None for other in alive))
            yield item

    monkeypatch.setattr(ArchiveSource, "__iter__", noted)
    assert extract_features(tmp_path / "photos.tar.gz", store).computed == 0
    assert most <= 2 * 16 + 1


def remember(extractor: Extractor, sizes: BatchSizes) -> None:
    """Remember batch sizes for the extractor's graph, as if a job had measured them."""
    path = locate_tuning(extractor.graph, "auto")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tuning(path, Tuning(sizes, runs=1))


@pytest.mark.parametrize("first", [BatchSizes(3, tokens=77), DEFAULT_BATCH_SIZES])
def test_resumed_job_repeats_the_batch_sizes_of_the_run_before(
    first: BatchSizes, tiny: Extractor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another job may have measured other sizes meanwhile."""
    store = new_store(tmp_path, tiny)
    monkeypatch.setenv("TOPWORK_CACHE", str(tmp_path / "cache"))
    paths = sorted(write(tmp_path / "images", [png(seed) for seed in range(9)]).rglob("*.png"))
    if first != DEFAULT_BATCH_SIZES:
        remember(tiny, first)
    extract_features(paths[:4], store)
    remember(tiny, BatchSizes(5, tokens=88))
    assert extract_features(paths, store).computed == 5
    with open_writer(store) as writer:
        assert writer.batching() == first


def test_precision_that_the_store_does_not_have_is_refused(tiny: Extractor, tmp_path: Path) -> None:
    store = new_store(tmp_path, tiny)
    with pytest.raises(IdentityError, match=r"int8.*fp32"):
        extract_features([], store, config=RunConfig(precision="int8"))


def test_config_and_single_options_exclude_each_other(tiny: Extractor, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="config of extract_features"):
        extract_features([], new_store(tmp_path, tiny), provider="cpu", config=RunConfig())


def test_duplicates_have_rows_of_their_own_equal_to_the_original(tiny: Extractor, tmp_path: Path) -> None:
    root = write(tmp_path / "images", [png(0), png(1), png(2), png(0), png(0)])
    store = new_store(tmp_path, tiny)
    ledger = extract_features(root, store)
    new, copy = sorted(write(tmp_path / "later", [png(3), png(2)]).rglob("*.png"))
    more = extract_features([new, copy], store)
    assert (account(ledger), account(more)) == ((5, 3, 0, 2), (2, 1, 0, 1))
    rows = dict(zip(store.ids, stored(store), strict=True))
    assert list(rows) == [*(f"label{i % 3}/{i:03d}.png" for i in (0, 3, 1, 4, 2)), new.as_posix(), copy.as_posix()]
    for item_id, original in (
        ("label0/003.png", "label0/000.png"),
        ("label1/004.png", "label0/000.png"),
        (copy.as_posix(), "label2/002.png"),
    ):
        np.testing.assert_array_equal(rows[item_id], rows[original])
        row = store.index.find([item_id])[item_id]
        assert (row.status, row.reason) == ("duplicate", original)


def test_an_item_given_twice_has_two_rows_and_labels(tiny: Extractor, tmp_path: Path) -> None:
    root = write(tmp_path / "images", [png(0), png(1)])
    paths = [*sorted(root.rglob("*.png")), root / "label0/000.png"]
    store = new_store(tmp_path, tiny)
    labels = ["a", "b", "c"]
    assert (
        account(extract_features(paths, store, labels=labels))
        == account(extract_features(paths, store, labels=labels))
        == (3, 2, 0, 1)
    )
    assert store.ids == [*(path.as_posix() for path in paths[:2]), f"{paths[0].as_posix()}#2"]
    assert store.labels == labels
    np.testing.assert_array_equal(store.matrix("last")[2], store.matrix("last")[0])


def test_archive_of_other_pixels_under_old_names_and_times_is_not_taken_for_known(
    tiny: Extractor, tmp_path: Path
) -> None:
    def pack(value: int) -> Path:
        with tarfile.open(tmp_path / "images.tar", "w") as archive:
            for number in range(3):
                stream = io.BytesIO()
                Image.new("RGB", (8, 8), (value + number, 0, 0)).save(stream, "BMP")
                member = tarfile.TarInfo(f"{number}.bmp")
                member.size = stream.tell()
                archive.addfile(member, io.BytesIO(stream.getvalue()))
        return tmp_path / "images.tar"

    store = new_store(tmp_path, tiny)
    extract_features(pack(0), store)
    before = np.array(store.matrix("last"))
    ledger = extract_features(pack(100), store)
    assert (ledger.computed, ledger.replaced) == (3, 3)
    assert np.abs(store.matrix("last") - before).max() > 0


def test_items_of_the_store_that_are_not_in_the_source_are_counted(tiny: Extractor, tmp_path: Path) -> None:
    root, store = write(tmp_path / "images", [png(i) for i in range(4)]), new_store(tmp_path, tiny)
    extract_features(root, store)
    sorted(root.rglob("*.png"))[0].unlink()
    ledger = extract_features(root, store)
    assert (ledger.items, ledger.computed, ledger.absent, len(store.ids)) == (3, 0, 1, 4)


def test_finished_job_needs_no_lock(tiny: Extractor, tmp_path: Path) -> None:
    root, store = write(tmp_path / "images", [png(0)]), new_store(tmp_path, tiny)
    extract_features(root, store)
    with write_lock(store.path):
        assert extract_features(root, store).ok == 1


def test_labels_of_a_sequence_are_stored(tiny: Extractor, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 33, 33, 3), dtype=np.uint8)
    store = new_store(tmp_path, tiny)
    extract_features(images, store, labels=["b", "a", "b", "c", "a"])
    assert store.labels == ["b", "a", "b", "c", "a"]
    np.testing.assert_allclose(stored(store), tiny.transform(images), rtol=1e-5, atol=1e-6)


def test_raise_stops_at_the_first_failure_and_keeps_whole_parts(tiny: Extractor, tmp_path: Path) -> None:
    root = write(tmp_path / "images", [png(i) for i in range(9)])
    (root / "label2" / "005.png").write_bytes(b"")
    store = new_store(tmp_path, tiny)
    with pytest.raises(StoppedError, match=r"label2/005\.png failed: the file is empty .*on_error='record'"):
        extract_features(root, store, batch_size=BATCH_SIZE)
    assert store.ids == ["label0/000.png", "label0/003.png", "label0/006.png", "label1/001.png"]
    ledger = extract_features(root, store, on_error="record", batch_size=BATCH_SIZE)
    assert (ledger.computed, *account(ledger)) == (5, 9, 8, 1, 0)
    with pytest.raises(StoppedError, match="005"):
        extract_features(root, store)


@pytest.mark.parametrize(("policy", "stops"), [("limit:20%", False), ("limit:19%", True), ("record", False)])
def test_limit_is_a_share_of_the_source(tiny: Extractor, tmp_path: Path, policy: str, stops: bool) -> None:
    root = write(tmp_path / "images", [b"", b"text", *(png(i) for i in range(8))])
    store = new_store(tmp_path, tiny)
    if stops:
        with pytest.raises(StoppedError, match="2 failed so far"):
            extract_features(root, store, on_error=policy)
    else:
        ledger = extract_features(root, store, on_error=policy)
        assert account(ledger) == (10, 8, 2, 0)
        assert [item_id for item_id, _ in ledger.failures] == ["label0/000.png", "label1/001.png"]
        assert ledger.failures == store.failures()


def test_a_source_of_only_failures_leaves_an_empty_store(tiny: Extractor, tmp_path: Path) -> None:
    root = write(tmp_path / "images", [b"", b"text"])
    store = new_store(tmp_path, tiny)
    assert account(extract_features(root, store, on_error="record")) == (2, 0, 2, 0)
    assert (store.ids, store.matrix("last").shape) == ([], (0, tiny.columns[1].width))


def test_a_dangling_link_is_a_failed_item_until_it_leads_somewhere(tiny: Extractor, tmp_path: Path) -> None:
    root = write(tmp_path / "images", [png(0)])
    (root / "label0" / "link.png").symlink_to(tmp_path / "target.png")
    store = new_store(tmp_path, tiny)
    assert extract_features(root, store, on_error="record").failures == [
        ("label0/link.png", "FileNotFoundError: No such file or directory")
    ]
    (tmp_path / "target.png").write_bytes(png(1))
    assert account(extract_features(root, store)) == (2, 2, 0, 0)
    assert_right(store, tiny, root)


def test_other_files_are_counted_as_ignored(tiny: Extractor, write_images: Callable[..., Path], tmp_path: Path) -> None:
    root = write_images()
    (root / "notes.txt").write_text("x")
    ledger = extract_features(root, new_store(tmp_path, tiny))
    assert (ledger.items, ledger.ignored) == (6, 1)
    assert ledger.to_json()["items"] == 6


def test_progress_tells_what_is_done_what_was_computed_and_what_limits(tiny: Extractor, tmp_path: Path) -> None:
    root = write(tmp_path / "images", [png(0), png(1), b""])
    store, seen = new_store(tmp_path, tiny), list[Progress]()
    extract_features(root, store, on_error="record", progress=seen.append)
    assert [(p.done, p.total, p.computed) for p in seen] == [(0, 3, 0), (1, 3, 1), (2, 3, 2), (3, 3, 3)]
    assert seen[0].stage == ""
    assert {p.stage for p in seen[1:]} <= {"reading", "decoding", "inference", "writing"}
    seen.clear()
    write(root, [png(0), png(1), b"", png(2)])
    extract_features(root, store, on_error="record", progress=seen.append)
    assert [(p.done, p.computed) for p in seen] == [(0, 0), (1, 0), (2, 0), (3, 0), (4, 1)]


def test_ledger_tells_where_it_ran_and_what_it_took(tiny: Extractor, tmp_path: Path) -> None:
    root, store = write(tmp_path / "images", [png(i) for i in range(9)]), new_store(tmp_path, tiny)
    ledger = extract_features(root, store, provider="cpu", batch_size=BATCH_SIZE)
    found = ledger.to_json()
    assert (found["provider"], found["precision"]) == ("cpu", store.columns[0].precision)
    assert 0 < found["computing_seconds"] < found["seconds"]
    assert found["share_of_possible"] > 0
    assert found["peak_memory"] > 10_000_000
    assert set(found["stages"]) == {"read", "decode", "infer", "write"}
    again = extract_features(root, store, provider="cpu", batch_size=BATCH_SIZE).to_json()
    assert (again["provider"], again["precision"], again["share_of_possible"]) == (None, found["precision"], None)


def test_second_writer_is_refused(tiny: Extractor, write_images: Callable[..., Path], tmp_path: Path) -> None:
    store = new_store(tmp_path, tiny)
    with open_writer(store), pytest.raises(StoreLockedError):
        extract_features(write_images(), store.path)
    assert extract_features(write_images(), store.path).ok == 6


@pytest.fixture(scope="module")
def bert(text_folder: Path) -> Extractor:
    return Extractor(f"hf:{text_folder}")


Texts = tuple[list[str], list[str]]


def test_text_is_stored_with_its_labels_and_tokeniser(bert: Extractor, texts: Texts, tmp_path: Path) -> None:
    sentences, labels = texts
    store = new_store(tmp_path, bert)
    ledger = extract_features(sentences, store, labels=labels, batch_size=BATCH_SIZE)
    assert account(ledger) == (len(sentences), len(sentences), 0, 0)
    assert FeatureStore.open(store.path).labels == labels
    np.testing.assert_allclose(stored(store), bert.transform(sentences), rtol=1e-4, atol=1e-5)
    spec = bert.graph.input_spec
    assert (store.path / "inputs" / "tokenizer.json").read_bytes() == spec.files()["tokenizer.json"]
    assert FeatureStore.open(store.path).graph.input_spec == spec


def test_interrupted_job_on_text_ends_like_an_uninterrupted_one(bert: Extractor, texts: Texts, tmp_path: Path) -> None:
    sentences, labels = texts
    sentences = [*sentences[:7], sentences[2], *sentences[7:]]  # one comes twice
    labels = [*labels[:7], labels[2], *labels[7:]]

    def interrupt(progress: Progress) -> None:
        if progress.done > 14:
            raise KeyboardInterrupt

    interrupted, whole = new_store(tmp_path / "a", bert), new_store(tmp_path / "b", bert)
    with pytest.raises(KeyboardInterrupt):
        extract_features(sentences, interrupted, labels=labels, batch_size=BATCH_SIZE, progress=interrupt)
    assert 0 < len(FeatureStore.open(interrupted.path).ids) < 15
    resumed = extract_features(sentences, interrupted, labels=labels, batch_size=BATCH_SIZE)
    ledger = extract_features(sentences, whole, labels=labels, batch_size=BATCH_SIZE)
    assert resumed.computed < ledger.computed == len(sentences)
    assert account(resumed) == account(ledger) == (len(sentences), len(sentences) - 1, 0, 1)
    assert state(interrupted) == state(whole)
    assert extract_features(sentences, interrupted, labels=labels, batch_size=BATCH_SIZE).computed == 0


def test_truncated_text_is_counted_once(bert: Extractor, tmp_path: Path) -> None:
    given = ["cat " * 22, "cat " * 23, "dog", "cat " * 60, "rain " * 30]
    store = new_store(tmp_path, bert)
    ledger = extract_features(given, store)
    assert (ledger.truncated, ledger.to_json()["truncated"], ledger.ok) == (3, 3, 5)
    again = extract_features([*given, "snow " * 30], store)
    assert (again.computed, again.truncated) == (1, 1)


def test_text_files_and_their_failures_are_accounted_for(bert: Extractor, tmp_path: Path) -> None:
    for name, content in {"a/0": b"cat", "a/1": b"\xff", "b/2": b"\xef\xbb\xbfcat", "b/3": b"cat", "b/4": b" "}.items():
        path = tmp_path / "texts" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    store = new_store(tmp_path, bert)
    ledger = extract_features(tmp_path / "texts", store, on_error="record")
    assert account(ledger) == (5, 2, 2, 1)
    assert ledger.failures == [
        ("a/1.txt", "not UTF-8: invalid start byte at byte 0"),
        ("b/4.txt", "the text is blank"),
    ]
    rows = dict(zip(FeatureStore.open(store.path).ids, stored(store), strict=True))
    np.testing.assert_allclose(rows["b/2.txt"], rows["a/0.txt"], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(rows["b/3.txt"], rows["a/0.txt"])


def test_store_of_text_is_filled_without_transformers(bert: Extractor, texts: Texts, tmp_path: Path) -> None:
    store = new_store(tmp_path, bert)
    (tmp_path / "table.jsonl").write_text("".join(f'{{"text": "{sentence}"}}\n' for sentence in texts[0]))
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['transformers', 'torch', 'onnx', 'torchvision']))\n"
        "import topwork\n"
        f"print(topwork.extract_features({str(tmp_path / 'table.jsonl')!r}, {str(store.path)!r}).ok)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout.strip()) == (0, str(len(texts[0]))), result.stderr
    np.testing.assert_allclose(stored(store), bert.transform(texts[0]), rtol=1e-4, atol=1e-5)


def test_store_whose_tokeniser_was_changed_refuses_text(bert: Extractor, tmp_path: Path) -> None:
    store = new_store(tmp_path, bert)
    path = store.path / "inputs" / "tokenizer.json"
    path.write_bytes(path.read_bytes().replace(b'"cat"', b'"cta"'))
    assert FeatureStore.open(store.path).verify() == ["inputs/tokenizer.json"]
    with pytest.raises(InputError, match=r"tokenizer\.json is not the file that the graph was made with"):
        extract_features(["cat"], store.path)
    path.unlink()
    assert FeatureStore.open(store.path).verify() == ["inputs/tokenizer.json"]
    with pytest.raises(InputError, match=r"tokenizer\.json is missing"):
        extract_features(["cat"], store.path)


def test_item_of_another_kind_is_refused(bert: Extractor, tiny: Extractor, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="item 0 is a ndarray; expected a text"):
        extract_features([np.zeros((40, 40, 3), np.uint8)], new_store(tmp_path / "a", bert))
    with pytest.raises(StoppedError, match="hello failed: FileNotFoundError"):
        extract_features(["hello"], new_store(tmp_path / "b", tiny))
