"""Specifications of images: what they refuse, how they are overridden, and that their text form is canonical."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from topwork.errors import InputError
from topwork.models.image_spec import INTERPOLATIONS, ImageSpec
from topwork.models.input_kinds import input_spec_from_json
from topwork.models.input_spec import InputOverrides

NOWHERE = Path("/nowhere")
"""Specifications of images have no files beside them."""
SIDES = st.integers(1, 600)
TRIPLES = st.tuples(*[st.floats(0.01, 10)] * 3)
SPECS = st.builds(
    ImageSpec,
    size=st.tuples(SIDES, SIDES),
    resize=SIDES,
    fit=st.sampled_from(["shorter", "squash"]),
    interpolation=st.sampled_from(INTERPOLATIONS),
    mean=TRIPLES,
    std=TRIPLES,
    orientation=st.sampled_from(["exif", "stored"]),
)


@given(SPECS)
def test_json_text_round_trip_keeps_every_field(spec: ImageSpec) -> None:
    assert input_spec_from_json(json.loads(json.dumps(spec.to_json())), NOWHERE) == spec


@pytest.mark.parametrize("given_mean", [[0, 1, 2], (0, 1, 2), np.array([0, 1, 2], np.float32)])
def test_numbers_of_any_type_make_the_same_specification(given_mean: Any) -> None:
    expected = ImageSpec(size=(32, 32), resize=32, mean=(0.0, 1.0, 2.0))
    changed = ImageSpec(size=(32, 32), resize=32).override(InputOverrides(mean=given_mean))
    assert json.dumps(changed.to_json()) == json.dumps(expected.to_json())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": (0, 32)}, r"size=\(0, 32\)"),
        ({"resize": 0}, "resize=0"),
        ({"interpolation": "cubic"}, "interpolation='cubic': .*nearest, bilinear, bicubic"),
        ({"mean": (0.5,)}, r"mean=\(0.5,\)"),
        ({"mean": (0.5, math.nan, 0.5)}, "mean=.*nan"),
        ({"std": (0.5, 0.0, 0.5)}, r"std=\(0.5, 0.0, 0.5\)"),
    ],
)
def test_values_that_no_model_could_take_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ImageSpec(**{"size": (32, 32), "resize": 32, **fields})


@pytest.mark.parametrize(
    ("fit", "height", "width", "expected"),
    [
        ("shorter", 300, 200, (384, 256)),
        ("shorter", 200, 300, (256, 384)),
        ("shorter", 375, 500, (256, 341)),
        ("shorter", 5000, 2, (640_000, 256)),
        ("shorter", 1, 1000, (256, 256_000)),
        ("squash", 300, 200, (256, 256)),
    ],
)
def test_resized_sides(fit: Any, height: int, width: int, expected: tuple[int, int]) -> None:
    assert ImageSpec(size=(224, 224), resize=256, fit=fit).resized(height, width) == expected


@given(SPECS, SIDES, SIDES)
def test_shorter_side_is_resized_exactly(spec: ImageSpec, height: int, width: int) -> None:
    resized = spec.resized(height, width)
    if spec.fit == "shorter":
        assert min(resized) == spec.resize
        assert (resized[0] <= resized[1]) == (height <= width) or resized[0] == resized[1]


def test_overrides_change_only_what_they_name() -> None:
    spec = ImageSpec(size=(224, 224), resize=256)
    assert spec.override(InputOverrides()) == spec
    changed = spec.override(InputOverrides(mean=(0.5, 0.5, 0.5), interpolation="bilinear"))
    assert (changed.mean, changed.interpolation, changed.std, changed.resize) == (
        (0.5, 0.5, 0.5),
        "bilinear",
        spec.std,
        256,
    )


def test_new_size_keeps_the_share_that_is_cropped() -> None:
    spec = ImageSpec(size=(224, 224), resize=256).override(InputOverrides(size=448))
    assert (spec.size, spec.resize, spec.crop) == ((448, 448), 512, 0.875)
    assert ImageSpec(size=(224, 224), resize=256).override(InputOverrides(crop=1.0)).resize == 224


@given(st.integers(16, 512), st.integers(0, 512))
def test_overriding_the_size_with_itself_changes_nothing(side: int, margin: int) -> None:
    spec = ImageSpec(size=(side, side), resize=side + margin)
    assert spec.override(InputOverrides(size=side)) == spec


@pytest.mark.parametrize("crop", [0.0, 1.5, -1.0])
def test_crop_that_is_no_share_is_refused(crop: float) -> None:
    with pytest.raises(InputError, match=f"crop={crop}"):
        ImageSpec(size=(32, 32), resize=32).override(InputOverrides(crop=crop))
