"""Small sources with labels, splits, copies and failing items, which are quick to make and to compute."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import numpy as np
from PIL import Image

WORDS = (
    "river",
    "stone",
    "cloud",
    "market",
    "engine",
    "garden",
    "window",
    "letter",
    "music",
    "winter",
    "copper",
    "island",
)


def write_images(root: Path, count: int) -> None:
    """Write a folder of small images in two splits and three labels; some are copies, some no images."""
    chance, generator, contents = random.Random(0), np.random.default_rng(0), list[bytes]()
    for number in range(count):
        path = root / ("train", "val")[number % 5 == 0] / ("ant", "bee", "cat")[number % 3] / f"{number:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if contents and chance.random() < 0.1:
            path.write_bytes(chance.choice((b"", b"no image", *chance.choices(contents, k=2))))
        else:
            Image.fromarray(generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
            contents.append(path.read_bytes())


def write_texts(path: Path, count: int) -> None:
    """Write a table of texts; some are copies, some are missing."""
    chance, texts = random.Random(0), list[str]()
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "text", "label", "split"])
        for number in range(count):
            new = " ".join(chance.choices(WORDS, k=1 + number % 20))
            text = chance.choice(("", *chance.choices(texts, k=2))) if texts and chance.random() < 0.1 else new
            texts += [text] if text else []
            writer.writerow([f"text {number}", text, f"topic {number % 7}", ("train", "test")[number % 4 == 0]])
