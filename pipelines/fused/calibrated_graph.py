"""A temperature in an ONNX graph: what calibration did to a head's probabilities, done to those of its graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...errors import ExportError

if TYPE_CHECKING:
    from numpy.typing import NDArray

SMALLEST, ADDED = 1e-37, 1e-12
"""Of a probability in float32 whose logarithm is taken; what scikit-learn adds to one where a head has no scores."""


@dataclass(frozen=True)
class Temperature:
    """What makes calibrated probabilities of a head's own.

    Parameters
    ----------
    exponent : float
        The power to which they are raised.
    smallest : float
        They are no less than this before.
    classes : ndarray of shape (n_classes,)
        The labels; the head inside knows them by their places.
    """

    exponent: float
    smallest: float
    classes: NDArray[Any]


def uncalibrated(head: Any) -> tuple[Any, Temperature | None]:
    """Return the head inside a calibrated one, and its temperature.

    Scores that are scaled before a softmax are probabilities raised to a power after it. For two classes scikit-learn
    takes the one score as twice the distance between them.

    Parameters
    ----------
    head : estimator
        Fitted; what is not calibrated by a temperature is returned as it is, with None.

    Raises
    ------
    ExportError
        If the head inside has scores only.
    """
    parts: Any = getattr(head, "calibrated_classifiers_", ())
    betas = [calibrator.beta_ for part in parts for calibrator in part.calibrators if hasattr(calibrator, "beta_")]
    if len(parts) != 1 or len(betas) != 1:
        return head, None
    inner = parts[0].estimator
    if not hasattr(inner, "predict_proba"):
        raise ExportError(
            f"a calibrated {type(inner).__name__} cannot be written as ONNX: it has scores, but no probabilities. Take "
            "a head that has some, or export it without calibrate"
        )
    has_scores = hasattr(inner, "decision_function")
    exponent = float(betas[0]) * (2 if has_scores and len(inner.classes_) == 2 else 1)
    return inner, Temperature(exponent, SMALLEST if has_scores else ADDED, head.classes_)


def temper(model: Any, temperature: Temperature) -> None:
    """Calibrate the probabilities of a graph, its second output, and let its first be their labels.

    Parameters
    ----------
    model : onnx.ModelProto
        Changed in place.
    temperature : Temperature
    """
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    graph, (label, output) = model.graph, model.graph.output
    is_number = temperature.classes.dtype.kind in "biu"
    names = temperature.classes.astype(np.int64) if is_number else temperature.classes.astype(str).astype(object)
    constants = {
        "smallest": np.array(temperature.smallest, np.float32),
        "exponent": np.array(temperature.exponent, np.float32),
        "classes": names,
    }
    graph.initializer.extend(numpy_helper.from_array(value, f"calibrated/{name}") for name, value in constants.items())
    steps = [
        ("Max", [output.name, "calibrated/smallest"], "clipped", {}),
        ("Log", ["calibrated/clipped"], "logarithm", {}),
        ("Mul", ["calibrated/logarithm", "calibrated/exponent"], "scaled", {}),
        ("Softmax", ["calibrated/scaled"], "probabilities", {"axis": 1}),
        ("ArgMax", ["calibrated/probabilities"], "place", {"axis": 1, "keepdims": 0}),
        ("Gather", ["calibrated/classes", "calibrated/place"], "label", {}),
    ]
    graph.node.extend(
        helper.make_node(kind, inputs, [f"calibrated/{result}"], **options) for kind, inputs, result, options in steps
    )
    label.name, output.name = "calibrated/label", "calibrated/probabilities"
    label.type.tensor_type.elem_type = TensorProto.INT64 if is_number else TensorProto.STRING
