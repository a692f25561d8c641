"""Sounds: parts that are read alone, windows as items, and what cannot be read."""

from __future__ import annotations

import pickle
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from topwork import AudioSpec
from topwork.errors import DecodeError, MissingPackageError
from topwork.extract.jobs.ray_engine import make_portable
from topwork.extract.preprocess.audio import AudioPreprocessor
from topwork.extract.sources import sound
from topwork.extract.sources.opening import open_items
from topwork.extract.sources.sound import Span, as_sound, measure_sound, read_clip
from topwork.extract.sources.windows import iterate_spans

from ...sounds import chirp, encode

FORMATS = {"wav": {}, "flac": {}, "ogg": {}, "mp3": {}, "aiff": {}}
SPEC = AudioSpec(rate=16_000, window=1.0)


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_a_part_is_what_it_is_in_the_whole(ending: str, rate: int) -> None:
    content = encode(chirp(4.0, rate, channels=2), rate, ending)
    whole = AudioPreprocessor(AudioSpec(16_000, 4.0)).prepare(content).array
    for start in (0, 12_345, 40_000):
        clip = read_clip(content, 16_000, Span(start, 16_000))
        part = AudioPreprocessor(SPEC).prepare(clip).array
        assert part.shape == (16_000,)
        np.testing.assert_allclose(part, whole[start : start + 16_000], atol=2e-4)


def list_starts(n_samples: int, spec: AudioSpec) -> list[tuple[int, int]]:
    return [(span.start, span.count) for span in iterate_spans(n_samples, spec)]


def test_windows_cover_every_sample_once_where_they_do_not_overlap() -> None:
    assert list_starts(40_000, SPEC) == [(0, 16_000), (16_000, 16_000), (32_000, 8_000)]
    assert list_starts(32_000, SPEC) == [(0, 16_000), (16_000, 16_000)]
    assert list_starts(32_001, SPEC) == [(0, 16_000), (16_000, 16_000), (32_000, 1)]
    assert list_starts(16_000, SPEC) == [(0, 16_000)]
    assert list_starts(5, SPEC) == [(0, 5)]


def test_windows_that_overlap_end_where_the_sound_does() -> None:
    spec = AudioSpec(16_000, 1.0, hop=0.5, long="windows")
    assert [start for start, _ in list_starts(32_000, spec)] == [0, 8_000, 16_000]
    assert list_starts(33_000, spec)[-1] == (24_000, 9_000)
    assert [start for start, _ in list_starts(16_001, spec)] == [0, 8_000]


def test_an_end_that_is_shorter_than_the_model_takes_is_left_out() -> None:
    spec = AudioSpec(16_000, 1.0, long="windows", padding="none", shortest=400)
    assert list_starts(32_300, spec) == [(0, 16_000), (16_000, 16_000)]
    assert list_starts(32_400, spec)[-1] == (32_000, 400)


def test_windows_are_items_of_their_own(tmp_path: Path) -> None:
    folder = tmp_path / "bird"
    folder.mkdir()
    (folder / "a.wav").write_bytes(encode(chirp(2.5, 8_000), 8_000))
    (folder / "b.wav").write_bytes(b"no sound")
    source = open_items(tmp_path, AudioSpec(16_000, 1.0, long="windows"))
    items = list(source)
    assert [item.id for item in items] == ["bird/a.wav#t=0.0", "bird/a.wav#t=1.0", "bird/a.wav#t=2.0", "bird/b.wav"]
    assert len(source) == 4
    assert {item.held_out_with for item in items[:3]} == {"bird/a.wav"}
    assert {item.label for item in items} == {"bird"}
    assert AudioPreprocessor(SPEC).prepare(items[2].read()).array.shape == (8_000,)


class BrokenDecoder:
    def get_all_samples(self) -> None:
        raise RuntimeError("the stream ends")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "no sound"),
        (b"RIFF....WAVE", "no sound"),
        (encode(np.zeros((0, 1), np.float32), 8_000), "no samples"),
        ("bird.wav", "samples alone do not say"),
        ((np.zeros(100, np.int32), 8_000), "int32"),
        ((np.zeros(100, np.float32), None), "rate None"),
        ((np.zeros(100, np.float32), "fast"), "rate 'fast'"),
        ((np.zeros(100, np.float32), float("nan")), "rate nan"),
        (([[0.1, 0.2], [0.3]], 8_000), "rate 8000"),
        ((np.full(100, np.nan, np.float32), 16_000), "not finite"),
        ((np.zeros(100, np.float32), 0), "rate=0"),
        ((np.zeros((0, 2), np.float32), 8_000), "at least one"),
        (BrokenDecoder(), "BrokenDecoder decodes: the stream ends"),
    ],
)
def test_what_is_no_sound_fails(content: Any, problem: str) -> None:
    with pytest.raises(DecodeError, match=problem):
        AudioPreprocessor(SPEC).prepare(content)


def test_a_truncated_file_fails() -> None:
    content = encode(chirp(3.0, 16_000), 16_000, "flac")
    with pytest.raises(DecodeError):
        AudioPreprocessor(AudioSpec(16_000, 3.0)).prepare(content[: len(content) // 2])


def test_samples_come_in_either_order() -> None:
    samples = chirp(0.5, 16_000, channels=2)
    for given in ((samples, 16_000), (samples.T, 16_000), {"array": samples.T, "sampling_rate": 16_000}):
        sound = as_sound(given)
        assert measure_sound(sound).channels == 2
        np.testing.assert_allclose(AudioPreprocessor(SPEC).prepare(given).array, samples.mean(axis=1), atol=1e-7)


def test_a_sound_that_would_fill_the_memory_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sound, "MAX_VALUES", 10_000)
    content = encode(chirp(1.0, 16_000), 16_000)
    with pytest.raises(DecodeError, match="at most 10,000"):
        AudioPreprocessor(SPEC).prepare(content)


def test_a_wave_file_that_ends_early_fails_unless_its_size_was_unknown() -> None:
    content = encode(chirp(1.0, 16_000), 16_000)
    with pytest.raises(DecodeError, match="truncated"):
        AudioPreprocessor(SPEC).prepare(content[:20_000])
    streamed = content.replace(content[40:44], b"\xff\xff\xff\xff", 1)
    assert AudioPreprocessor(SPEC).prepare(streamed).array.shape == (16_000,)


def test_windows_of_files_are_read_where_they_are_computed_others_with_their_job(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(encode(chirp(1.5, 16_000), 16_000))
    with zipfile.ZipFile(tmp_path / "sounds.zip", "w") as stream:
        stream.write(tmp_path / "a.wav", "a.wav")
    spec = AudioSpec(16_000, 1.0, long="windows")
    for source, is_file in ((str(tmp_path / "sounds.zip"), False), ([tmp_path / "a.wav"], True)):
        for item in open_items(source, spec):
            sent = make_portable(item)
            assert (sent is item) == is_file
            assert pickle.loads(pickle.dumps(sent)).read().digest == item.read().digest


@pytest.mark.parametrize("package", ["soundfile", "soxr"])
def test_a_missing_package_is_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = encode(chirp(0.5, 8_000), 8_000)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError, match=rf"the package {package}.*topwork\[audio\]"):
        AudioPreprocessor(SPEC).prepare(content)
