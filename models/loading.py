"""``load_backbone``: from a name and options, or from a module, to a backbone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, TopworkError
from ..identity import digest_of_file, digest_of_path
from ..progress import report_step
from .audio_spec import describe_samples
from .backbone import Backbone, OnnxBackbone, TorchBackbone
from .from_onnx import digest_external_data, read_model
from .input_spec import InputOverrides, InputSpec
from .loader import BuiltModel
from .module_copy import name_class, private_copy
from .onnx_chain import split_chain
from .registry import find_entry, find_loader

if TYPE_CHECKING:
    from torch import nn

RANDOM_WEIGHTS = "random"
RANDOM_WEIGHTS_SEED = 0


@dataclass(frozen=True)
class BackboneSpec:
    """Which backbone to load, without loading it.

    Parameters
    ----------
    name : str
        A source and a name, such as ``"timm:resnet50"``.
    weights : str, path or None
        None for the source's own pre-trained weights, ``"random"`` for an untrained model (seeded), or a file.
    model_args : dict
        Arguments for the architecture, such as ``{"pad_type": "same"}``.
    preprocessing : InputOverrides
        Changes to the backbone's own preprocessing.
    input_spec : ImageSpec, TextSpec, AudioSpec or TensorSpec, optional
        Replaces the backbone's own input specification.
    weights_key : str
        Entry of a checkpoint that holds the weights, such as ``"state_dict"``; by default averaged weights
        (``state_dict_ema``, ``model_ema``, ``ema``, ``teacher``) where there are some, with a warning.
    """

    name: str
    weights: str | Path | None = None
    model_args: dict[str, Any] = field(default_factory=dict)
    preprocessing: InputOverrides = field(default_factory=InputOverrides)
    input_spec: InputSpec | None = None
    weights_key: str = ""

    def __post_init__(self) -> None:
        """Refuse a key without a file."""
        if self.weights_key and self.weights_file is None:
            raise InputError(
                f"weights_key={self.weights_key!r} names an entry of a file; expected weights= with a file"
            )

    @property
    def weights_file(self) -> Path | None:
        """The local file of weights, if one was given."""
        if self.weights is None or self.weights == RANDOM_WEIGHTS:
            return None
        return Path(self.weights)

    def load(self) -> Backbone:
        """Load the backbone; see :func:`load_backbone`."""
        report_step(f"loading {self.name}")
        built = build_model(self)
        input_spec = choose_input_spec(self, built)
        details: dict[str, Any] = {
            "input_spec": input_spec,
            "arguments": {**self.model_args, **built.arguments},
            "pooling": built.pooling,
            "tolerance": built.tolerance,
            "spec": self,
        }
        if isinstance(built.model, Path):
            digest = built.weights_digest or digest_of_file(built.model)
            return OnnxBackbone(name=built.architecture, path=built.model, weights_digest=digest, **details)
        if self.weights_file is not None:
            details["classifier_is_trained"] = built.load_weights(
                built.model, self.weights_file, key=self.weights_key, classifier=built.classifier
            )
        if built.fit_to_input is not None:
            built.fit_to_input(built.model, input_spec)
        name = built.architecture or self.name
        if name.startswith("timm:"):
            name = name.partition(".")[0]  # without the tag of the weights, which the digest identifies better
        return TorchBackbone.from_module(
            name, built.model, classifier=built.classifier, last_layer=built.last_layer, **details
        )

    def request(self) -> dict[str, Any]:
        """Return what decides the loaded model, without loading it: part of the key of the graph cache."""
        weights: Any = self.weights
        if self.weights_file is not None:
            weights = digest_weights_file(self.weights_file)
            if self.weights_key:
                weights = f"{weights}:{self.weights_key}"
        content: str | list[str] | None = None
        external = None
        local = find_local_model(self.name)
        if len(local) == 1:
            content = digest_of_path(local[0])
            if self.name.startswith("onnx:") and local[0].is_file():
                external = digest_external_data(local[0], read_model(local[0]))
        elif local:
            content = [digest_of_path(path) for path in local]
        return {
            "name": self.name,
            "content": content,
            "external": external,
            "weights": weights,
            "model_args": self.model_args,
            "preprocessing": asdict(self.preprocessing),
            "input": None if self.input_spec is None else self.input_spec.to_json(),
        }


def digest_weights_file(file: Path) -> str:
    """Return the SHA-256 of a file of weights; raise an InputError if it does not exist."""
    if not file.is_file():
        raise InputError(f"weights file {file} does not exist; expected a .safetensors file or a checkpoint of torch")
    return digest_of_file(file)


def find_local_model(backbone: str) -> list[Path]:
    """Return the files, or the folder, that a backbone's name states, and whose content decides the model."""
    _, name = find_entry(backbone)
    if not backbone.startswith(("hf:", "onnx:", "timm:local-dir:")):
        return []
    paths = split_chain(name) if backbone.startswith("onnx:") else [Path(name.removeprefix("local-dir:"))]
    return paths if all(path.exists() for path in paths) else []


def build_model(spec: BackboneSpec) -> BuiltModel:
    """Make the model, a PyTorch module under a fixed seed."""
    loader, name = find_loader(spec.name)
    needs_seed = find_entry(spec.name)[0].torch
    with seeded_torch() if needs_seed else contextlib.nullcontext():
        try:
            return loader.build(name, pretrained=spec.weights is None, model_args=spec.model_args)
        except TopworkError:
            raise
        except (TypeError, ValueError) as error:
            raise InputError(f"{spec.name} cannot be made with model_args={spec.model_args}: {error}") from error


def choose_input_spec(spec: BackboneSpec, built: BuiltModel) -> InputSpec:
    """Return the user's input specification, or else the source's, with the user's changes."""
    changes = replace(spec.preprocessing, prompt=find_prompt(spec, built))
    if spec.input_spec is not None:
        return spec.input_spec.override(changes)
    if built.sample_axes and changes.rate is not None:
        return describe_samples(built.sample_axes, changes)
    if built.complaint:
        raise InputError(built.complaint)
    missing = [name for name in built.unknown if getattr(spec.preprocessing, name) is None]
    if missing or built.input_spec is None:
        stated = ", ".join(f"{name}= (--{name})" for name in missing) or "input_spec="
        raise InputError(f"{spec.name} does not say how its input is preprocessed; state {stated}")
    try:
        return built.input_spec.override(changes)
    except InputError as error:
        if not built.note:
            raise
        raise InputError(f"{error}. {built.note}") from error


def find_prompt(spec: BackboneSpec, built: BuiltModel) -> str | None:
    """Return the text of the prompt that the user gave by its name, or as a text.

    Raise an InputError if a single word is the name of no prompt.
    """
    prompt = spec.preprocessing.prompt
    if prompt is None or prompt in built.prompts:
        return built.prompts.get(prompt or "", prompt)
    if isinstance(prompt, str) and prompt.replace("-", "_").isidentifier():
        known = ", ".join(built.prompts) or "no prompts"
        raise InputError(
            f"prompt={prompt!r}: {spec.name} has {known}; expected one of these names, or a text with a space or a "
            "punctuation mark, such as 'query: '"
        )
    return prompt


def load_backbone(
    backbone: str | nn.Module,
    *,
    input_spec: InputSpec | None = None,
    weights: str | Path | None = None,
    weights_key: str = "",
    model_args: dict[str, Any] | None = None,
    **preprocessing: Any,
) -> Backbone:
    """Load a model to be cut.

    Parameters
    ----------
    backbone : str or torch.nn.Module
        ``"timm:NAME"``, ``"torchvision:NAME"``, ``"hf:ID"`` or ``"hf:FOLDER"``, ``"onnx:FILE"`` or
        ``"onnx:FIRST+SECOND"``, ``"topwork:tiny"``, or a module (copied, put in evaluation mode, and converted to
        float32; wrappers such as ``torch.compile`` and ``DataParallel`` are removed).
    input_spec : ImageSpec, TextSpec, AudioSpec or TensorSpec, optional
        The input that the model expects; needed for a module, and where an ONNX file does not state it.
    weights : str or path, optional
        A ``.safetensors`` file, a checkpoint of torch (``.pth``, ``.pt``, ``.ckpt``, …), or ``"random"`` for an
        untrained model, seeded. By default the source's pre-trained weights.
    weights_key : str, optional
        Entry of the checkpoint that holds the weights, such as ``"state_dict"``. By default averaged weights
        (``state_dict_ema``, ``model_ema``, ``ema``, ``teacher``) where there are some, with a warning.
    model_args : dict, optional
        Arguments for the architecture.
    **preprocessing
        ``mean``, ``std``, ``size``, ``crop``, ``interpolation``, ``decode``, ``max_length``, ``prompt``: changes to the
        backbone's own preprocessing. A prompt is put in front of every text; it is a text, or the name of a prompt of a
        sentence-transformers model ("" for none where the model has a default prompt). Of sounds ``window``, ``hop``
        and ``long``, and of ONNX files ``rate`` and ``scale``, see :class:`topwork.AudioSpec`.

    Returns
    -------
    Backbone
        In evaluation mode, with its input specification and the digest of its weights.

    Raises
    ------
    InputError
        If the name is unknown or an argument does not fit.
    WeightsError
        If the file's names or shapes differ from the model's; the message lists them.
    HubError
        If pre-trained weights cannot be fetched.
    MissingPackageError
        If the source's package is not installed.

    Examples
    --------
    >>> load_backbone("topwork:tiny").input_spec.size
    (32, 32)
    """
    overrides = make_overrides(preprocessing)
    if isinstance(backbone, str):
        spec = BackboneSpec(
            backbone,
            weights=weights,
            model_args=model_args or {},
            preprocessing=overrides,
            input_spec=input_spec,
            weights_key=weights_key,
        )
        return spec.load()
    if input_spec is None or model_args or weights or weights_key:
        raise InputError(
            "a module needs input_spec=, and takes neither weights= nor model_args=: load them into it first"
        )
    module = private_copy(backbone)
    return TorchBackbone.from_module(name_class(module), module, input_spec.override(overrides))


def make_overrides(preprocessing: dict[str, Any]) -> InputOverrides:
    """Return changes to an input specification; raise an InputError if one has an unknown name."""
    known = [field.name for field in fields(InputOverrides)]
    unknown = sorted(set(preprocessing) - set(known))
    if unknown:
        raise InputError(f"unknown arguments {', '.join(unknown)}; preprocessing takes {', '.join(known)}")
    return InputOverrides(**preprocessing)


@contextlib.contextmanager
def seeded_torch() -> Iterator[None]:
    """Make random weights reproducible, without disturbing the caller's random state."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_WEIGHTS_SEED)
        yield
