"""Stores of one identity that grew apart become one: no row is lost, none is mixed up."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from topwork.errors import IdentityError, InputError
from topwork.extract.extractor.extractor import Extractor
from topwork.extract.jobs.job import extract_features
from topwork.extract.store import merging
from topwork.extract.store.feature_store import FeatureStore

WriteImages = Callable[..., Path]


def make_extractor(layer: str | list[str] = "last", precision: str = "fp32") -> Extractor:
    return Extractor("topwork:tiny", layer=layer, precision=precision, provider="cpu")


@pytest.fixture(scope="module")
def tiny() -> Extractor:
    return make_extractor()


@pytest.fixture
def images(write_images: WriteImages) -> Path:
    return write_images()


def draw(path: Path, red: int) -> None:
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (40, 40), (red, 100, 50)).save(path)


def fill(path: Path, source: Path, extractor: Extractor, **options: str) -> FeatureStore:
    store = FeatureStore.create(path, extractor, **options)
    extract_features(source, store, on_error="record", provider="cpu")
    return store


@pytest.fixture
def two(images: Path, tiny: Extractor, tmp_path: Path) -> tuple[FeatureStore, FeatureStore]:
    """Return two stores that have two labels in common: one of the first six images, one with new and broken ones."""
    (images / "cat" / "broken.png").write_bytes(b"none")
    this = fill(tmp_path / "this", images, tiny)
    other_images = shutil.copytree(images, tmp_path / "other images")
    shutil.rmtree(other_images / "dog")
    draw(other_images / "cat" / "broken.png", 200)
    draw(other_images / "owl" / "0.png", 250)
    shutil.copy(other_images / "owl" / "0.png", other_images / "owl" / "1.png")
    (other_images / "owl" / "bad.png").write_bytes(b"none")
    return this, fill(tmp_path / "other", other_images, tiny)


@pytest.mark.parametrize("bytes_per_part", [1, merging.BYTES_PER_PART])
def test_items_of_the_other_are_added(
    bytes_per_part: int, two: tuple[FeatureStore, FeatureStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging, "BYTES_PER_PART", bytes_per_part)
    this, other = two
    before = np.array(this.matrix("last"))
    ids = this.ids
    merge = this.merge(other)
    assert (merge.added, merge.replaced, merge.kept) == (3, 1, 3)
    assert this.index.counts() == {"ok": 8, "failed": 1, "duplicate": 1}
    assert set(this.ids) == {*ids, *other.ids}
    np.testing.assert_array_equal(this.take(ids, "last"), before)
    np.testing.assert_array_equal(this.take(other.ids, "last"), other.matrix("last"))
    assert this.labels == [item_id.split("/")[0] for item_id in this.ids]
    assert [item_id for item_id, _ in this.failures()] == ["owl/bad.png"]
    assert this.verify() == []
    again = this.merge(other)
    assert (again.added, again.replaced, again.kept) == (0, 0, 7)
    opened = FeatureStore.open(this.path)
    assert (opened.ids, opened.index.counts()) == (this.ids, this.index.counts())


def test_a_store_without_common_items_is_linked(images: Path, tiny: Extractor, tmp_path: Path) -> None:
    this = fill(tmp_path / "this", images, tiny)
    others = tmp_path / "others"
    others.mkdir()
    draw(others / "a" / "1.png", 10)
    draw(others / "a" / "2.png", 60)
    other = fill(tmp_path / "other", others, tiny)
    other.set_labels({"a/1.png": "x", "a/2.png": "y"}, "given")
    assert this.merge(other).added == 2
    np.testing.assert_array_equal(this.matrix("last")[-2:], other.matrix("last"))
    assert this.get_labels("given") == [None] * 6 + ["x", "y"]
    shutil.rmtree(other.path)
    assert this.verify() == []


def test_other_content_has_to_be_decided(images: Path, tiny: Extractor, tmp_path: Path) -> None:
    this = fill(tmp_path / "this", images, tiny)
    copy = shutil.copytree(images, tmp_path / "copy")
    draw(copy / "cat" / "1.png", 222)
    other = fill(tmp_path / "other", copy, tiny)
    before = np.array(this.matrix("last"))
    with pytest.raises(InputError, match=r"1 items .* other content .* 'cat/1.png'"):
        this.merge(other)
    assert this.merge(other, prefer="this").kept == 6
    np.testing.assert_array_equal(this.matrix("last"), before)
    assert this.merge(other, prefer="other").replaced == 1
    np.testing.assert_array_equal(this.matrix("last"), other.matrix("last"))
    with pytest.raises(InputError, match="expected 'this', 'other' or None"):
        this.merge(other, prefer="newer")  # type: ignore[arg-type]


def test_labels_of_the_user_are_joined(two: tuple[FeatureStore, FeatureStore]) -> None:
    this, other = two
    this.set_labels({"cat/0.png": "mine"})
    other.set_labels({"cat/0.png": "theirs", "cat/1.png": "theirs", "owl/0.png": "theirs"})
    assert this.merge(other).labelled == 2
    labels = dict(zip(this.ids, this.labels, strict=True))
    assert (labels["cat/0.png"], labels["cat/1.png"], labels["owl/0.png"]) == ("mine", "theirs", "theirs")
    assert labels["dog/0.png"] == "dog"


def test_stores_of_other_features_are_refused(images: Path, tiny: Extractor, tmp_path: Path) -> None:
    this = fill(tmp_path / "this", images, tiny)
    before = this.ids
    for name, extractor, options, named in (
        ("layer", make_extractor("layer2"), {}, "no column 'last'"),
        ("dtype", tiny, {"dtype": "float16"}, "dtype"),
    ):
        other = fill(tmp_path / name, images, extractor, **options)
        with pytest.raises(IdentityError, match=named):
            this.merge(other)
    foreign = FeatureStore.import_features(tmp_path / "foreign", np.zeros((3, 80), np.float32))
    with pytest.raises(IdentityError):
        this.merge(foreign)
    with pytest.raises(IdentityError, match="foreign"):
        foreign.merge(FeatureStore.import_features(tmp_path / "foreign2", np.ones((3, 80), np.float32)))
    assert this.ids == before


def test_a_store_with_more_columns_gives_those_that_are_wanted(images: Path, tiny: Extractor, tmp_path: Path) -> None:
    this = FeatureStore.create(tmp_path / "this", tiny)
    other = fill(tmp_path / "other", images, make_extractor(["layer2", "last"]))
    this.merge(other)
    np.testing.assert_array_equal(this.matrix("last"), other.matrix("last"))


def test_labels_are_those_that_the_other_store_shows(images: Path, tiny: Extractor, tmp_path: Path) -> None:
    other = FeatureStore.create(tmp_path / "other", tiny)
    paths = sorted(images.rglob("*.png"))
    extract_features(paths, other, labels=["old"] * len(paths), provider="cpu")
    extract_features(paths, other, labels=["new"] * len(paths), provider="cpu")
    this = FeatureStore.create(tmp_path / "this", tiny)
    this.merge(other)
    assert set(this.labels) == set(other.labels) == {"new"}


def test_labels_of_another_type_are_refused(images: Path, tiny: Extractor, tmp_path: Path) -> None:
    this = fill(tmp_path / "this", images, tiny)
    other = fill(tmp_path / "other", images, tiny)
    this.set_labels({"cat/0.png": 1, "cat/1.png": 2}, "score")
    other.set_labels({"cat/2.png": "x"}, "score")
    with pytest.raises(InputError, match=r"labels 'score' .* of type int64, those of the other store of type"):
        this.merge(other)
    assert [value for value in this.get_labels("score") if value is not None] == [1, 2]
