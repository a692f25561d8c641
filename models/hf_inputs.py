"""The text that a transformers model expects, read from the files in the folder of its weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..errors import InputError, reason
from .hf_files import find_file, refuse_code
from .input_spec import InputSpec
from .text_spec import TextSpec

TOKENIZER_CONFIG = "tokenizer_config.json"
TOKENIZER_FILES = (
    *("tokenizer.json", "vocab.txt", "vocab.json", "vocab.model"),
    *("tokenizer.model", "spiece.model", "spm.model", "sentencepiece.bpe.model"),
)
DEFAULT_MAX_TOKENS = 512
"""Maximum length of a text where neither tokeniser nor model states it."""
FULL_LENGTH_INPUTS = {
    **dict.fromkeys(("siglip_text_model", "siglip2_text_model", "fnet"), ("input_ids",)),
    **dict.fromkeys(("convbert", "mobilebert", "nystromformer"), ("input_ids", "attention_mask")),
}
"""Inputs of the models that were trained on texts padded to the full length, by type.

Some of them take no mask. The others convolve or average neighbouring tokens, padding included, so that the features of
a text would change with the padding of its batch in spite of the mask.
"""
UNSUPPORTED_MODELS = {
    "funnel": "it averages neighbouring tokens, padding included, and takes the number of tokens as fixed",
    **dict.fromkeys(
        ("longformer", "led"), "it chooses its operations by the values of the mask, which an ONNX graph cannot"
    ),
}
"""Why a text model cannot be run, by type."""
UNLIMITED_TOKENS = 1_000_000
"""Lengths from here on mean that there is no maximum."""


def text_spec(
    name: str,
    module: Any,
    config: Any,
    *,
    max_length: int | None = None,
    full_length_inputs: tuple[str, ...] = (),
) -> TextSpec:
    """Return the tokeniser of a text model, as the tokenizers library runs it, and the maximum length.

    A `max_length` that the model's makers state replaces that of the tokeniser. With `full_length_inputs`, as in
    :data:`FULL_LENGTH_INPUTS`, all texts are padded to that length. Raise an InputError if there is no such tokeniser,
    or it does not fit the model.
    """
    tokenizer, content = load_tokenizer_files(name, full_length_inputs)
    check_vocabulary(name, len(tokenizer), config)
    limits = [max_length or tokenizer.model_max_length, count_positions(module, config)]
    known = [limit for limit in limits if limit is not None and limit < UNLIMITED_TOKENS]
    pad_ids = [token for token in (tokenizer.pad_token_id, tokenizer.eos_token_id, 0) if token is not None]
    spec = TextSpec(content, min(known, default=DEFAULT_MAX_TOKENS), pad_id=pad_ids[0])
    if full_length_inputs:
        return replace(spec, inputs=full_length_inputs, padding="max_length")
    return spec


def require_full_length(name: str, inputs: tuple[str, ...], spec: InputSpec) -> None:
    """Raise an InputError if texts of a model with :data:`FULL_LENGTH_INPUTS` are not padded to its full length."""
    is_full_length = isinstance(spec, TextSpec) and spec.padding == "max_length"
    if not is_full_length or len(spec.graph_inputs) != len(inputs):
        raise InputError(
            f"hf:{name} was trained on texts padded to its full length; expected "
            f"TextSpec(…, inputs={inputs}, padding='max_length')"
        )


def check_vocabulary(name: str, n_tokens: int, config: Any) -> None:
    """Raise an InputError if a tokeniser yields tokens that the model does not have."""
    vocabulary = getattr(config, "vocab_size", None)
    if vocabulary is not None and n_tokens > vocabulary:
        raise InputError(f"the tokeniser of hf:{name} has {n_tokens} tokens, the model {vocabulary}")


def load_tokenizer_files(name: str, full_length_inputs: tuple[str, ...]) -> tuple[Any, str]:
    """Return transformers' tokeniser, and the content of its ``tokenizer.json``.

    With `full_length_inputs` it states the side of the padding.
    """
    from transformers import AutoTokenizer

    try:
        if not any(find_file(name, file) for file in TOKENIZER_FILES):  # transformers would make up an empty one
            raise OSError(f"it has none of {', '.join(TOKENIZER_FILES)}")
        refuse_code(name, TOKENIZER_CONFIG)
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        backend = tokenizer.backend_tokenizer
        if tokenizer.truncation_side == "left":
            backend.enable_truncation(DEFAULT_MAX_TOKENS, direction="left")
        if full_length_inputs:
            backend.enable_padding(direction=tokenizer.padding_side)
        return tokenizer, backend.to_str()
    except Exception as error:
        padding = f", inputs={full_length_inputs}, padding='max_length', pad_id=…" if full_length_inputs else ""
        raise InputError(
            f"hf:{name} has no tokeniser that the tokenizers library can run ({reason(error)}); pass "
            f"input_spec=TextSpec.from_file('tokenizer.json', max_length=…{padding})"
        ) from error


def count_positions(module: Any, config: Any) -> int | None:
    """Return the number of tokens that there are positions for; some models skip those up to the padding's id."""
    count = getattr(config, "max_position_embeddings", None)
    if not count or count < 0:
        return None
    tables = [child for child_name, child in module.named_modules() if child_name.endswith("position_embeddings")]
    padding_ids = [getattr(table, "padding_idx", None) for table in tables]
    skipped = max((index + 1 for index in padding_ids if index is not None), default=0)
    return int(count) - skipped
