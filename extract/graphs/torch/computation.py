"""The identity of a PyTorch module's computation: a digest of its traced program.

Class name and weights do not tell networks apart: a flag in ``forward``, another activation or stride changes neither.
The digest covers operations, their arguments and their wiring, from the output back. Names of values, paths, the order
of independent operations, and whatever the output does not depend on leave it unchanged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ....errors import ExportError
from ....identity import digest
from ..routes import TORCH_ROUTES
from .trace import trace

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

    from ....models.backbone import TorchBackbone


def digest_computation(backbone: TorchBackbone) -> str:
    """Return the digest of a backbone's traced program, "" if ``torch.export`` cannot follow the model in any way."""
    for tracing in dict.fromkeys(route.tracing for route in TORCH_ROUTES):
        try:
            traced = trace(backbone, tracing)
        except ExportError:
            continue
        return ProgramDigest(traced.module, set(backbone.module.state_dict())).compute()
    return ""


class ProgramDigest:
    """The digest of a traced program.

    Parameters
    ----------
    module : torch.fx.GraphModule
    weights : set of str
        Names of the model's weights, whose values are digested apart.
    """

    def __init__(self, module: GraphModule, weights: set[str]) -> None:
        self.module = module
        self.weights = weights
        self.numbers: dict[Node, int] = {}
        """Number of each node: nodes are numbered as the output's arguments reach them."""
        self.operations: list[Any] = []

    def compute(self) -> str:
        """Return the SHA-256."""
        output = self.module.graph.output_node()
        return digest([self.describe(output.args), self.operations])

    def describe(self, value: Any) -> Any:
        """Return an argument as JSON can hold it; nodes become their numbers."""
        import torch

        if isinstance(value, torch.fx.Node):
            return ["node", self.number(value)]
        if isinstance(value, (list, tuple)):
            return [self.describe(element) for element in value]
        if isinstance(value, Mapping):
            return [[str(name), self.describe(element)] for name, element in value.items()]
        if isinstance(value, slice):
            return ["slice", self.describe([value.start, value.stop, value.step])]
        return f"{type(value).__name__} {value}"

    def number(self, node: Node) -> int:
        """Return the number of a node, after those of all that it is computed from."""
        pending = [node]
        while pending:
            current = pending[-1]
            missing = [source for source in current.all_input_nodes if source not in self.numbers]
            if current not in self.numbers and not missing:
                self.operations.append(self.describe_operation(current))
                self.numbers[current] = len(self.operations)
            if missing:
                pending.extend(reversed(missing))
            else:
                pending.pop()
        return self.numbers[node]

    def describe_operation(self, node: Node) -> Any:
        """Return the operation of a node and its arguments."""
        if node.op == "placeholder":
            position = [other for other in self.module.graph.nodes if other.op == "placeholder"].index(node)
            return ["input", position]
        if node.op == "get_attr":
            return ["value", self.describe_attribute(str(node.target))]
        return [node.op, str(node.target), self.describe(node.args), self.describe(node.kwargs)]

    def describe_attribute(self, name: str) -> str:
        """Return the name of a weight; the content of another constant."""
        import torch

        if name in self.weights:
            return name
        value: Any = self.module
        for part in name.split("."):
            value = getattr(value, part)
        if isinstance(value, torch.fx.GraphModule):
            return ProgramDigest(value, self.weights).compute()
        if isinstance(value, torch.Tensor):
            content = value.detach().cpu().contiguous()
            sha = hashlib.sha256(
                content.view(torch.uint8).numpy().tobytes() if content.dim() else str(content.item()).encode()
            )
            return f"{content.dtype} {tuple(content.shape)} {sha.hexdigest()}"
        return str(value)
