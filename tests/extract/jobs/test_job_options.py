"""What a job may be asked beside its source: ids, retries, pruning."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from topwork.errors import InputError, StoppedError
from topwork.extract.extractor.extractor import Extractor
from topwork.extract.jobs.job import extract_features
from topwork.extract.store import writer
from topwork.extract.store.feature_store import FeatureStore

WriteImages = Callable[..., Path]
PIXELS = np.random.default_rng(0).integers(0, 256, (4, 40, 40, 3), dtype=np.uint8)


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore.create(tmp_path / "features", Extractor("topwork:tiny"))


def test_sequence_has_the_ids_and_labels_that_are_given(store: FeatureStore) -> None:
    extract_features(list(PIXELS), store, ids=[7, "b", "c", "d"], labels=[1, 0, 1, 0])
    assert (store.ids, store.labels) == (["7", "b", "c", "d"], ["1", "0", "1", "0"])
    images = (Image.fromarray(pixels) for pixels in PIXELS[::-1])
    ledger = extract_features(images, store, ids=["d", "c", "b", "7"])
    assert (ledger.computed, store.ids) == (0, ["7", "b", "c", "d"])


def test_failed_items_are_tried_again_only_when_asked(store: FeatureStore, write_images: WriteImages) -> None:
    root = write_images(each=2)
    (root / "cat" / "bad.png").write_bytes(b"no image")
    assert extract_features(root, store, on_error="record").failed == 1
    again = extract_features(root, store, on_error="record")
    assert (again.computed, again.failed) == (0, 1)
    again = extract_features(root, store, on_error="record", retry=True)
    assert (again.computed, again.failed, again.replaced) == (1, 1, 0)
    with pytest.raises(StoppedError, match=r"cat/bad\.png failed"):
        extract_features(root, store, retry=True)
    assert FeatureStore.open(store.path).failures()[0][0] == "cat/bad.png"


def test_items_that_are_gone_are_kept_unless_pruned(store: FeatureStore, write_images: WriteImages) -> None:
    root = write_images(each=3)
    extract_features(root, store)
    before = np.array(store.matrix("last"))
    (root / "cat" / "1.png").unlink()
    ledger = extract_features(root, store)
    assert (ledger.absent, ledger.pruned, store.n_rows) == (1, 0, 6)
    ledger = extract_features(root, store, prune=True)
    assert (ledger.absent, ledger.pruned, ledger.computed) == (0, 1, 0)
    assert store.ids == ["cat/0.png", "cat/2.png", "dog/0.png", "dog/1.png", "dog/2.png"]
    np.testing.assert_array_equal(store.matrix("last"), before[[0, 2, 3, 4, 5]])
    assert store.verify() == []


def test_copy_outlives_the_original_that_was_pruned(store: FeatureStore, write_images: WriteImages) -> None:
    root = write_images(each=2)
    (root / "dog" / "copy.png").write_bytes((root / "cat" / "0.png").read_bytes())
    extract_features(root, store)
    assert store.index.column("status")[-1] == "duplicate"
    (root / "cat" / "0.png").unlink()
    extract_features(root, store, prune=True)
    assert FeatureStore.open(store.path).index.column("status") == ["ok"] * 4


def test_job_that_stops_prunes_nothing(store: FeatureStore, write_images: WriteImages) -> None:
    root = write_images(each=2)
    extract_features(root, store)
    (root / "cat" / "0.png").unlink()
    (root / "dog" / "bad.png").write_bytes(b"no image")
    with pytest.raises(StoppedError):
        extract_features(root, store, prune=True)
    assert len(FeatureStore.open(store.path).ids) == 4


def test_another_source_by_mistake_prunes_nothing(
    store: FeatureStore, write_images: WriteImages, tmp_path: Path
) -> None:
    extract_features(write_images(), store)
    other = write_images("others", labels=("pig",), each=1)
    with pytest.raises(InputError, match=r"none of the items of .* is in this source; nothing was pruned"):
        extract_features(other, store, prune=True)
    assert FeatureStore.open(store.path).ids[:6] == store.ids[:6]


def test_disk_that_is_too_full_to_merge_parts_costs_nothing(
    store: FeatureStore, write_images: WriteImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_images()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writer, "write_compacted", full)
    with pytest.warns(UserWarning, match=r"too full to merge the parts.*store compact"):
        ledger = extract_features(root, store)
    monkeypatch.undo()
    assert (ledger.computed, store.n_rows, store.verify()) == (6, 6, [])
    before = np.asarray(store.matrix("last"))
    store.compact()
    assert isinstance(store.matrix("last"), np.memmap)
    np.testing.assert_array_equal(store.matrix("last"), before)
