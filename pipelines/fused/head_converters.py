"""ONNX converters for heads that skl2onnx has none for, or whose own differ from scikit-learn."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

OPTIONS = {"zipmap": [False]}


@cache
def register_converters() -> None:
    """Teach skl2onnx our own heads, the nearest centroid classifier, and binary discriminant analysis.

    skl2onnx 1.20 writes the sigmoid of twice the decision for a ``LinearDiscriminantAnalysis`` of two classes.
    """
    from skl2onnx import update_registered_converter
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.neighbors import NearestCentroid

    from ...heads.centroid import Centroid
    from ...heads.linear.linear_probe import LinearProbe, LinearProbeCV
    from ...heads.mlp.mlp_head import MLPHead
    from ...heads.mlp.mlp_regressor import MLPHeadRegressor

    for own in (LinearProbe, LinearProbeCV, MLPHead):
        convert = _convert_network if own is MLPHead else _convert_probe
        update_registered_converter(own, f"Topwork{own.__name__}", _shapes, convert, options=OPTIONS)
    update_registered_converter(MLPHeadRegressor, "TopworkMLPHeadRegressor", _shape_of_values, _convert_regressor)
    for model in (NearestCentroid, Centroid):
        update_registered_converter(model, f"Topwork{model.__name__}", _shapes, _convert_centroid, options=OPTIONS)
    update_registered_converter(
        LinearDiscriminantAnalysis, "TopworkDiscriminant", _shapes, _convert_discriminant, options=OPTIONS
    )


def _shapes(operator: Any) -> None:
    from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType

    classes = operator.raw_operator.classes_
    labels = Int64TensorType if classes.dtype.kind in "biu" else StringTensorType
    rows = operator.inputs[0].get_first_dimension()
    operator.outputs[0].type = labels([rows])
    operator.outputs[1].type = FloatTensorType([rows, len(classes)])


def _shape_of_values(operator: Any) -> None:
    from skl2onnx.common.data_types import FloatTensorType

    rows = operator.inputs[0].get_first_dimension()
    operator.outputs[0].type = FloatTensorType([rows, len(operator.raw_operator.target_mean_)])


def _convert_discriminant(scope: Any, operator: Any, container: Any) -> None:
    """Write the softmax of the decisions; for two classes there is one decision, against zero."""
    model, opset = operator.raw_operator, container.target_opset
    weights, constant = model.coef_.T, model.intercept_  # (features, decisions), (decisions,)
    if weights.shape[1] == 1:
        weights, constant = np.hstack([0 * weights, weights]), np.concatenate([[0.0], constant])
    scores = _affine(operator.inputs[0], weights, constant, opset)
    _write(scope, operator, container, scores, scores)


def _convert_probe(scope: Any, operator: Any, container: Any) -> None:
    """Write the softmax of the scores."""
    _refuse_labels(operator.raw_operator)
    _convert_discriminant(scope, operator, container)


def _convert_network(scope: Any, operator: Any, container: Any) -> None:
    """Write the standardisation, the layers and the softmax."""
    _refuse_labels(operator.raw_operator)
    scores = _network(operator, container.target_opset)
    _write(scope, operator, container, scores, scores)


def _convert_regressor(scope: Any, operator: Any, container: Any) -> None:
    """Write the standardisation, the layers and the scale of the targets."""
    from skl2onnx.algebra.onnx_ops import OnnxAdd, OnnxMul

    model, opset = operator.raw_operator, container.target_opset
    scale, mean = (each.astype(np.float32) for each in (model.target_scale_, model.target_mean_))
    scaled = OnnxMul(_network(operator, opset), scale, op_version=opset)
    OnnxAdd(scaled, mean, op_version=opset, output_names=operator.outputs[:1]).add_to(scope, container)


def _network(operator: Any, opset: int) -> Any:
    """Return the outputs of a multilayer perceptron."""
    from skl2onnx.algebra.onnx_ops import OnnxDiv, OnnxRelu, OnnxSub

    model = operator.raw_operator
    centred = OnnxSub(operator.inputs[0], model.mean_.astype(np.float32), op_version=opset)
    hidden = OnnxDiv(centred, model.scale_.astype(np.float32), op_version=opset)
    *layers, (weights, constant) = zip(model.weights_, model.biases_, strict=True)
    for each, shift in layers:
        hidden = OnnxRelu(_affine(hidden, each, shift, opset), op_version=opset)
    return _affine(hidden, weights, constant, opset)


def _refuse_labels(model: Any) -> None:
    if model.multilabel_:
        raise NotImplementedError("a head for several labels cannot be written as ONNX")


def _convert_centroid(scope: Any, operator: Any, container: Any) -> None:
    """Write the labels as scikit-learn's ``predict``, the probabilities as its ``predict_proba``.

    The two use different distances: plain ones, and ones divided by the spread within the classes.
    """
    model, opset = operator.raw_operator, container.target_opset
    prior = np.log(model.class_prior_)
    spread = np.where(model.within_class_std_dev_ == 0, 1.0, model.within_class_std_dev_)
    scaled = _closeness(operator.inputs[0], model.centroids_, spread, 2 * prior, opset)
    nearest = scaled
    if np.allclose(model.class_prior_, 1 / len(prior)):
        nearest = _closeness(operator.inputs[0], model.centroids_, np.ones_like(spread), 0 * prior, opset)
    _write(scope, operator, container, nearest, scaled)


def _write(scope: Any, operator: Any, container: Any, best: Any, scores: Any) -> None:
    """Write the class of the highest of one set of scores, and the softmax of another."""
    from skl2onnx.algebra.onnx_ops import OnnxArgMax, OnnxGather, OnnxIdentity, OnnxSoftmax

    opset, classes = container.target_opset, operator.raw_operator.classes_
    index = OnnxArgMax(best, axis=1, keepdims=0, op_version=opset)
    names = classes.astype(np.int64) if classes.dtype.kind in "biu" else classes.astype(str).astype(object)
    labels = OnnxGather(names, index, op_version=opset)
    OnnxIdentity(labels, op_version=opset, output_names=operator.outputs[:1]).add_to(scope, container)
    OnnxSoftmax(scores, axis=1, op_version=opset, output_names=operator.outputs[1:]).add_to(scope, container)


def _closeness(features: Any, centroids: Any, spread: Any, offset: Any, opset: int) -> Any:
    """Return minus the squared distances to the centroids, up to a term that all classes share."""
    constant = offset - ((centroids / spread) ** 2).sum(axis=1)
    return _affine(features, 2 * (centroids / spread**2).T, constant, opset)


def _affine(features: Any, weights: Any, constant: Any, opset: int) -> Any:
    """Return ``features @ weights + constant`` in float32."""
    from skl2onnx.algebra.onnx_ops import OnnxAdd, OnnxMatMul

    product = OnnxMatMul(features, weights.astype(np.float32), op_version=opset)
    return OnnxAdd(product, constant.astype(np.float32), op_version=opset)
