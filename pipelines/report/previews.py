"""What items look like: small images, and the beginnings of texts, which the page holds itself."""

from __future__ import annotations

import base64
import contextlib
import io
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ...errors import DecodeError
from ...extract.preprocess.by_kind import preprocessor_for
from ...extract.preprocess.decode import MAX_PIXELS, decode
from ...extract.preprocess.spectrogram import compute_log_mel
from ...models.audio_spec import AudioSpec
from ...models.image_spec import ImageSpec

if TYPE_CHECKING:
    from ...extract.sources.item import Source
    from ...models.input_spec import InputSpec

MAX_THUMBNAILS = 200
MAX_SNIPPETS = 3000
THUMBNAIL_PIXELS = 96
THUMBNAIL_QUALITY = 72
SPECTROGRAM_HEIGHT = 64
SPECTROGRAM_DECIBELS = 80.0
"""Energies so far below the loudest are black."""
SNIPPET_LETTERS = 200


@dataclass(frozen=True)
class Previews:
    """Base64 of JPEG files, and beginnings of texts, each by the id of its item."""

    thumbnails: dict[str, str] = field(default_factory=dict)
    snippets: dict[str, str] = field(default_factory=dict)


def read_previews(source: Source, wanted: Iterable[str], spec: InputSpec) -> Previews:
    """Read the first of the wanted items that there is room for; those that cannot be read have no preview.

    Items are read in the order of their source, as an archive requires; those behind the last wanted one are not.
    """
    limit = {"image": MAX_THUMBNAILS, "audio": MAX_THUMBNAILS, "text": MAX_SNIPPETS}.get(spec.kind, 0)
    missing = set(list(dict.fromkeys(wanted))[:limit])
    previews = Previews()
    if not missing:
        return previews
    for item in source:
        if item.id not in missing:
            continue
        missing.discard(item.id)
        with contextlib.suppress(DecodeError, OSError):
            add_preview(previews, item.id, item.read(), spec)
        if not missing:
            break
    return previews


def add_preview(previews: Previews, item_id: str, content: Any, spec: InputSpec) -> None:
    """Add what an item looks like; raise a DecodeError if it is no image."""
    if isinstance(spec, ImageSpec):
        previews.thumbnails[item_id] = make_thumbnail(content, spec)
    elif isinstance(spec, AudioSpec):
        previews.thumbnails[item_id] = make_spectrogram(content, spec)
    else:
        previews.snippets[item_id] = make_snippet(content)


def make_thumbnail(content: Any, spec: ImageSpec) -> str:
    """Return an image of at most :data:`THUMBNAIL_PIXELS` in height and width as Base64 of a JPEG file."""
    image = decode(content, replace(spec, decode="fast"), MAX_PIXELS)
    image.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
    return encode_image(image)


def make_spectrogram(content: Any, spec: AudioSpec) -> str:
    """Return the log-mel spectrogram of a sound as Base64 of a JPEG file: time to the right, low frequencies below."""
    samples = preprocessor_for(AudioSpec(spec.rate, spec.window)).prepare(content).array
    bands = compute_log_mel(samples, spec.rate)
    loudest = bands.max()
    shades = np.clip(255 * (1 + (bands - loudest) / SPECTROGRAM_DECIBELS), 0, 255).astype(np.uint8)
    image = Image.fromarray(np.ascontiguousarray(shades.T[::-1]))
    return encode_image(image.resize((THUMBNAIL_PIXELS, SPECTROGRAM_HEIGHT), Image.Resampling.BOX))


def encode_image(image: Image.Image) -> str:
    """Return an image as Base64 of a JPEG file."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=THUMBNAIL_QUALITY, optimize=True)
    return base64.b64encode(stream.getvalue()).decode("ascii")


def make_snippet(content: Any) -> str:
    """Return the beginning of a text on one line."""
    text = content.decode("utf-8", "replace") if isinstance(content, bytes) else str(content)
    line = " ".join(text[: 4 * SNIPPET_LETTERS].split())
    return line if len(line) <= SNIPPET_LETTERS else f"{line[: SNIPPET_LETTERS - 1]}…"
