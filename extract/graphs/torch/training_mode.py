"""What a trace in training mode needs: a copy of the model in that mode, and BatchNorm that can be differentiated."""

from __future__ import annotations

import copy
import operator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

    from ....models.backbone import TorchBackbone


def copy_in_training_mode(backbone: TorchBackbone, *, train_batch_norm: bool) -> TorchBackbone:
    """Return a backbone with a copy of the module in training mode; without `train_batch_norm` BatchNorm is not.

    The copy shares the parameters, which tracing does not change, but not the buffers, such as running statistics.
    """
    from torch.nn.modules.batchnorm import _BatchNorm

    shared = {id(parameter): parameter for parameter in backbone.module.parameters()}
    module = copy.deepcopy(backbone.module, shared).train()
    if not train_batch_norm:
        for part in module.modules():
            if isinstance(part, _BatchNorm):
                part.eval()
    return replace(backbone, module=module)


def restore_batch_norm(module: GraphModule) -> None:
    """Replace BatchNorm that returns new running statistics by PyTorch's own, which updates them.

    Making it functional takes the update out of the operation, to the end of the graph. Then it changes what the
    gradients are computed from. A graph in evaluation mode has none.
    """
    import torch

    functional_batch_norm = torch.ops.aten._native_batch_norm_legit_functional.default
    graph = module.graph
    found = graph.find_nodes(op="call_function", target=functional_batch_norm)
    if not found:
        return
    for node in found:
        value, weight, bias, mean, variance, training, momentum, epsilon = node.args
        with graph.inserting_before(node):
            restored = graph.call_function(
                torch.nn.functional.batch_norm, (value, mean, variance, weight, bias, training, momentum, epsilon)
            )
        restored.meta = {**node.meta, "val": node.meta["val"][0]}
        for part in list(node.users):
            if part.args[1] == 0:
                part.replace_all_uses_with(restored)
            erase_with_users(part)
        graph.erase_node(node)
    module.recompile()


def erase_with_users(part: Node) -> None:
    """Erase a node, and the writing of its value into a buffer."""
    assert part.target is operator.getitem
    users: list[Any] = list(part.users)
    for user in users:
        part.graph.erase_node(user)
    part.graph.erase_node(part)
