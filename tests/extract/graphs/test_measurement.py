"""Batches that would not fit into the memory are not tried, and jobs do not compute in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from topwork import Extractor, FeatureStore, extract_features
from topwork.extract.engine.batching import BatchSizes
from topwork.extract.graphs import measurement
from topwork.extract.graphs.measurement import MEASURED_BATCH_SIZES, fits_into_memory

MEGABYTE = 2**20


@pytest.mark.parametrize(
    ("size", "used_now", "available", "expected"),
    [
        (8, 600, 700, True),  # 100 for an item: 300 more, of which at most half of 700 may be taken
        (8, 600, 500, False),
        (8, 100, 0, True),  # nothing grew
        (16, 600, 2200, True),
        (16, 600, 2100, False),
        (16, 600, None, True),
        (16, None, 1, True),
    ],
)
def test_memory_of_a_batch_is_that_of_smaller_ones_extrapolated(
    size: int, used_now: int | None, available: int | None, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measurement, "used_memory", lambda: used_now)
    monkeypatch.setattr(measurement, "available_memory", lambda: available)
    assert fits_into_memory(size, 5, used_before=100) is expected


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let batches of more than five items not fit into the memory of a machine on which nothing was measured."""
    monkeypatch.setenv("TOPWORK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(measurement, "fits_into_memory", lambda size, measured_size, before: size <= 5)


def make_images(count: int) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return list(generator.integers(0, 255, (count, 32, 32, 3), np.uint8))


@pytest.mark.usefixtures("small_memory")
def test_jobs_compute_in_batches_that_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extractor = Extractor("topwork:tiny", layer="layer1", provider="cpu").fit(None)
    session = extractor.session
    assert extractor.graph.find_largest_batch(session) == 5
    seen: list[int] = []
    original = type(session).run

    def run(self: object, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        seen.append(len(next(iter(feed.values()))))
        return original(self, feed)  # type: ignore[arg-type]

    monkeypatch.setattr(type(session), "run", run)
    images = make_images(40)
    features = extractor.transform(images)
    store = FeatureStore.create(tmp_path / "store", extractor)
    extract_features(images, store)
    assert max(seen) <= 5
    np.testing.assert_allclose(features, store.matrix("layer1"), rtol=1e-4, atol=1e-5)
    assert extractor.graph.find_largest_batch(session) == 5


def test_no_limit_is_known_where_all_sizes_fit() -> None:
    extractor = Extractor("topwork:tiny", layer="layer1", provider="cpu").fit(None)
    session = extractor.session
    assert extractor.graph.find_largest_batch(session) is None
    known = [found for found in extractor.graph.certificate.measurements if found.provider == "cpu"]
    assert all(set(MEASURED_BATCH_SIZES) <= set(found.batch_sizes) for found in known)


def test_limit_counts_batches_at_a_time() -> None:
    sizes = BatchSizes(32, tokens=4096)
    assert sizes.limit(None, 4) == sizes
    assert sizes.limit(128, 4) == sizes
    assert sizes.limit(8, 2) == BatchSizes(4, 512)
    assert BatchSizes(32).limit(1, 4) == BatchSizes(1)
