"""Reading input specifications back: each kind as it was written, files checked, anything else refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from topwork.errors import InputError
from topwork.models.audio_spec import AudioSpec
from topwork.models.image_spec import ImageSpec
from topwork.models.input_kinds import INPUT_SPECS, input_spec_from_json
from topwork.models.input_spec import InputSpec
from topwork.models.tensor_spec import TensorSpec
from topwork.models.text_spec import TOKENIZER_FILE, TextSpec

SPECS: dict[str, InputSpec] = {
    "image": ImageSpec(size=(32, 48), resize=40, fit="squash", interpolation="box", mean=(0.1, 0.2, 0.3)),
    "text": TextSpec('{"model": {"größe": 1}}', 128, ("ids", "mask"), 3),
    "audio": AudioSpec(16_000, 10.24, hop=5.0, long="windows", padding="repeat", channels=2, scale="int16"),
    "tensor": TensorSpec((3, 500)),
}


def written(spec: InputSpec, folder: Path) -> dict[str, object]:
    """Write what travels with a graph, and return the fields that its metadata hold."""
    for name, content in spec.files().items():
        (folder / name).write_bytes(content)
    fields: dict[str, object] = json.loads(json.dumps(spec.to_json()))
    return fields


def test_every_kind_is_tested() -> None:
    assert list(SPECS) == list(INPUT_SPECS)
    assert [type(spec) for spec in SPECS.values()] == list(INPUT_SPECS.values())


@pytest.mark.parametrize("kind", INPUT_SPECS)
def test_round_trip_keeps_every_field(kind: str, tmp_path: Path) -> None:
    assert input_spec_from_json(written(SPECS[kind], tmp_path), tmp_path) == SPECS[kind]


@pytest.mark.parametrize("fields", [{"kind": "sound"}, {"kind": None}, {}])
def test_unknown_kind_of_input_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(InputError, match=rf"{fields.get('kind')!r}.*image, text, audio, tensor"):
        input_spec_from_json(fields, Path("/nowhere"))


def test_tokeniser_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"elsewhere/tokenizer\.json is missing"):
        input_spec_from_json(written(SPECS["text"], tmp_path), tmp_path / "elsewhere")


def test_tokeniser_that_was_changed_is_refused(tmp_path: Path) -> None:
    fields, path = written(SPECS["text"], tmp_path), tmp_path / TOKENIZER_FILE
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(InputError, match=r"tokenizer\.json is not the file"):
        input_spec_from_json(fields, tmp_path)


@pytest.mark.parametrize(
    "change", [{"kind": None}, {"kind": {}}, {"resize": "builtins"}, {"size": None}, {"mean": 1}, {"unknown": 1}]
)
def test_damaged_description_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    fields = {**SPECS["image"].to_json(), **change}
    with pytest.raises(InputError):
        input_spec_from_json(fields, tmp_path)
