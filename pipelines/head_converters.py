"""ONNX converters for heads that skl2onnx has none for."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np


@cache
def register_converters() -> None:
    """Teach skl2onnx the nearest centroid classifier."""
    from skl2onnx import update_registered_converter
    from sklearn.neighbors import NearestCentroid

    update_registered_converter(
        NearestCentroid, "TopworkNearestCentroid", _shapes, _convert, options={"zipmap": [False]}
    )


def _shapes(operator: Any) -> None:
    from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType

    classes = operator.raw_operator.classes_
    labels = Int64TensorType if classes.dtype.kind in "biu" else StringTensorType
    rows = operator.inputs[0].get_first_dimension()
    operator.outputs[0].type = labels([rows])
    operator.outputs[1].type = FloatTensorType([rows, len(classes)])


def _convert(scope: Any, operator: Any, container: Any) -> None:
    """Write the labels as scikit-learn's ``predict``, the probabilities as its ``predict_proba``.

    The two use different distances: plain ones, and ones divided by the spread within the classes.
    """
    from skl2onnx.algebra.onnx_ops import OnnxArgMax, OnnxGather, OnnxIdentity, OnnxSoftmax

    model, opset = operator.raw_operator, container.target_opset
    prior = np.log(model.class_prior_)
    spread = np.where(model.within_class_std_dev_ == 0, 1.0, model.within_class_std_dev_)
    scaled = _scores(operator.inputs[0], model.centroids_, spread, 2 * prior, opset)
    uniform = np.allclose(model.class_prior_, 1 / len(prior))
    nearest = (
        _scores(operator.inputs[0], model.centroids_, np.ones_like(spread), 0 * prior, opset) if uniform else scaled
    )
    index = OnnxArgMax(nearest, axis=1, keepdims=0, op_version=opset)
    classes = (
        model.classes_.astype(np.int64)
        if model.classes_.dtype.kind in "biu"
        else model.classes_.astype(str).astype(object)
    )
    labels = OnnxGather(classes, index, op_version=opset)
    OnnxIdentity(labels, op_version=opset, output_names=operator.outputs[:1]).add_to(scope, container)
    OnnxSoftmax(scaled, axis=1, op_version=opset, output_names=operator.outputs[1:]).add_to(scope, container)


def _scores(features: Any, centroids: Any, spread: Any, offset: Any, opset: int) -> Any:
    """Return minus the squared distances to the centroids, up to a term that all classes share."""
    from skl2onnx.algebra.onnx_ops import OnnxAdd, OnnxMatMul

    weights = 2 * (centroids / spread**2).T  # (features, classes)
    constant = offset - ((centroids / spread) ** 2).sum(axis=1)
    product = OnnxMatMul(features, weights.astype(np.float32), op_version=opset)
    return OnnxAdd(product, constant.astype(np.float32), op_version=opset)
