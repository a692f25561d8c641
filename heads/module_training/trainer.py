"""The loop that trains a module on rows, epoch by epoch, from any state that it was in after an epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ...errors import DivergedError, InputError
from ..parameters import select_torch_device
from .layer_groups import group_parameters
from .rows import Array, TrainingRows, shuffle_rows

if TYPE_CHECKING:
    from .options import ModuleTrainingOptions

MOMENTUM = 0.9


@dataclass(frozen=True)
class EpochRecord:
    """What an epoch came to.

    Parameters
    ----------
    epoch : int
        From 1; 0 stands for the weights before training.
    loss : float or None
        Mean loss in training; None before it.
    validation_loss : float or None
        Mean loss of the validation rows, if there are any.
    validation_score : float or None
        Their accuracy where the targets are classes, otherwise the loss with its sign turned.
    validation_error : float
        Standard error of the score; 0 without validation rows.
    """

    epoch: int
    loss: float | None
    validation_loss: float | None = None
    validation_score: float | None = None
    validation_error: float = 0.0

    @property
    def rank(self) -> tuple[float, int]:
        """What the best epoch has most of: the score of validation rows, and of equal ones the later epoch."""
        return -math.inf if self.validation_score is None else self.validation_score, self.epoch


@dataclass(frozen=True)
class TrainingState:
    """Everything that training goes on from after an epoch, as arrays.

    `module` and `best` are the present weights and the best so far, by name; `optimizer` has the state of each trained
    parameter, by name and key. `start` is what the weights before training come to, None without validation rows.
    """

    module: dict[str, Array]
    optimizer: dict[str, Array]
    best: dict[str, Array]
    records: list[EpochRecord] = field(default_factory=list)
    start: EpochRecord | None = None


class ModuleTrainer:
    """Trains a module on rows.

    What is random in an epoch depends on the seed and the number of the epoch alone: training that goes on from a
    state ends as training without an interruption. Neither torch's nor numpy's global generators are moved.

    Parameters
    ----------
    module : nn.Module
        Takes the inputs that the rows yield, a value and perhaps a mask of its tokens, and returns ``(n_rows,
        n_outputs)``. It is trained in place.
    rows, validation : TrainingRows
        Without validation rows all epochs are run, and the last weights are the best.
    options : ModuleTrainingOptions
        How it is trained.
    """

    def __init__(
        self,
        module: nn.Module,
        rows: TrainingRows,
        validation: TrainingRows | None,
        options: ModuleTrainingOptions,
    ) -> None:
        self.options = options
        self.device = select_torch_device(options.device)
        self.module = module.to(self.device)
        self.rows = rows
        self.validation = validation
        self.optimizer = self.make_optimizer()
        self.steps_per_epoch = math.ceil(len(rows) / options.batch_size)
        self.records: list[EpochRecord] = []
        self.start: EpochRecord | None = None
        self.best = copy_weights(module)

    def make_optimizer(self) -> torch.optim.Optimizer:
        """Return the optimiser."""
        groups = group_parameters(self.module, self.options)
        if not groups:
            raise InputError("the module has no parameter to train; expected one that requires a gradient")
        if self.options.optimizer == "sgd":
            return torch.optim.SGD(groups, momentum=MOMENTUM)
        return torch.optim.AdamW(groups)

    def run(self, until: int | None = None) -> Iterator[EpochRecord]:
        """Train epoch by epoch, and yield what each came to, until the last, or an earlier one, or patience ends.

        Afterwards :attr:`best` has the weights of the epoch that :meth:`choose_epoch` returns, and :meth:`keep_best`
        gives them to the module; without validation rows they are the last ones.
        """
        if self.validation is not None and self.start is None:
            self.start = EpochRecord(0, None, *self.validate(self.validation))
        end = self.options.epochs if until is None else min(until, self.options.epochs)
        while len(self.records) < end and not self.is_patience_over():
            epoch = len(self.records)
            loss = self.run_epoch(epoch)
            require_finite(loss, epoch, self.options)
            found = () if self.validation is None else self.validate(self.validation)
            require_finite(sum(found), epoch, self.options)
            self.records.append(EpochRecord(epoch + 1, loss, *found))
            if self.choose_epoch() == epoch + 1:
                self.best = copy_weights(self.module)
            yield self.records[-1]

    def find_best(self, until: int | None = None) -> EpochRecord | None:
        """Return the best of the epochs so far, or up to one, without the start; None before the first."""
        return max(self.records[:until], key=lambda record: record.rank, default=None)

    def choose_epoch(self) -> int:
        """Return the number of the epoch whose weights are kept; 0 if those before training are better.

        It is the last one whose score of validation rows is within a standard error of the best (Breiman et al. 1984):
        the learning rate has fallen furthest there, and what few rows say of single epochs is chance.
        """
        records = self.records if self.start is None else [self.start, *self.records]
        if not records:
            return 0
        best = max(records, key=lambda record: record.rank)
        score, _ = best.rank
        return max(record.epoch for record in records if record.rank[0] >= score - best.validation_error)

    def is_patience_over(self) -> bool:
        """Return whether the last epochs were worse than one before them, or than the start."""
        return self.start is not None and len(self.records) - self.choose_epoch() >= self.options.patience

    def keep_best(self) -> None:
        """Set the module to the best weights, in evaluation mode."""
        self.module.load_state_dict({name: torch.from_numpy(array) for name, array in self.best.items()})
        self.module.eval()

    def run_epoch(self, epoch: int) -> float:
        """Train on all rows once, in random order, and return their mean loss."""
        self.module.train()
        generator = np.random.default_rng([self.options.seed, epoch])
        order = shuffle_rows(len(self.rows), self.rows.rows_of_block, generator)
        total = 0.0
        with torch.random.fork_rng(self.list_cuda_devices()), torch.enable_grad():
            torch.manual_seed(int(generator.integers(2**62)))
            batches = np.array_split(order, self.steps_per_epoch)
            for number, (index, inputs) in enumerate(read_ahead(self.rows, batches)):
                self.set_learning_rate(step=epoch * self.steps_per_epoch + number)
                loss = self.run_step(index, inputs, generator)
                total += loss * len(index)
        return total / len(self.rows)

    def list_cuda_devices(self) -> list[torch.device]:
        """Return the device whose generator an epoch moves, if it is not the processor."""
        return [self.device] if self.device.type == "cuda" else []

    def run_step(self, index: Array, inputs: Sequence[Array], generator: np.random.Generator) -> float:
        """Make one step of the optimiser on a batch, and return its mean loss."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.compute_batch_loss(index, inputs, generator)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.options.max_gradient:
            nn.utils.clip_grad_norm_(self.module.parameters(), self.options.max_gradient)
        self.optimizer.step()
        return float(loss.detach())

    def compute_batch_loss(self, index: Array, inputs: Sequence[Array], generator: np.random.Generator) -> Tensor:
        """Return the mean loss of a batch, whose rows are mixed in pairs if mixup is asked for."""
        value, *others = (self.to_tensor(array) for array in inputs)
        target = self.to_tensor(self.rows.target[index])
        weight = self.to_tensor(self.rows.weight[index])
        if not self.options.mixup:
            return (weight * self.compute_losses(self.compute_outputs(value, *others), target)).mean()
        share = float(generator.beta(self.options.mixup, self.options.mixup))
        other = self.to_tensor(generator.permutation(len(index)))
        mixed = share * value.float() + (1 - share) * value[other].float()
        masks = [torch.maximum(mask, mask[other]) for mask in others]
        outputs = self.compute_outputs(mixed, *masks)
        losses = weight * self.compute_losses(outputs, target)
        other_losses = weight[other] * self.compute_losses(outputs, target[other])
        return (share * losses + (1 - share) * other_losses).mean()

    def compute_outputs(self, *inputs: Tensor) -> Tensor:
        """Return the outputs of the module, float32."""
        is_half = self.options.half and self.device.type == "cuda"
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=is_half):
            outputs: Tensor = self.module(*inputs)
        return outputs.float()

    def compute_losses(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each row."""
        loss = self.options.loss
        if callable(loss):
            losses = loss(outputs, target)
            if losses.shape != outputs.shape[:1]:
                raise InputError(
                    f"loss returned a tensor of shape {tuple(losses.shape)} for {len(outputs)} rows; expected the loss "
                    'of each row, as with reduction="none"'
                )
            return losses
        if loss == "classes":
            return functional.cross_entropy(
                outputs, target, reduction="none", label_smoothing=self.options.label_smoothing
            )
        if loss == "labels":
            return functional.binary_cross_entropy_with_logits(outputs, target, reduction="none").mean(1)
        return (outputs - target).square().mean(1)

    def validate(self, validation: TrainingRows) -> tuple[float, float, float]:
        """Return the mean loss of validation rows, their score and its standard error, see :class:`EpochRecord`."""
        is_classes = validation.target.ndim == 1 and validation.target.dtype.kind == "i"
        losses, scores = [], []
        batches = np.array_split(np.arange(len(validation)), math.ceil(len(validation) / self.options.batch_size))
        self.module.eval()
        with torch.no_grad():
            for index, inputs in read_ahead(validation, batches):
                outputs = self.compute_outputs(*(self.to_tensor(array) for array in inputs))
                target = self.to_tensor(validation.target[index])
                losses.append(self.compute_losses(outputs, target).double().cpu().numpy())
                if is_classes:
                    scores.append((outputs.argmax(1) == target).cpu().numpy())
        each_loss = np.concatenate(losses)
        each_score = np.concatenate(scores) if is_classes else -each_loss
        shares = validation.weight / validation.weight.sum(dtype=np.float64)
        score = float(shares @ each_score)
        error = math.sqrt(float(shares**2 @ (each_score - score) ** 2))  # of independent rows
        return float(shares @ each_loss), score, error

    def set_learning_rate(self, step: int) -> None:
        """Set the learning rates of a step: they rise in the warm-up and then fall along a half cosine."""
        share = self.compute_schedule(step)
        for group in self.optimizer.param_groups:
            group["lr"] = share * group["full_rate"]

    def compute_schedule(self, step: int) -> float:
        """Return the share of the full learning rate in a step."""
        n_steps = self.options.epochs * self.steps_per_epoch
        n_warmup = self.options.warmup * n_steps
        if step + 1 < n_warmup:
            return (step + 1) / n_warmup
        if not self.options.cosine:
            return 1.0
        progress = (step - n_warmup) / max(1.0, n_steps - n_warmup)
        return (1 + math.cos(math.pi * max(0.0, progress))) / 2

    def to_tensor(self, array: Array) -> Tensor:
        """Return an array as a tensor on the device."""
        return torch.from_numpy(array).to(self.device)

    def save_state(self) -> TrainingState:
        """Return the state after the last epoch, as copies."""
        optimizer = {}
        for name, parameter in self.module.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                optimizer[f"{name}/{key}"] = torch.as_tensor(value).detach().cpu().numpy().copy()
        return TrainingState(copy_weights(self.module), optimizer, dict(self.best), list(self.records), self.start)

    def restore_state(self, state: TrainingState) -> None:
        """Go on from a state."""
        self.module.load_state_dict({name: torch.from_numpy(array) for name, array in state.module.items()})
        parameters = dict(self.module.named_parameters())
        for key, array in state.optimizer.items():
            name, _, part = key.rpartition("/")
            device = self.device if array.ndim else torch.device("cpu")  # the number of steps stays on the processor
            self.optimizer.state[parameters[name]][part] = torch.from_numpy(array.copy()).to(device)
        self.best = dict(state.best)
        self.records = list(state.records)
        self.start = state.start


def require_finite(loss: float, epoch: int, options: ModuleTrainingOptions) -> None:
    """Raise a DivergedError for a loss that is not finite."""
    if not math.isfinite(loss):
        raise DivergedError(
            f"the loss became {loss} in epoch {epoch + 1}; expected finite numbers: lower learning_rate (it is "
            f"{options.learning_rate}), or look for extreme values"
        )


def copy_weights(module: nn.Module) -> dict[str, Array]:
    """Return copies of the parameters and buffers of a module, by name."""
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in module.state_dict().items()}


def read_ahead(rows: TrainingRows, batches: Sequence[Array]) -> Iterator[tuple[Array, Sequence[Array]]]:
    """Yield each batch with its inputs; the next one is read meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        pending: Any = pool.submit(rows.read, batches[0])
        for number, index in enumerate(batches):
            inputs = pending.result()
            if number + 1 < len(batches):
                pending = pool.submit(rows.read, batches[number + 1])
            yield index, inputs
