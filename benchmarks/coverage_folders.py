"""Make small transformers models with random weights: local folders in the format of a hub download."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from coverage_architectures import ARCHITECTURES, TEXT, WORDS, Architecture

SEED = 0
SPARE = 8
"""Tokens that are left for those that transformers adds to the vocabulary of some architectures."""


def make_folder(name: str, folder: Path) -> tuple[str, dict[str, Any]]:
    """Save a model with what stands beside its weights.

    Returns
    -------
    str, dict
        Name and ``model_args`` for :func:`topwork.load_backbone`.
    """
    import torch

    architecture = ARCHITECTURES[name]
    torch.manual_seed(SEED)
    model = model_of(architecture)
    model.save_pretrained(folder)
    if name in TEXT:
        save_tokenizer(model.config.get_text_config(), folder)
    else:
        save_preprocessor(architecture.size, folder)
    return f"hf:{folder}", {"tower": architecture.use} if architecture.use in ("vision", "text") else {}


def model_of(architecture: Architecture) -> Any:
    """Create the model that a checkpoint of this architecture would be saved from."""
    import transformers
    from transformers.models.auto import modeling_auto as auto

    config = getattr(transformers, architecture.config)(**architecture.arguments)
    mappings = [auto.MODEL_MAPPING]
    if architecture.use in ("classifier", "teacher"):
        mappings = [auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING, auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING]
    kinds = next(mapping[type(config)] for mapping in mappings if type(config) in mapping)
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    return kinds[-1 if architecture.use == "teacher" else 0](config)


def save_preprocessor(size: int, folder: Path) -> None:
    fields = {
        "image_processor_type": "ViTImageProcessor",
        "size": {"height": size, "width": size},
        "do_resize": True,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.48, 0.46, 0.41],
        "image_std": [0.23, 0.22, 0.25],
        "resample": 3,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(fields), encoding="utf-8")


def save_tokenizer(config: Any, folder: Path) -> None:
    """Save a tokeniser whose padding has the id that the network expects.

    It is one of whole words; or one of bytes, where transformers makes that of every tokeniser of the architecture.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import AutoTokenizer

    words = [f"word{number}" for number in range(WORDS - SPARE)]
    vocabulary = number_tokens(words, config)
    of_words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    of_words.pre_tokenizer = pre_tokenizers.Whitespace()
    save_fast_tokenizer(of_words, folder)
    if not AutoTokenizer.from_pretrained(folder)("word1 word2")["input_ids"]:
        letters = [chr(code) for code in range(ord("!"), ord("!") + WORDS - SPARE)]
        of_bytes = Tokenizer(models.BPE(number_tokens(letters, config), []))
        of_bytes.pre_tokenizer = pre_tokenizers.ByteLevel()
        save_fast_tokenizer(of_bytes, folder)


def number_tokens(tokens: list[str], config: Any) -> dict[str, int]:
    """Return the ids of tokens, of which two give way to those for padding and unknown text."""
    tokens[getattr(config, "pad_token_id", None) or 0] = "[PAD]"
    tokens[-1] = "[UNK]"
    return {token: number for number, token in enumerate(tokens)}


def save_fast_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Save a tokeniser as transformers does."""
    from transformers import PreTrainedTokenizerFast

    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", model_max_length=48
    )
    fast.save_pretrained(folder)
