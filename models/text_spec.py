"""Text input: a tokeniser, whose file travels with its graph, and a maximum length."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from ..errors import InputError
from .input_spec import GraphInput, InputOverrides, InputSpec

TOKENIZER_FILE = "tokenizer.json"
PADDINGS = ("longest", "max_length")
MIN_BATCH_TOKENS = 4
"""Batches are padded to at least as many tokens: of fewer, some models compute sizes in another way."""


@dataclass(frozen=True)
class TextSpec(InputSpec):
    """Preprocessing of a text encoder: tokenise, truncate, pad to the longest text of the batch or to the full length.

    Parameters
    ----------
    tokenizer : str
        Content of a ``tokenizer.json``, as the `tokenizers` library writes it; :meth:`from_file` reads one.
    max_length : int
        Maximum number of tokens, special tokens included; a longer text is truncated, which is counted.
    inputs : (str, str) or (str,)
        Names of the model's arguments for token ids and attention mask, int64 ``(batch, tokens)`` both. With token ids
        alone every token counts, padding included.
    pad_id : int
        Token that fills the rows of shorter texts, where the mask is 0.
    prompt : str
        Put in front of every text.
    padding : {"longest", "max_length"}
        Whether texts are padded to the longest of their batch, or always to `max_length`. A model without an attention
        mask needs the latter, or the features of a text would change with its batch.

    Examples
    --------
    >>> TextSpec('{"model": {}}', max_length=128).to_json()["max_length"]
    128
    """

    kind: ClassVar[str] = "text"
    overrides: ClassVar[tuple[str, ...]] = ("max_length", "prompt")

    tokenizer: str = field(repr=False)
    max_length: int
    inputs: tuple[str, ...] = ("input_ids", "attention_mask")
    pad_id: int = 0
    prompt: str = ""
    padding: str = "longest"

    def __post_init__(self) -> None:
        """Refuse what is not a tokeniser, and lengths that leave no room for a token."""
        object.__setattr__(self, "inputs", tuple(self.inputs))
        check_inputs(self.inputs, self.padding)
        if not isinstance(self.max_length, int) or self.max_length <= MIN_BATCH_TOKENS:
            raise InputError(f"max_length={self.max_length}: expected an integer above {MIN_BATCH_TOKENS}")
        if not isinstance(self.prompt, str):
            raise InputError(f"prompt={self.prompt!r}: expected a text, put in front of every text")
        if self.pad_id < 0:
            raise InputError(f"pad_id={self.pad_id}: expected the id of a token, 0 or more")
        if not is_tokenizer(self.tokenizer):
            raise InputError("tokenizer: expected the content of a tokenizer.json, as the tokenizers library writes it")

    @classmethod
    def from_file(cls, path: str | Path, max_length: int, **options: Any) -> TextSpec:
        """Read a ``tokenizer.json``.

        Parameters
        ----------
        path : path
        max_length : int
        **options
            ``inputs``, ``pad_id``, ``prompt``, ``padding``.
        """
        return cls(Path(path).read_text(encoding="utf-8"), max_length, **options)

    @property
    def graph_inputs(self) -> tuple[GraphInput, ...]:
        """Token ids and, if the model takes one, attention mask, int64 ``(batch, tokens)``."""
        return tuple(GraphInput(name, "int64", ("batch", "sequence")) for name in self.inputs)

    @property
    def length_range(self) -> tuple[int, int]:
        """Smallest and largest number of tokens in a batch."""
        return MIN_BATCH_TOKENS, self.max_length

    @property
    def has_mask(self) -> bool:
        """Whether the model takes an attention mask."""
        return len(self.inputs) == 2

    @property
    def argument_names(self) -> tuple[str, ...]:
        """Names of the module's arguments for token ids and attention mask."""
        return self.inputs

    def override(self, changes: InputOverrides) -> TextSpec:
        """Return a copy with the user's changes; the maximum length can only be reduced."""
        changes.require_only(*self.overrides, kind=self.kind)
        spec = self
        if changes.prompt is not None:
            spec = replace(spec, prompt=changes.prompt)
        if changes.max_length is None:
            return spec
        if changes.max_length > self.max_length:
            raise InputError(f"max_length={changes.max_length}: this backbone takes at most {self.max_length} tokens")
        if changes.max_length < self.max_length and not self.has_mask:
            raise InputError(
                f"max_length={changes.max_length}: this backbone was trained on texts padded to {self.max_length} "
                f"tokens without a mask; other lengths change all features. Expected {self.max_length}"
            )
        return replace(spec, max_length=changes.max_length)

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary that holds the tokeniser's SHA-256 in place of the tokeniser."""
        fields: dict[str, Any] = {
            "kind": self.kind,
            "files": {TOKENIZER_FILE: hashlib.sha256(self.tokenizer.encode()).hexdigest()},
            "max_length": self.max_length,
            "inputs": list(self.inputs),
            "pad_id": self.pad_id,
        }
        if self.prompt:
            fields["prompt"] = self.prompt
        if self.padding != "longest":
            fields["padding"] = self.padding
        return fields

    @classmethod
    def from_json(cls, values: dict[str, Any], folder: Path) -> TextSpec:
        """Read the fields, and the tokeniser from its file."""
        fields = dict(values)
        digests = fields.pop("files")
        tokenizer = read_checked(folder / TOKENIZER_FILE, digests[TOKENIZER_FILE])
        return cls(tokenizer.decode(), **fields)

    def files(self) -> dict[str, bytes]:
        """Return the tokeniser, by the name of its file."""
        return {TOKENIZER_FILE: self.tokenizer.encode()}

    def serving_files(self) -> dict[str, bytes]:
        """Return the tokeniser with the prompt and the full length inside, for programs other than topwork."""
        tokenizer = self.tokenizer
        if self.prompt:
            step = {"type": "Prepend", "prepend": self.prompt}
            tokenizer = prepend_normalizer(tokenizer, step)
        if self.padding == "max_length":
            tokenizer = state_full_length(tokenizer, self.max_length, self.pad_id)
        return {TOKENIZER_FILE: tokenizer.encode()}

    def count_prompt_tokens(self) -> int:
        """Return the number of tokens before the text itself: those of the prompt, and special ones before it."""
        from tokenizers import Tokenizer

        if not self.prompt:
            return 0
        tokenizer = Tokenizer.from_str(self.tokenizer)
        tokenizer.no_padding()  # many files state a padding to a fixed length
        tokenizer.no_truncation()
        ids = tokenizer.encode(self.prompt).ids[: self.max_length]
        added = json.loads(self.tokenizer).get("added_tokens") or []
        special = {token["id"] for token in added if token.get("special")}
        return len(ids) - 1 if ids and ids[-1] in special else len(ids)


def check_inputs(inputs: tuple[str, ...], padding: str) -> None:
    """Raise an InputError if the inputs are not those of a text model, or its texts are padded in an unknown way."""
    are_names = all(isinstance(name, str) and name.isidentifier() for name in inputs)
    if not are_names or len(inputs) not in (1, 2):
        raise InputError(f"inputs={inputs}: expected the names of two arguments: token ids, attention mask")
    if padding not in PADDINGS:
        raise InputError(f"padding={padding!r}: expected one of {', '.join(PADDINGS)}")
    if len(inputs) == 1 and padding == "longest":
        raise InputError(
            f"inputs={inputs}: without an attention mask the features of a text would change with the padding "
            "of its batch; expected padding='max_length'"
        )


def is_tokenizer(content: str) -> bool:
    """Return whether a text is the content of a ``tokenizer.json``."""
    try:
        return "model" in json.loads(content)
    except (ValueError, TypeError):
        return False


def prepend_normalizer(tokenizer: str, step: dict[str, Any]) -> str:
    """Return the content of a ``tokenizer.json`` whose first step with a text is another one."""
    fields = json.loads(tokenizer)
    present = fields.get("normalizer")
    steps = [] if present is None else [present]
    if present is not None and present["type"] == "Sequence":
        steps = present["normalizers"]
    fields["normalizer"] = {"type": "Sequence", "normalizers": [step, *steps]}
    return json.dumps(fields, ensure_ascii=False)


def state_full_length(content: str, length: int, pad_id: int) -> str:
    """Return the content of a ``tokenizer.json`` that truncates and pads texts to a length."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(content)
    truncation = tokenizer.truncation or {}
    tokenizer.enable_truncation(length, direction=truncation.get("direction", "right"))
    tokenizer.enable_padding(
        direction=find_padding_side(content),
        pad_id=pad_id,
        pad_token=tokenizer.id_to_token(pad_id) or "",
        length=length,
    )
    stated: str = tokenizer.to_str()
    return stated


def find_padding_side(content: str) -> str:
    """Return the side at which a ``tokenizer.json`` pads texts, "left" or "right"; "right" if it states none."""
    padding = json.loads(content).get("padding") or {}
    side: str = padding.get("direction", "Right")
    return side.lower()


def add_lower_casing(tokenizer: str) -> str:
    """Return the content of a ``tokenizer.json`` that converts texts to lower case first, if it does not already."""
    normalizer = json.loads(tokenizer).get("normalizer") or {"type": "Sequence", "normalizers": []}
    steps = normalizer["normalizers"] if normalizer["type"] == "Sequence" else [normalizer]
    if any(step["type"] == "Lowercase" for step in steps):
        return tokenizer
    return prepend_normalizer(tokenizer, {"type": "Lowercase"})


def read_checked(path: Path, expected_digest: str) -> bytes:
    """Read a file that travels with its graph, and compare it with its SHA-256."""
    if not path.is_file():
        raise InputError(f"{path} is missing: the tokeniser travels with its graph. Copy the whole folder again.")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != expected_digest:
        raise InputError(f"{path} is not the file that the graph was made with. Copy the whole folder again.")
    return content
