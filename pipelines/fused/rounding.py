"""Operations in float64 that are rounded as the C library and BLAS round them, which ONNX Runtime does not."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from functools import cache

import numpy as np
from numpy.typing import NDArray

from .graph_builder import GraphBuilder, Value

N_STEPS = 128
"""Number of tabulated powers between 1 and 2."""
HIGH_BITS = 35
"""Precision of the part of a logarithm whose product with a number of steps is exact."""
N_DIGITS = 60
MIN_EXPONENT = -1100
"""Powers of two below this exponent are zero in float64."""
SPLITTER = float(2**27 + 1)
"""Factor that splits a float64 into two halves whose products are exact (Dekker 1971)."""
CURVATURE = (0.49999999999996736, 0.16666666666666108, 0.04166668092164609, 0.00833333551521788)
"""Coefficients of the powers two to five of ``exp(x) - 1 - x``: least squares where ``x`` is less than half a step."""


def add_exponential(graph: GraphBuilder, values: Value) -> Value:
    """Return the exponential of numbers that are not positive, rounded as that of the C library.

    ``exp(x)`` is ``2**whole * 2**(step / 128) * exp(rest)``: a tabulated power in twice the precision, and a polynomial
    of a small rest (Tang 1989).
    """
    high, low, powers, corrections = tabulate_powers()
    scaled = graph.add("Mul", values, graph.numbers(N_STEPS / math.log(2)))
    steps = graph.add("Max", graph.add("Round", scaled), graph.numbers(float(N_STEPS * MIN_EXPONENT)))
    difference = graph.add("Sub", values, graph.add("Mul", steps, graph.numbers(high)))
    rest = graph.add("Sub", difference, graph.add("Mul", steps, graph.numbers(low)))
    rest = graph.add("Max", rest, graph.numbers(-1.0))  # numbers so low that their exponential is zero

    # Multiply the tabulated power by the polynomial.
    whole_steps = graph.cast(steps, np.int64)
    position = graph.add("Mod", whole_steps, graph.constant(np.array(N_STEPS)))
    power = graph.add("Gather", graph.constant(powers), position)
    correction = graph.add("Gather", graph.constant(corrections), position)
    growth = add_curvature(graph, graph.add("Add", correction, rest), rest)
    fraction = add_fused_product(graph, power, power, growth)

    # Multiply by the power of two.
    whole = graph.add("Div", graph.add("Sub", whole_steps, position), graph.constant(np.array(N_STEPS)))
    powers_of_two = np.ldexp(1.0, np.arange(MIN_EXPONENT, 1))
    factor = graph.add(
        "Gather", graph.constant(powers_of_two), graph.add("Add", whole, graph.constant(np.array(-MIN_EXPONENT)))
    )
    return graph.add("Mul", fraction, factor)


def add_curvature(graph: GraphBuilder, total: Value, rest: Value) -> Value:
    """Return ``total + exp(rest) - 1 - rest`` for a small number, lower powers added first."""
    square, cube, fourth, fifth = (graph.numbers(coefficient) for coefficient in CURVATURE)
    second_power = graph.add("Mul", rest, rest)
    fourth_power = graph.add("Mul", second_power, second_power)
    low = graph.add("Mul", second_power, graph.add("Add", square, graph.add("Mul", rest, cube)))
    high = graph.add("Mul", fourth_power, graph.add("Add", fourth, graph.add("Mul", rest, fifth)))
    return graph.add("Add", graph.add("Add", total, low), high)


@cache
def tabulate_powers() -> tuple[float, float, NDArray[np.float64], NDArray[np.float64]]:
    """Return the logarithm of a step in two parts, the powers of two from 1 to 2, and their relative corrections."""
    with localcontext(prec=N_DIGITS):
        step = Decimal(2).ln() / N_STEPS
        mantissa, exponent = math.frexp(float(step))
        high = math.ldexp(math.floor(mantissa * 2**HIGH_BITS), exponent - HIGH_BITS)
        low = float(step - Decimal(high))
        powers = [(number * step).exp() for number in range(N_STEPS)]
        rounded = [float(power) for power in powers]
        rests = [float(power / Decimal(short) - 1) for power, short in zip(powers, rounded, strict=True)]
    return high, low, np.array(rounded), np.array(rests)


def add_fused_product(graph: GraphBuilder, total: Value, first: Value, second: Value) -> Value:
    """Return ``total + first * second`` rounded once, as by the fused multiplication and addition of a processor.

    The product and the sum are computed with their errors (Dekker 1971, Knuth 1969).
    """
    # Multiply.
    product = graph.add("Mul", first, second)
    first_high, first_low = split(graph, first)
    second_high, second_low = split(graph, second)
    error = graph.add("Sub", graph.add("Mul", first_high, second_high), product)
    error = graph.add("Add", error, graph.add("Mul", first_high, second_low))
    error = graph.add("Add", error, graph.add("Mul", first_low, second_high))
    error = graph.add("Add", error, graph.add("Mul", first_low, second_low))

    # Add.
    result = graph.add("Add", total, product)
    added = graph.add("Sub", result, total)
    total_error = graph.add("Sub", total, graph.add("Sub", result, added))
    sum_error = graph.add("Add", total_error, graph.add("Sub", product, added))
    return graph.add("Add", result, graph.add("Add", sum_error, error))


def split(graph: GraphBuilder, value: Value) -> tuple[Value, Value]:
    """Return two numbers of half the precision whose sum is a float64."""
    scaled = graph.add("Mul", value, graph.numbers(SPLITTER))
    high = graph.add("Sub", scaled, graph.add("Sub", scaled, value))
    return high, graph.add("Sub", value, high)
