"""``load_backbone``: from a name and options, or from a module, to a backbone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, TopworkError
from ..identity import digest_of_file, digest_of_path
from .backbone import Backbone, OnnxBackbone, TorchBackbone, private_copy
from .from_onnx import digest_external_data, read_model
from .input_spec import InputOverrides, InputSpec
from .loader import BuiltModel
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
    input_spec : ImageSpec, TextSpec or TensorSpec, optional
        Replaces the backbone's own input specification.
    """

    name: str
    weights: str | Path | None = None
    model_args: dict[str, Any] = field(default_factory=dict)
    preprocessing: InputOverrides = field(default_factory=InputOverrides)
    input_spec: InputSpec | None = None

    @property
    def weights_file(self) -> Path | None:
        """The local file of weights, if one was given."""
        if self.weights is None or self.weights == RANDOM_WEIGHTS:
            return None
        return Path(self.weights)

    def load(self) -> Backbone:
        """Load the backbone; see :func:`load_backbone`."""
        built = self._build()
        details: dict[str, Any] = {
            "input_spec": self._choose_input_spec(built),
            "arguments": {**self.model_args, **built.arguments},
            "pooling": built.pooling,
            "tolerance": built.tolerance,
            "spec": self,
        }
        if isinstance(built.model, Path):
            digest = digest_of_file(built.model)
            return OnnxBackbone(name=built.architecture, path=built.model, weights_digest=digest, **details)
        if self.weights_file is not None:
            built.load_weights(built.model, self.weights_file)
        name = built.architecture or self._architecture()
        return TorchBackbone.from_module(name, built.model, classifier=built.classifier, **details)

    def request(self) -> dict[str, Any]:
        """Return what decides the loaded model, without loading it: part of the key of the graph cache."""
        weights: Any = self.weights
        if self.weights_file is not None:
            if not self.weights_file.is_file():
                raise InputError(
                    f"weights file {self.weights_file} does not exist; expected a .safetensors, .pth, .th or .pt file"
                )
            weights = digest_of_file(self.weights_file)

        # A file or folder that is named as the backbone decides the model by its content.
        local = Path(find_entry(self.name)[1].removeprefix("local-dir:"))
        is_local = self.name.startswith(("hf:", "onnx:", "timm:local-dir:")) and local.exists()
        is_onnx_file = self.name.startswith("onnx:") and local.is_file()
        return {
            "name": self.name,
            "content": digest_of_path(local) if is_local else None,
            "external": digest_external_data(local, read_model(local)) if is_onnx_file else None,
            "weights": weights,
            "model_args": self.model_args,
            "preprocessing": asdict(self.preprocessing),
            "input": None if self.input_spec is None else self.input_spec.to_json(),
        }

    def _build(self) -> BuiltModel:
        """Make the model, a PyTorch module under a fixed seed."""
        loader, name = find_loader(self.name)
        needs_seed = find_entry(self.name)[0].torch
        with seeded_torch() if needs_seed else contextlib.nullcontext():
            try:
                return loader.build(name, pretrained=self.weights is None, model_args=self.model_args)
            except TopworkError:
                raise
            except (TypeError, ValueError) as error:
                raise InputError(f"{self.name} cannot be made with model_args={self.model_args}: {error}") from error

    def _choose_input_spec(self, built: BuiltModel) -> InputSpec:
        """Return the user's input specification, or else the source's, with the user's changes."""
        if self.input_spec is not None:
            return self.input_spec.override(self.preprocessing)
        if built.complaint:
            raise InputError(built.complaint)
        missing = [name for name in built.unknown if getattr(self.preprocessing, name) is None]
        if missing or built.input_spec is None:
            stated = ", ".join(f"{name}= (--{name})" for name in missing) or "input_spec="
            raise InputError(f"{self.name} does not say how its input is preprocessed; state {stated}")
        return built.input_spec.override(self.preprocessing)

    def _architecture(self) -> str:
        """Return the name without timm's tag of the pre-trained weights, which the digest identifies better."""
        if self.name.startswith("timm:"):
            return self.name.partition(".")[0]
        return self.name


def load_backbone(
    backbone: str | nn.Module,
    *,
    input_spec: InputSpec | None = None,
    weights: str | Path | None = None,
    model_args: dict[str, Any] | None = None,
    **preprocessing: Any,
) -> Backbone:
    """Load a model to be cut.

    Parameters
    ----------
    backbone : str or torch.nn.Module
        ``"timm:NAME"``, ``"torchvision:NAME"``, ``"hf:ID"`` or ``"hf:FOLDER"``, ``"onnx:FILE"``, ``"topwork:tiny"``,
        or a module (copied, and put in evaluation mode).
    input_spec : ImageSpec, TextSpec or TensorSpec, optional
        The input that the model expects; needed for a module, and where an ONNX file does not state it.
    weights : str or path, optional
        A ``.safetensors``, ``.pth``, ``.th`` or ``.pt`` file, or ``"random"`` for an untrained model, seeded.
        By default the source's pre-trained weights.
    model_args : dict, optional
        Arguments for the architecture.
    **preprocessing
        ``mean``, ``std``, ``size``, ``crop``, ``interpolation``, ``decode``, ``max_length``: changes to the backbone's
        own preprocessing.

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
    known = [field.name for field in fields(InputOverrides)]
    unknown = sorted(set(preprocessing) - set(known))
    if unknown:
        raise InputError(f"unknown arguments {', '.join(unknown)}; preprocessing takes {', '.join(known)}")
    overrides = InputOverrides(**preprocessing)
    if isinstance(backbone, str):
        spec = BackboneSpec(
            backbone,
            weights=weights,
            model_args=model_args or {},
            preprocessing=overrides,
            input_spec=input_spec,
        )
        return spec.load()
    if input_spec is None or model_args or weights:
        raise InputError(
            "a module needs input_spec=, and takes neither weights= nor model_args=: load them into it first"
        )
    name = f"{type(backbone).__module__}.{type(backbone).__qualname__}"
    return TorchBackbone.from_module(name, private_copy(backbone), input_spec.override(overrides))


@contextlib.contextmanager
def seeded_torch() -> Iterator[None]:
    """Make random weights reproducible, without disturbing the caller's random state."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_WEIGHTS_SEED)
        yield
