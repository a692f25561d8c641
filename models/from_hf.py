"""``hf:ID`` and ``hf:FOLDER``: models of transformers for images, text and sound, with their own preprocessing."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import InputError, TopworkError, WeightsError, reason
from .hf_audio import SOUND_INPUTS, prepare_sounds
from .hf_files import CONFIG_FILE, reading, refuse_code, refuse_damaged, refuse_quantised
from .hf_images import image_spec
from .hf_inputs import FULL_LENGTH_INPUTS, UNSUPPORTED_MODELS, require_full_length, text_spec
from .input_spec import InputSpec
from .loader import BuiltModel
from .sentence_folder import SentenceFolder, build_encoder, load_module_weights, read_sentence_folder
from .text_spec import TextSpec, add_lower_casing
from .torchvision_operators import ensure_torchvision_operators
from .weights import read_state, strip_prefixes

CONFIG_OF_TOWER = {"vision": "vision_config", "audio": "audio_config", "text": "text_config"}
"""Configuration of each tower that a model may have; of several, the first is the default."""
TOWER_PREFIXES = {"pixel_values": "vision_model", "input_features": "audio_model", "input_ids": "text_model"}
"""What the names of weights begin with in a model of two towers, by the main input of the tower."""
ENCODER_CLASSES = {"vit_mae": "ViTModel"}
"""For models that serve pre-training alone the class that their authors load their weights into."""
ENCODERS_OF_DECODERS = (
    *("t5", "mt5", "umt5", "udop", "longt5", "prophetnet", "switch_transformers", "blenderbot", "blenderbot-small"),
    *("m2m_100", "pegasus", "pegasus_x", "marian"),
)
"""Models with a decoder of which sentence-transformers runs the encoder alone."""
CLASSIFIER_NAMES = ("classifier", "score", "head", "cls_classifier")
LAST_TOKEN_TOWERS = (
    *("clip_text_model", "clipseg_text_model", "owlvit_text_model", "owlv2_text_model", "metaclip_2_text_model"),
    *("groupvit_text_model", "xclip_text_model", "aimv2_text_model", "siglip_text_model", "siglip2_text_model"),
)
OWN_POOLINGS = {**dict.fromkeys(LAST_TOKEN_TOWERS, "last_token"), "fnet": "cls"}
"""How text models pool, by type: CLIP takes the token at which a text ends, SigLIP the last one, padding or not."""
LAYERS_OF_TOWERS = ("text_model.final_layer_norm", "vision_model.encoder")
"""Layers that yield the last hidden state of a tower with a projection."""
MAX_SHOWN_KEYS = 12
HUB_ARGUMENTS = {
    "revision",
    "code_revision",
    "subfolder",
    "cache_dir",
    "token",
    "trust_remote_code",
    "local_files_only",
}
VOLATILE_FIELDS = (
    "transformers_version",
    "architectures",
    "id2label",
    "label2id",
    "dtype",
    "torch_dtype",
    "_name_or_path",
)
"""Fields of a configuration that do not decide a feature."""


def build(name: str, *, pretrained: bool, model_args: dict[str, Any]) -> BuiltModel:
    """Make a transformers model.

    A checkpoint with a classifier keeps it; any other yields its last hidden state. Of a model with a tower for images
    or sounds and one for text ``model_args={"tower": "text"}`` chooses; the default is "vision" or "audio". Of an
    encoder and decoder the encoder is taken. Other arguments change the configuration.
    """
    ensure_torchvision_operators()
    refused = sorted(HUB_ARGUMENTS.intersection(model_args))
    if refused:
        raise InputError(f"model_args {', '.join(refused)} of hf:{name}: expected changes to the configuration alone")
    folder = read_sentence_folder(name)
    if folder is not None:
        return build_sentence_model(folder, pretrained=pretrained, model_args=model_args)
    options = dict(model_args)
    tower = options.pop("tower", None)
    config = choose_tower(name, read_config(name, options), tower)
    model_class = find_class_with_classifier(config) or find_encoder_class(config)
    module, config = make_module(name, model_class, config, pretrained=pretrained, model_args=model_args)
    classifier = find_classifier(module, model_class)
    if getattr(config, "is_encoder_decoder", False) and classifier is None:
        module = module.get_encoder()
    return describe(name, module.float(), config, classifier)


def build_sentence_model(folder: SentenceFolder, *, pretrained: bool, model_args: dict[str, Any]) -> BuiltModel:
    """Make the transformer of a sentence-transformers folder and the modules behind it, as one module."""
    name = folder.transformer
    config = read_config(name, {**folder.config_arguments, **model_args})
    model_class = find_encoder_class(config)
    transformer, config = make_module(name, model_class, config, pretrained=pretrained, model_args=model_args)
    if getattr(config, "is_encoder_decoder", False):
        if config.model_type not in ENCODERS_OF_DECODERS:
            raise InputError(
                f"sentence-transformers runs encoder and decoder of hf:{folder.name} ({config.model_type}), which "
                "topwork does not reproduce; expected an encoder"
            )
        transformer = transformer.get_encoder()
    check_input(name, transformer)
    encoder = build_encoder(folder, transformer.float(), pretrained)
    details = describe_configuration(transformer, config)
    details["arguments"] = {**details["arguments"], **folder.identify()}
    details["load_weights"] = functools.partial(fill_encoder, folder)
    details["pooling"] = folder.own_pooling
    details["prompts"] = folder.prompts
    details["fit_to_input"] = exclude_prompt
    try:
        spec = text_spec(name, transformer, config, max_length=folder.max_length)
    except InputError as error:
        return BuiltModel(encoder, None, complaint=str(error), **details)
    if folder.settings.get("do_lower_case"):
        spec = replace(spec, tokenizer=add_lower_casing(spec.tokenizer))
    return BuiltModel(encoder, replace(spec, prompt=folder.default_prompt), **details)


def exclude_prompt(encoder: Any, spec: InputSpec) -> None:
    """Let poolings leave out the tokens of the prompt where their settings say so."""
    for pooling in encoder.poolings:
        if not pooling.include_prompt and isinstance(spec, TextSpec):
            pooling.excluded_tokens = spec.count_prompt_tokens()


def fill_encoder(
    folder: SentenceFolder, encoder: Any, path: Path, *, key: str = "", classifier: str | None = None
) -> bool:
    """Copy a file of weights into the transformer; the modules behind it keep the weights in their folders."""
    fill_from_file(encoder.transformers[0], path, key=key)
    load_module_weights(encoder, folder)
    return True


def make_module(
    name: str, model_class: Any, config: Any, *, pretrained: bool, model_args: dict[str, Any]
) -> tuple[Any, Any]:
    """Return a model with the weights of its checkpoint or random ones, and its completed configuration.

    Raise an InputError if the arguments do not fit the model.
    """
    config = complete_config(config, model_class)
    try:
        if pretrained:
            return load_checkpoint(name, model_class, config), config
        return model_class._from_config(config), config
    except TopworkError as error:
        if model_args and isinstance(error, WeightsError):
            raise WeightsError(f"{error} (with model_args={model_args})") from error
        raise
    except Exception as error:  # a configuration with values that a model does not have fails in any way
        raise InputError(
            f"hf:{name} cannot be made as {model_class.__name__} with model_args={model_args}: {reason(error)}"
        ) from error


def complete_config(config: Any, model_class: Any) -> Any:
    """Return the configuration in the class that the model expects, with settings for features of single texts."""
    if not isinstance(config, model_class.config_class):
        config = model_class.config_class.from_dict(config.to_dict())
    config.use_cache = False  # of keys and values, which only generation needs
    if getattr(config, "attention_type", None) == "block_sparse":
        config.attention_type = "original_full"  # BigBird itself changes to this for good at the first short text
    return config


def read_config(name: str, options: dict[str, Any]) -> Any:
    """Read the configuration, and change it.

    Raise an InputError if there is no such folder, or the configuration does not have one of the options.
    """
    from transformers import AutoConfig

    looks_local = name.startswith((".", "/", "~")) or name.count("/") > 1 or Path(name).is_absolute()
    if looks_local and not Path(name).is_dir():
        raise InputError(f"hf:{name}: there is no such folder; expected a folder with config.json, or the ID of a hub")
    refuse_code(name, CONFIG_FILE)
    refuse_quantised(name)
    with reading(name, "configuration"):
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
    if not options:
        return config
    try:
        config, unknown = AutoConfig.from_pretrained(
            name, trust_remote_code=False, return_unused_kwargs=True, **options
        )
    except Exception as error:  # transformers and huggingface_hub have errors of their own
        raise InputError(f"model_args={options} do not fit the configuration of hf:{name}: {reason(error)}") from error
    if unknown:
        raise InputError(f"the configuration of hf:{name} has no {', '.join(sorted(unknown))}")
    return config


def choose_tower(name: str, config: Any, tower: str | None) -> Any:
    """Return the configuration of one tower, if there are two and no classifier on top of them.

    Raise an InputError if there is no tower to choose, or none of this name.
    """
    towers = {known: getattr(config, field) for known, field in CONFIG_OF_TOWER.items() if hasattr(config, field)}
    if len(towers) < 2:
        if tower is not None:
            raise InputError(f"hf:{name} has one tower; model_args={{'tower': {tower!r}}} does not apply")
        return config
    if tower is not None and tower not in towers:
        raise InputError(f"model_args={{'tower': {tower!r}}}: expected one of {', '.join(towers)}")
    if tower is None and find_class_with_classifier(config) is not None:
        return config
    chosen = towers[tower or next(iter(towers))]
    if hasattr(config, "projection_dim"):
        chosen.projection_dim = config.projection_dim
    return chosen


def find_class_with_classifier(config: Any) -> Any:
    """Return the class that the checkpoint was saved from if that has a classifier, else None."""
    import transformers
    from transformers.models.auto import modeling_auto as auto

    known: set[str] = set()
    for mapping in (
        auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
        auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
        auto.MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES,
    ):
        for names in mapping.values():
            known.update([names] if isinstance(names, str) else names)
    architectures = getattr(config, "architectures", None) or [""]
    return getattr(transformers, architectures[0]) if architectures[0] in known else None


def find_encoder_class(config: Any) -> Any:
    """Return the class of the encoder without a classifier; raise an InputError if transformers has none."""
    import transformers
    from transformers.models.auto import modeling_auto as auto

    config_class = type(config).__name__
    projecting = getattr(transformers, f"{config_class.removesuffix('Config')}ModelWithProjection", None)
    if projecting is not None:
        return projecting
    names = (
        ENCODER_CLASSES.get(config.model_type)
        or auto.MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES.get(config.model_type)
        or auto.MODEL_MAPPING_NAMES.get(config.model_type)
        or f"{config_class.removesuffix('Config')}Model"
    )
    name = names if isinstance(names, str) else names[0]
    model_class = getattr(transformers, name, None)
    if model_class is None:
        raise InputError(f"transformers has no model for a {config_class}")
    return model_class


def load_checkpoint(name: str, model_class: Any, config: Any) -> Any:
    """Load a model with its weights; a pooler that was not saved is left out.

    Raise a WeightsError if the checkpoint is damaged or of other shapes, or lacks weights, which would be random.
    """
    refuse_damaged(name)
    module, missing = _load_and_list_missing(name, model_class, config)
    options: dict[str, Any] = {}
    prefix = TOWER_PREFIXES.get(model_class.main_input_name)
    if prefix and missing and not is_pooler(missing):  # saved in a model of two towers
        options["key_mapping"] = {f"^{prefix}\\.": ""}
        module, missing = _load_and_list_missing(name, model_class, config, **options)
    if missing and is_pooler(missing):  # saved without, from another class
        module, missing = _load_and_list_missing(name, model_class, config, add_pooling_layer=False, **options)
    if missing:
        shown = ", ".join(missing[:MAX_SHOWN_KEYS])
        raise WeightsError(f"the checkpoint of hf:{name} lacks weights of {type(module).__name__}: {shown}")
    return module


def is_pooler(keys: Iterable[str]) -> bool:
    """Return whether all weights are those of a pooler."""
    return all(".pooler." in f".{key}" for key in keys)


def _load_and_list_missing(name: str, model_class: Any, config: Any, **options: Any) -> tuple[Any, list[str]]:
    import torch

    with reading(name, "weights"), quietly():
        module, report = model_class.from_pretrained(
            name,
            config=config,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **options,
        )
    reshaped = [
        f"{key} {tuple(found)}, expected {tuple(expected)}" for key, found, expected in report["mismatched_keys"]
    ]
    if reshaped:
        shown = "; ".join(sorted(reshaped)[:MAX_SHOWN_KEYS])
        raise WeightsError(f"the checkpoint of hf:{name} has other shapes than {model_class.__name__}: {shown}")
    return module, sorted(report["missing_keys"])


def fill_from_file(module: Any, path: Path, *, key: str = "", classifier: str | None = None) -> bool:
    """Copy a file of weights into a model; transformers translates the names of older versions.

    Raise a WeightsError if names or shapes differ.
    """
    state = strip_prefixes(read_state(path, key))
    with quietly():
        filled, report = type(module).from_pretrained(
            None, config=module.config, state_dict=state, output_loading_info=True
        )
    problems = []
    for field in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        keys = sorted(map(str, report[field]))
        if keys:
            problems.append(f"{field}: {', '.join(keys[:MAX_SHOWN_KEYS])}")
    if problems:
        raise WeightsError(f"{path} does not fit {type(module).__name__}; {'; '.join(problems)}")
    module.load_state_dict(filled.state_dict())
    return True


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Load without a progress bar, as weights are mapped at once, and without reports, as topwork has its own."""
    from transformers.utils import logging

    was_shown = logging.is_progress_bar_enabled()
    verbosity = logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if was_shown:
            logging.enable_progress_bar()


def find_classifier(module: Any, model_class: Any) -> str | None:
    """Return the name of the last layer with weights, of a model with a classifier; None for any other model."""
    from torch import nn

    if not model_class.__name__.endswith(("Classification", "ClassificationWithTeacher")):
        return None
    linear = [name for name, child in module.named_modules() if isinstance(child, nn.Linear)]
    in_head = [name for name in linear if name.split(".")[0] in CLASSIFIER_NAMES]
    above_base = [name for name in linear if not name.startswith(f"{module.base_model_prefix}.")]
    candidates = in_head or above_base
    return candidates[-1] if candidates else None


def describe(name: str, module: Any, config: Any, classifier: str | None) -> BuiltModel:
    """Return the model with its input specification and what identifies it."""
    check_input(name, module, padded=FULL_LENGTH_INPUTS)
    details = {
        **describe_configuration(module, config),
        "classifier": classifier or "",
        "last_layer": find_last_layer(module),
    }
    if module.main_input_name == "input_ids":
        details["pooling"] = find_own_pooling(module)
    if config.model_type in FULL_LENGTH_INPUTS:
        inputs = FULL_LENGTH_INPUTS[config.model_type]
        details["fit_to_input"] = lambda module, spec: require_full_length(name, inputs, spec)
    try:
        if module.main_input_name in SOUND_INPUTS:
            sounds, settings = prepare_sounds(name, module, config)
            details["arguments"] = {**details["arguments"], "feature_extractor": settings}
            return BuiltModel(module, sounds, **details)
        spec, unknown = read_input_spec(name, module, config)
    except InputError as error:
        return BuiltModel(module, None, complaint=str(error), **details)
    return BuiltModel(module, spec, unknown=unknown, **details)


def describe_configuration(module: Any, config: Any) -> dict[str, Any]:
    """Return what identifies a model and how weights are put into it, as fields of :class:`BuiltModel`."""
    identifying = {field: value for field, value in config.to_diff_dict().items() if field not in VOLATILE_FIELDS}
    return {
        "load_weights": fill_from_file,
        "classifier": "",
        "architecture": f"hf:{type(module).__name__}",
        "arguments": {"config": identifying},
    }


def find_last_layer(module: Any) -> str:
    """Return the layer of a tower with a projection that yields its last hidden state; "" for any other model."""
    names = [name for name, _ in module.named_modules()]
    is_projecting = type(module).__name__.endswith("WithProjection")
    known = [name for name in LAYERS_OF_TOWERS if is_projecting and name in names]
    return known[0] if known else ""


def find_own_pooling(module: Any) -> str:
    """Return the pooling of the token with which a model classifies or embeds a text; "" if that is unknown."""
    has_token_scores = hasattr(module, "score") and not hasattr(module, "classifier")
    return "last_token" if has_token_scores else OWN_POOLINGS.get(module.config.model_type, "")


def check_input(name: str, module: Any, padded: Collection[str] = ()) -> None:
    """Raise an InputError if the input is no images, text or sound, or is text whose features change with its batch.

    Those of the types `padded` do not, as they are padded to the full length.
    """
    if module.main_input_name not in ("pixel_values", "input_ids", *SOUND_INPUTS):
        raise InputError(
            f"hf:{name} expects {module.main_input_name}; expected a model of images (pixel_values), text (input_ids) "
            f"or sound ({', '.join(SOUND_INPUTS)}). Load it yourself and pass the module with "
            "input_spec=TensorSpec(shape)."
        )
    kind = module.config.model_type
    if kind in UNSUPPORTED_MODELS:
        raise InputError(
            f"hf:{name} is a model of the type {kind}, which topwork cannot run: {UNSUPPORTED_MODELS[kind]}. Expected "
            "another text model"
        )
    has_mask = "attention_mask" in inspect.signature(module.forward).parameters
    if module.main_input_name == "input_ids" and not has_mask and kind not in padded:
        raise InputError(
            f"hf:{name} takes no attention mask: the padding of a batch would change the features of its texts"
        )


def read_input_spec(name: str, module: Any, config: Any) -> tuple[InputSpec, tuple[str, ...]]:
    """Return the input specification, and the fields that the files of the weights do not state."""
    if module.main_input_name == "input_ids":
        inputs = FULL_LENGTH_INPUTS.get(config.model_type, ())
        return text_spec(name, module, config, full_length_inputs=inputs), ()
    return image_spec(name, config)
