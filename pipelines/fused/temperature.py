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
PREFIX = "calibrated/"


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
    parts: Any = getattr(head, "calibrated_classifiers_", ())
    if len(parts) != 1:
        return head, None
    inverse_temperatures = [each.beta_ for each in parts[0].calibrators if hasattr(each, "beta_")]
    if len(inverse_temperatures) != 1:
        return head, None

    base = parts[0].estimator
    if not hasattr(base, "predict_proba"):
        raise ExportError(
            f"a calibrated {type(base).__name__} cannot be written as ONNX: it has scores, but no probabilities. Take "
            "a head that has some, or export it without calibrate"
        )
    exponent = float(inverse_temperatures[0])
    min_probability = MIN_PROBABILITY_WITHOUT_SCORES
    if hasattr(base, "decision_function"):
        min_probability = MIN_PROBABILITY_OF_SCORES
        if len(base.classes_) == 2:
            exponent *= 2
    return base, Temperature(exponent, min_probability, head.classes_)


def apply_temperature(model: Any, temperature: Temperature) -> None:
    """Calibrate in place the probabilities of a graph, its second output, and make its first output their labels."""
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    label, probabilities = graph.output
    classes = to_onnx_labels(temperature.classes)
    label_type = TensorProto.INT64 if classes.dtype == np.int64 else TensorProto.STRING

    def add_constant(name: str, value: NDArray[Any]) -> str:
        graph.initializer.append(numpy_helper.from_array(value, f"{PREFIX}{name}"))
        return f"{PREFIX}{name}"

    def add_node(operator: str, inputs: list[str], output: str, **attributes: int) -> str:
        graph.node.append(helper.make_node(operator, inputs, [f"{PREFIX}{output}"], **attributes))
        return f"{PREFIX}{output}"

    # softmax(exponent * log(max(p, min_probability)))
    smallest = add_constant("smallest", np.array(temperature.min_probability, np.float32))
    exponent = add_constant("exponent", np.array(temperature.exponent, np.float32))
    clipped = add_node("Max", [probabilities.name, smallest], "clipped")
    logarithm = add_node("Log", [clipped], "logarithm")
    scaled = add_node("Mul", [logarithm, exponent], "scaled")
    probabilities.name = add_node("Softmax", [scaled], "probabilities", axis=1)

    # The label of the highest probability.
    names = add_constant("classes", classes)
    position = add_node("ArgMax", [probabilities.name], "position", axis=1, keepdims=0)
    label.name = add_node("Gather", [names, position], "label")
    label.type.tensor_type.elem_type = label_type
