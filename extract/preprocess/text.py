"""Texts: tokenised by the tokenizers library alone, padded to the longest of their batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import DecodeError, InputError, MissingPackageError, reason
from ...models.text_spec import MIN_BATCH_TOKENS, TextSpec
from .preprocessor import Feed, Prepared, prepare_each

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHECKED_TOKENS = 8
"""Random texts are longer than this by twice their number, so that no length is the same in all checks."""


LONG_TEXT = 512
LETTERS = "abcdefghijklmnopqrstuvwxyzABCXYZ0123456789.,-éß字"


class TextPreprocessor:
    """Texts, or the bytes of UTF-8 files, to token ids."""

    items_per_call = 64

    def __init__(self, spec: TextSpec) -> None:
        self.spec = spec
        self.tokenizer = _tokenizer(spec)

    def prepare(self, content: Any) -> Prepared:
        """Return the token ids int64 ``(tokens,)``, special tokens included, at most as many as the network takes."""
        text = _text(content)
        try:
            return _prepared(self.tokenizer.encode(text))
        except DecodeError:
            raise
        except Exception as error:  # the library's own errors have no class of their own
            raise DecodeError(f"the tokeniser cannot take this text: {reason(error)}") from error

    def prepare_all(self, contents: Sequence[Any]) -> list[Prepared | DecodeError]:
        """Return for each item what :meth:`prepare` returns or raises; all are tokenised in one call."""
        try:
            texts = [_text(content) for content in contents]
            return [_prepared(encoded) for encoded in self.tokenizer.encode_batch_fast(texts)]
        except Exception:  # of one of them
            return prepare_each(self.prepare, contents)

    def collate(self, arrays: Sequence[NDArray[Any]]) -> Feed:
        """Return token ids and attention mask, int64 ``(batch, tokens)``."""
        return _padded(self.spec, arrays, max(MIN_BATCH_TOKENS, *map(len, arrays)))

    def synthetic(self, count: int, generator: np.random.Generator) -> list[str]:
        """Return words of random letters, each text longer than the one before."""
        letters = np.array([*LETTERS])
        return [
            " ".join("".join(generator.choice(letters, size)) for size in generator.integers(1, 9, 5 * (number + 1)))
            for number in range(count)
        ]

    def random_feeds(self, batch: int, generator: np.random.Generator) -> dict[str, Feed]:
        """Return random tokens without padding, and with some in every row."""
        longest = min(CHECKED_TOKENS + 2 * batch, self.spec.max_length)
        tokens = np.setdiff1d(np.arange(self.tokenizer.get_vocab_size()), [self.spec.pad_id])
        rows = generator.choice(tokens, (batch, longest)).astype(np.int64)
        lengths = [max(1, longest - 2 - number % (longest - 1)) for number in range(batch)]
        shorter = [row[:length] for row, length in zip(rows, lengths, strict=True)]
        feeds = {"random": self.collate(list(rows)), "padded": _padded(self.spec, shorter, longest)}
        if batch == 1:  # what a network does differently from some length on must show
            text = generator.choice(tokens, min(LONG_TEXT, self.spec.max_length)).astype(np.int64)
            feeds["long"] = self.collate([text])
        return feeds


def _prepared(encoded: Any) -> Prepared:
    if not encoded.ids:
        raise DecodeError("the text has no tokens")
    return Prepared(np.array(encoded.ids, np.int64), len(encoded.ids), bool(encoded.overflowing))


def _padded(spec: TextSpec, arrays: Sequence[NDArray[Any]], length: int) -> Feed:
    ids = np.full((len(arrays), length), spec.pad_id, np.int64)
    mask = np.zeros_like(ids)
    for row, array in enumerate(arrays):
        ids[row, : len(array)], mask[row, : len(array)] = array, 1
    return dict(zip(spec.inputs, (ids, mask), strict=True))


def _text(content: Any) -> str:
    if isinstance(content, bytes):
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DecodeError(f"not UTF-8: {error.reason} at byte {error.start}") from error
    if not isinstance(content, str):
        raise DecodeError(f"a {type(content).__name__}; expected a text")
    if not content.isascii() and any("\ud800" <= letter <= "\udfff" for letter in content):
        raise DecodeError("half of a surrogate pair, or a byte that is not UTF-8: no character")
    return content


def _tokenizer(spec: TextSpec) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise MissingPackageError(
            "texts need the package tokenizers, which is not installed: pip install tokenizers"
        ) from error
    try:
        tokenizer = Tokenizer.from_str(spec.tokenizer)
    except Exception as error:  # the library's own errors have no class of their own
        raise InputError(f"the tokenizers library cannot read this tokeniser: {error}") from error
    special = tokenizer.num_special_tokens_to_add(False)
    if spec.max_length <= special:
        raise InputError(f"max_length={spec.max_length} leaves no room beside {special} special tokens")
    tokenizer.no_padding()
    tokenizer.enable_truncation(spec.max_length)
    return tokenizer
