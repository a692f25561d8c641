"""Between the inputs of a graph and those of its network: what the graph itself does before the network starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ....models.input_spec import InputSpec
    from ...preprocess.preprocessor import Feed


def tensors_of(feed: Feed) -> tuple[Tensor, ...]:
    """Return a batch as tensors, in the order of the graph's inputs."""
    import torch

    return tuple(torch.from_numpy(array) for array in feed.values())


def dynamic_axes(spec: InputSpec, inputs: int, inferred: bool = False) -> tuple[dict[int, Any], ...]:
    """Return which axes of the inputs have any size: the batch, and the tokens of texts."""
    from torch.export import Dim

    axes: dict[int, Any] = {0: Dim("batch")}
    if spec.length_range is not None:
        shortest, longest = spec.length_range
        axes[1] = Dim("sequence", min=shortest, max=longest)
    if inferred:
        axes = dict.fromkeys(axes, Dim.DYNAMIC)
    return tuple(axes for _ in range(inputs))


def network_inputs(spec: InputSpec, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return what enters the network: images normalised, anything else as it is.

    Parameters
    ----------
    spec : ImageSpec, TextSpec or TensorSpec
    inputs : tuple of Tensor
        Of the graph: for images one of uint8, shape (batch, height, width, 3).
    """
    import torch

    if spec.normalization is None:
        return inputs
    mean = torch.tensor(spec.normalization.mean).view(1, 3, 1, 1)
    std = torch.tensor(spec.normalization.std).view(1, 3, 1, 1)
    return ((inputs[0].permute(0, 3, 1, 2).contiguous().float() / 255 - mean) / std,)


def entry_module(spec: InputSpec) -> nn.Module:
    """Return :func:`network_inputs` as the first module of a graph."""
    from torch import nn

    class Entry(nn.Module):
        def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
            return network_inputs(spec, inputs)

    return Entry()
