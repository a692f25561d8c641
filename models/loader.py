"""What the loader of each backbone source defines and returns, and how it reports failed downloads."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import HubError, reason
from .backbone import DEFAULT_TOLERANCE
from .input_spec import InputSpec
from .weights import load_weights

if TYPE_CHECKING:
    from torch import nn


class WeightsLoader(Protocol):
    """Copies a file of weights into a model."""

    def __call__(self, module: Any, path: Path, *, key: str, classifier: str | None) -> bool:
        """Fill the model, from the entry `key` of a checkpoint; return whether the classifier was filled, too."""


@dataclass(frozen=True)
class BuiltModel:
    """A module or an ONNX file, and what its source states about it.

    `input_spec` is the model's own preprocessing, None if it is unknown; then `complaint` says why, and `unknown` lists
    the overrides that the user must state because the source does not. `note` explains the specification to a user
    whose changes do not apply to it. `architecture` is set where the requested name does not identify it; `arguments`
    hold what decides the model beyond the user's arguments, such as a configuration file. The other
    fields are those of
    :class:`topwork.models.backbone.TorchBackbone`.

    `weights_digest` is set where a file of weights was made from others, which identify it.

    `sample_axes` are the sizes behind the batch of an input that may take sounds, ``(samples,)`` or ``(channels,
    samples)``, None for a free one; it does if the user states a rate.

    `prompts` are texts to put in front of an item, by the names that users may give; `fit_to_input` changes the model
    to the input specification that was chosen in the end.
    """

    model: nn.Module | Path
    input_spec: InputSpec | None
    classifier: str | None = None
    last_layer: str = ""
    pooling: str = ""
    tolerance: float = DEFAULT_TOLERANCE
    architecture: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    load_weights: WeightsLoader = load_weights
    unknown: tuple[str, ...] = ()
    complaint: str = ""
    prompts: dict[str, str] = field(default_factory=dict)
    fit_to_input: Callable[[Any, InputSpec], None] | None = None
    note: str = ""
    sample_axes: tuple[int | None, ...] = ()
    weights_digest: str = ""


class BackboneLoader(Protocol):
    """Interface of the module that loads backbones from one source."""

    def build(self, name: str, *, pretrained: bool, model_args: dict[str, Any]) -> BuiltModel:
        """Make the model called `name`, with pre-trained weights or with random ones."""


@contextlib.contextmanager
def fetching(backbone: str, wanted: bool) -> Iterator[None]:
    """Wrap the creation of a model that may download its weights.

    Raise a HubError, which says how to pass a local file, if weights were wanted and could not be fetched.
    """
    try:
        yield
    except Exception as error:
        if not wanted or not isinstance(error, (OSError, RuntimeError)):
            raise
        raise HubError(
            f"the pre-trained weights of {backbone} could not be fetched: {reason(error).rstrip('.')}. "
            "Expected a network connection or a copy fetched before. Without them pass a local file "
            "(weights='file.safetensors', --weights FILE), or weights='random' for an untrained model."
        ) from error
