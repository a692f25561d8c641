"""Gaussian processes with a Gaussian kernel, for classes and for values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .distances import add_distances
from .graph_builder import GraphBuilder, Prediction, TypedValue, Value

MAX_BYTES = 2**30
"""Size of the matrices of a classifier up to which it is written: a file holds 2 GiB at most."""
MAX_ERF = 6.0
"""The error function of larger numbers is 1 in float64."""
N_ERF_TERMS = 160
"""Number of terms of the series of the error function, up to that number."""


@dataclass(frozen=True)
class GaussianKernel:
    """The kernel ``factor * exp(-squared_distance / (2 * length_scale**2))``, and `noise` on its diagonal."""

    factor: float
    length_scale: float
    noise: float = 0.0


def read_kernel(kernel: Any) -> GaussianKernel | None:
    """Return a kernel that is a constant times a Gaussian one, with noise or without; None for any other."""
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, Product, Sum, WhiteKernel

    if type(kernel) is Sum and type(kernel.k2) is WhiteKernel:
        smooth = read_kernel(kernel.k1)
        if smooth is None:
            return None
        return GaussianKernel(smooth.factor, smooth.length_scale, smooth.noise + kernel.k2.noise_level)
    if type(kernel) is Product and type(kernel.k1) is ConstantKernel:
        smooth = read_kernel(kernel.k2)
        if smooth is None:
            return None
        factor = kernel.k1.constant_value
        return GaussianKernel(factor * smooth.factor, smooth.length_scale, factor * smooth.noise)
    if type(kernel) is RBF and np.ndim(kernel.length_scale) == 0:
        return GaussianKernel(1.0, float(kernel.length_scale))
    return None


def list_binary_parts(model: Any) -> list[Any]:
    """Return the processes of a classifier that tell a class from the others; one for two classes."""
    base = model.base_estimator_
    return list(base.estimators_) if hasattr(base, "estimators_") else [base]


def is_gaussian_process(model: Any) -> bool:
    """Check for a Gaussian process for classes, each against the others, whose matrices fit into one file."""
    from sklearn.gaussian_process import GaussianProcessClassifier

    from ...heads.gaussian_process import SmallGaussianProcessClassifier

    if type(model) not in (GaussianProcessClassifier, SmallGaussianProcessClassifier):
        return False
    if len(model.classes_) > 2 and model.multi_class != "one_vs_rest":
        return False
    parts = list_binary_parts(model)
    has_known_kernels = all(read_kernel(part.kernel_) is not None for part in parts)
    return has_known_kernels and sum(part.L_.nbytes for part in parts) <= MAX_BYTES


def is_gaussian_process_regressor(model: Any) -> bool:
    """Check for a Gaussian process for values."""
    from sklearn.gaussian_process import GaussianProcessRegressor

    from ...heads.gaussian_process import SmallGaussianProcessRegressor

    if type(model) not in (GaussianProcessRegressor, SmallGaussianProcessRegressor):
        return False
    return read_kernel(model.kernel_) is not None


def convert_gaussian_process(graph: GraphBuilder, model: Any, features: Value) -> Prediction:
    """Choose the class that is most probable against the others; of two classes by the sign of the latent mean."""
    parts = list_binary_parts(model)
    squares = add_distances(graph, features, np.asarray(parts[0].X_train_, dtype=np.float64))
    kernels = [add_kernel(graph, part, squares) for part in parts]
    means = []
    for part, kernel in zip(parts, kernels, strict=True):
        means.append(graph.add("MatMul", kernel, graph.numbers((part.y_train_ - part.pi_)[:, None])))
    variances = [add_variance(graph, part, kernel) for part, kernel in zip(parts, kernels, strict=True)]
    apart = add_averages(graph, join(graph, means), join(graph, variances))  # (n_rows, n_parts)
    if len(parts) == 1:
        return Prediction(graph.choose_of_two(means[0]), graph.add_complement(apart), apart)
    return Prediction(graph.argmax(apart), graph.normalise_rows(apart, len(parts)))


def convert_gaussian_process_regressor(graph: GraphBuilder, model: Any, features: Value) -> Value:
    """Return the mean of a Gaussian process for values, ``(n_rows, n_targets)``."""
    squares = add_distances(graph, features, np.asarray(model.X_train_, dtype=np.float64))
    weights = model.alpha_.reshape(len(model.X_train_), -1)
    means = graph.add("MatMul", add_kernel(graph, model, squares), graph.numbers(weights))
    scaled = graph.add("Mul", means, graph.numbers(np.atleast_1d(model._y_train_std)))
    return graph.add("Add", scaled, graph.numbers(np.atleast_1d(model._y_train_mean)))


def join(graph: GraphBuilder, columns: list[Value]) -> Value:
    """Return columns side by side."""
    return columns[0] if len(columns) == 1 else graph.add("Concat", *columns, axis=1)


def add_kernel(graph: GraphBuilder, model: Any, squares: Value) -> Value:
    """Return the kernel between rows and fitted rows from their squared distances, ``(n_rows, n_fitted)``."""
    kernel = read_kernel(model.kernel_)
    assert kernel is not None
    scaled = graph.add("Mul", squares, graph.numbers(-0.5 / kernel.length_scale**2))
    return graph.add("Mul", graph.add("Exp", scaled), graph.numbers(kernel.factor))


def add_variance(graph: GraphBuilder, part: Any, kernel: Value) -> Value:
    """Return the variance of the latent value, ``(n_rows, 1)``."""
    from scipy.linalg import solve_triangular

    own = read_kernel(part.kernel_)
    assert own is not None
    solution = solve_triangular(part.L_, np.diag(part.W_sr_), lower=True)  # (n_fitted, n_fitted)
    projected = graph.add("MatMul", kernel, graph.numbers(solution.T))
    explained = graph.sum_rows(graph.add("Mul", projected, projected), len(solution))
    return graph.add("Sub", graph.numbers(own.factor + own.noise), explained)


def add_averages(graph: GraphBuilder, means: Value, variances: Value) -> Value:
    """Return the mean of the logistic function over normal distributions of the latent value.

    As in scikit-learn, the function is approximated by a sum of five error functions (Williams and Barber 1998).
    """
    from sklearn.gaussian_process._gpc import COEFS, LAMBDAS

    scales = LAMBDAS.ravel().tolist()
    total = graph.numbers(0.5 * COEFS.sum())
    for factor, scale in zip(COEFS.ravel().tolist(), scales, strict=True):
        widened = graph.add("Add", graph.add("Mul", variances, graph.numbers(2 * scale**2)), graph.numbers(1.0))
        argument = graph.add("Div", graph.add("Mul", means, graph.numbers(scale)), graph.add("Sqrt", widened))
        term = graph.add("Mul", add_error_function(graph, argument), graph.numbers(0.5 * factor))
        total = graph.add("Add", total, term)
    return total


def add_error_function(graph: GraphBuilder, values: Value) -> Value:
    """Return the error function in float64, which ONNX Runtime computes in float32 only.

    All terms of the series, ``2 / sqrt(pi) * exp(-x**2) * x * sum((2 * x**2)**n / (1 * 3 * ... * (2 * n + 1)))``, have
    the same sign, so that none is lost.
    """
    limit = graph.numbers(MAX_ERF)
    clipped = graph.add("Max", graph.add("Min", values, limit), graph.add("Neg", limit))
    square = graph.add("Mul", clipped, clipped)
    doubled = graph.add("Add", square, square)
    factor = graph.add("Mul", clipped, graph.add("Exp", graph.add("Neg", square)))
    first = graph.add("Mul", factor, graph.numbers(2 / np.sqrt(np.pi)))

    def add_term(inner: GraphBuilder, states: list[Value], items: list[Value]) -> list[Value]:
        total, last = states
        term = inner.add("Mul", last, inner.add("Mul", doubled, items[0]))
        return [inner.add("Add", total, term), term]

    inverses: NDArray[np.float64] = 1 / (2 * np.arange(1, N_ERF_TERMS) + 1)
    states = [TypedValue(first, np.float64), TypedValue(first, np.float64)]
    return graph.loop(add_term, states, [TypedValue(graph.constant(inverses), np.float64)])[0]
