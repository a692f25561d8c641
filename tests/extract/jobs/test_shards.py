"""Job arrays: shards are computed apart, in any order, and merged into what one job would have made."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from topwork.errors import InputError, StoreLockedError
from topwork.extract.engine import batching
from topwork.extract.engine.ledger import Ledger
from topwork.extract.extractor.extractor import Extractor
from topwork.extract.jobs.job import extract_features
from topwork.extract.sources.selected import ShareSource
from topwork.extract.sources.sequence import SequenceSource
from topwork.extract.store import shards
from topwork.extract.store.feature_store import FeatureStore
from topwork.extract.store.lock import write_lock
from topwork.extract.store.shards import Shard, open_shard

from ...small_photos import state_by_id, write_photos

N_SHARDS = 64
TWICE = (3, 40, 63)
MISSING = (7, 21)


@pytest.fixture(scope="module")
def tiny() -> Extractor:
    return Extractor("topwork:tiny", layer=["layer2", "last"], precision="fp32", provider="cpu")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of 150 images; every 17th is broken, and every 23rd a copy of the first."""
    return write_photos(tmp_path_factory.mktemp("photos"), 150)


def extract(photos: Path, store: FeatureStore, shard: str | None = None, **options: Any) -> Ledger:
    return extract_features(photos, store, shard=shard, on_error="record", provider="cpu", **options)


def account(ledger: Ledger) -> tuple[int, int, int, int]:
    return ledger.items, ledger.ok, ledger.failed, ledger.duplicate


@pytest.fixture(scope="module")
def whole(photos: Path, tiny: Extractor, tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """Return the store that one job makes."""
    store = FeatureStore.create(tmp_path_factory.mktemp("whole") / "features", tiny)
    extract(photos, store)
    return store


@pytest.fixture
def store(tmp_path: Path, tiny: Extractor) -> FeatureStore:
    return FeatureStore.create(tmp_path / "features", tiny)


def test_64_shards_in_any_order_some_twice_and_some_missing(
    photos: Path, whole: FeatureStore, store: FeatureStore
) -> None:
    order = [number for number in [*range(N_SHARDS), *TWICE] if number not in MISSING]
    np.random.default_rng(1).shuffle(order)
    for number in order:
        extract(photos, store, f"{number}/{N_SHARDS}")
    merge = store.merge()
    assert merge.missing == [f"{number}/{N_SHARDS}" for number in MISSING]
    assert (len(merge.merged), merge.unfinished) == (N_SHARDS - len(MISSING), [])
    assert merge.added == sum(store.index.counts().values()) < sum(whole.index.counts().values())

    for number in MISSING:
        extract(photos, store, f"{number}/{N_SHARDS}")
    merge = store.merge()
    assert (len(merge.merged), merge.unfinished, merge.missing) == (N_SHARDS, [], [])
    assert state_by_id(store)["counts"] == state_by_id(whole)["counts"]
    assert account(extract(photos, store)) == account(extract(photos, whole))
    assert state_by_id(store) == state_by_id(whole)
    assert store.verify() == []
    again = store.merge()
    assert (again.added, again.merged, again.missing) == (0, [], [])
    assert not any((store.path / "shards").iterdir())


def test_all_shards_merged_at_once_are_in_the_order_of_the_source(
    photos: Path, whole: FeatureStore, store: FeatureStore
) -> None:
    ledgers = [extract(photos, store, f"{number}/4") for number in (2, 0, 3, 1)]
    assert sum(ledger.items for ledger in ledgers) == 150
    store.merge()
    assert store.ids == whole.ids
    for column in store.columns:
        np.testing.assert_array_equal(store.matrix(column.name), whole.matrix(column.name))


def test_shares_are_consecutive_and_balanced() -> None:
    source = SequenceSource([f"text {number}" for number in range(10)], kind="text")
    shares = [[item.id for item in ShareSource(source, number, 4)] for number in range(4)]
    assert [len(share) for share in shares] == [len(ShareSource(source, number, 4)) for number in range(4)]
    assert sorted(map(len, shares)) == [2, 2, 3, 3]
    assert [item_id for share in shares for item_id in share] == [item.id for item in source]
    assert sum(len(ShareSource(source, number, 64)) for number in range(64)) == 10


def test_an_interrupted_shard_is_unfinished_and_what_it_has_is_taken(
    photos: Path, whole: FeatureStore, store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "ITEMS_PER_WINDOW", 16)

    def stop(progress: Any) -> None:
        if progress.computed > 40:
            raise KeyboardInterrupt

    extract(photos, store, "0/2")
    with pytest.raises(KeyboardInterrupt):
        extract(photos, store, "1/2", batch_size=16, progress=stop)
    merge = store.merge()
    assert (merge.merged, merge.unfinished, merge.missing) == (["0/2"], ["1/2"], [])
    assert merge.added == 75 + 32
    ledger = extract(photos, store, "1/2")
    assert (ledger.items, ledger.computed) == (75, 75 - 32)
    assert store.merge().merged == ["0/2", "1/2"]
    assert state_by_id(store) == state_by_id(whole)


def test_a_shard_that_a_job_is_writing_is_unfinished(photos: Path, store: FeatureStore) -> None:
    extract(photos, store, "0/1")
    path = Path(open_shard(store, Shard(1, 0)))
    with write_lock(path):
        assert store.merge().unfinished == ["0/1"]
        with pytest.raises(StoreLockedError):
            extract_features(photos, store, shard="0/1", retry=True, on_error="record")
    assert store.merge().merged == ["0/1"]


def test_shards_compute_what_the_store_lacks(photos: Path, tmp_path: Path, store: FeatureStore) -> None:
    copy = shutil.copytree(photos, tmp_path / "photos")
    extract(copy, store)
    changed = copy / "label0" / "000.png"
    Image.new("RGB", (32, 32), (200, 30, 30)).save(changed)
    Image.new("RGB", (32, 32), (30, 200, 30)).save(copy / "label2" / "new.png")
    before = store.take(["label0/000.png"], "last")
    ledgers = [extract(copy, store, f"{number}/3") for number in range(3)]
    assert [ledger.items for ledger in ledgers] == [50, 50, 51]
    assert [ledger.computed for ledger in ledgers] == [1, 0, 1]
    merge = store.merge()
    assert (merge.added, merge.replaced) == (1, 1)
    assert not np.array_equal(store.take(["label0/000.png"], "last"), before)
    assert extract(copy, store).computed == 0


def test_a_known_item_that_now_fails_has_failed(photos: Path, tmp_path: Path, store: FeatureStore) -> None:
    copy = shutil.copytree(photos, tmp_path / "photos")
    extract(copy, store)
    (copy / "label0" / "000.png").write_bytes(b"no image any more")
    extract(copy, store, "0/2")
    extract(copy, store, "1/2")
    merge = store.merge()
    assert merge.replaced == 1
    assert "label0/000.png" in dict(store.failures())
    assert "label0/000.png" not in store.ids
    assert extract(copy, store).computed == 0


def test_a_shard_does_not_replace_what_was_computed_later(photos: Path, tmp_path: Path, store: FeatureStore) -> None:
    copy = shutil.copytree(photos, tmp_path / "photos")
    changed = copy / "label0" / "000.png"
    extract(copy, store)
    for shade in (40, 90):
        Image.new("RGB", (32, 32), (shade, 30, 30)).save(changed)
        os.utime(changed, ns=(0, 10**18 + shade))
        if shade == 40:
            extract(copy, store, "0/1")
    with pytest.warns(UserWarning, match="not merged"):
        extract(copy, store)
    newest = store.take(["label0/000.png"], "last")
    merge = store.merge()
    assert (merge.merged, merge.replaced) == (["0/1"], 0)
    np.testing.assert_array_equal(store.take(["label0/000.png"], "last"), newest)


def test_a_job_that_runs_a_shard_again_while_it_is_merged_loses_nothing(
    photos: Path, store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract(photos, store, "0/1")
    merge_store = shards.merge_store

    def merge_and_run_again(*arguments: Any) -> None:
        merge_store(*arguments)
        with pytest.raises(StoreLockedError):
            extract(photos, store, "0/1", retry=True)

    monkeypatch.setattr(shards, "merge_store", merge_and_run_again)
    assert store.merge().merged == ["0/1"]
    assert extract(photos, store).computed == 0


def test_a_source_that_changed_meanwhile_is_told(photos: Path, tmp_path: Path, store: FeatureStore) -> None:
    copy = shutil.copytree(photos, tmp_path / "photos")
    extract(copy, store, "0/2")
    (copy / "label0" / "000.png").unlink()
    extract(copy, store, "1/2")
    with pytest.warns(UserWarning, match="150 items for some of the 2 shards|149 items for some of the 2 shards"):
        store.merge()


def test_a_job_without_a_shard_warns_of_shards(photos: Path, store: FeatureStore) -> None:
    extract(photos, store, "0/2")
    with pytest.warns(UserWarning, match="topwork store merge"):
        extract(photos, store)
    merge = store.merge()
    assert (merge.added, merge.kept, merge.missing) == (0, 75, ["1/2"])


@pytest.mark.parametrize("text", ["64/64", "-1/4", "1", "a/b", "1/0", "", 3])
def test_what_names_no_shard_is_refused(text: Any, photos: Path, store: FeatureStore) -> None:
    with pytest.raises(InputError, match="expected NUMBER/COUNT"):
        extract(photos, store, text)


def test_a_shard_does_not_prune(photos: Path, store: FeatureStore) -> None:
    with pytest.raises(InputError, match="merge the shards first"):
        extract(photos, store, "0/2", prune=True)
