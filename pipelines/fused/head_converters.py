"""ONNX converters for heads that skl2onnx has none for, or whose own differ from scikit-learn."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray


@cache
def register_converters() -> None:
    """Register converters for topwork's heads, the nearest centroid classifier, and discriminant analysis.

    skl2onnx 1.20 writes the sigmoid of twice the decision for a ``LinearDiscriminantAnalysis`` of two classes.
    """
    from skl2onnx import update_registered_converter
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.neighbors import NearestCentroid

    from ...heads.centroid import Centroid
    from ...heads.linear.linear_probe import LinearProbe, LinearProbeCV
    from ...heads.mlp.mlp_head import MLPHead
    from ...heads.mlp.mlp_regressor import MLPHeadRegressor

    classifiers = {
        LinearProbe: convert_linear_probe,
        LinearProbeCV: convert_linear_probe,
        MLPHead: convert_mlp_classifier,
        NearestCentroid: convert_centroid,
        Centroid: convert_centroid,
        LinearDiscriminantAnalysis: convert_discriminant,
    }
    for model, convert in classifiers.items():
        update_registered_converter(
            model,
            f"Topwork{model.__name__}",
            shape_fct=set_classifier_shapes,
            convert_fct=convert,
            options={"zipmap": [False]},  # probabilities are a matrix, not a list of dictionaries
        )
    update_registered_converter(
        MLPHeadRegressor,
        "TopworkMLPHeadRegressor",
        shape_fct=set_regressor_shape,
        convert_fct=convert_mlp_regressor,
    )


def to_onnx_labels(classes: NDArray[Any]) -> NDArray[Any]:
    """Return class labels in a type that ONNX has: int64 for integers and booleans, strings (as objects) for others."""
    if classes.dtype.kind in "biu":
        return classes.astype(np.int64)
    return classes.astype(str).astype(object)


# Shapes and types of the outputs.


def set_classifier_shapes(operator: Any) -> None:
    """Set the type and shape of labels ``(n_rows,)`` and probabilities ``(n_rows, n_classes)``."""
    from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType

    classes = to_onnx_labels(operator.raw_operator.classes_)
    label_type = Int64TensorType if classes.dtype == np.int64 else StringTensorType
    n_rows = operator.inputs[0].get_first_dimension()
    operator.outputs[0].type = label_type([n_rows])
    operator.outputs[1].type = FloatTensorType([n_rows, len(classes)])


def set_regressor_shape(operator: Any) -> None:
    """Set the type and shape of values ``(n_rows, n_targets)``."""
    from skl2onnx.common.data_types import FloatTensorType

    n_rows = operator.inputs[0].get_first_dimension()
    operator.outputs[0].type = FloatTensorType([n_rows, len(operator.raw_operator.target_mean_)])


# Converters.


def convert_discriminant(scope: Any, operator: Any, container: Any) -> None:
    """Add the softmax of the decisions; two classes have one decision, whose counterpart is zero."""
    model = operator.raw_operator
    weights = model.coef_.T  # (n_features, n_decisions)
    constant = model.intercept_  # (n_decisions,)
    if weights.shape[1] == 1:
        weights = np.hstack([0 * weights, weights])
        constant = np.concatenate([[0.0], constant])
    scores = _affine(operator.inputs[0], weights, constant, opset=container.target_opset)
    _add_outputs(scope, operator, container, decisions=scores, logits=scores)


def convert_linear_probe(scope: Any, operator: Any, container: Any) -> None:
    """Add the softmax of the scores."""
    _require_one_label(operator.raw_operator)
    convert_discriminant(scope, operator, container)


def convert_mlp_classifier(scope: Any, operator: Any, container: Any) -> None:
    """Add the standardisation, the layers and the softmax."""
    _require_one_label(operator.raw_operator)
    scores = _perceptron(operator, container.target_opset)
    _add_outputs(scope, operator, container, decisions=scores, logits=scores)


def convert_mlp_regressor(scope: Any, operator: Any, container: Any) -> None:
    """Add the standardisation, the layers and the scale of the targets."""
    from skl2onnx.algebra.onnx_ops import OnnxAdd, OnnxMul

    model = operator.raw_operator
    opset = container.target_opset
    scale = model.target_scale_.astype(np.float32)
    mean = model.target_mean_.astype(np.float32)
    scaled = OnnxMul(_perceptron(operator, opset), scale, op_version=opset)
    OnnxAdd(scaled, mean, op_version=opset, output_names=operator.outputs[:1]).add_to(scope, container)


def convert_centroid(scope: Any, operator: Any, container: Any) -> None:
    """Add labels as scikit-learn's ``predict`` returns them, and probabilities as its ``predict_proba``.

    The two use different distances: plain ones, and ones divided by the standard deviation within the classes.
    """
    model = operator.raw_operator
    opset = container.target_opset
    features = operator.inputs[0]
    log_prior = np.log(model.class_prior_)
    within_class_std = np.where(model.within_class_std_dev_ == 0, 1.0, model.within_class_std_dev_)
    logits = _closeness(features, model.centroids_, std=within_class_std, offset=2 * log_prior, opset=opset)
    decisions = logits
    has_uniform_prior = np.allclose(model.class_prior_, 1 / len(log_prior))
    if has_uniform_prior:
        plain = np.ones_like(within_class_std)
        decisions = _closeness(features, model.centroids_, std=plain, offset=0 * log_prior, opset=opset)
    _add_outputs(scope, operator, container, decisions=decisions, logits=logits)


def _require_one_label(model: Any) -> None:
    if model.multilabel_:
        raise NotImplementedError("a head for several labels cannot be written as ONNX")


def _add_outputs(scope: Any, operator: Any, container: Any, *, decisions: Any, logits: Any) -> None:
    """Add the class of the highest decision, and the softmax of the logits."""
    from skl2onnx.algebra.onnx_ops import OnnxArgMax, OnnxGather, OnnxIdentity, OnnxSoftmax

    opset = container.target_opset
    classes = to_onnx_labels(operator.raw_operator.classes_)
    position = OnnxArgMax(decisions, axis=1, keepdims=0, op_version=opset)
    labels = OnnxGather(classes, position, op_version=opset)
    OnnxIdentity(labels, op_version=opset, output_names=operator.outputs[:1]).add_to(scope, container)
    OnnxSoftmax(logits, axis=1, op_version=opset, output_names=operator.outputs[1:]).add_to(scope, container)


# Expressions.


def _perceptron(operator: Any, opset: int) -> Any:
    """Return the outputs of a multilayer perceptron."""
    from skl2onnx.algebra.onnx_ops import OnnxDiv, OnnxRelu, OnnxSub

    model = operator.raw_operator
    centred = OnnxSub(operator.inputs[0], model.mean_.astype(np.float32), op_version=opset)
    values = OnnxDiv(centred, model.scale_.astype(np.float32), op_version=opset)
    *hidden, output = zip(model.weights_, model.biases_, strict=True)
    for weights, constant in hidden:
        values = OnnxRelu(_affine(values, weights, constant, opset=opset), op_version=opset)
    weights, constant = output
    return _affine(values, weights, constant, opset=opset)


def _closeness(features: Any, centroids: Any, *, std: Any, offset: Any, opset: int) -> Any:
    """Return the negative squared distances to the centroids plus an offset, up to a term that all classes share."""
    constant = offset - ((centroids / std) ** 2).sum(axis=1)
    return _affine(features, 2 * (centroids / std**2).T, constant, opset=opset)


def _affine(features: Any, weights: Any, constant: Any, *, opset: int) -> Any:
    """Return ``features @ weights + constant`` in float32."""
    from skl2onnx.algebra.onnx_ops import OnnxAdd, OnnxMatMul

    product = OnnxMatMul(features, weights.astype(np.float32), op_version=opset)
    return OnnxAdd(product, constant.astype(np.float32), op_version=opset)
