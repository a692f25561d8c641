"""``load_backbone``: from a name and options, or from a module, to a backbone."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, TopworkError
from .backbone import Backbone, private_copy
from .input_spec import ImageOverrides, InputSpec
from .registry import Built, Source, find_source
from .weights import digest_of_file, load_weights

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
    preprocessing : ImageOverrides
        Changes to the preprocessing that the backbone brings along.
    """

    name: str
    weights: str | Path | None = None
    model_args: dict[str, Any] = field(default_factory=dict)
    preprocessing: ImageOverrides = field(default_factory=ImageOverrides)

    def load(self) -> Backbone:
        """Load the backbone; see :func:`load_backbone`."""
        source, name = find_source(self.name)
        built = _build(source, name, self)
        if self.weights_file is not None:
            load_weights(built.module, self.weights_file)
        return Backbone.from_module(
            _architecture(self.name),
            built.module,
            built.input_spec.override(self.preprocessing),
            arguments=self.model_args,
            classifier=built.classifier,
            spec=self,
        )

    @property
    def weights_file(self) -> Path | None:
        """The local file of weights, if one was given."""
        return None if self.weights in (None, RANDOM) else Path(str(self.weights))

    def request(self) -> dict[str, Any]:
        """Return what decides the loaded network, without loading it: part of the key of the graph cache."""
        file = self.weights_file
        if file is not None and not file.is_file():
            raise InputError(f"weights file {file} does not exist; expected a .safetensors, .pth, .th or .pt file")
        return {
            "name": self.name,
            "weights": self.weights if file is None else digest_of_file(file),
            "model_args": self.model_args,
            "preprocessing": asdict(self.preprocessing),
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
        ``"timm:NAME"``, ``"torchvision:NAME"``, ``"topwork:tiny"``, or a module (copied, and put in evaluation mode).
    input_spec : ImageSpec, optional
        What the network eats; needed for a module, known otherwise.
    weights : str or path, optional
        A ``.safetensors``, ``.pth``, ``.th`` or ``.pt`` file, or ``"random"`` for an untrained network, seeded.
        By default the source's pre-trained weights.
    model_args : dict, optional
        Arguments for the architecture.
    **preprocessing
        ``mean``, ``std``, ``size``, ``crop``, ``interpolation``: changes to the backbone's own preprocessing.

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
        if input_spec is not None:
            raise InputError(f"{backbone!r} brings its own input specification; change it with mean=, std=, size=, …")
        return BackboneSpec(backbone, weights, model_args or {}, changes).load()
    if input_spec is None or model_args or weights:
        raise InputError(
            "a module needs input_spec=, and takes neither weights= nor model_args=: load them into it first"
        )
    name = f"{type(backbone).__module__}.{type(backbone).__qualname__}"
    return Backbone.from_module(name, private_copy(backbone), input_spec.override(changes))


def _overrides(preprocessing: dict[str, Any]) -> ImageOverrides:
    known = ImageOverrides.__dataclass_fields__
    unknown = sorted(set(preprocessing) - set(known))
    if unknown:
        raise InputError(f"unknown arguments {', '.join(unknown)}; preprocessing takes {', '.join(known)}")
    return ImageOverrides(**preprocessing)


def _build(source: Source, name: str, spec: BackboneSpec) -> Built:
    """Make the network under a fixed seed, without disturbing the caller's random state."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        try:
            return source.build(name, pretrained=spec.weights is None, model_args=spec.model_args)
        except TopworkError:
            raise
        except (TypeError, ValueError) as error:
            raise InputError(f"{spec.name} cannot be made with model_args={spec.model_args}: {error}") from error


def _architecture(name: str) -> str:
    """Drop timm's tag of the pre-trained weights: the weights' own digest says it better."""
    return name.partition(".")[0] if name.startswith("timm:") else name
