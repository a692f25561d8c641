"""What a transformers model eats, read from the files beside its weights."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from typing import Any

from ..errors import InputError
from .image_spec import ImageSpec
from .text_spec import TextSpec

FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
"""Pillow's numbers of its filters."""

STRANGE_STEPS = ("do_flip_channel_order", "rescale_offset", "include_top", "do_thumbnail", "do_pad")
"""Steps of some image processors that an input specification cannot say."""

TOKENIZER_FILES = (
    *("tokenizer.json", "vocab.txt", "vocab.json", "vocab.model"),
    *("tokenizer.model", "spiece.model", "spm.model", "sentencepiece.bpe.model"),
)
LONGEST = 512
"""Tokens of the longest text where neither tokeniser nor network says."""


def image_spec(name: str, config: Any) -> tuple[ImageSpec, tuple[str, ...]]:
    """Translate ``preprocessor_config.json`` into an input specification, and say what it does not tell."""
    fields = _json(name, "preprocessor_config.json")
    if fields is None:
        side = getattr(config, "image_size", None) or 224
        height, width = side if isinstance(side, (list, tuple)) else (side, side)
        return ImageSpec(size=(height, width), resize=min(height, width)), ("mean", "std")
    strange = [step for step in STRANGE_STEPS if fields.get(step)]
    strange += ["do_resize=false"] if fields.get("do_resize") is False else []
    if strange:
        raise InputError(
            f"hf:{name} prepares its images by {', '.join(strange)}, which topwork does not reproduce; "
            "pass input_spec=ImageSpec(…) if you know better"
        )
    size = _size(fields.get("size"), config)
    if str(fields.get("image_processor_type")).startswith("Levit"):
        size = {"shortest_edge": int(256 / 224 * size["shortest_edge"])}  # this one's own rule, which no file states
    crop = fields.get("crop_size") if fields.get("do_center_crop") else None
    final, resize, fit = _geometry(size, crop, fields.get("crop_pct"))
    mean, std = _normalisation(fields)
    stated = {"interpolation": fields.get("resample") in FILTERS, "mean": mean, "std": std}
    unknown = tuple(name for name, value in stated.items() if not value)
    interpolation = FILTERS.get(fields.get("resample", -1), "bilinear")
    return ImageSpec(final, resize, fit, interpolation, mean or (0.0,) * 3, std or (1.0,) * 3), unknown


def _size(size: Any, config: Any) -> dict[str, int]:
    """Return the size in its newer form; older files have a number, which is the shorter edge."""
    if isinstance(size, int):
        return {"shortest_edge": size}
    size = size or {"shortest_edge": getattr(config, "image_size", 224)}
    if "shortest_edge" not in size and not {"height", "width"} <= set(size):
        raise InputError(f"size {size} of preprocessor_config.json: expected shortest_edge, or height and width")
    return dict(size)


def _geometry(size: dict[str, int], crop: Any, crop_pct: float | None) -> tuple[tuple[int, int], int, Any]:
    """Return the final size, the size before the crop, and how proportions are treated."""
    if "height" in size:
        height, width = size["height"], size["width"]
        if crop is None:
            return (height, width), min(height, width), "squash"
        final = _pair(crop)
        return final, round(min(final) * height / final[0]), "squash"
    edge = size["shortest_edge"]
    if crop_pct and edge < 384:  # ConvNeXt enlarges first, and from 384 pixels on squashes
        return (edge, edge), int(edge / crop_pct), "shorter"
    if crop is None:
        return (edge, edge), edge, "squash" if crop_pct else "shorter"
    return _pair(crop), edge, "shorter"


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size["height"], size["width"])


def _normalisation(fields: dict[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation for pixels from 0 to 1, whatever the file scales them to."""
    mean, std = fields.get("image_mean") or [], fields.get("image_std") or []
    if not fields.get("do_normalize", True):
        mean, std = [0.0] * 3, [1.0] * 3
    scale = 255 * fields.get("rescale_factor", 1 / 255) if fields.get("do_rescale", True) else 255.0
    return tuple(m / scale for m in mean), tuple(s / scale for s in std)


def text_spec(name: str, module: Any, config: Any) -> TextSpec:
    """Return the tokeniser of a text model, as the tokenizers library runs it, and the longest text."""
    from transformers import AutoTokenizer

    try:
        if not any(_file(name, file) for file in TOKENIZER_FILES):  # transformers would make up an empty one
            raise OSError(f"it has none of {', '.join(TOKENIZER_FILES)}")
        tokenizer = AutoTokenizer.from_pretrained(name)
        content = tokenizer.backend_tokenizer.to_str()
    except Exception as error:
        raise InputError(
            f"hf:{name} has no tokeniser that the tokenizers library can run ({error}); pass "
            "input_spec=TextSpec.from_file('tokenizer.json', max_length=…)"
        ) from error
    if (_json(name, "sentence_bert_config.json") or {}).get("do_lower_case"):
        raise InputError(f"hf:{name} makes its texts lower case before its tokeniser, which topwork does not")
    vocabulary = getattr(config, "vocab_size", None)
    if vocabulary is not None and len(tokenizer) > vocabulary:
        raise InputError(f"the tokeniser of hf:{name} has {len(tokenizer)} tokens, the network {vocabulary}")
    first = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    pad = next(token for token in first if token is not None)
    return TextSpec(content, _longest(name, tokenizer, module, config), pad_id=pad)


def _longest(name: str, tokenizer: Any, module: Any, config: Any) -> int:
    sentence = (_json(name, "sentence_bert_config.json") or {}).get("max_seq_length")
    bounds = [sentence, tokenizer.model_max_length, _positions(module, config)]
    known = [bound for bound in bounds if bound is not None and bound < 1_000_000]
    return min(known, default=LONGEST)


def _positions(module: Any, config: Any) -> int | None:
    """Return for how many tokens there are positions; some networks leave out those up to the padding's id."""
    count = getattr(config, "max_position_embeddings", None)
    if not count or count < 0:
        return None
    tables = [child for child_name, child in module.named_modules() if child_name.endswith("position_embeddings")]
    skipped = max((t.padding_idx + 1 for t in tables if getattr(t, "padding_idx", None) is not None), default=0)
    return int(count) - skipped


def sentence_pooling(name: str) -> str:
    """Return how a sentence-transformers model pools, such as "mean" or "cls+max"; "" for any other model."""
    fields = _json(name, "1_Pooling/config.json") or {}
    flags = [flag for flag, value in fields.items() if value is True and flag.startswith("pooling_mode_")]
    return "+".join(re.sub("^pooling_mode_|_tokens?$", "", flag) for flag in flags)


def _json(name: str, file: str) -> dict[str, Any] | None:
    """Read a file of a local folder or of the hub; None if there is none."""
    path = _file(name, file)
    if path is None:
        return None
    fields: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return fields


def _file(name: str, file: str) -> Path | None:
    """Return where a file of a local folder or of the hub lies; None if there is none."""
    if Path(name).is_dir():
        return path if (path := Path(name) / file).is_file() else None
    from transformers.utils import cached_file

    with contextlib.suppress(OSError):
        found = cached_file(name, file, _raise_exceptions_for_missing_entries=False)
        return None if found is None else Path(found)
    return None
