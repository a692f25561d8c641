"""``hf:ID`` and ``hf:FOLDER``: vision and text models of transformers, with their own preprocessing."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import InputError, WeightsError
from .hf_inputs import image_spec, sentence_pooling, text_spec
from .hub import fetching
from .registry import Built
from .torchvision_operators import ensure_torchvision_operators
from .weights import read_tensors, strip_prefixes, unwrap

TOWERS = {"vision": "vision_config", "text": "text_config"}
ENCODERS = {"vit_mae": "ViTModel"}
"""Networks for pre-training alone, and what their makers load their weights into for everything else."""

HUB_ARGUMENTS = {
    "revision",
    "code_revision",
    "subfolder",
    "cache_dir",
    "token",
    "trust_remote_code",
    "local_files_only",
}
VOLATILE = ("transformers_version", "architectures", "id2label", "label2id", "dtype", "torch_dtype", "_name_or_path")
"""What a configuration says that does not decide a feature."""


def build(name: str, *, pretrained: bool, model_args: dict[str, Any]) -> Built:
    """Make a transformers model.

    A checkpoint with a classifier keeps it; any other yields its last hidden state. Of a model with a tower for images
    and one for texts ``model_args={"tower": "text"}`` chooses; the default is "vision". Of an encoder and decoder the
    encoder is taken. Other arguments change the configuration.
    """
    ensure_torchvision_operators()
    refused = sorted(HUB_ARGUMENTS & set(model_args))
    if refused:
        raise InputError(f"model_args {', '.join(refused)} of hf:{name}: expected changes to the configuration alone")
    options = dict(model_args)
    tower = options.pop("tower", None)
    config = _tower(name, _config(name, options), tower)
    kind = _class_of(config)
    if not isinstance(config, kind.config_class):
        config = kind.config_class.from_dict(config.to_dict())
    config.use_cache = False  # of keys and values, which only generating needs
    if getattr(config, "attention_type", None) == "block_sparse":
        config.attention_type = "original_full"  # BigBird itself changes to this for good at the first short text
    module = _loaded(name, kind, config) if pretrained else kind._from_config(config)
    classifier = _classifier_name(module, kind)
    if getattr(config, "is_encoder_decoder", False) and classifier is None:
        module = module.get_encoder()
    return _described(name, module.float(), config, classifier)


def _config(name: str, options: dict[str, Any]) -> Any:
    """Read the configuration, and change it; what it does not have is refused."""
    from transformers import AutoConfig

    looks_local = name.startswith((".", "/", "~")) or name.count("/") > 1 or Path(name).is_absolute()
    if looks_local and not Path(name).is_dir():
        raise InputError(f"hf:{name}: there is no such folder; expected a folder with config.json, or the ID of a hub")
    with fetching(f"hf:{name}", wanted=True):
        config, unknown = AutoConfig.from_pretrained(name, return_unused_kwargs=True, **options)
    if unknown:
        raise InputError(f"the configuration of hf:{name} has no {', '.join(sorted(unknown))}")
    return config


def _described(name: str, module: Any, config: Any, classifier: str | None) -> Built:
    """Say what a network eats, and what identifies it."""
    details: dict[str, Any] = {
        "load_weights": _fill,
        "classifier": classifier or "",
        "architecture": f"hf:{type(module).__name__}",
        "arguments": {"config": {k: v for k, v in config.to_diff_dict().items() if k not in VOLATILE}},
    }
    if module.main_input_name == "pixel_values":
        try:
            spec, unknown = image_spec(name, config)
        except InputError as error:
            return Built(module, None, complaint=str(error), **details)
        return Built(module, spec, unknown=unknown, **details)
    if module.main_input_name == "input_ids":
        if "attention_mask" not in inspect.signature(module.forward).parameters:
            raise InputError(
                f"hf:{name} takes no attention mask: the padding of a batch would change the features of its texts"
            )
        details["pooling"] = sentence_pooling(name)
        try:
            return Built(module, text_spec(name, module, config), **details)
        except InputError as error:
            return Built(module, None, complaint=str(error), **details)
    raise InputError(
        f"hf:{name} eats {module.main_input_name}; expected a model of images (pixel_values) or texts (input_ids). "
        "Load it yourself and pass the module with input_spec=TensorSpec(shape)."
    )


def _tower(name: str, config: Any, tower: str | None) -> Any:
    """Return the configuration of one tower, if there are two and no classifier on top of them."""
    if not all(hasattr(config, entry) for entry in TOWERS.values()):
        if tower is not None:
            raise InputError(f"hf:{name} has one tower; model_args={{'tower': {tower!r}}} does not apply")
        return config
    if tower not in (None, *TOWERS):
        raise InputError(f"model_args={{'tower': {tower!r}}}: expected one of {', '.join(TOWERS)}")
    if tower is None and _with_classifier(config) is not None:
        return config
    return getattr(config, TOWERS[tower or "vision"])


def _with_classifier(config: Any) -> Any:
    """Return the class that the checkpoint was saved from if that has a classifier, else None."""
    import transformers
    from transformers.models.auto import modeling_auto as auto

    mappings = (
        auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
        auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    )
    names = [name for mapping in mappings for name in mapping.values()]
    known = {name for several in names for name in ([several] if isinstance(several, str) else several)}
    saved = (getattr(config, "architectures", None) or [""])[0]
    return getattr(transformers, saved) if saved in known else None


def _class_of(config: Any) -> Any:
    """Return the class with a classifier that the checkpoint was saved from, or else that of the bare encoder."""
    import transformers
    from transformers.models.auto import modeling_auto as auto

    found = _with_classifier(config)
    if found is not None:
        return found
    name = ENCODERS.get(config.model_type) or auto.MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES.get(config.model_type)
    name = name or auto.MODEL_MAPPING_NAMES.get(config.model_type) or f"{type(config).__name__[:-6]}Model"
    kind = getattr(transformers, name if isinstance(name, str) else name[0], None)
    if kind is None:
        raise InputError(f"transformers has no model for a {type(config).__name__}")
    return kind


def _loaded(name: str, kind: Any, config: Any) -> Any:
    """Load the weights; what the checkpoint lacks would be random, and is refused."""
    import torch

    def load(**options: Any) -> tuple[Any, list[str]]:
        with fetching(f"hf:{name}", wanted=True), _no_progress_bar():
            module, report = kind.from_pretrained(
                name, config=config, dtype=torch.float32, output_loading_info=True, **options
            )
        return module, sorted(report["missing_keys"])

    module, missing = load()
    if missing and all(".pooler." in f".{key}" for key in missing):  # saved without, from another class
        module, missing = load(add_pooling_layer=False)
    if missing:
        shown = ", ".join(missing[:12])
        raise WeightsError(f"the checkpoint of hf:{name} lacks weights of {type(module).__name__}: {shown}")
    return module


def _fill(module: Any, path: Path) -> None:
    """Copy a file of weights into a model; transformers knows under which names older versions saved them."""
    state = strip_prefixes(unwrap(read_tensors(path)))
    with _no_progress_bar():
        filled, report = type(module).from_pretrained(
            None, config=module.config, state_dict=state, output_loading_info=True
        )
    problems = {name: sorted(map(str, report[name])) for name in ("missing_keys", "unexpected_keys", "mismatched_keys")}
    if any(problems.values()):
        shown = "; ".join(f"{name}: {', '.join(keys[:12])}" for name, keys in problems.items() if keys)
        raise WeightsError(f"{path} does not fit {type(module).__name__}; {shown}")
    module.load_state_dict(filled.state_dict())


@contextlib.contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Load without a progress bar; weights on disk are mapped in no time."""
    from transformers.utils import logging

    was_shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_shown:
            logging.enable_progress_bar()


def _classifier_name(module: Any, kind: Any) -> str | None:
    """Return the name of the last layer with weights of a network with a classifier."""
    from torch import nn

    if not kind.__name__.endswith(("Classification", "ClassificationWithTeacher")):
        return None
    names = [name for name, child in module.named_modules() if isinstance(child, nn.Linear)]
    head = [name for name in names if name.split(".")[0] in ("classifier", "score", "head", "cls_classifier")]
    above = [name for name in names if not name.startswith(f"{module.base_model_prefix}.")]
    return next(iter((head or above)[-1:]), None)
