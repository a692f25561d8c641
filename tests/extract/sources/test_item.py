"""The digest of an item's content: equal for equal content only."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from PIL import Image
from topwork.extract.sources.item import View, content_digest

FLAT = np.arange(48, dtype=np.uint8)


def palette(colour: tuple[int, int, int]) -> Image.Image:
    image = Image.new("P", (4, 4))
    image.putpalette(colour)
    return image


def exif(orientation: int) -> Image.Image:
    image = Image.fromarray(FLAT.reshape(4, 4, 3))
    image.getexif()[0x0112] = orientation
    return image


def test_digest_of_a_file_is_its_sha256() -> None:
    assert content_digest(b"abc") == hashlib.sha256(b"abc").hexdigest()


def test_digest_of_a_text_is_that_of_its_file() -> None:
    assert content_digest("Größe") == hashlib.sha256("Größe".encode()).hexdigest() == content_digest("Größe".encode())
    assert content_digest("\ud83d") != content_digest("\ud83e")


def test_digest_of_pixels_does_not_depend_on_their_layout_in_memory() -> None:
    array = FLAT.reshape(4, 4, 3)
    assert content_digest(array) == content_digest(np.asfortranarray(array)) == content_digest(array.copy())


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (FLAT.reshape(4, 4, 3), FLAT.reshape(2, 8, 3)),
        (FLAT.reshape(4, 4, 3), FLAT[::-1].reshape(4, 4, 3)),
        (palette((255, 0, 0)), palette((0, 0, 255))),
        (Image.new("RGBA", (4, 4), (9, 9, 9, 9)), Image.new("CMYK", (4, 4), (9, 9, 9, 9))),
        (exif(1), exif(6)),
    ],
    ids=["shape", "values", "palette", "mode", "orientation"],
)
def test_images_that_look_different_have_different_digests(a: object, b: object) -> None:
    assert content_digest(a) != content_digest(b)


def test_digest_of_a_view_is_that_of_its_content_and_number() -> None:
    array = FLAT.reshape(4, 4, 3)
    digests = [content_digest(View(content, number)) for content in (b"abc", b"abd", array) for number in (1, 2, 11)]
    assert len({*digests, *map(content_digest, (b"abc", b"abd", array))}) == 12
    assert all(len(digest) == 64 for digest in digests)
    again = [View(content, 2) for content in (bytes(bytearray(b"abc")), Image.fromarray(array))]
    assert [content_digest(view) for view in again] == [digests[1], digests[7]]
    assert again[0] == View(b"abc", 2)


def test_digest_of_a_view_changes_with_the_augmentation() -> None:
    assert content_digest(View(b"abc", 1, version="another")) != content_digest(View(b"abc", 1))
