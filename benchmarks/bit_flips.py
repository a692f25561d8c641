"""Flip single bits in the files of a store: ``verify`` finds each, or the index is rebuilt as it was.

``python benchmarks/bit_flips.py --flips 200 --seed 0`` makes two stores of the same images: one of several parts, as an
interrupted job leaves it, and one whose parts are merged; both have labels that were set and replaced. Each flip
changes a random bit of a random file (all files are equally likely) in a copy of one of the stores. Then ``verify``
must name the file or raise an error that does; if the file is the index, the content of the store must be the same.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

from small_sources import write_images
from store_content import Content

IMAGES = 80
FAILURES = 4
"""Broken images at the end of the source, which stop a job."""
INDEX = ("index.arrow", "index.sha256")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbose", action="store_true", help="tell what became of each flip")
    options = parser.parse_args()
    ends: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        os.environ.setdefault("TOPWORK_CACHE", str(work / "cache"))
        stores = {path: Content.of(path) for path in made(work)}
        for number in range(options.flips):
            chance = random.Random(f"{options.seed} {number}")
            path = list(stores)[number % len(stores)]
            name, end = flipped(path, stores[path], work / "copy", chance)
            ends[end] += 1
            if options.verbose or end == "missed":
                print(f"{number} {path.name}/{name}: {end}", file=sys.stderr)
    shown = ", ".join(f"{ends[end]} {end}" for end in ("found", "rebuilt", "missed"))
    print(f"{options.flips} flips: {shown}")
    sys.exit(1 if ends["missed"] else 0)


def made(work: Path) -> tuple[Path, Path]:
    """Make a store of several parts, and one that is merged."""
    from topwork.extract.engine import batching
    from topwork.extract.extractor.extractor import Extractor

    batching.ITEMS_PER_WINDOW = 16
    images, extractor = work / "images", Extractor("topwork:tiny", layer=["layer2", "last"])
    write_images(images, IMAGES)
    for number in range(FAILURES):
        (images / "val" / "cat" / f"z{number}.png").write_bytes(b"no image")
    parts, merged = work / "parts", work / "merged"
    fill(parts, images, extractor, stops=True)
    fill(merged, images, extractor, stops=False)
    return parts, merged


def fill(path: Path, images: Path, extractor: object, stops: bool) -> None:
    """Run the job, and set labels, twice."""
    from topwork.errors import StoppedError
    from topwork.extract.jobs.job import extract_features
    from topwork.extract.store.feature_store import FeatureStore

    store = FeatureStore.create(path, extractor)  # type: ignore[arg-type]
    broken = sum(len(file.read_bytes()) < 10 for file in images.rglob("*.png"))
    policy = f"limit:{100 * (broken - 1) / (IMAGES + FAILURES)}%" if stops else "record"
    with contextlib.suppress(StoppedError):
        extract_features(images, store, on_error=policy)
    store.set_labels(dict.fromkeys(store.ids[:9], "set"))
    store.set_labels(dict.fromkeys(store.ids[3:5], "set anew"))
    store.set_labels(dict.fromkeys(store.ids, 0.5), "score")
    assert (store.state.compacted is None) == stops
    assert len(store.state.parts) > 3 or not stops
    assert store.failures()


def flipped(path: Path, before: Content, copy: Path, chance: random.Random) -> tuple[str, str]:
    """Flip a bit in a copy of a store, and return in which file, and what became of it."""
    shutil.copytree(path, copy)
    files = sorted(file for file in copy.rglob("*") if file.is_file() and file.stat().st_size)
    file = chance.choice(files)
    flip(file, chance.randrange(file.stat().st_size), chance.randrange(8))
    name = file.relative_to(copy).as_posix()
    end = outcome(copy, name, before)
    shutil.rmtree(copy)
    return name, end


def flip(file: Path, position: int, bit: int) -> None:
    content = bytearray(file.read_bytes())
    content[position] ^= 1 << bit
    file.write_bytes(content)


def outcome(path: Path, name: str, before: Content) -> str:
    """Say whether a flip is found, or done without, or missed."""
    from topwork.errors import StoreError
    from topwork.extract.store.feature_store import FeatureStore

    try:
        if name in INDEX:
            return "missed" if Content.of(path).differences(before) else "rebuilt"
        return "found" if name in FeatureStore.open(path).verify() else "missed"
    except StoreError as error:
        return "found" if name in str(error) and name not in INDEX else "missed"


if __name__ == "__main__":
    main()
