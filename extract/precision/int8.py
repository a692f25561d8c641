"""Static quantisation to 8 bits: ranges found on items, weights per channel.

The inputs of convolutions and matrix products are quantised, their outputs are not: sums along shortcuts stay exact.
ONNX Runtime's quantiser writes pairs of QuantizeLinear and DequantizeLinear, which providers fuse.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...hardware import has_int8
from ..preprocess.by_kind import preprocessor_for
from ..preprocess.preprocessor import divide_items

if TYPE_CHECKING:
    from ..graphs.exported_graph import ExportedGraph
    from ..preprocess.preprocessor import Feed, Prepared

HEAVY_OPERATIONS = ("Conv", "MatMul", "Gemm")
"""Operations that are quantised: nearly all of a model's arithmetic."""
ITEMS_PER_CALIBRATION_BATCH = 8
QUANTIZER_OPTIONS = {
    "WeightSymmetric": True,
    "ActivationSymmetric": False,
    "MatMulConstBOnly": True,  # attention multiplies activations with each other
    "OpTypesToExcludeOutputQuantization": list(HEAVY_OPERATIONS),
}


@dataclass(frozen=True, eq=False)
class Calibration:
    """The ranges of a graph's values, found on items.

    `model` is the ``onnx.ModelProto`` in fp32, with the shapes of its values; `tensors` is ONNX Runtime's
    ``TensorsData`` with the range of each value.
    """

    model: Any = field(repr=False)
    tensors: Any = field(repr=False)

    @cached_property
    def facts(self) -> dict[str, list[list[float]]]:
        """Lowest and highest entry of each value, and of quantised weights where these have 7 bits."""
        ranges: dict[str, list[list[float]]] = {} if has_int8() else {"": [[-64], [64]]}
        for name, data in self.tensors.data.items():
            low, high = data.range_value
            ranges[name] = [np.ravel(low).tolist(), np.ravel(high).tolist()]
        return ranges


def calibrate(graph: ExportedGraph, items: Sequence[Prepared]) -> Calibration:
    """Find the ranges of the values of a graph in fp32 on items."""
    import onnx
    from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator

    with tempfile.TemporaryDirectory(prefix="topwork-") as folder:
        augmented = str(Path(folder) / "augmented.onnx")
        calibrator = create_calibrator(graph.path, HEAVY_OPERATIONS, augmented, CalibrationMethod.MinMax)
        calibrator.collect_data(_BatchReader(iterate_batches(graph, items)))
        tensors = calibrator.compute_data()
    model = onnx.shape_inference.infer_shapes(onnx.load(graph.path))
    return Calibration(model, tensors)


class _BatchReader:
    """The interface by which ONNX Runtime's calibrator reads batches."""

    def __init__(self, feeds: Iterator[Feed]) -> None:
        self.feeds = feeds

    def get_next(self) -> Feed | None:
        return next(self.feeds, None)


def iterate_batches(
    graph: ExportedGraph, items: Sequence[Prepared], size: int = ITEMS_PER_CALIBRATION_BATCH
) -> Iterator[Feed]:
    """Yield the items in batches, as the inputs that the graph uses."""
    preprocessor = preprocessor_for(graph.input_spec)
    used = {port.name for port in graph.certificate.inputs}
    for batch in divide_items(items, size):
        feed = preprocessor.collate([item.array for item in batch])
        yield {name: array for name, array in feed.items() if name in used}


def quantize(calibration: Calibration, kept: Sequence[str]) -> Any:
    """Return the ``onnx.ModelProto`` with its heavy operations in 8 bits, except for those `kept` in float32.

    Weights have 7 bits where the processor sums pairs of products in 16 bits, which would overflow.
    """
    import onnx
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    model = onnx.ModelProto()
    model.CopyFrom(calibration.model)
    quantizer = QDQQuantizer(
        model,
        per_channel=True,
        reduce_range=not has_int8(),
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=calibration.tensors,
        nodes_to_quantize=[],
        nodes_to_exclude=list(kept),
        op_types_to_quantize=list(HEAVY_OPERATIONS),
        extra_options=dict(QUANTIZER_OPTIONS),
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()  # the quantiser appends its nodes at the end
    return quantizer.model.model
