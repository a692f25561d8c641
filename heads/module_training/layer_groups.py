"""Groups of parameters, from the input to the output, and their learning rates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from .options import ModuleTrainingOptions


def name_group(parameter: str) -> str:
    """Return the block that a parameter belongs to: its name up to the first number, without its own part.

    Examples
    --------
    >>> name_group("encoder.layer.5.attention.self.query.weight")
    'encoder.layer.5'
    >>> name_group("fc.bias")
    'fc'
    """
    *path, _ = parameter.split(".")
    for position, part in enumerate(path):
        if part.isdecimal():
            return ".".join(path[: position + 1])
    return ".".join(path)


def group_parameters(module: nn.Module, options: ModuleTrainingOptions) -> list[dict[str, Any]]:
    """Return groups of parameters for an optimiser, each with its learning rate and decay.

    The parameters of a module are in order of execution; the last block learns at the full rate, each one below it at
    ``layer_decay`` times that of the next (Bao et al. 2022, https://arxiv.org/abs/2106.08254).
    """
    trained = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    blocks = list(dict.fromkeys(map(name_group, trained)))
    groups: dict[tuple[str, bool], list[Any]] = {}
    for name, parameter in trained.items():
        is_decayed = parameter.ndim > 1
        groups.setdefault((name_group(name), is_decayed), []).append(parameter)
    described = []
    for (block, is_decayed), parameters in groups.items():
        distance = len(blocks) - 1 - blocks.index(block)
        rate = options.learning_rate * options.layer_decay**distance
        decay = options.weight_decay if is_decayed else 0.0
        described.append({"params": parameters, "lr": rate, "full_rate": rate, "weight_decay": decay})
    return described
