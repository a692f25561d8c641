"""Temperature calibration in an ONNX graph: the probabilities of a calibrated head from those of its base head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import ExportError
from .head_converters import to_onnx_labels

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_PROBABILITY_OF_SCORES = 1e-37
"""Smallest float32 probability whose logarithm is taken, if probabilities come from scores."""
MIN_PROBABILITY_WITHOUT_SCORES = 1e-12
"""What scikit-learn adds to a probability before its logarithm, if a head has no scores."""
CALIBRATION_PREFIX = "calibrated/"


@dataclass(frozen=True)
class Temperature:
    """The map from the probabilities of a head to calibrated ones.

    Probabilities are raised to `min_probability` where they are lower, then to the power `exponent`, then normalised.
    The base head predicts positions in `classes`, an array ``(n_classes,)`` of labels.
    """

    exponent: float
    min_probability: float
    classes: NDArray[Any]


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
    return base, Temperature(exponent, min_probability, head.classes_)


def find_inverse_temperature(head: Any) -> float | None:
    """Return the inverse of the only temperature of a calibrated head; None for any other head."""
    parts: Any = getattr(head, "calibrated_classifiers_", ())
    if len(parts) != 1:
        return None
    found = [float(each.beta_) for each in parts[0].calibrators if hasattr(each, "beta_")]
    return found[0] if len(found) == 1 else None


def apply_temperature(model: Any, temperature: Temperature) -> None:
    """Calibrate in place the probabilities of a graph, its second output, and make its first output their labels."""
    from onnx import TensorProto

    label, probabilities = model.graph.output
    probabilities.name = add_calibration(model.graph, probabilities.name, temperature)
    classes = to_onnx_labels(temperature.classes)
    label.name = add_most_probable(model.graph, probabilities.name, classes)
    label.type.tensor_type.elem_type = TensorProto.INT64 if classes.dtype == np.int64 else TensorProto.STRING


def add_calibration(graph: Any, probabilities: str, temperature: Temperature) -> str:
    """Add ``softmax(exponent * log(max(p, min_probability)))``, and return the name of the result."""
    smallest = add_constant(graph, "smallest", np.array(temperature.min_probability, np.float32))
    exponent = add_constant(graph, "exponent", np.array(temperature.exponent, np.float32))
    clipped = add_node(graph, "Max", [probabilities, smallest], output="clipped")
    logarithm = add_node(graph, "Log", [clipped], output="logarithm")
    scaled = add_node(graph, "Mul", [logarithm, exponent], output="scaled")
    return add_node(graph, "Softmax", [scaled], output="probabilities", axis=1)


def add_most_probable(graph: Any, probabilities: str, classes: NDArray[Any]) -> str:
    """Add the label of the highest probability, and return its name."""
    names = add_constant(graph, "classes", classes)
    position = add_node(graph, "ArgMax", [probabilities], output="position", axis=1, keepdims=0)
    return add_node(graph, "Gather", [names, position], output="label")


def add_constant(graph: Any, name: str, value: NDArray[Any]) -> str:
    """Add a constant, and return its full name."""
    from onnx import numpy_helper

    graph.initializer.append(numpy_helper.from_array(value, f"{CALIBRATION_PREFIX}{name}"))
    return f"{CALIBRATION_PREFIX}{name}"


def add_node(graph: Any, operator: str, inputs: list[str], *, output: str, **attributes: int) -> str:
    """Add a node with one output, and return the full name of that."""
    from onnx import helper

    graph.node.append(helper.make_node(operator, inputs, [f"{CALIBRATION_PREFIX}{output}"], **attributes))
    return f"{CALIBRATION_PREFIX}{output}"
