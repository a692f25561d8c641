"""The store as its readers see it: content, identity, damage."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from topwork.errors import IdentityError, InputError, StoreDamagedError, StoreError, TopworkError
from topwork.extract.extractor.extractor import Extractor
from topwork.extract.jobs.job import extract_features
from topwork.extract.store.description import is_store, require_place
from topwork.extract.store.feature_store import FeatureStore
from topwork.extract.store.index_file import DIGEST_FILE, INDEX_FILE
from topwork.models.input_spec import InputOverrides
from topwork.models.loading import BackboneSpec

WriteImages = Callable[..., Path]


@pytest.fixture(scope="module")
def tiny() -> Extractor:
    return Extractor("topwork:tiny", layer=["layer2", "last"])


@pytest.fixture
def store(tiny: Extractor, write_images: WriteImages, tmp_path: Path) -> FeatureStore:
    store = FeatureStore.create(tmp_path / "new" / "features", tiny)
    extract_features(write_images(), store)
    return store


def flip(path: Path, position: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(content)


def test_store_shows_ids_labels_and_features_in_one_order(store: FeatureStore, tiny: Extractor, tmp_path: Path) -> None:
    assert store.ids == [f"{label}/{i}.png" for label in ("cat", "dog") for i in range(3)]
    assert store.labels == ["cat"] * 3 + ["dog"] * 3
    assert store.failures() == []
    assert [column.name for column in store.columns] == ["layer2", "last"]
    together = np.hstack([store.matrix("layer2"), store.matrix("last")])
    expected = tiny.transform([tmp_path / "images" / item_id for item_id in store.ids])
    np.testing.assert_allclose(together, expected, rtol=1e-5, atol=1e-6)


def test_matrix_of_one_part_is_a_read_only_map(store: FeatureStore) -> None:
    matrix = store.matrix("last")
    assert isinstance(matrix, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        matrix[0, 0] = 1


def test_numpy_alone_reads_the_features(store: FeatureStore) -> None:
    plain = np.load(store.path / "parts" / "p000002" / "c0002.npy", mmap_mode="r")
    assert (plain.dtype.str, plain.flags.c_contiguous, plain.shape) == ("<f4", True, store.matrix("last").shape)
    np.testing.assert_array_equal(plain, store.matrix("last"))


def test_opened_again_it_is_the_same(store: FeatureStore, tiny: Extractor) -> None:
    again = FeatureStore.open(str(store.path))
    assert (again.ids, again.labels, again.columns) == (store.ids, store.labels, store.columns)
    assert again.fingerprint == store.fingerprint
    assert again.identity == tiny.graph.metadata.identity
    np.testing.assert_array_equal(again.matrix("layer2"), store.matrix("layer2"))


def test_empty_store_has_empty_matrices(tiny: Extractor, tmp_path: Path) -> None:
    (tmp_path / "features").mkdir()
    store = FeatureStore.create(tmp_path / "features", tiny)
    assert (store.ids, store.labels, store.failures(), store.verify()) == ([], [], [], [])
    assert store.matrix("layer2").shape == (0, tiny.columns[0].width)


def test_existing_files_are_never_overwritten(store: FeatureStore, tiny: Extractor, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for path in (store.path, tmp_path / "images", tmp_path / "file"):
        with pytest.raises(StoreError, match=re.escape(str(path))):
            FeatureStore.create(path, tiny)
    assert len(FeatureStore.open(store.path).ids) == 6


def test_other_folder_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(StoreError, match=rf"{path} .*store\.json"):
            FeatureStore.open(path)


def test_unknown_column_is_refused_and_the_others_named(store: FeatureStore) -> None:
    with pytest.raises(InputError, match=r"layer9.*layer2, last"):
        store.matrix("layer9")


def test_column_stands_for_its_name(store: FeatureStore, tiny: Extractor, tmp_path: Path) -> None:
    for columns in (store.columns, tiny.columns):
        for column in columns:
            np.testing.assert_array_equal(store.matrix(column), store.matrix(column.name))
            np.testing.assert_array_equal(store.take(store.ids[:2], column), store.matrix(column.name)[:2])
            batches = [features for _, features in store.iter_batches(column, batch_size=4)]
            np.testing.assert_array_equal(np.concatenate(batches), store.matrix(column.name))
    store.export(tmp_path / "columns.parquet", columns=store.columns[1:])
    store.export(tmp_path / "names.parquet", columns=["last"])
    assert (tmp_path / "columns.parquet").read_bytes() == (tmp_path / "names.parquet").read_bytes()


def test_dtype_of_a_given_column_is_not_compared(tiny: Extractor, write_images: WriteImages, tmp_path: Path) -> None:
    store = FeatureStore.create(tmp_path / "half", tiny, dtype="float16")
    extract_features(write_images(), store)
    assert tiny.columns[0].dtype == "float32"
    assert store.matrix(tiny.columns[0]).dtype == np.float16


@pytest.mark.parametrize("field", [{"pool": "max"}, {"normalize": True}, {"precision": "bf16"}, {"width": 3}])
def test_other_column_of_the_same_name_is_refused(store: FeatureStore, field: dict[str, object]) -> None:
    (name, value), *_ = field.items()
    with pytest.raises(InputError, match=rf"layer2.*{name}.*{value!r}"):
        store.matrix(replace(store.columns[0], **field))


def test_unknown_column_is_refused_as_its_name_is(store: FeatureStore) -> None:
    with pytest.raises(InputError, match=r"layer9.*layer2, last"):
        store.matrix(replace(store.columns[0], name="layer9"))


@pytest.mark.parametrize(
    ("other", "field"),
    [
        (BackboneSpec("topwork:tiny", "random"), "weights"),
        (BackboneSpec("topwork:tiny", None, {}, InputOverrides(mean=(0.1, 0.2, 0.3))), "mean"),
        (BackboneSpec("topwork:tiny", None, {}, InputOverrides(interpolation="bilinear")), "interpolation"),
    ],
    ids=["weights", "mean", "interpolation"],
)
def test_features_of_another_backbone_are_refused_and_the_field_named(
    store: FeatureStore, other: BackboneSpec, field: str
) -> None:
    identity = {**store.graph.metadata.identity, **other.load().identity()}
    with pytest.raises(IdentityError, match=field):
        store.require_columns(identity, store.columns)


def test_column_that_the_store_lacks_is_refused_by_name(store: FeatureStore, tiny: Extractor) -> None:
    store.require_columns(tiny.graph.metadata.identity, tiny.columns[:1])
    theirs = Extractor("topwork:tiny", layer="layer1")
    with pytest.raises(IdentityError, match="column 'layer1'"):
        store.require_columns(theirs.graph.metadata.identity, theirs.columns)


def test_a_flipped_bit_in_any_file_is_found(store: FeatureStore) -> None:
    assert store.verify() == []
    generator = np.random.default_rng(0)
    files = sorted(
        path for path in store.path.rglob("*") if path.is_file() and path.name not in (INDEX_FILE, DIGEST_FILE)
    )
    assert {path.name for path in files} >= {
        "store.json",
        "0000000002.json",
        "items.parquet",
        "c0002.npy",
        "c0001.onnx",
    }
    missed = []
    for path in files:
        for _ in range(4 if path.suffix == ".onnx" else 25):
            position, bit = int(generator.integers(path.stat().st_size)), int(generator.integers(8))
            flip(path, position, bit)
            try:
                if not FeatureStore.open(store.path).verify():
                    missed.append((path.name, position, bit))
            except StoreError:
                pass
            flip(path, position, bit)
    assert missed == []
    assert store.verify() == []


def test_verify_names_missing_and_damaged_files(store: FeatureStore) -> None:
    (store.path / "parts/p000002/items.parquet").unlink()
    flip(store.path / "parts/p000002/c0001.npy", -1)
    assert store.verify() == ["parts/p000002/c0001.npy", "parts/p000002/items.parquet"]


def test_truncated_part_is_an_error_on_reading(store: FeatureStore) -> None:
    path = store.path / "parts/p000002/c0001.npy"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(StoreDamagedError, match=r"c0001\.npy"):
        FeatureStore.open(store.path).matrix("layer2")
    assert FeatureStore.open(store.path).matrix("last").shape[0] == 6


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda fields: fields | {"format": 99}, "99.* 1"),
        (lambda fields: fields | {"identity": {**fields["identity"], "weights": "0" * 64}}, "fingerprint"),
        (lambda fields: {"format": 1}, "store.json.*identity"),
        (lambda fields: [], "store.json"),
    ],
    ids=["format", "identity", "fields", "kind"],
)
def test_description_that_was_changed_is_refused(
    store: FeatureStore, change: Callable[[dict[str, object]], object], error: str
) -> None:
    path = store.path / "store.json"
    path.write_text(json.dumps(change(json.loads(path.read_bytes()))))
    with pytest.raises(TopworkError, match=error):
        FeatureStore.open(store.path)


def test_place_of_a_store_must_be_free(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "new", tmp_path / "new" / "deeper"):
        require_place(path)
    file = tmp_path / "file"
    for path, occupied in ((tmp_path, tmp_path), (file, file), (file / "store", file)):
        with pytest.raises(StoreError, match=rf"^{re.escape(str(occupied))} "):
            require_place(path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file"]


def test_a_place_on_the_web_is_no_store(tiny: Extractor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert not is_store("http://127.0.0.1:9/features")
    with pytest.raises(StoreError, match="is no place for a store"):
        FeatureStore.create("http://me:secret@127.0.0.1:9/features", tiny)
    assert not any(tmp_path.iterdir())


def test_a_store_is_found_by_the_url_of_its_folder(store: FeatureStore, tiny: Extractor, tmp_path: Path) -> None:
    assert FeatureStore.open(store.path.as_uri()).ids == store.ids
    other = tmp_path / "by url"
    assert FeatureStore.create(other.as_uri(), tiny).path == other
    assert is_store(other)
