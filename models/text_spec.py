"""Preprocessing of texts: a tokeniser, whose file travels with its graph, and a longest length."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from ..errors import InputError
from .input_overrides import InputOverrides

TOKENIZER_FILE = "tokenizer.json"
SHORTEST = 4
"""Batches are padded to at least as many tokens: of fewer, some networks compute sizes in another way."""


@dataclass(frozen=True)
class TextSpec:
    """Preprocessing of a text encoder: tokenise, truncate, pad to the longest text of the batch.

    Parameters
    ----------
    tokenizer : str
        Content of a ``tokenizer.json``, as the `tokenizers` library writes it; :meth:`from_file` reads one.
    max_length : int
        Tokens of the longest text, special tokens included; a longer one is truncated, which is counted.
    inputs : (str, str)
        Names of the network's arguments for token ids and attention mask, int64 ``(batch, tokens)`` both.
    pad_id : int
        Token that fills the rows of shorter texts, where the mask is 0.

    Examples
    --------
    >>> TextSpec('{"model": {}}', max_length=128).to_json()["max_length"]
    128
    """

    kind: ClassVar[str] = "text"

    tokenizer: str = field(repr=False)
    max_length: int
    inputs: tuple[str, str] = ("input_ids", "attention_mask")
    pad_id: int = 0

    def __post_init__(self) -> None:
        """Refuse what is no tokeniser, and lengths that leave no room for a token."""
        object.__setattr__(self, "inputs", tuple(self.inputs))
        if len(self.inputs) != 2 or not all(isinstance(name, str) and name.isidentifier() for name in self.inputs):
            raise InputError(f"inputs={self.inputs}: expected the names of two arguments: token ids, attention mask")
        if not isinstance(self.max_length, int) or self.max_length <= SHORTEST or self.pad_id < 0:
            raise InputError(
                f"max_length={self.max_length} and pad_id={self.pad_id}: expected more than {SHORTEST}, and an id"
            )
        try:
            is_tokenizer = "model" in json.loads(self.tokenizer)
        except (ValueError, TypeError):
            is_tokenizer = False
        if not is_tokenizer:
            raise InputError("tokenizer: expected the content of a tokenizer.json, as the tokenizers library writes it")

    @classmethod
    def from_file(cls, path: str | Path, max_length: int, **options: Any) -> TextSpec:
        """Read a ``tokenizer.json``.

        Parameters
        ----------
        path : path
        max_length : int
        **options
            ``inputs``, ``pad_id``.
        """
        return cls(Path(path).read_text(encoding="utf-8"), max_length, **options)

    def override(self, changes: InputOverrides) -> TextSpec:
        """Return a copy with the user's changes; texts can only be made shorter."""
        changes.require_only("max_length", kind=self.kind)
        if changes.max_length is None:
            return self
        if changes.max_length > self.max_length:
            raise InputError(f"max_length={changes.max_length}: this backbone takes at most {self.max_length} tokens")
        return replace(self, max_length=changes.max_length)

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary with the tokeniser's SHA-256 in its place."""
        fields = {"max_length": self.max_length, "inputs": list(self.inputs), "pad_id": self.pad_id}
        digest = hashlib.sha256(self.tokenizer.encode()).hexdigest()
        return {"kind": self.kind, "files": {TOKENIZER_FILE: digest}, **fields}

    def files(self) -> dict[str, bytes]:
        """Return what must travel with the graph: the tokeniser."""
        return {TOKENIZER_FILE: self.tokenizer.encode()}
