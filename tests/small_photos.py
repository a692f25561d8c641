"""Small images with broken ones and copies among them, and what a store says of each."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from topwork.extract.store.feature_store import FeatureStore


def write_photos(root: Path, count: int) -> Path:
    """Write images into folders of three labels; every 17th is broken, and every 23rd a copy of the first."""
    rng = np.random.default_rng(0)
    first = b""
    for number in range(count):
        stream = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(stream, "PNG")
        content = stream.getvalue()
        first = first or content
        if number % 17 == 5:
            content = b"no image"
        elif number % 23 == 11:
            content = first
        path = root / f"label{number % 3}" / f"{number:03d}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    return root


def state_by_id(store: str | Path | FeatureStore) -> dict[str, Any]:
    """Return what a store of two columns says of each item, by its id, and its counts."""
    store = store if isinstance(store, FeatureStore) else FeatureStore.open(store)
    columns = [np.asarray(store.matrix(column.name)) for column in store.columns]
    fields = [store.labels, *(store.index.column(name) for name in ("status", "digest"))]
    items = dict(zip(store.ids, zip(*fields, *columns, strict=True), strict=True))
    return {
        "items": {item_id: (*texts, a.tobytes(), b.tobytes()) for item_id, (*texts, a, b) in sorted(items.items())},
        "failures": sorted(store.failures()),
        "counts": store.index.counts(),
    }
