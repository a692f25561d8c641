"""The inputs of a graph and those of its PyTorch module: as tensors, their free axes, and what lies between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ....models.input_spec import InputSpec
    from ...preprocess.preprocessor import Feed


def to_tensors(feed: Feed) -> tuple[Tensor, ...]:
    """Return a batch as tensors, in the order of the graph's inputs."""
    import torch

    return tuple(torch.from_numpy(array) for array in feed.values())


def dynamic_axes(spec: InputSpec, inferred: bool = False) -> tuple[dict[int, Any], ...]:
    """Return for each input the axes that may have any size: the batch, and the tokens or samples of an item.

    They map the number of an axis to a ``torch.export.Dim``; with `inferred`, ``torch.export`` infers what it can
    prove.
    """
    from torch.export import Dim

    free: dict[str, Any] = {"batch": Dim("batch")}
    if spec.length_range is not None:
        shortest, longest = spec.length_range
        free["sequence"] = Dim("sequence", min=shortest, max=longest)
    if inferred:
        free = dict.fromkeys(free, Dim.DYNAMIC)
    return tuple({axis: free[name] for axis, name in port.free_axes.items()} for port in spec.graph_inputs)


def model_inputs(spec: InputSpec, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return what enters the model: images normalised, everything else unchanged.

    Images, uint8 ``(batch, height, width, 3)``, become float32 ``(batch, 3, height, width)``.
    """
    import torch

    if spec.normalization is None:
        return inputs
    mean = torch.tensor(spec.normalization.mean).view(1, 3, 1, 1)
    std = torch.tensor(spec.normalization.std).view(1, 3, 1, 1)
    pixels = inputs[0].permute(0, 3, 1, 2).contiguous().float()  # -> (batch, 3, height, width)
    return ((pixels / 255 - mean) / std,)


def token_mask(spec: InputSpec, inputs: tuple[Tensor, ...]) -> Tensor:
    """Return the mask of a batch of texts, ones if every token counts; for other inputs a tensor without meaning."""
    import torch

    if spec.kind == "text" and not spec.has_mask:
        return torch.ones_like(inputs[0])
    return inputs[-1]


def entry_module(spec: InputSpec) -> nn.Module:
    """Return :func:`model_inputs` as the first module of a graph."""
    from torch import nn

    class Entry(nn.Module):
        def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
            return model_inputs(spec, inputs)

    return Entry()
