"""A small multilayer perceptron in numpy: its weights, what it computes, and the standardisation of its inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

ROWS_AT_ONCE = 8192
SMALLEST_RELATIVE_SPREAD = 1e-13
"""A column that varies by less than this part of its mean is taken as constant: that much is rounding."""


@dataclass(frozen=True)
class Spread:
    """The weighted mean and variance of each column of a matrix.

    Parameters
    ----------
    mean, variance : ndarray of shape (n_columns,), float64
    weight : float
        Sum of the weights of the rows.
    """

    mean: Array
    variance: Array
    weight: float

    @classmethod
    def of(cls, values: Array, weight: Array) -> Spread:
        """Return the spread of a matrix's columns, computed in float64 with little memory.

        Parameters
        ----------
        values : ndarray of shape (n_rows, n_columns)
        weight : ndarray of shape (n_rows,)
            Positive.
        """
        width = values.shape[1]
        spread = cls(np.zeros(width), np.zeros(width), 0.0)
        for start in range(0, len(values), ROWS_AT_ONCE):
            part = values[start : start + ROWS_AT_ONCE].astype(np.float64)
            spread = spread.merged(cls._of_part(part, weight[start : start + ROWS_AT_ONCE].astype(np.float64)))
        return spread

    @classmethod
    def _of_part(cls, part: Array, weight: Array) -> Spread:
        share = weight / weight.sum()
        mean = share @ part
        return cls(mean, share @ (part - mean) ** 2, float(weight.sum()))

    def merged(self, other: Spread) -> Spread:
        """Return the spread of the rows of both (Chan, Golub and LeVeque 1979).

        Parameters
        ----------
        other : Spread
        """
        weight = self.weight + other.weight
        share, shift = other.weight / weight, other.mean - self.mean
        variance = (1 - share) * self.variance + share * other.variance + share * (1 - share) * shift**2
        return Spread(self.mean + share * shift, variance, weight)

    @property
    def constant(self) -> Array:
        """Which columns do not vary, as booleans of shape (n_columns,)."""
        floor = np.maximum(SMALLEST_RELATIVE_SPREAD * np.abs(self.mean), np.finfo(np.float32).tiny)
        constant: Array = np.sqrt(self.variance) <= floor
        return constant

    @property
    def scale(self) -> Array:
        """The standard deviation of each column, 1 where it does not vary; float64 of shape (n_columns,)."""
        return np.where(self.constant, 1.0, np.sqrt(self.variance))


@dataclass(frozen=True)
class Network:
    """Layers with ReLU between them, behind a standardisation.

    Parameters
    ----------
    mean, scale : ndarray of shape (n_features,), float64
        What is taken from each feature, and by what it is divided.
    weights : sequence of ndarray of shape (n_inputs, n_outputs), float32
    biases : sequence of ndarray of shape (n_outputs,), float32
    """

    mean: Array
    scale: Array
    weights: Sequence[Array]
    biases: Sequence[Array]

    def standardise(self, X: Array) -> Array:
        """Return standardised features, computed in their own precision.

        Parameters
        ----------
        X : ndarray of shape (n_rows, n_features), float32 or float64
        """
        standardised: Array = (X - self.mean.astype(X.dtype)) / self.scale.astype(X.dtype)
        return standardised

    def outputs(self, X: Array) -> Array:
        """Return what the last layer gives.

        Parameters
        ----------
        X : ndarray of shape (n_rows, n_features), float32 or float64

        Returns
        -------
        ndarray of shape (n_rows, n_outputs)
            Of the type of ``X``, in whose precision it is computed.
        """
        weights, biases = [[each.astype(X.dtype) for each in kind] for kind in (self.weights, self.biases)]
        outputs = np.empty((len(X), len(biases[-1])), X.dtype)
        for start in range(0, len(X), ROWS_AT_ONCE):
            hidden = self.standardise(X[start : start + ROWS_AT_ONCE])
            for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
                hidden = np.maximum(hidden @ weight + bias, 0)
            outputs[start : start + ROWS_AT_ONCE] = hidden @ weights[-1] + biases[-1]
        return outputs

    def has_hidden_layers_of(self, other: Network) -> bool:
        """Tell whether inputs and hidden layers have the sizes of another network's.

        Parameters
        ----------
        other : Network
        """
        return [each.shape for each in self.weights[:-1]] == [each.shape for each in other.weights[:-1]]

    def with_inputs(self, old: Spread, new: Spread) -> Network:
        """Return a network that computes the same and standardises by another spread.

        Weights of features that did not vary so far have learned nothing, and are left as they are.

        Parameters
        ----------
        old, new : Spread
            Of the features; the first is the one that the network standardises by.
        """
        first = self.weights[0].astype(np.float64)
        ratio = np.where(old.constant, 1.0, new.scale / old.scale)
        shift = np.where(old.constant, 0.0, (new.mean - old.mean) / old.scale)
        weights = [(first * ratio[:, None]).astype(np.float32), *self.weights[1:]]
        biases = [(self.biases[0] + shift @ first).astype(np.float32), *self.biases[1:]]
        return Network(new.mean, new.scale, weights, biases)

    def with_outputs(self, old: Spread, new: Spread) -> Network:
        """Return a network whose outputs, scaled back by another spread of the targets, are the same.

        Parameters
        ----------
        old, new : Spread
            Of the targets.
        """
        last = self.weights[-1] * (old.scale / new.scale)
        bias = (self.biases[-1] * old.scale + old.mean - new.mean) / new.scale
        weights = [*self.weights[:-1], last.astype(np.float32)]
        return replace(self, weights=weights, biases=[*self.biases[:-1], bias.astype(np.float32)])

    def with_units(self, fresh: Network, kept: Sequence[tuple[int, int]]) -> Network:
        """Return this network with the output units of a fresh one, but for those that are kept.

        Parameters
        ----------
        fresh : Network
            With the same hidden layers.
        kept : sequence of (int, int)
            Places of a unit here and there.
        """
        here, there = np.array(kept, dtype=np.int64).reshape(-1, 2).T
        weight, bias = fresh.weights[-1].copy(), fresh.biases[-1].copy()
        weight[:, there], bias[there] = self.weights[-1][:, here], self.biases[-1][here]
        return replace(self, weights=[*self.weights[:-1], weight], biases=[*self.biases[:-1], bias])


def fresh_network(sizes: Sequence[int], spread: Spread, generator: np.random.Generator) -> Network:
    """Return a network with random weights (He et al. 2015) and biases of zero.

    Parameters
    ----------
    sizes : sequence of int
        Numbers of features, of each hidden layer's units, and of outputs.
    spread : Spread
        Of the features.
    generator : numpy.random.Generator
    """
    weights = []
    for number, (width, units) in enumerate(pairwise(sizes)):
        deviation = np.sqrt((1 if number == len(sizes) - 2 else 2) / width)  # no ReLU behind the last layer
        weights.append((generator.standard_normal((width, units)) * deviation).astype(np.float32))
    return Network(spread.mean, spread.scale, weights, [np.zeros(units, np.float32) for units in sizes[1:]])
