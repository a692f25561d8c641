"""``AudioSpec``: its sizes, its checks, and that it survives JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from topwork import AudioSpec, InputOverrides
from topwork.errors import InputError
from topwork.models.audio_spec import describe_samples
from topwork.models.input_kinds import input_spec_from_json


def test_sizes() -> None:
    spec = AudioSpec(rate=16_000, window=1.5, hop=0.5, long="windows")
    assert spec.window_samples == 24_000
    assert spec.hop_samples == 8_000
    assert spec.item_shape == (24_000,)
    assert [port.axes for port in spec.graph_inputs] == [("batch", 24_000)]
    assert not spec.lengths_vary


def test_sounds_that_are_not_padded_have_any_length_up_to_the_window() -> None:
    spec = AudioSpec(rate=8_000, window=2, padding="none", shortest=400, channels=2)
    assert spec.item_shape is None
    assert spec.length_range == (400, 16_000)
    assert [port.axes for port in spec.graph_inputs] == [("batch", 2, "sequence")]
    assert spec.lengths_vary
    assert not spec.pads_batches


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"rate": 0}, "rate=0"),
        ({"window": 0}, "window=0"),
        ({"window": float("nan")}, "window=nan"),
        ({"window": 40_000}, "values each"),
        ({"hop": 2.0, "long": "mean"}, "hop=2.0"),
        ({"hop": 0, "long": "windows"}, "hop=0"),
        ({"hop": 0.5}, "no effect"),
        ({"rate": "fast"}, "are numbers"),
        ({"window": None}, "are numbers"),
        ({"long": "crop"}, "long='crop'"),
        ({"padding": "zeros"}, "padding='zeros'"),
        ({"scale": "int8"}, "scale='int8'"),
        ({"channels": 0}, "channels=0"),
        ({"shortest": 20_000}, "shortest=20000"),
        ({"padding": "none", "passes_length": True}, "passes_length"),
    ],
)
def test_what_describes_no_sound_is_refused(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        AudioSpec(**{"rate": 16_000, "window": 1.0, **fields})


@pytest.mark.parametrize(
    "spec",
    [
        AudioSpec(16_000, 1),
        AudioSpec(16_000, 10.24, hop=5, long="windows", padding="repeat_whole", channels=2, scale="int16"),
        AudioSpec(48_000, 30, padding="none", standardize=True, shortest=400),
        AudioSpec(16_000, 10.255, passes_length=True),
    ],
)
def test_specification_survives_json(spec: AudioSpec, tmp_path: Path) -> None:
    assert input_spec_from_json(spec.to_json(), tmp_path) == spec


def test_window_can_be_changed_only_where_sounds_are_not_padded() -> None:
    free = AudioSpec(16_000, 30, padding="none")
    assert free.override(InputOverrides(window=3.0, hop=1.5, long="windows")) == AudioSpec(
        16_000, 3, hop=1.5, long="windows", padding="none"
    )
    with pytest.raises(InputError, match="at most 30 seconds"):
        free.override(InputOverrides(window=31.0))
    with pytest.raises(InputError, match="sounds of 10 seconds"):
        AudioSpec(16_000, 10).override(InputOverrides(window=3.0))
    with pytest.raises(InputError, match="does not apply to audio input"):
        free.override(InputOverrides(max_length=3))


def test_windows_can_be_asked_for_of_a_model_that_truncates() -> None:
    spec = AudioSpec(16_000, 2.0)
    changed = spec.override(InputOverrides(long="mean", hop=0.5))
    assert (changed.long, changed.hop) == ("mean", 0.5)
    assert changed.override(InputOverrides(long="windows")) == AudioSpec(16_000, 2.0, hop=0.5, long="windows")
    assert changed.override(InputOverrides(long="truncate")) == spec
    with pytest.raises(InputError, match="no effect"):
        spec.override(InputOverrides(hop=0.5))


@pytest.mark.parametrize("changes", [{"rate": 0}, {"rate": 16_000, "window": float("nan")}, {"rate": -1}])
def test_what_a_user_states_of_samples_is_checked(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="expected"):
        describe_samples((8_000,), InputOverrides(**changes))
