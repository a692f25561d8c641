"""Temperature calibration in an ONNX graph: the probabilities of a calibrated head from those of its base head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...errors import ExportError
from .graph_builder import GraphBuilder, Prediction, Value

MIN_PROBABILITY_OF_SCORES = 1e-300
"""Smallest probability whose logarithm is taken, if probabilities come from scores."""
MIN_PROBABILITY_WITHOUT_SCORES = 1e-12
"""What scikit-learn adds to a probability before its logarithm, if a head has no scores."""


@dataclass(frozen=True)
class Temperature:
    """The map from the probabilities of a head to calibrated ones.

    Probabilities are raised to `min_probability` where they are lower, then to the power `exponent`, then normalised.
    """

    exponent: float
    min_probability: float


def split_calibrated(head: Any) -> tuple[Any, Temperature | None]:
    """Return the base head of a calibrated one, and its temperature; None where it has no temperature.

    Scores that are scaled before a softmax are probabilities raised to a power after it. For two classes scikit-learn
    interprets the single score as twice the distance between them. Raise an ExportError if the base head has scores
    only.
    """
    exponent = find_inverse_temperature(head)
    if exponent is None:
        return head, None
    base = head.calibrated_classifiers_[0].estimator
    if not hasattr(base, "predict_proba"):
        raise ExportError(
            f"a calibrated {type(base).__name__} cannot be written as ONNX: it has scores, but no probabilities. Take "
            "a head that has some, or export it without calibrate"
        )
    min_probability = MIN_PROBABILITY_WITHOUT_SCORES
    if hasattr(base, "decision_function"):
        min_probability = MIN_PROBABILITY_OF_SCORES
        if len(base.classes_) == 2:
            exponent *= 2
    return base, Temperature(exponent, min_probability)


def find_inverse_temperature(head: Any) -> float | None:
    """Return the inverse of the only temperature of a calibrated head; None for any other head."""
    parts: Any = getattr(head, "calibrated_classifiers_", ())
    if len(parts) != 1:
        return None
    found = [float(each.beta_) for each in parts[0].calibrators if hasattr(each, "beta_")]
    return found[0] if len(found) == 1 else None


def apply_temperature(graph: GraphBuilder, probabilities: Value, temperature: Temperature) -> Prediction:
    """Add calibrated probabilities, ``softmax(exponent * log(max(p, min_probability)))``, and their classes."""
    clipped = graph.add("Max", probabilities, graph.numbers(temperature.min_probability))
    scaled = graph.add("Mul", graph.add("Log", clipped), graph.numbers(temperature.exponent))
    calibrated = graph.add("Softmax", scaled, axis=1)
    return Prediction(graph.argmax(calibrated), calibrated)
