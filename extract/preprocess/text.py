"""Text input: tokenised by the tokenizers library alone, padded to the longest text of its batch or the full length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import DecodeError, InputError, MissingPackageError, reason
from ...models.text_spec import MIN_BATCH_TOKENS, TextSpec, find_padding_side
from .preprocessor import Feed, Prepared, prepare_each

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_RANDOM_TOKENS = 8
"""Random inputs are longer than this by twice their number, so that no length is the same in all checks."""
MAX_RANDOM_TOKENS = 512
"""Length of the longest random text."""
SYNTHETIC_LETTERS = "abcdefghijklmnopqrstuvwxyzABCXYZ0123456789.,-éß字"
MAX_SYNTHETIC_WORD_LETTERS = 8
SYNTHETIC_WORDS_PER_TEXT = 5
"""Words by which each synthetic text is longer than the one before."""


class TextPreprocessor:
    """Texts, or the bytes of UTF-8 files, to token ids."""

    items_per_call = 64

    def __init__(self, spec: TextSpec) -> None:
        self.spec = spec
        self.is_full_length = spec.padding == "max_length"
        self.pads_left = self.is_full_length and find_padding_side(spec.tokenizer) == "left"
        self.tokenizer = load_tokenizer(spec)

    def prepare(self, content: Any) -> Prepared:
        """Return the token ids int64 ``(tokens,)``, special tokens included, at most as many as the model takes."""
        text = self.spec.prompt + decode_text(content)
        try:
            encoded = self.tokenizer.encode(text)
        except Exception as error:  # the library's own errors have no class of their own
            raise DecodeError(f"the tokeniser cannot take this text: {reason(error)}") from error
        return self._prepared(encoded)

    def prepare_all(self, contents: Sequence[Any]) -> list[Prepared | DecodeError]:
        """Return for each item what :meth:`prepare` returns or raises; all are tokenised in one call."""
        try:
            texts = [self.spec.prompt + decode_text(content) for content in contents]
            return [self._prepared(encoded) for encoded in self.tokenizer.encode_batch_fast(texts)]
        except Exception:  # of one of them
            return prepare_each(self.prepare, contents)

    def collate(self, arrays: Sequence[NDArray[Any]]) -> Feed:
        """Return token ids and, if the model takes one, attention mask, int64 ``(batch, tokens)``."""
        longest = max(len(array) for array in arrays)
        return self._pad(arrays, max(MIN_BATCH_TOKENS, longest))

    def synthetic(self, count: int, generator: np.random.Generator) -> list[str]:
        """Return words of random letters, each text longer than the one before."""
        letters = np.array([*SYNTHETIC_LETTERS])
        texts = []
        for number in range(1, count + 1):
            sizes = generator.integers(1, MAX_SYNTHETIC_WORD_LETTERS + 1, SYNTHETIC_WORDS_PER_TEXT * number)
            words = ["".join(generator.choice(letters, size)) for size in sizes]
            texts.append(" ".join(words))
        return texts

    def random_feeds(self, batch: int, generator: np.random.Generator) -> dict[str, Feed]:
        """Return random tokens: without padding, with some in every row, and for a batch of one a long text."""
        longest = min(MIN_RANDOM_TOKENS + 2 * batch, self.spec.max_length)
        tokens = np.setdiff1d(np.arange(self.tokenizer.get_vocab_size()), [self.spec.pad_id])
        rows = generator.choice(tokens, (batch, longest)).astype(np.int64)
        shorter = []
        for number, row in enumerate(rows):
            length = max(1, longest - 2 - number % (longest - 1))
            shorter.append(row[:length])
        feeds = {"random": self.collate(list(rows)), "padded": self._pad(shorter, longest)}
        if batch == 1:  # some models compute differently from a certain length on
            length = min(MAX_RANDOM_TOKENS, self.spec.max_length)
            text = generator.choice(tokens, length).astype(np.int64)
            feeds["long"] = self.collate([text])
        return feeds

    def _pad(self, arrays: Sequence[NDArray[Any]], length: int) -> Feed:
        """Return token ids and attention mask of rows of this length, or of the full length."""
        if self.is_full_length:
            length = self.spec.max_length
        ids = np.full((len(arrays), length), self.spec.pad_id, np.int64)
        mask = np.zeros_like(ids)
        for row, array in enumerate(arrays):
            start = length - len(array) if self.pads_left else 0
            tokens = slice(start, start + len(array))
            ids[row, tokens] = array
            mask[row, tokens] = 1
        return dict(zip(self.spec.inputs, (ids, mask), strict=False))

    def _prepared(self, encoded: Any) -> Prepared:
        """Return the tokens of an encoded text; its length is that of its row in a batch."""
        if not encoded.ids:
            raise DecodeError("the text has no tokens")
        ids = np.array(encoded.ids, np.int64)
        length = self.spec.max_length if self.is_full_length else len(ids)
        return Prepared(ids, length=length, truncated=bool(encoded.overflowing))


def decode_text(content: Any) -> str:
    """Return the text of an item, a string or the content of a UTF-8 file.

    Raise a DecodeError if it is neither, is blank, or holds what is no character.
    """
    if isinstance(content, bytes):
        try:
            content = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DecodeError(f"not UTF-8: {error.reason} at byte {error.start}") from error
    if not isinstance(content, str):
        raise DecodeError(f"a {type(content).__name__}; expected a text")
    if not content.strip():
        raise DecodeError("the text is blank")
    if not content.isascii() and any("\ud800" <= letter <= "\udfff" for letter in content):
        raise DecodeError("half of a surrogate pair, or a byte that is not UTF-8: no character")
    return content


def load_tokenizer(spec: TextSpec) -> Any:
    """Return the tokeniser of a specification, without padding, truncating at the maximum length.

    Raise a MissingPackageError if the package tokenizers is not installed, and an InputError if it cannot read this
    tokeniser, or the maximum length leaves no room for a token.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise MissingPackageError(
            "text input needs the package tokenizers, which is not installed: pip install tokenizers"
        ) from error
    try:
        tokenizer = Tokenizer.from_str(spec.tokenizer)
    except Exception as error:  # the library's own errors have no class of their own
        raise InputError(f"the tokenizers library cannot read this tokeniser: {error}") from error
    special = tokenizer.num_special_tokens_to_add(False)
    if spec.max_length <= special:
        raise InputError(f"max_length={spec.max_length} leaves no room beside {special} special tokens")
    direction = (tokenizer.truncation or {}).get("direction", "right")
    tokenizer.no_padding()
    tokenizer.enable_truncation(spec.max_length, direction=direction)
    return tokenizer
