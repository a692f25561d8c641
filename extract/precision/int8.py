"""Static quantisation to 8 bits: ranges found on items, weights per channel.

What enters a convolution or a matrix product is quantised, what leaves it is not: sums along shortcuts stay exact. By
ONNX Runtime's quantiser, in the form of pairs of QuantizeLinear and DequantizeLinear that providers fuse.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..preprocess.by_kind import preprocessor_for

if TYPE_CHECKING:
    from ..graphs.exported_graph import ExportedGraph
    from ..preprocess.preprocessor import Feed, Prepared

HEAVY = ("Conv", "MatMul", "Gemm")
"""Operations that are quantised: nearly all of a network's arithmetic."""
BATCH = 8
OPTIONS = {
    "WeightSymmetric": True,
    "ActivationSymmetric": False,
    "MatMulConstBOnly": True,  # attention multiplies activations with each other
    "OpTypesToExcludeOutputQuantization": list(HEAVY),
}


@dataclass(frozen=True, eq=False)
class Calibration:
    """The ranges of a graph's values, found on items.

    Parameters
    ----------
    model : onnx.ModelProto
        The graph in fp32, with the shapes of its values.
    found : onnxruntime.quantization.calibrate.TensorsData
    """

    model: Any = field(repr=False)
    found: Any = field(repr=False)

    @cached_property
    def ranges(self) -> dict[str, list[list[float]]]:
        """Lowest and highest entry of each value."""
        return {name: [np.ravel(end).tolist() for end in data.range_value] for name, data in self.found.data.items()}


def calibrated(graph: ExportedGraph, items: Sequence[Prepared]) -> Calibration:
    """Find the ranges of a graph's values on items.

    Parameters
    ----------
    graph : ExportedGraph
        In fp32.
    items : sequence of Prepared
    """
    import onnx
    from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator

    with tempfile.TemporaryDirectory(prefix="topwork-") as folder:
        augmented = str(Path(folder) / "augmented.onnx")
        calibrator = create_calibrator(graph.path, HEAVY, augmented, CalibrationMethod.MinMax)
        calibrator.collect_data(_Feeds(graph, items))
        found = calibrator.compute_data()
    return Calibration(onnx.shape_inference.infer_shapes(onnx.load(graph.path)), found)


class _Feeds:
    """Batches as the calibrator asks for them."""

    def __init__(self, graph: ExportedGraph, items: Sequence[Prepared]) -> None:
        self._feeds = self._batches(graph, items)

    @staticmethod
    def _batches(graph: ExportedGraph, items: Sequence[Prepared]) -> Iterator[Feed]:
        preprocessor, names = preprocessor_for(graph.input_spec), {port.name for port in graph.certificate.inputs}
        for start in range(0, len(items), BATCH):
            feed = preprocessor.collate([item.array for item in items[start : start + BATCH]])
            yield {name: array for name, array in feed.items() if name in names}

    def get_next(self) -> Feed | None:
        return next(self._feeds, None)


def quantized(calibration: Calibration, kept: Sequence[str]) -> Any:
    """Return an ``onnx.ModelProto`` whose heavy operations compute in 8 bits.

    Parameters
    ----------
    calibration : Calibration
    kept : sequence of str
        Names of operations that stay in float32.
    """
    import onnx
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    model = onnx.ModelProto()
    model.CopyFrom(calibration.model)
    types = QuantType.QInt8, QuantType.QUInt8
    quantizer = QDQQuantizer(model, True, False, *types, calibration.found, [], list(kept), list(HEAVY), dict(OPTIONS))
    quantizer.quantize_model()
    quantizer.model.topological_sort()  # new nodes stand at the end
    return quantizer.model.model
