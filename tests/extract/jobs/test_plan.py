"""The plan: what it counts and forecasts, and that it writes nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from topwork.extract.engine.ledger import Stages
from topwork.extract.engine.run_config import RunConfig
from topwork.extract.extractor.extractor import Extractor
from topwork.extract.jobs.job import extract_features
from topwork.extract.jobs.plan import Plan, draw_sample, forecast_seconds_per_item, plan
from topwork.extract.sources.item import Item
from topwork.extract.store.feature_store import FeatureStore
from topwork.progress import Progress, watch_progress

Write = Callable[..., Path]


@pytest.fixture(scope="module")
def tiny() -> Extractor:
    return Extractor("topwork:tiny", layer=["layer2", "last"])


def forecast(tiny: Extractor, source: Any, store: FeatureStore | None = None, **options: Any) -> Plan:
    return plan(tiny.open(source), tiny.graph, store, RunConfig(provider="cpu"), **options)


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def size(folder: Path) -> int:
    return sum(map(len, files(folder).values()))


def test_a_new_store_is_forecast_from_about_fifty_items(tiny: Extractor, write_images: Write) -> None:
    found = forecast(tiny, write_images(each=60))
    assert (found.items, found.pending, found.sample.failed) == (120, 120, 0)
    assert 50 <= found.sample.items == found.sample.computed < 60 + 32
    assert found.items_per_second * found.seconds == pytest.approx(120)
    assert found.sample.peak_memory is None or found.sample.peak_memory > 10_000_000
    assert (found.sample.provider, found.sample.precision) == ("cpu", tiny.graph.metadata.precision)


def test_forecast_of_the_disk_is_near_what_the_job_writes(tiny: Extractor, write_images: Write, tmp_path: Path) -> None:
    root = write_images(each=150)
    store = FeatureStore.create(tmp_path / "store", tiny)
    empty, new = size(store.path), forecast(tiny, root).disk_bytes
    added = forecast(tiny, root, store).disk_bytes
    extract_features(root, store)
    assert 0.8 < new / size(store.path) < 1.2
    assert 0.7 < added / (size(store.path) - empty) < 1.3


@pytest.mark.parametrize("views", [0, 2])
def test_disk_of_maps_with_views_is_planned_within_2_percent(views: int, write_images: Write, tmp_path: Path) -> None:
    root, maps = write_images(each=20), Extractor("topwork:tiny", layer="layer2", pool="none", precision="fp32")
    planned = forecast(maps, root, views=views, dtype="float16")
    store = FeatureStore.create(tmp_path / "store", maps, "float16")
    extract_features(root, store, views=views)
    assert planned.items == 40 * (1 + views)
    assert planned.disk_bytes == pytest.approx(size(store.path), rel=0.02)
    assert forecast(maps, root, store).pending == 0


def test_only_what_a_store_lacks_is_planned_and_the_store_stays_as_it_is(
    tiny: Extractor, write_images: Write, tmp_path: Path
) -> None:
    root, store = write_images(each=4), FeatureStore.create(tmp_path / "store", tiny)
    extract_features(root, store)
    before = files(store.path)
    assert (forecast(tiny, root, store).pending, forecast(tiny, root, store).seconds) == (0, 0.0)
    shutil.copytree(write_images("more", each=3, seed=1), root / "new")
    shutil.copy(root / "cat" / "0.png", root / "cat" / "1.png")  # new content under a known id
    found = forecast(tiny, root, store)
    assert (found.items, found.pending, found.sample.items) == (14, 7, 7)
    assert files(store.path) == before


def test_same_items_are_drawn_each_time() -> None:
    items = [Item(f"{number:03d}", lambda: b"") for number in range(120)]
    first, second = ([item.id for item in draw_sample(items, 120, 56)] for _ in range(2))
    assert first == second == sorted(first)
    assert len(set(first)) == 56
    assert first != [item.id for item in items[:56]]
    assert draw_sample(items[:9], 9, 56) == items[:9]


def test_items_that_fail_are_counted_and_take_no_row(tiny: Extractor, write_images: Write) -> None:
    root = write_images(each=5)
    whole = forecast(tiny, root)
    for number in range(4):
        (root / "cat" / f"{number}.png").write_bytes(b"no image")
    found = forecast(tiny, root)
    assert (found.pending, found.sample.ok, found.sample.failed) == (10, 6, 4)
    assert [item_id for item_id, _ in found.sample.failures] == [f"cat/{number}.png" for number in range(4)]
    assert whole.disk_bytes - found.disk_bytes == 4 * 4 * sum(column.width for column in tiny.columns)


def test_source_of_only_failures_is_planned(tiny: Extractor, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "0.png").write_bytes(b"no image")
    found = forecast(tiny, tmp_path / "images")
    assert (found.pending, found.sample.ok, found.sample.failed) == (1, 0, 1)


def test_text_is_planned(text_folder: Path, texts: tuple[list[str], list[str]]) -> None:
    bert = Extractor(f"hf:{text_folder}")
    found = forecast(bert, texts[0])
    assert (found.pending, found.sample.ok) == (len(texts[0]), len(texts[0]))
    assert found.disk_bytes > sum(map(len, bert.graph.input_spec.files().values()))


def test_stages_take_turns_on_the_processor_and_overlap_elsewhere(tiny: Extractor, write_images: Write) -> None:
    sample = forecast(tiny, write_images()).sample
    sample.stages, sample.cores, sample.runs, sample.computed = Stages(read=1, decode=5, infer=6), 2, 2, 10
    assert forecast_seconds_per_item(sample) == pytest.approx(0.6)
    sample.provider, sample.runs = "cuda", 1
    assert forecast_seconds_per_item(sample) == pytest.approx(0.6)
    sample.stages.infer = 2
    assert forecast_seconds_per_item(sample) == pytest.approx(0.25)


def test_progress_of_the_sample_is_reported(tiny: Extractor) -> None:
    seen: list[Progress] = []
    with watch_progress(seen.append):
        forecast(tiny, np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3), np.uint8))
    assert [(p.done, p.total, p.computed) for p in seen] == [(0, 3, 0), (1, 3, 1), (2, 3, 2), (3, 3, 3)]
