"""Contender: Pillow alone decodes and resizes the images of a folder, on as many threads as there are cores."""

from __future__ import annotations

import io
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image
from topwork.hardware import available_cores

SIZE = (224, 224)


def decoded(path: Path) -> int:
    with Image.open(io.BytesIO(path.read_bytes())) as image:
        return len(image.convert("RGB").resize(SIZE, Image.Resampling.BICUBIC).tobytes())


def main() -> None:
    paths, started = sorted(Path(sys.argv[1]).glob("*.jpg")), time.perf_counter()
    with ThreadPoolExecutor(available_cores()) as pool:
        items = len(list(pool.map(decoded, paths)))
    print(json.dumps({"seconds": time.perf_counter() - started, "items": items}))


if __name__ == "__main__":
    main()
