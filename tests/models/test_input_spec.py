"""What specifications have in common: overrides that do not apply are refused, and what is stated of each kind."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from topwork.errors import InputError
from topwork.models.audio_spec import AudioSpec
from topwork.models.image_spec import ImageSpec
from topwork.models.input_spec import GraphInput, InputOverrides, InputSpec
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
    "prompt": "query: ",
    "rate": 8_000,
    "window": 5.0,
    "hop": 2.0,
    "long": "windows",
    "scale": "int16",
}
SPECS: dict[str, InputSpec] = {
    "image": ImageSpec(size=(32, 32), resize=36),
    "text": TextSpec('{"model": {}}', 128),
    "audio": AudioSpec(16_000, 30.0, padding="none", long="mean"),
    "tensor": TensorSpec((4,)),
}
OVERRIDES = {
    "image": {"mean", "std", "size", "crop", "interpolation", "decode"},
    "text": {"max_length", "prompt"},
    "audio": {"rate", "window", "hop", "long", "scale"},
    "tensor": set[str](),
}
FIXED = {"rate", "scale"}
"""Changes of sounds that can only be stated where a backbone does not state them."""


def test_every_change_is_tested() -> None:
    assert list(CHANGES) == [field.name for field in fields(InputOverrides)]


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("kind", SPECS)
def test_change_is_made_where_the_kind_has_it_and_refused_elsewhere(kind: str, name: str) -> None:
    spec, changes = SPECS[kind], InputOverrides(**{name: CHANGES[name]})
    is_fixed = name in FIXED and kind == "audio"
    if name in OVERRIDES[kind] and not is_fixed:
        assert spec.override(changes) != spec
        return
    problem = f"^{name}=.*: this backbone takes" if is_fixed else f"^{name} does not apply to {kind} input"
    with pytest.raises(InputError, match=problem):
        spec.override(changes)


@pytest.mark.parametrize("kind", SPECS)
def test_nothing_changes_where_nothing_is_asked_for(kind: str) -> None:
    assert SPECS[kind].override(InputOverrides()) == SPECS[kind]


def test_what_does_apply_is_listed() -> None:
    with pytest.raises(InputError, match=r"max_length .*takes mean, std, size, crop, interpolation, decode"):
        SPECS["image"].override(InputOverrides(max_length=3))
    with pytest.raises(InputError, match=r"crop .*tensor input.*takes no overrides"):
        SPECS["tensor"].override(InputOverrides(crop=0.5))


def test_overrides_that_apply_are_stated_by_each_kind() -> None:
    assert {kind: set(spec.overrides) for kind, spec in SPECS.items()} == OVERRIDES


def test_inputs_of_the_graph_are_stated_by_each_kind() -> None:
    image, text, tensor = (SPECS[kind].graph_inputs for kind in ("image", "text", "tensor"))
    assert image == (GraphInput("image", "uint8", ("batch", 32, 32, 3)),)
    assert text == tuple(GraphInput(name, "int64", ("batch", "sequence")) for name in ("input_ids", "attention_mask"))
    assert tensor == (GraphInput("input", "float32", ("batch", 4)),)
    assert [ports[0].free_axes for ports in (image, text, tensor)] == [
        {0: "batch"},
        {0: "batch", 1: "sequence"},
        {0: "batch"},
    ]


def test_lengths_vary_for_text_and_for_sounds_that_are_not_padded() -> None:
    assert [kind for kind, spec in SPECS.items() if spec.lengths_vary] == ["text", "audio"]
    assert [kind for kind, spec in SPECS.items() if spec.pads_batches] == ["text"]
    assert [spec.length_range for spec in SPECS.values()] == [None, (4, 128), (1, 480_000), None]
    assert [spec.item_shape for spec in SPECS.values()] == [(3, 32, 32), None, None, (4,)]


def test_exact_decoding_changes_images_alone() -> None:
    fast = ImageSpec(size=(32, 32), resize=36, decode="fast")
    assert fast.with_exact_decoding() == SPECS["image"]
    assert all(spec.with_exact_decoding() == spec for spec in SPECS.values())
