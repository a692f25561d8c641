"""Sizes of batches are measured in long jobs, remembered, and change no feature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import topwork
from topwork.extract.engine.batching import DEFAULT_BATCH_SIZES, BatchSizes
from topwork.extract.engine.run_config import RunConfig
from topwork.extract.engine.tuning import Bench, Tuning, locate_tuning, tune, write_tuning
from topwork.extract.extractor.extractor import Extractor
from topwork.extract.preprocess.preprocessor import Prepared
from topwork.extract.runtime.providers import find_rivals
from topwork.extract.runtime.session import Session
from topwork.extract.sources.opening import open_source
from topwork.extract.store.feature_store import FeatureStore
from topwork.hardware import available_cores
from topwork.user_cache import recall

IMAGES = np.random.default_rng(0).integers(0, 256, (70, 32, 32, 3), dtype=np.uint8)
CPU = RunConfig(provider="cpu")
LONG = 10**9
"""Items of a job that lasts for hours."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where choices are remembered, for this test alone."""
    monkeypatch.setenv("TOPWORK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tuning"


@pytest.fixture(scope="module")
def tiny() -> Extractor:
    return Extractor("topwork:tiny", precision="fp32", provider="cpu").fit(None)


class KnownSpeeds(Bench):
    """A bench on which the speed of each batch size is known."""

    def __init__(self, extractor: Extractor, speeds: Mapping[int, float], cores: int) -> None:
        super().__init__(extractor.graph, "cpu", extractor.preprocessor, cores)
        self.speeds = speeds

    def speed(self, tuning: Tuning, items: Sequence[Prepared]) -> float:
        return self.speeds[tuning.sizes.batch_size]


class KnownDevice(KnownSpeeds):
    """A device of its own with known speeds; larger batches do not fit into its memory."""

    def open_session(self, runs: int) -> Session:
        return replace(super().open_session(runs), provider="cuda", runs=1)

    def speed(self, tuning: Tuning, items: Sequence[Prepared]) -> float:
        if tuning.sizes.batch_size not in self.speeds:
            raise RuntimeError("BFCArena: Failed to allocate memory for requested buffer of size 4294967296")
        return super().speed(tuning, items)


class Unused(Bench):
    """A bench that nothing may be measured on."""

    def speed(self, tuning: Tuning, items: Sequence[Prepared]) -> float:
        pytest.fail("measured")


def find_tuning(extractor: Extractor, pending: int, bench: Bench | None = None) -> Tuning:
    source = open_source(IMAGES)
    sizes, session = tune(extractor.graph, CPU, extractor.preprocessor, source, pending, bench)
    return Tuning(sizes, session.runs)


def test_choice_is_remembered(tiny: Extractor, folder: Path) -> None:
    first = find_tuning(tiny, LONG)
    assert first.sizes.batch_size in (4, 8, 16, 32, 64)
    assert first.runs in (1, available_cores())
    (path,) = folder.iterdir()
    assert recall(path)["batch_size"] == first.sizes.batch_size
    unused = Unused(tiny.graph, "cpu", tiny.preprocessor)
    assert find_tuning(tiny, LONG, unused) == first
    assert find_tuning(tiny, 3, unused) == first  # so that a resumed job repeats the batches of the run before


@pytest.mark.parametrize(
    ("speeds", "expected"),
    [
        ({8: 90, 4: 80, 32: 130, 64: 125}, 32),
        ({8: 90, 4: 80, 32: 101, 64: 200}, 16),  # 32 is noise
        ({8: 150, 4: 200}, 4),
        ({8: 150, 4: 151}, 8),
        ({8: 103, 4: 107}, 4),  # 8 does not pay, but a quarter does
    ],
)
def test_fastest_choice_is_taken(tiny: Extractor, speeds: dict[int, float], expected: int) -> None:
    bench = KnownSpeeds(tiny, {1: 50.0, 16: 100.0, **speeds}, cores=1)
    assert find_tuning(tiny, LONG, bench).sizes.batch_size == expected


@pytest.mark.parametrize(
    ("speeds", "expected"),
    [
        ({32: 200, 64: 350, 128: 500, 256: 600}, 256),
        ({32: 200, 64: 350}, 64),  # more does not fit
        ({32: 200, 64: 201, 128: 1000}, 32),  # it ends where more does not pay
        ({32: 101}, 16),
        ({}, 16),
    ],
)
def test_a_device_takes_the_largest_batches_that_pay_and_fit(
    tiny: Extractor, speeds: dict[int, float], expected: int
) -> None:
    bench = KnownDevice(tiny, {1: 50.0, 16: 100.0, **speeds}, cores=1)
    found = find_tuning(tiny, LONG, bench)
    assert found.sizes.batch_size == expected
    assert found.sizes.tokens == expected * 64


def test_other_errors_of_a_device_are_raised(tiny: Extractor) -> None:
    class Broken(KnownDevice):
        def speed(self, tuning: Tuning, items: Sequence[Prepared]) -> float:
            if tuning.sizes.batch_size > 16:
                raise RuntimeError("CUDNN failure 4: CUDNN_STATUS_INTERNAL_ERROR")
            return super().speed(tuning, items)

    with pytest.raises(RuntimeError, match="INTERNAL_ERROR"):
        find_tuning(tiny, LONG, Broken(tiny, {1: 50.0, 16: 100.0}, cores=1))


@pytest.mark.parametrize("pending", [0, 70, 5000])
def test_short_jobs_are_not_kept_waiting(pending: int, tiny: Extractor, folder: Path) -> None:
    """Of 5,000 items the first are measured, and the job is found to be short."""
    speeds = {size: 40.0 * size for size in (1, 8, 16, 32)}
    assert find_tuning(tiny, pending, KnownSpeeds(tiny, speeds, cores=2)) == Tuning(DEFAULT_BATCH_SIZES, 2)
    assert not folder.exists()


def test_slow_models_are_not_measured_for_long(tiny: Extractor, folder: Path) -> None:
    """Of 64 items one alone takes half a second: measuring would take minutes."""
    cores = available_cores()
    found = find_tuning(tiny, LONG, KnownSpeeds(tiny, {1: 2.0}, cores))
    assert found == Tuning(DEFAULT_BATCH_SIZES, cores)
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize("fastest", ["cpu", "openvino"])
@pytest.mark.parametrize("unit", [1.0, 100.0])  # items a second, of a slow and of a fast network
def test_the_fastest_provider_is_taken(tiny: Extractor, folder: Path, fastest: str, unit: float) -> None:
    if len(find_rivals("auto", "fp32")) < 2:
        pytest.skip("there is one provider")

    class KnownProviders(Bench):
        def speed(self, tuning: Tuning, items: Sequence[Prepared]) -> float:
            return unit * (2.0 if self.open_session(tuning.runs).provider == fastest else 1.0)

    def find_provider(bench: type[Bench]) -> str:
        return tune(
            tiny.graph,
            RunConfig(),
            tiny.preprocessor,
            open_source(IMAGES),
            LONG,
            bench(tiny.graph, "auto", tiny.preprocessor),
        )[1].provider

    assert find_provider(KnownProviders) == fastest
    assert tiny.graph.read_speeds() == {"openvino": unit, "cpu": unit} | {fastest: 2 * unit}
    assert find_provider(Unused) == fastest
    assert tiny.graph.open().provider == fastest


def test_items_that_cannot_be_read_are_not_measured_with(tiny: Extractor, tmp_path: Path) -> None:
    source = open_source([tmp_path / "none.jpg", *IMAGES])
    assert tune(tiny.graph, CPU, tiny.preprocessor, source, LONG)[0].batch_size in (8, 16, 32)


def test_job_uses_what_was_found(tiny: Extractor, tmp_path: Path) -> None:
    store = FeatureStore.create(tmp_path / "s", tiny)
    path = locate_tuning(store.graph, "cpu")
    path.parent.mkdir(parents=True)
    write_tuning(path, Tuning(BatchSizes(8, tokens=512), runs=1))
    ledger = topwork.extract_features(IMAGES, store, provider="cpu")
    assert ledger.runs == 1
    store.refresh()
    np.testing.assert_allclose(store.matrix("last"), tiny.transform(IMAGES), rtol=1e-4, atol=1e-5)


def test_a_speed_that_was_luck_is_not_taken(tiny: Extractor) -> None:
    class Lucky(KnownSpeeds):
        times = 0

        def speed(self, tuning: Tuning, items: Sequence[Prepared]) -> float:
            if tuning.sizes.batch_size == 8:
                self.times += 1
                return 200.0 if self.times == 1 else 100.0
            return super().speed(tuning, items)

    bench = Lucky(tiny, {1: 50.0, 4: 100.0, 16: 100.0}, cores=1)
    assert find_tuning(tiny, LONG, bench).sizes.batch_size == 16
