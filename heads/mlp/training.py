"""Training a multilayer perceptron with torch: AdamW, a cosine schedule, dropout, mixup, early stopping.

Neither torch's nor numpy's global generators are read or moved.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import InputError, MissingPackageError
from ..parameters import select_torch_device
from ..standardisation import ROWS_AT_ONCE
from .perceptron import Array, Perceptron

if TYPE_CHECKING:
    import torch
    from torch import Tensor

MAX_ROWS_TO_MERGE = 4096
"""Among at most so many rows equal ones are merged: integer weights then mean exactly what repetition does."""
MAX_RESIDENT_BYTES = 2**30
"""Standardised features of up to this size are kept on the device; larger ones are standardised batch by batch."""
BYTES_PER_FLOAT32 = 4
MAX_TORCH_SEED = 2**62


@dataclass(frozen=True)
class WeightedRows:
    """Features, targets and weights to train on.

    Targets are codes of classes, int64 of shape ``(n_rows,)``, or a value for each output. Weights are positive,
    float64; those to train on have the shape of the targets.
    """

    X: Array
    target: Array
    weight: Array

    def __len__(self) -> int:
        return len(self.X)

    def take(self, rows: Array) -> WeightedRows:
        """Return some rows."""
        return WeightedRows(self.X[rows], self.target[rows], self.weight[rows])

    def merge_equal(self) -> WeightedRows:
        """Return distinct rows, in the order of their values, with the sums of their weights; many rows as they are."""
        if len(self) > MAX_ROWS_TO_MERGE:
            return self
        keys = np.column_stack([self.X.astype(np.float64), self.target.astype(np.float64)])
        _, first, inverse = np.unique(keys, axis=0, return_index=True, return_inverse=True)
        weight = np.bincount(inverse.reshape(-1), self.weight)
        return WeightedRows(self.X[first], self.target[first], weight)


@dataclass(frozen=True)
class TrainingOptions:
    """How a perceptron is trained; the parameters are those of the estimators.

    The loss is the cross entropy of a softmax ("classes"), of a sigmoid for each output ("labels"), or the squared
    error ("values"). With `cosine` the learning rate falls to zero along a half cosine (Loshchilov and Hutter 2017).
    """

    loss: str
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    dropout: float
    mixup: float
    patience: int
    device: str
    cosine: bool = True


@dataclass(frozen=True)
class AdamWState:
    """The state of AdamW, from which training can continue.

    `moments` are its two means of the gradients of each weight and bias, alternating; none at the start.
    """

    moments: Sequence[Array] = ()
    steps: int = 0


@dataclass(frozen=True)
class TrainingResult:
    """A trained perceptron, the mean loss of each epoch, the validation loss times -1 of each, and the state of AdamW.

    `scores` is empty without validation rows; `moments` are as in :class:`AdamWState`.
    """

    perceptron: Perceptron
    losses: list[float]
    scores: list[float]
    moments: list[Array]


def train(
    perceptron: Perceptron,
    rows: WeightedRows,
    validation: WeightedRows | None,
    options: TrainingOptions,
    *,
    generator: np.random.Generator,
    state: AdamWState | None = None,
) -> TrainingResult:
    """Train a perceptron, from its present weights and the optimiser's state.

    With validation rows, training ends after ``patience`` epochs in a row that are not the best, and the weights of the
    best epoch are returned. It is an error if the loss becomes infinite or not a number.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingPackageError(
            "training an MLP head needs torch, which cannot be imported; expected it for fit and partial_fit only: "
            "pip install torch (predictions do without)"
        ) from error

    with torch.inference_mode(False), torch.enable_grad():
        trainer = Trainer(perceptron, rows, options, generator=generator, state=state or AdamWState())
        if validation is None:
            return trainer.run_all_epochs()
        return trainer.run_until_best(validation)


class Trainer:
    """Parameters, optimiser and features on their device."""

    def __init__(
        self,
        perceptron: Perceptron,
        rows: WeightedRows,
        options: TrainingOptions,
        *,
        generator: np.random.Generator,
        state: AdamWState,
    ) -> None:
        import torch

        self.perceptron = perceptron
        self.rows = rows
        self.options = options
        self.generator = generator
        self.device = select_torch_device(options.device)
        self.parameters: list[Tensor] = []  # weights and biases, alternating
        for layer in zip(perceptron.weights, perceptron.biases, strict=True):
            for array in layer:
                self.parameters.append(self.to_tensor(array.copy()).requires_grad_())
        self.optimizer = self.make_optimizer()
        if state.moments:
            self.restore_state(state)
        self.batches_per_epoch = math.ceil(len(rows) / options.batch_size)
        self.mean_weight = float(rows.weight.mean())
        self.read_features = self.make_feature_reader(rows)
        self.mask_generator = torch.Generator(self.device)
        self.mask_generator.manual_seed(int(generator.integers(MAX_TORCH_SEED)))

    def to_tensor(self, array: Array) -> Tensor:
        """Return an array as a tensor on the device."""
        import torch

        return torch.from_numpy(array).to(self.device)

    def make_optimizer(self) -> torch.optim.Optimizer:
        """Return the optimiser, which does not decay biases."""
        import torch

        weights = {"params": self.parameters[0::2], "weight_decay": self.options.weight_decay}
        biases = {"params": self.parameters[1::2], "weight_decay": 0.0}
        return torch.optim.AdamW([weights, biases], lr=self.options.learning_rate)

    def restore_state(self, state: AdamWState) -> None:
        """Set the optimiser's state to that of earlier training."""
        import torch

        for parameter, first, second in zip(self.parameters, state.moments[0::2], state.moments[1::2], strict=True):
            self.optimizer.state[parameter] = {
                "step": torch.tensor(float(state.steps)),
                "exp_avg": self.to_tensor(first.copy()),
                "exp_avg_sq": self.to_tensor(second.copy()),
            }

    def make_feature_reader(self, rows: WeightedRows) -> Callable[[Array], Tensor]:
        """Return a function that returns the standardised features, float32, of some rows."""
        if rows.X.size * BYTES_PER_FLOAT32 > MAX_RESIDENT_BYTES:
            return lambda index: self.standardise(rows.X[index])
        features = self.standardise(rows.X)
        return lambda index: features[self.to_tensor(index)]

    def standardise(self, X: Array) -> Tensor:
        """Return standardised features as a tensor of float32."""
        return self.to_tensor(self.perceptron.standardise(X).astype(np.float32))

    def run_all_epochs(self) -> TrainingResult:
        """Run all epochs, and return the last weights."""
        losses = [self.run_epoch(epoch) for epoch in range(self.options.epochs)]
        return self.make_result(self.parameters, losses=losses, scores=[])

    def run_until_best(self, validation: WeightedRows) -> TrainingResult:
        """Run epochs until the validation loss stops falling, and return the weights of the best."""
        read_features = self.make_feature_reader(validation)
        losses = []
        scores = []
        best_score = -math.inf
        best_epoch = 0
        best_parameters = self.parameters
        for epoch in range(self.options.epochs):
            losses.append(self.run_epoch(epoch))
            score = -self.compute_validation_loss(validation, read_features)
            scores.append(score)
            if score > best_score:
                best_score = score
                best_epoch = epoch
                best_parameters = [parameter.detach().clone() for parameter in self.parameters]
            if epoch - best_epoch >= self.options.patience:
                break
        return self.make_result(best_parameters, losses=losses, scores=scores)

    def run_epoch(self, epoch: int) -> float:
        """Train on all rows once, in random order, and return their mean loss."""
        total = 0.0
        order = self.generator.permutation(len(self.rows))
        for number, index in enumerate(np.array_split(order, self.batches_per_epoch)):
            self.set_learning_rate(step=epoch * self.batches_per_epoch + number)
            loss = self.compute_batch_loss(index)
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            total += float(loss.detach()) * len(index)
        mean_loss = total / len(self.rows)
        if not math.isfinite(mean_loss):
            raise self.describe_divergence(mean_loss, epoch)
        return mean_loss

    def describe_divergence(self, loss: float, epoch: int) -> InputError:
        """Return the error for a loss that is infinite or not a number."""
        return InputError(
            f"the loss became {loss} in epoch {epoch + 1}; expected finite numbers: "
            f"lower learning_rate (it is {self.options.learning_rate}), or look for extreme values in X or y"
        )

    def set_learning_rate(self, step: int) -> None:
        """Set the learning rate of the schedule."""
        if not self.options.cosine:
            return
        progress = step / (self.options.epochs * self.batches_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.learning_rate * (1 + math.cos(math.pi * progress)) / 2

    def compute_batch_loss(self, index: Array) -> Tensor:
        """Return the mean loss of some rows, mixed in pairs if mixup is asked for."""
        features = self.read_features(index)  # (n_rows, n_features)
        target = self.to_tensor(self.rows.target[index])
        weight = self.to_tensor((self.rows.weight[index] / self.mean_weight).astype(np.float32))
        if self.options.mixup:
            return self.compute_mixed_loss(features, target, weight)
        outputs = self.compute_outputs(features, self.options.dropout)
        return self.compute_losses(outputs, target, weight).mean()

    def compute_mixed_loss(self, features: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """Return the mean loss of rows that are mixed in pairs (Zhang et al. 2018)."""
        share = float(self.generator.beta(self.options.mixup, self.options.mixup))
        other = self.to_tensor(self.generator.permutation(len(features)))
        mixed = share * features + (1 - share) * features[other]
        outputs = self.compute_outputs(mixed, self.options.dropout)
        losses = self.compute_losses(outputs, target, weight)
        other_losses = self.compute_losses(outputs, target[other], weight[other])
        return (share * losses + (1 - share) * other_losses).mean()

    def compute_outputs(self, features: Tensor, dropout: float = 0.0) -> Tensor:
        """Return the outputs ``(n_rows, n_outputs)`` of the last layer."""
        import torch

        *hidden_layers, (last_weight, last_bias) = zip(self.parameters[0::2], self.parameters[1::2], strict=True)
        hidden = features
        for weight, bias in hidden_layers:
            hidden = torch.relu(torch.addmm(bias, hidden, weight))
            if dropout:
                hidden = self.drop_units(hidden, share=dropout)
        return torch.addmm(last_bias, hidden, last_weight)

    def drop_units(self, hidden: Tensor, share: float) -> Tensor:
        """Set a random share of the hidden units to zero, and scale the others up to make up for them."""
        import torch

        random = torch.rand(hidden.shape, generator=self.mask_generator, device=self.device, dtype=torch.float32)
        return hidden * (random >= share) / (1 - share)

    def compute_losses(self, outputs: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """Return weighted losses, of each row, or of each output of each row."""
        from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

        if self.options.loss == "classes":
            return weight * cross_entropy(outputs, target, reduction="none")
        if self.options.loss == "labels":
            return weight * binary_cross_entropy_with_logits(outputs, target, reduction="none")
        return weight * (outputs - target) ** 2

    def compute_validation_loss(self, validation: WeightedRows, read_features: Callable[[Array], Tensor]) -> float:
        """Return the mean loss of the validation rows, in parts that need little memory."""
        import torch

        total = 0.0
        for start in range(0, len(validation), ROWS_AT_ONCE):
            index = np.arange(start, min(start + ROWS_AT_ONCE, len(validation)))
            target = self.to_tensor(validation.target[index])
            weight = self.to_tensor(validation.weight[index].astype(np.float32))
            with torch.no_grad():
                losses = self.compute_losses(self.compute_outputs(read_features(index)), target, weight)
            total += float(losses.double().sum())
        return total / float(validation.weight.sum())

    def make_result(self, parameters: Sequence[Tensor], *, losses: list[float], scores: list[float]) -> TrainingResult:
        """Return some weights and biases, alternating, as a perceptron, with the optimiser's present state."""
        arrays = [parameter.detach().cpu().numpy().copy() for parameter in parameters]
        perceptron = replace(self.perceptron, weights=arrays[0::2], biases=arrays[1::2])
        return TrainingResult(perceptron, losses=losses, scores=scores, moments=self.get_moments())

    def get_moments(self) -> list[Array]:
        """Return AdamW's two means of the gradients of each weight and bias, alternating."""
        moments = []
        for parameter in self.parameters:
            state: dict[str, Any] = self.optimizer.state[parameter]
            moments.append(state["exp_avg"].cpu().numpy().copy())
            moments.append(state["exp_avg_sq"].cpu().numpy().copy())
        return moments
