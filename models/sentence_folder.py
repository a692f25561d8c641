"""Folders of sentence-transformers: the modules that ``modules.json`` lists, with their settings and weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ..errors import InputError, WeightsError
from .hf_files import find_file, read_json
from .weights import check_fit, read_tensors

if TYPE_CHECKING:
    from torch import nn

    from .sentence_layers import SentenceEncoder, SentenceModule

MODULES_FILE = "modules.json"
PIPELINE_CONFIG = "config_sentence_transformers.json"
TRANSFORMER_CONFIGS = tuple(
    f"sentence_{family}_config.json"
    for family in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
WEIGHTS_FILES = ("model.safetensors", "pytorch_model.bin")
PACKAGE_PREFIX = "sentence_transformers."
PIPELINE_TYPE = "SentenceTransformer"

POOLING_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""Older form of ``pooling_mode``: a flag for each way, in the order in which their results are concatenated."""
OWN_POOLING_NAMES = {"cls": "cls", "max": "max", "mean": "mean", "lasttoken": "last_token"}
"""Poolings of sentence-transformers that layers below can be pooled by, by name."""

KNOWN_SETTINGS = {
    "Transformer": {
        *("max_seq_length", "do_lower_case", "model_args", "model_kwargs", "tokenizer_args", "processor_kwargs"),
        *("config_args", "config_kwargs", "modality_config", "module_output_name", "transformer_task"),
        *("processing_kwargs", "unpad_inputs", "query_length", "document_length", "query_expansion"),
    },
    "Pooling": {
        *("word_embedding_dimension", "embedding_dimension", "pooling_mode", "include_prompt"),
        *POOLING_FLAGS,
    },
    "Dense": {
        *("in_features", "out_features", "bias", "activation_function", "module_input_name"),
        *("module_output_name", "use_residual"),
    },
    "Normalize": {"module_input_name", "module_output_name"},
    "LayerNorm": {"dimension"},
    "Dropout": {"dropout"},
}
"""Settings of each module that are reproduced here, or do not change an embedding."""
HARMLESS_ARGUMENTS = {
    *("attn_implementation", "dtype", "torch_dtype", "add_pooling_layer", "use_safetensors", "device_map"),
    *("low_cpu_mem_usage", "trust_remote_code", "use_fast", "padding_side", "model_max_length"),
}
"""Arguments for transformers in a folder's settings that do not change a float32 embedding, or are used here."""


@dataclass(frozen=True)
class ModuleEntry:
    """One entry of ``modules.json`` behind the transformer: its class, its folder, and the settings there."""

    kind: str
    path: str
    settings: dict[str, Any]


@dataclass(frozen=True)
class SentenceFolder:
    """What a folder of sentence-transformers, or one on the hub, says.

    `transformer` is the folder or ID with the weights of the transformer, and `settings` are those of its module.
    """

    name: str
    transformer: str
    settings: dict[str, Any]
    entries: tuple[ModuleEntry, ...]
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt: str = ""
    dimension: int | None = None

    @property
    def max_length(self) -> int | None:
        """Maximum number of tokens, None if the tokeniser decides."""
        stated: int | None = self.settings.get("max_seq_length")
        return self.processor_arguments.get("model_max_length", stated)

    @property
    def processor_arguments(self) -> dict[str, Any]:
        """Arguments for the tokeniser."""
        return _arguments(self.settings, "processor_kwargs", "tokenizer_args")

    @property
    def config_arguments(self) -> dict[str, Any]:
        """Changes to the transformer's configuration."""
        return _arguments(self.settings, "config_kwargs", "config_args")

    @property
    def own_pooling(self) -> str:
        """How layers below the pooling are pooled, "" if the pooling is none that they can have."""
        modes = [mode for entry in self.entries if entry.kind == "Pooling" for mode in read_modes(entry.settings)]
        names = [OWN_POOLING_NAMES.get(mode, "") for mode in modes]
        return "+".join(names) if all(names) else ""

    def identify(self) -> dict[str, Any]:
        """Return what decides an embedding beyond the transformer, its weights and its input."""
        modules = [{"class": entry.kind, **_describe_settings(entry)} for entry in self.entries]
        identity: dict[str, Any] = {"modules": modules}
        if self.dimension is not None:
            identity["truncate_dim"] = self.dimension
        return identity


def _arguments(settings: dict[str, Any], *names: str) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    for name in names:
        arguments.update(settings.get(name) or {})
    return arguments


def _describe_settings(entry: ModuleEntry) -> dict[str, Any]:
    """Return the settings of a module in one form, whatever version of sentence-transformers wrote them."""
    if entry.kind == "Pooling":
        return {"modes": list(read_modes(entry.settings)), "include_prompt": entry.settings.get("include_prompt", True)}
    if entry.kind == "Dropout":
        return {}
    return entry.settings


def read_sentence_folder(name: str) -> SentenceFolder | None:
    """Read ``modules.json`` and what it names; None if there is none.

    Raise an InputError that names the first module, or the setting, that cannot be reproduced.
    """
    listed = read_json(name, MODULES_FILE)
    if listed is None:
        return None
    kinds = [read_kind(name, fields["type"]) for fields in listed]
    paths = [read_path(name, fields["path"]) for fields in listed]
    if kinds[:1] != ["Transformer"] or "Transformer" in kinds[1:]:
        raise InputError(f"{MODULES_FILE} of hf:{name} lists {', '.join(kinds)}; expected one Transformer, the first")
    transformer = locate_folder(name, paths[0])
    settings = read_settings(transformer)
    check_transformer(name, settings)
    entries = []
    for kind, path in zip(kinds[1:], paths[1:], strict=True):
        fields = read_json(name, f"{path}/config.json") or {}
        check_settings(name, kind, fields)
        entries.append(ModuleEntry(kind, path, fields))
    return SentenceFolder(name, transformer, settings, tuple(entries), **read_pipeline_config(name))


def read_kind(name: str, class_path: str) -> str:
    """Return the class of an entry of ``modules.json``; raise an InputError if it is not reproduced here."""
    kind = class_path.rpartition(".")[2]
    if not class_path.startswith(PACKAGE_PREFIX):
        raise InputError(
            f"{MODULES_FILE} of hf:{name} lists {class_path}, code of its own, which topwork never runs; expected "
            f"modules of sentence-transformers: {', '.join(KNOWN_SETTINGS)}"
        )
    if kind not in KNOWN_SETTINGS:
        raise InputError(
            f"{MODULES_FILE} of hf:{name} lists the module {kind}, which topwork does not reproduce; expected "
            f"{', '.join(KNOWN_SETTINGS)}. Load the model yourself and pass a module with input_spec=."
        )
    return kind


def read_path(name: str, path: str) -> str:
    """Return the relative folder of an entry of ``modules.json``; raise an InputError if it leaves the folder."""
    parts = PurePosixPath(path.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or Path(path).is_absolute():
        raise InputError(f"{MODULES_FILE} of hf:{name} names {path}; expected a folder inside")
    return "" if str(parts) == "." else str(parts)


def locate_folder(name: str, path: str) -> str:
    """Return a folder of a local folder or of the hub, under a name that transformers loads."""
    if not path:
        return name
    if Path(name).is_dir():
        return str(Path(name) / path)
    from huggingface_hub import snapshot_download

    from .loader import fetching

    with fetching(f"hf:{name}", wanted=True):
        snapshot = snapshot_download(name, allow_patterns=[f"{path}/*"])
    return str(Path(snapshot) / path)


def read_settings(transformer: str) -> dict[str, Any]:
    """Return the settings of the module Transformer, whose file has had several names."""
    for file in TRANSFORMER_CONFIGS:
        settings: dict[str, Any] | None = read_json(transformer, file)
        if settings:
            return settings
    return {}


def check_settings(name: str, kind: str, settings: dict[str, Any]) -> None:
    """Raise an InputError if a module has a setting that is not reproduced here."""
    unknown = sorted(set(settings) - KNOWN_SETTINGS[kind])
    if unknown:
        raise InputError(f"{kind} of hf:{name} has the setting {', '.join(unknown)}, which topwork does not reproduce")


def check_transformer(name: str, settings: dict[str, Any]) -> None:
    """Raise an InputError if a transformer is called in a way that is not reproduced here."""
    check_settings(name, "Transformer", settings)
    arguments = {
        **_arguments(settings, "model_kwargs", "model_args"),
        **_arguments(settings, "processor_kwargs", "tokenizer_args"),
    }
    unknown = sorted(set(arguments) - HARMLESS_ARGUMENTS)
    unknown += [field for field in ("processing_kwargs", "query_expansion") if settings.get(field)]
    if unknown:
        raise InputError(f"Transformer of hf:{name} has {', '.join(unknown)}, which topwork does not reproduce")
    task = settings.get("transformer_task", "feature-extraction")
    if task != "feature-extraction":
        raise InputError(f"Transformer of hf:{name} has the task {task}; expected feature-extraction")
    by_modality = settings.get("modality_config")
    method = {"method": "forward", "method_output_name": "last_hidden_state"}
    text_method = method if by_modality is None else by_modality.get("text")
    if text_method != method or settings.get("module_output_name", "token_embeddings") != "token_embeddings":
        raise InputError(
            f"Transformer of hf:{name} turns text into features by {text_method}; expected its last hidden state"
        )


def read_pipeline_config(name: str) -> dict[str, Any]:
    """Return prompts, default prompt and number of features kept, as fields of :class:`SentenceFolder`."""
    fields = read_json(name, PIPELINE_CONFIG) or {}
    kind = fields.get("model_type", PIPELINE_TYPE)
    if kind != PIPELINE_TYPE:
        raise InputError(f"hf:{name} is a {kind} (model_type in {PIPELINE_CONFIG}); expected a {PIPELINE_TYPE}")
    prompts = {prompt_name: text or "" for prompt_name, text in (fields.get("prompts") or {}).items()}
    default = fields.get("default_prompt_name")
    if default is not None and default not in prompts:
        raise InputError(f"default_prompt_name of hf:{name} is {default!r}; expected one of {', '.join(prompts)}")
    return {
        "prompts": prompts,
        "default_prompt": prompts.get(default, ""),
        "dimension": fields.get("truncate_dim"),
    }


def read_modes(settings: dict[str, Any]) -> tuple[str, ...]:
    """Return how a module pools, in the order of concatenation; the present form wins over the older flags."""
    stated = settings.get("pooling_mode")
    if isinstance(stated, str):
        return (stated,)
    if stated:
        return tuple(stated)
    return tuple(mode for flag, mode in POOLING_FLAGS.items() if settings.get(flag)) or ("mean",)


def build_encoder(folder: SentenceFolder, transformer: Any, pretrained: bool) -> SentenceEncoder:
    """Put the modules of a folder behind a transformer, with their weights, or with random ones.

    Raise an InputError if a module reads what none before it yields, or none yields the sentence embedding.
    """
    from .sentence_layers import SENTENCE, TOKENS, SentenceEncoder

    modules: dict[str, SentenceModule] = {}
    available = {TOKENS}
    for number, entry in enumerate(folder.entries, start=1):
        module = build_module(folder.name, entry)
        if module.input_name not in available:
            raise InputError(
                f"{entry.kind} of hf:{folder.name} reads {module.input_name}, which no module before yields"
            )
        available.add(module.output_name)
        base = entry.kind.lower()
        modules[base if base not in modules else f"{base}_{number}"] = module
    if SENTENCE not in available:
        raise InputError(f"hf:{folder.name} yields no sentence embedding: {MODULES_FILE} lists no Pooling")
    encoder = SentenceEncoder(transformer, modules, folder.dimension)
    if pretrained:
        load_module_weights(encoder, folder)
    return encoder


def build_module(name: str, entry: ModuleEntry) -> SentenceModule:
    """Make one module, without its weights."""
    from torch import nn

    from . import sentence_layers as layers

    settings = entry.settings
    names = (settings.get("module_input_name", layers.SENTENCE), settings.get("module_output_name"))
    if entry.kind == "Pooling":
        return build_pooling(name, settings)
    if entry.kind == "Normalize":
        return layers.Normalize(*names)
    if entry.kind == "LayerNorm":
        return layers.LayerNorm(settings["dimension"])
    if entry.kind == "Dropout":
        return layers.Dropout()
    width_in = settings["in_features"]
    width_out = settings["out_features"]
    residual: nn.Module | None = None
    if settings.get("use_residual"):
        residual = nn.Identity() if width_in == width_out else nn.Linear(width_in, width_out, bias=False)
    linear = nn.Linear(width_in, width_out, bias=settings.get("bias", True))
    return layers.Dense(linear, build_activation(name, settings), residual=residual, names=names)


def build_pooling(name: str, settings: dict[str, Any]) -> SentenceModule:
    """Make a pooling; raise an InputError if there is none of this name."""
    from .sentence_layers import POOLINGS, Pooling

    modes = read_modes(settings)
    unknown = [mode for mode in modes if mode not in POOLINGS]
    if unknown:
        raise InputError(f"pooling_mode {', '.join(unknown)} of hf:{name}: expected one of {', '.join(POOLINGS)}")
    return Pooling(modes, settings.get("include_prompt", True))


def build_activation(name: str, settings: dict[str, Any]) -> nn.Module:
    """Make the activation of a dense layer, a class of ``torch.nn``; raise an InputError if it is any other."""
    from torch import nn

    class_path = settings.get("activation_function", "torch.nn.modules.activation.Tanh")
    activation: Any = getattr(nn, class_path.rpartition(".")[2], None)
    is_module = isinstance(activation, type) and issubclass(activation, nn.Module)
    if not class_path.startswith("torch.nn.") or not is_module:
        raise InputError(f"activation_function {class_path} of hf:{name}: expected a class of torch.nn")
    made: nn.Module = activation()
    return made


def load_module_weights(encoder: SentenceEncoder, folder: SentenceFolder) -> None:
    """Copy the weights of the modules behind the transformer from their folders.

    Raise a WeightsError if a file is absent, or does not fit.
    """
    for entry, module in zip(folder.entries, encoder.sentence.values(), strict=True):
        expected = module.state_dict()
        if not expected:
            continue
        found = [find_file(folder.name, f"{entry.path}/{file}") for file in WEIGHTS_FILES]
        paths = [path for path in found if path is not None]
        if not paths:
            raise WeightsError(
                f"{entry.path} of hf:{folder.name} has no {' or '.join(WEIGHTS_FILES)} for its {entry.kind}"
            )
        state = read_tensors(paths[0])
        check_fit(paths[0], state, expected)
        module.load_state_dict(state)
