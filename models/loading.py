"""``load_backbone``: from a name and options, or from a module, to a backbone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, TopworkError
from ..identity import digest_of_file, digest_of_path
from .backbone import Backbone
from .input_spec import InputOverrides, InputSpec
from .onnx_backbone import OnnxBackbone
from .registry import Built, find_entry, find_source
from .torch_backbone import TorchBackbone, private_copy

if TYPE_CHECKING:
    from torch import nn

RANDOM = "random"
SEED = 0


@dataclass(frozen=True)
class BackboneSpec:
    """Which backbone to load, without loading it.

    Parameters
    ----------
    name : str
        A source and a name, such as ``"timm:resnet50"``.
    weights : str, path or None
        None for the source's own pre-trained weights, ``"random"`` for an untrained network (seeded), or a file.
    model_args : dict
        Arguments for the architecture, such as ``{"pad_type": "same"}``.
    preprocessing : InputOverrides
        Changes to the preprocessing that the backbone brings along.
    input_spec : ImageSpec, TextSpec or TensorSpec, optional
        Takes the place of what the backbone brings along.
    """

    name: str
    weights: str | Path | None = None
    model_args: dict[str, Any] = field(default_factory=dict)
    preprocessing: InputOverrides = field(default_factory=InputOverrides)
    input_spec: InputSpec | None = None

    def load(self) -> Backbone:
        """Load the backbone; see :func:`load_backbone`."""
        built = _built(self)
        details: dict[str, Any] = {
            "input_spec": self._input_spec(built),
            "arguments": {**self.model_args, **built.arguments},
            "pooling": built.pooling,
            "tolerance": built.tolerance,
            "spec": self,
        }
        if isinstance(built.network, Path):
            digest = digest_of_file(built.network)
            return OnnxBackbone(name=built.architecture, path=built.network, weights_digest=digest, **details)
        if self.weights_file is not None:
            built.load_weights(built.network, self.weights_file)
        name = built.architecture or _architecture(self.name)
        return TorchBackbone.from_module(name, built.network, classifier=built.classifier, **details)

    def _input_spec(self, built: Built) -> InputSpec:
        """Return what the network eats: as the user says, or as its makers do with the user's changes."""
        if self.input_spec is not None:
            return self.input_spec.override(self.preprocessing)
        missing = [name for name in built.unknown if getattr(self.preprocessing, name) is None]
        if built.complaint:
            raise InputError(built.complaint)
        if missing or built.input_spec is None:
            stated = ", ".join(f"{name}= (--{name})" for name in missing) or "input_spec="
            raise InputError(f"{self.name} does not say how its input is preprocessed; state {stated}")
        return built.input_spec.override(self.preprocessing)

    @property
    def weights_file(self) -> Path | None:
        """The local file of weights, if one was given."""
        return None if self.weights in (None, RANDOM) else Path(str(self.weights))

    def request(self) -> dict[str, Any]:
        """Return what decides the loaded network, without loading it: part of the key of the graph cache."""
        file, name = self.weights_file, find_entry(self.name)[1]
        local = Path(name.removeprefix("local-dir:"))
        is_local = self.name.startswith(("hf:", "onnx:", "timm:local-dir:")) and local.exists()
        if file is not None and not file.is_file():
            raise InputError(f"weights file {file} does not exist; expected a .safetensors, .pth, .th or .pt file")
        return {
            "name": self.name,
            "content": digest_of_path(local) if is_local else None,
            "external": _external_data(self.name, local),
            "weights": self.weights if file is None else digest_of_file(file),
            "model_args": self.model_args,
            "preprocessing": asdict(self.preprocessing),
            "input": None if self.input_spec is None else self.input_spec.to_json(),
        }


def load_backbone(
    backbone: str | nn.Module,
    *,
    input_spec: InputSpec | None = None,
    weights: str | Path | None = None,
    model_args: dict[str, Any] | None = None,
    **preprocessing: Any,
) -> Backbone:
    """Load a network to be cut.

    Parameters
    ----------
    backbone : str or torch.nn.Module
        ``"timm:NAME"``, ``"torchvision:NAME"``, ``"hf:ID"`` or ``"hf:FOLDER"``, ``"onnx:FILE"``, ``"topwork:tiny"``,
        or a module (copied, and put in evaluation mode).
    input_spec : ImageSpec, TextSpec or TensorSpec, optional
        What the network eats; needed for a module, and where an ONNX file does not say.
    weights : str or path, optional
        A ``.safetensors``, ``.pth``, ``.th`` or ``.pt`` file, or ``"random"`` for an untrained network, seeded.
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
        If the file's names or shapes differ from the network's; the message lists them.
    HubError
        If pre-trained weights cannot be fetched.
    MissingPackageError
        If the source's package is not installed.

    Examples
    --------
    >>> load_backbone("topwork:tiny").input_spec.size
    (32, 32)
    """
    changes = _overrides(preprocessing)
    if isinstance(backbone, str):
        return BackboneSpec(backbone, weights, model_args or {}, changes, input_spec).load()
    if input_spec is None or model_args or weights:
        raise InputError(
            "a module needs input_spec=, and takes neither weights= nor model_args=: load them into it first"
        )
    name = f"{type(backbone).__module__}.{type(backbone).__qualname__}"
    return TorchBackbone.from_module(name, private_copy(backbone), input_spec.override(changes))


def _overrides(preprocessing: dict[str, Any]) -> InputOverrides:
    known = InputOverrides.__dataclass_fields__
    unknown = sorted(set(preprocessing) - set(known))
    if unknown:
        raise InputError(f"unknown arguments {', '.join(unknown)}; preprocessing takes {', '.join(known)}")
    return InputOverrides(**preprocessing)


def _built(spec: BackboneSpec) -> Built:
    """Make the network, a PyTorch module under a fixed seed."""
    source, name = find_source(spec.name)
    with _seeded() if find_entry(spec.name)[0].torch else contextlib.nullcontext():
        try:
            return source.build(name, pretrained=spec.weights is None, model_args=spec.model_args)
        except TopworkError:
            raise
        except (TypeError, ValueError) as error:
            raise InputError(f"{spec.name} cannot be made with model_args={spec.model_args}: {error}") from error


def _external_data(name: str, local: Path) -> Any:
    """Return the digests of what an ONNX file keeps in other files."""
    if not name.startswith("onnx:") or not local.is_file():
        return None
    from .from_onnx import external_data, read_model

    return external_data(local, read_model(local))


@contextlib.contextmanager
def _seeded() -> Iterator[None]:
    """Make random weights the same every time, without disturbing the caller's random state."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        yield


def _architecture(name: str) -> str:
    """Drop timm's tag of the pre-trained weights: the weights' own digest says it better."""
    return name.partition(".")[0] if name.startswith("timm:") else name
