"""A small multilayer perceptron in numpy: its weights, its outputs, and how it changes between fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..standardisation import ROWS_AT_ONCE, MeanVariance

Array = NDArray[Any]


@dataclass(frozen=True)
class Perceptron:
    """Layers with ReLU between them, behind a standardisation.

    Each feature minus its mean is divided by its scale, both float64. A weight, float32, has the shape ``(n_inputs,
    n_outputs)``, a bias ``(n_outputs,)``.
    """

    mean: Array
    scale: Array
    weights: Sequence[Array]
    biases: Sequence[Array]

    def standardise(self, X: Array) -> Array:
        """Return standardised features, computed in their own precision."""
        standardised: Array = (X - self.mean.astype(X.dtype)) / self.scale.astype(X.dtype)
        return standardised

    def compute_outputs(self, X: Array) -> Array:
        """Return the outputs ``(n_rows, n_outputs)`` of the last layer, in the precision of `X`."""
        weights = [weight.astype(X.dtype) for weight in self.weights]
        biases = [bias.astype(X.dtype) for bias in self.biases]
        layers = list(zip(weights, biases, strict=True))
        outputs = np.empty((len(X), len(self.biases[-1])), X.dtype)
        for start in range(0, len(X), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            outputs[part] = apply_layers(layers, self.standardise(X[part]))
        return outputs

    def has_same_layers(self, other: Perceptron) -> bool:
        """Check whether inputs and hidden layers have the sizes of another perceptron's."""
        shapes = [weight.shape for weight in self.weights[:-1]]
        return shapes == [weight.shape for weight in other.weights[:-1]]

    def with_inputs(self, old: MeanVariance, new: MeanVariance) -> Perceptron:
        """Return a perceptron with the same outputs that standardises by another mean and variance than the old ones.

        Weights of features that did not vary so far have learned nothing, and are left as they are.
        """
        first = self.weights[0].astype(np.float64)  # (n_features, n_hidden)
        ratio = np.where(old.is_constant, 1.0, new.scale / old.scale)
        shift = np.where(old.is_constant, 0.0, (new.mean - old.mean) / old.scale)
        weights = [(first * ratio[:, None]).astype(np.float32), *self.weights[1:]]
        biases = [(self.biases[0] + shift @ first).astype(np.float32), *self.biases[1:]]
        return Perceptron(mean=new.mean, scale=new.scale, weights=weights, biases=biases)

    def with_targets(self, old: MeanVariance, new: MeanVariance) -> Perceptron:
        """Return a perceptron whose outputs, scaled back by another mean and variance of the targets, are the same."""
        weight = self.weights[-1] * (old.scale / new.scale)  # (n_hidden, n_targets)
        bias = (self.biases[-1] * old.scale + old.mean - new.mean) / new.scale
        return self.with_last_layer(weight.astype(np.float32), bias.astype(np.float32))

    def with_outputs(self, fresh: Perceptron, kept: Sequence[tuple[int, int]]) -> Perceptron:
        """Return this perceptron with the outputs of a fresh one, except for those that are kept.

        The fresh one has the same hidden layers. `kept` has pairs of the number of an output here and there.
        """
        here, there = np.array(kept, dtype=np.int64).reshape(-1, 2).T
        weight = fresh.weights[-1].copy()
        weight[:, there] = self.weights[-1][:, here]
        bias = fresh.biases[-1].copy()
        bias[there] = self.biases[-1][here]
        return self.with_last_layer(weight, bias)

    def with_last_layer(self, weight: Array, bias: Array) -> Perceptron:
        """Return this perceptron with another last layer."""
        return replace(self, weights=[*self.weights[:-1], weight], biases=[*self.biases[:-1], bias])


def apply_layers(layers: Sequence[tuple[Array, Array]], values: Array) -> Array:
    """Return the outputs of layers, given by their weights and biases, with ReLU between them."""
    *hidden_layers, (last_weight, last_bias) = layers
    for weight, bias in hidden_layers:
        values = np.maximum(values @ weight + bias, 0)
    outputs: Array = values @ last_weight + last_bias
    return outputs


def initialise_perceptron(sizes: Sequence[int], inputs: MeanVariance, generator: np.random.Generator) -> Perceptron:
    """Return a perceptron with random weights (He et al. 2015) and biases of zero.

    `sizes` are the numbers of features, of each hidden layer's units, and of outputs.
    """
    shapes = list(pairwise(sizes))
    gains = [2] * (len(shapes) - 1) + [1]  # no ReLU follows the last layer
    weights = []
    for shape, gain in zip(shapes, gains, strict=True):
        deviation = np.sqrt(gain / shape[0])
        weights.append((generator.standard_normal(shape) * deviation).astype(np.float32))
    biases = [np.zeros(n_units, np.float32) for n_units in sizes[1:]]
    return Perceptron(mean=inputs.mean, scale=inputs.scale, weights=weights, biases=biases)
