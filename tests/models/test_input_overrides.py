"""Changes of the preprocessing: those that a kind of input does not have are refused by name."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from topwork.errors import InputError
from topwork.models.image_spec import ImageSpec
from topwork.models.input_overrides import InputOverrides
from topwork.models.input_spec import InputSpec
from topwork.models.tensor_spec import TensorSpec
from topwork.models.text_spec import TextSpec

CHANGES: dict[str, Any] = {
    "mean": (0.5, 0.4, 0.3),
    "std": (0.1, 0.2, 0.3),
    "size": 64,
    "crop": 1.0,
    "interpolation": "box",
    "decode": "fast",
    "max_length": 16,
}
SPECS: dict[str, InputSpec] = {
    "image": ImageSpec(size=(32, 32), resize=36),
    "text": TextSpec('{"model": {}}', 128),
    "tensor": TensorSpec((4,)),
}
TAKES = {
    "image": {"mean", "std", "size", "crop", "interpolation", "decode"},
    "text": {"max_length"},
    "tensor": set[str](),
}


def test_every_change_is_tested() -> None:
    assert list(CHANGES) == [field.name for field in fields(InputOverrides)]


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("kind", SPECS)
def test_change_is_made_where_the_kind_has_it_and_refused_elsewhere(kind: str, name: str) -> None:
    spec, changes = SPECS[kind], InputOverrides(**{name: CHANGES[name]})
    if name in TAKES[kind]:
        assert spec.override(changes) != spec
        return
    with pytest.raises(InputError, match=f"^{name} does not apply to a backbone that eats {kind}s; it takes "):
        spec.override(changes)


@pytest.mark.parametrize("kind", SPECS)
def test_nothing_changes_where_nothing_is_asked_for(kind: str) -> None:
    assert SPECS[kind].override(InputOverrides()) == SPECS[kind]


def test_what_does_apply_is_listed() -> None:
    with pytest.raises(
        InputError, match=r"max_length does not apply .*; it takes mean, std, size, crop, interpolation, decode"
    ):
        SPECS["image"].override(InputOverrides(max_length=3))
    with pytest.raises(InputError, match=r"crop does not apply .*; it takes none of these"):
        SPECS["tensor"].override(InputOverrides(crop=0.5))
