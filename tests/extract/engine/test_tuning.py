"""Sizes of batches are measured in long jobs, remembered, and change no feature."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import topwork
from topwork.extract.engine import tuning
from topwork.extract.engine.batching import DEFAULT_BATCH_SIZES, BatchSizes
from topwork.extract.engine.run_config import RunConfig
from topwork.extract.engine.tuning import Tuning, tune
from topwork.extract.extractor.extractor import Extractor
from topwork.extract.jobs import job
from topwork.extract.sources.opening import open_source
from topwork.extract.store.feature_store import FeatureStore
from topwork.hardware import available_cores

IMAGES = np.random.default_rng(0).integers(0, 256, (70, 32, 32, 3), dtype=np.uint8)
CPU = RunConfig(provider="cpu")
LONG = 10**9
"""Items of a job that lasts for hours."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where choices are remembered, for this test alone."""
    monkeypatch.setattr(tuning, "cache_folder", lambda: tmp_path / "cache" / "graphs")
    return tmp_path / "cache" / "tuning"


@pytest.fixture(scope="module")
def tiny() -> Extractor:
    return Extractor("topwork:tiny", precision="fp32", provider="cpu")


def found(extractor: Extractor, pending: int, images: np.ndarray = IMAGES) -> Tuning:
    sizes, session = tune(extractor.graph, CPU, extractor.preprocessor, open_source(images), pending)
    return Tuning(sizes, session.runs)


def test_choice_is_remembered(tiny: Extractor, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = found(tiny, LONG)
    assert first.sizes.batch_size in (8, 16, 32)
    assert first.runs in (1, available_cores())
    (path,) = folder.iterdir()
    assert json.loads(path.read_text())["batch_size"] == first.sizes.batch_size
    monkeypatch.setattr(tuning, "_measured", lambda *_: pytest.fail("measured again"))
    assert found(tiny, LONG) == first
    assert found(tiny, 3) == first  # so that a job that goes on makes the batches that it made before


def test_fastest_choice_is_taken(tiny: Extractor, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = {1: 50.0, 8: 90.0, 16: 100.0, 32: 130.0}
    monkeypatch.setattr(tuning._Bench, "speed", lambda self, choice, items: speeds[choice.sizes.batch_size])
    monkeypatch.setattr(tuning, "available_cores", lambda: 1)
    assert found(tiny, LONG).sizes.batch_size == 32
    speeds[32] = 101.0  # which is noise
    for path in folder.iterdir():
        path.unlink()
    assert found(tiny, LONG).sizes == DEFAULT_BATCH_SIZES


@pytest.mark.parametrize("pending", [0, 70, 5000])
def test_short_jobs_are_not_kept_waiting(
    pending: int, tiny: Extractor, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 5,000 items the first are measured, and the job is found to be short."""
    monkeypatch.setattr(tuning._Bench, "speed", lambda self, choice, items: 40.0 * choice.sizes.batch_size)
    monkeypatch.setattr(tuning, "available_cores", lambda: 2)
    assert found(tiny, pending) == Tuning(DEFAULT_BATCH_SIZES, 2)
    assert not folder.exists()


def test_slow_networks_are_not_measured_for_long(
    tiny: Extractor, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 64 items one alone takes half a second: measuring would take minutes."""
    speeds = {1: 2.0}
    monkeypatch.setattr(tuning._Bench, "speed", lambda self, choice, items: speeds[choice.sizes.batch_size])
    assert found(tiny, LONG) == Tuning(DEFAULT_BATCH_SIZES, available_cores())
    assert len(list(folder.iterdir())) == 1


def test_items_that_cannot_be_read_are_not_measured_with(tiny: Extractor, tmp_path: Path) -> None:
    source = open_source([tmp_path / "none.jpg", *IMAGES])
    assert tune(tiny.graph, CPU, tiny.preprocessor, source, LONG)[0].batch_size in (8, 16, 32)


def test_job_uses_what_was_found(tiny: Extractor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "tune", lambda graph, *_: (BatchSizes(8, tokens=512), graph.open("cpu", 1)))
    ledger = topwork.extract_features(IMAGES, store := FeatureStore.create(tmp_path / "s", tiny), provider="cpu")
    assert ledger.runs == 1
    store.refresh()
    np.testing.assert_allclose(store.matrix("last"), tiny.transform(IMAGES), rtol=1e-4, atol=1e-5)
