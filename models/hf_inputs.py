"""The input that a transformers model expects, read from the files in the folder of its weights."""

from __future__ import annotations

from typing import Any

from ..errors import InputError
from .hf_files import find_file, read_json, refuse_code
from .image_spec import FitMode, ImageSpec
from .text_spec import TextSpec

IMAGE_CONFIG = "preprocessor_config.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
"""Pillow's numbers of its filters."""
UNSUPPORTED_STEPS = ("do_flip_channel_order", "rescale_offset", "include_top", "do_thumbnail", "do_pad")
"""Steps of some image processors that an input specification cannot express."""
TOKENIZER_FILES = (
    *("tokenizer.json", "vocab.txt", "vocab.json", "vocab.model"),
    *("tokenizer.model", "spiece.model", "spm.model", "sentencepiece.bpe.model"),
)
DEFAULT_IMAGE_SIDE = 224
DEFAULT_MAX_TOKENS = 512
"""Maximum length of a text where neither tokeniser nor model states it."""
UNLIMITED_TOKENS = 1_000_000
"""Lengths from here on mean that there is no maximum."""
SQUASHED_CONVNEXT_SIDE = 384
"""ConvNeXt enlarges smaller images before it crops, and squashes images of this size and larger."""

Geometry = tuple[tuple[int, int], int, FitMode]
"""Height and width of the input, the size before the crop, and how an image is fitted to it."""


def image_spec(name: str, config: Any) -> tuple[ImageSpec, tuple[str, ...]]:
    """Translate ``preprocessor_config.json`` into an input specification, and list the fields that it does not state.

    For these the specification has provisional values. `name` is a folder, or an ID of the hub. Raise an InputError if
    the file asks for steps that topwork does not reproduce.
    """
    fields = read_json(name, IMAGE_CONFIG)
    if fields is None:
        return provisional_image_spec(config), ("mean", "std")
    check_steps(name, fields)
    input_size, resize, fit = read_geometry(fields, config)
    mean, std = read_normalisation(fields)
    interpolation = FILTERS.get(fields.get("resample", -1))
    stated = {"interpolation": interpolation, "mean": mean, "std": std}
    spec = ImageSpec(
        size=input_size,
        resize=resize,
        fit=fit,
        interpolation=interpolation or "bilinear",
        mean=mean or (0.0,) * 3,
        std=std or (1.0,) * 3,
    )
    return spec, tuple(field for field, value in stated.items() if not value)


def provisional_image_spec(config: Any) -> ImageSpec:
    """Return a specification with the size that the model's own configuration states."""
    side = getattr(config, "image_size", None) or DEFAULT_IMAGE_SIDE
    if not isinstance(side, (list, tuple)):
        return ImageSpec(size=(side, side), resize=side)
    height, width = side
    return ImageSpec(size=(height, width), resize=min(height, width))


def check_steps(name: str, fields: dict[str, Any]) -> None:
    """Raise an InputError if an image processor does what an input specification cannot express."""
    unsupported = [step for step in UNSUPPORTED_STEPS if fields.get(step)]
    if fields.get("do_resize") is False:
        unsupported.append("do_resize=false")
    if unsupported:
        raise InputError(
            f"hf:{name} prepares its images by {', '.join(unsupported)}, which topwork does not reproduce; "
            "pass input_spec=ImageSpec(…) if you know better"
        )


def read_geometry(fields: dict[str, Any], config: Any) -> Geometry:
    """Return how an image is resized and cropped."""
    size = modernise_size(fields.get("size"), config)
    if str(fields.get("image_processor_type")).startswith("Levit"):
        size = {"shortest_edge": int(256 / 224 * size["shortest_edge"])}  # Levit's own rule, which no file states
    crop = fields.get("crop_size") if fields.get("do_center_crop") else None
    if "height" in size:
        return resize_both_sides(size["height"], size["width"], crop)
    return resize_shorter_edge(size["shortest_edge"], crop, fields.get("crop_pct"))


def modernise_size(size: Any, config: Any) -> dict[str, int]:
    """Return the size in its newer form; older files have a number, which is the shorter edge."""
    if isinstance(size, int):
        return {"shortest_edge": size}
    if not size:
        return {"shortest_edge": getattr(config, "image_size", DEFAULT_IMAGE_SIDE)}
    if "shortest_edge" not in size and not {"height", "width"} <= set(size):
        raise InputError(f"size {size} of {IMAGE_CONFIG}: expected shortest_edge, or height and width")
    return dict(size)


def resize_both_sides(height: int, width: int, crop: Any) -> Geometry:
    """Return the geometry of an image that is resized to two sides."""
    if crop is None:
        return (height, width), min(height, width), "squash"
    input_size = _pair(crop)
    return input_size, round(min(input_size) * height / input_size[0]), "squash"


def resize_shorter_edge(edge: int, crop: Any, crop_pct: float | None) -> Geometry:
    """Return the geometry of an image whose shorter edge is resized."""
    if crop_pct:
        if edge < SQUASHED_CONVNEXT_SIDE:
            return (edge, edge), int(edge / crop_pct), "shorter"
        if crop is None:
            return (edge, edge), edge, "squash"
    input_size = (edge, edge) if crop is None else _pair(crop)
    return input_size, edge, "shorter"


def _pair(size: Any) -> tuple[int, int]:
    if isinstance(size, int):
        return size, size
    return size["height"], size["width"]


def read_normalisation(fields: dict[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation for pixels from 0 to 1, whatever the file scales them to."""
    mean = fields.get("image_mean") or []
    std = fields.get("image_std") or []
    if not fields.get("do_normalize", True):
        mean = [0.0] * 3
        std = [1.0] * 3
    scale = 255.0
    if fields.get("do_rescale", True):
        scale = 255 * fields.get("rescale_factor", 1 / 255)
    return tuple(value / scale for value in mean), tuple(value / scale for value in std)


def text_spec(name: str, module: Any, config: Any, *, max_length: int | None = None) -> TextSpec:
    """Return the tokeniser of a text model, as the tokenizers library runs it, and the maximum length.

    A `max_length` that the model's makers state replaces that of the tokeniser. Raise an InputError if there is no such
    tokeniser, or it does not fit the model.
    """
    tokenizer, content = load_tokenizer_files(name)
    check_vocabulary(name, len(tokenizer), config)
    limits = [max_length or tokenizer.model_max_length, count_positions(module, config)]
    known = [limit for limit in limits if limit is not None and limit < UNLIMITED_TOKENS]
    pad_ids = [token for token in (tokenizer.pad_token_id, tokenizer.eos_token_id, 0) if token is not None]
    return TextSpec(content, min(known, default=DEFAULT_MAX_TOKENS), pad_id=pad_ids[0])


def check_vocabulary(name: str, n_tokens: int, config: Any) -> None:
    """Raise an InputError if a tokeniser yields tokens that the model does not have."""
    vocabulary = getattr(config, "vocab_size", None)
    if vocabulary is not None and n_tokens > vocabulary:
        raise InputError(f"the tokeniser of hf:{name} has {n_tokens} tokens, the model {vocabulary}")


def load_tokenizer_files(name: str) -> tuple[Any, str]:
    """Return transformers' tokeniser, and the content of its ``tokenizer.json``."""
    from transformers import AutoTokenizer

    try:
        if not any(find_file(name, file) for file in TOKENIZER_FILES):  # transformers would make up an empty one
            raise OSError(f"it has none of {', '.join(TOKENIZER_FILES)}")
        refuse_code(name, TOKENIZER_CONFIG)
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        backend = tokenizer.backend_tokenizer
        if tokenizer.truncation_side == "left":
            backend.enable_truncation(DEFAULT_MAX_TOKENS, direction="left")
        return tokenizer, backend.to_str()
    except Exception as error:
        raise InputError(
            f"hf:{name} has no tokeniser that the tokenizers library can run ({error}); pass "
            "input_spec=TextSpec.from_file('tokenizer.json', max_length=…)"
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
