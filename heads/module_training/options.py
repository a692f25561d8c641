"""How a module is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

    Loss: TypeAlias = Literal["classes", "labels", "values"] | Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class ModuleTrainingOptions:
    """How a module is trained.

    Parameters
    ----------
    loss : str or callable
        Cross entropy of a softmax ("classes"), of a sigmoid for each output ("labels"), the squared error ("values");
        or a function of the outputs and the targets that returns the loss of each row.
    epochs, batch_size : int
        Passes over the rows, and rows for each step.
    optimizer : {"adamw", "sgd"}
        SGD has a momentum of 0.9.
    learning_rate : float
        Largest learning rate of the last group of layers, the head.
    layer_decay : float
        What the learning rate is multiplied with from each group of layers to the one below.
    weight_decay : float
        Decay of weights; biases and other vectors, such as those of normalisations, have none.
    warmup : float
        Share of the steps in which the learning rate rises from zero.
    cosine : bool
        Whether the learning rate then falls to zero along a half cosine (Loshchilov and Hutter 2017).
    label_smoothing : float
        Share of each target that is spread over all classes (Szegedy et al. 2016).
    mixup : float
        Parameter of the Beta distribution by which pairs of rows are mixed (Zhang et al. 2018); 0 for none.
    max_gradient : float
        Largest length (L2 norm) of the gradient, which is scaled down to it; 0 for no limit.
    patience : int
        Epochs after the one that is kept, by the score of validation rows, after which training ends.
    half : bool
        Whether operations that allow it compute in bfloat16 on a GPU.
    seed : int
        Decides the order of rows, dropout and mixup of each epoch.
    device : str
        "auto", or a torch device.
    """

    loss: Loss = "classes"
    epochs: int = 30
    batch_size: int = 64
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 1e-3
    layer_decay: float = 0.8
    weight_decay: float = 0.05
    warmup: float = 0.1
    cosine: bool = True
    label_smoothing: float = 0.0
    mixup: float = 0.0
    max_gradient: float = 1.0
    patience: int = 10
    half: bool = True
    seed: int = 0
    device: str = "auto"
