"""Training a multilayer perceptron with torch: AdamW, a cosine schedule, dropout, mixup, early stopping.

Neither torch's nor numpy's global generators are read or moved.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import InputError, MissingPackageError
from .perceptron import Array, Network
from .recipe import Recipe, torch_device
from .weighted_rows import Rows

if TYPE_CHECKING:
    import torch
    from torch import Tensor

RESIDENT_BYTES = 2**30
"""Standardised features of up to this size are kept on the device; larger ones are standardised batch by batch."""


@dataclass
class Trained:
    """What training gives.

    Parameters
    ----------
    network : Network
    losses : list of float
        Mean loss of each epoch.
    scores : list of float
        Of each epoch, the loss of the rows that were held out, times -1; empty if there are none.
    moments : list of ndarray
        AdamW's two means of the gradients of each weight and bias, by turns.
    """

    network: Network
    losses: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    moments: list[Array] = field(default_factory=list)


def train(
    network: Network,
    rows: Rows,
    held: Rows | None,
    recipe: Recipe,
    generator: np.random.Generator,
    moments: list[Array] | None = None,
    steps: int = 0,
) -> Trained:
    """Train a network.

    Parameters
    ----------
    network : Network
        To start from.
    rows, held : Rows
        To learn from, and to judge by: with the latter, training ends after ``patience`` epochs in a row that are not
        the best, and the weights of the best epoch are returned.
    recipe : Recipe
    generator : numpy.random.Generator
    moments : list of ndarray, optional
        AdamW's, from training that is gone on with.
    steps : int
        How many steps AdamW has made.

    Raises
    ------
    InputError
        If the device does not exist, or the loss becomes infinite or not a number.
    MissingPackageError
        If torch is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingPackageError(
            "training an MLP head needs torch, which cannot be imported; expected it for fit and partial_fit only: "
            "pip install torch (predictions do without)"
        ) from error

    with torch.inference_mode(False), torch.enable_grad():
        return _Training(network, rows, recipe, generator, moments or [], steps).run(held)


class _Training:
    """Tensors on their device, and what is done with them."""

    def __init__(
        self, network: Network, rows: Rows, recipe: Recipe, generator: np.random.Generator, moments: Any, steps: int
    ) -> None:
        self.network, self.rows, self.recipe, self.generator = network, rows, recipe, generator
        self.device = torch_device(recipe.device)
        arrays = [each for pair in zip(network.weights, network.biases, strict=True) for each in pair]
        self.parameters = [self.tensor(each.copy()).requires_grad_() for each in arrays]
        self.optimizer = self.adamw(moments, steps)
        self.batches_per_epoch = math.ceil(len(rows) / recipe.batch_size)
        self.mean_weight = float(rows.weight.mean())
        self.features = self.feature_reader(rows)
        self.masks = self.mask_generator()

    def tensor(self, array: Array) -> Tensor:
        import torch

        return torch.from_numpy(array).to(self.device)

    def mask_generator(self) -> torch.Generator:
        import torch

        return torch.Generator(self.device).manual_seed(int(self.generator.integers(2**62)))

    def adamw(self, moments: list[Array], steps: int) -> torch.optim.Optimizer:
        """Return the optimiser, which does not decay biases, with the state of earlier training if there is one."""
        import torch

        recipe = self.recipe
        groups = [
            {"params": self.parameters[0::2], "weight_decay": recipe.weight_decay},
            {"params": self.parameters[1::2], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate)
        for parameter, first, second in zip(self.parameters, moments[0::2], moments[1::2], strict=bool(moments)):
            optimizer.state[parameter] = {
                "step": torch.tensor(float(steps)),
                "exp_avg": self.tensor(first.copy()),
                "exp_avg_sq": self.tensor(second.copy()),
            }
        return optimizer

    def feature_reader(self, rows: Rows) -> Callable[[Array], Tensor]:
        """Return a function that gives standardised features, float32, of some rows."""
        if rows.X.size * 4 > RESIDENT_BYTES:
            return lambda index: self.tensor(self.network.standardise(rows.X[index]).astype(np.float32))
        features = self.tensor(self.network.standardise(rows.X).astype(np.float32))
        return lambda index: features[self.tensor(index)]

    def run(self, held: Rows | None) -> Trained:
        trained, best, best_parameters = Trained(self.network), -math.inf, self.parameters
        judge = None if held is None else self.judge(held)
        for epoch in range(self.recipe.epochs):
            trained.losses.append(self.epoch(epoch))
            if judge is None:
                continue
            trained.scores.append(-judge())
            if trained.scores[-1] > best:
                best, best_parameters = trained.scores[-1], [each.detach().clone() for each in self.parameters]
            if len(trained.scores) - 1 - int(np.argmax(trained.scores)) >= self.recipe.patience:
                break
        trained.network, trained.moments = self.as_network(best_parameters), self.moments()
        return trained

    def epoch(self, epoch: int) -> float:
        """Go through all rows once, and return their mean loss."""
        total = 0.0
        order = self.generator.permutation(len(self.rows))
        for number, index in enumerate(np.array_split(order, self.batches_per_epoch)):
            self.set_learning_rate(epoch * self.batches_per_epoch + number)
            loss = self.loss_of_batch(index)
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            total += float(loss.detach()) * len(index)
        return self.finite(total / len(self.rows), epoch)

    def finite(self, loss: float, epoch: int) -> float:
        if math.isfinite(loss):
            return loss
        raise InputError(
            f"the loss became {loss} in epoch {epoch + 1}; expected finite numbers: "
            f"lower learning_rate (it is {self.recipe.learning_rate}), or look for extreme values in X or y"
        )

    def set_learning_rate(self, step: int) -> None:
        if not self.recipe.cosine:
            return
        share = step / (self.recipe.epochs * self.batches_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate * (1 + math.cos(math.pi * share)) / 2

    def loss_of_batch(self, index: Array) -> Tensor:
        features, target = self.features(index), self.tensor(self.rows.target[index])
        weight = self.tensor((self.rows.weight[index] / self.mean_weight).astype(np.float32))
        if not self.recipe.mixup:
            return self.losses(self.outputs(features, self.recipe.dropout), target, weight).mean()
        share = float(self.generator.beta(self.recipe.mixup, self.recipe.mixup))
        other = self.tensor(self.generator.permutation(len(index)))
        outputs = self.outputs(share * features + (1 - share) * features[other], self.recipe.dropout)
        losses = self.losses(outputs, target, weight)
        return (share * losses + (1 - share) * self.losses(outputs, target[other], weight[other])).mean()

    def outputs(self, hidden: Tensor, dropout: float = 0.0) -> Tensor:
        import torch

        *layers, (last, bias) = zip(self.parameters[0::2], self.parameters[1::2], strict=True)
        for weight, shift in layers:
            hidden = torch.relu(torch.addmm(shift, hidden, weight))
            if dropout:
                kept = torch.rand(hidden.shape, generator=self.masks, device=self.device, dtype=torch.float32)
                hidden = hidden * (kept >= dropout) / (1 - dropout)
        return torch.addmm(bias, hidden, last)

    def losses(self, outputs: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """Return weighted losses, of each row, or of each output of each row."""
        from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

        if self.recipe.loss == "classes":
            return weight * cross_entropy(outputs, target, reduction="none")
        if self.recipe.loss == "labels":
            return weight * binary_cross_entropy_with_logits(outputs, target, reduction="none")
        return weight * (outputs - target) ** 2

    def judge(self, held: Rows) -> Callable[[], float]:
        """Return a function that gives the mean loss of rows that were held out."""
        import torch

        features, parts = self.feature_reader(held), list(_parts(len(held)))

        def mean_loss() -> float:
            with torch.no_grad():
                total = sum(
                    float(
                        self.losses(
                            self.outputs(features(index)),
                            self.tensor(held.target[index]),
                            self.tensor(held.weight[index].astype(np.float32)),
                        )
                        .double()
                        .sum()
                    )
                    for index in parts
                )
            return total / float(held.weight.sum())

        return mean_loss

    def as_network(self, parameters: list[Tensor]) -> Network:
        arrays = [each.detach().cpu().numpy().copy() for each in parameters]
        return Network(self.network.mean, self.network.scale, arrays[0::2], arrays[1::2])

    def moments(self) -> list[Array]:
        states = [self.optimizer.state[each] for each in self.parameters]
        return [state[name].cpu().numpy().copy() for state in states for name in ("exp_avg", "exp_avg_sq")]


def _parts(count: int) -> Iterator[Array]:
    for start in range(0, count, 8192):
        yield np.arange(start, min(start + 8192, count))
