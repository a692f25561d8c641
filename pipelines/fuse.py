"""Backbone and head as one ONNX file: decoded images in, labels and probabilities out."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ExportError, ParityError, reason
from ..extract.atomic import write_file
from ..extract.export import OPSET
from ..extract.session import Session, open_session
from ..extract.subgraph import select_columns
from .head_converters import register_converters

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .transfer import TransferClassifier

LABEL, PROBABILITIES = "label", "probabilities"
BATCHES = (1, 2, 5, 32)
TOLERANCE = 1e-4
"""Largest difference of a probability between the fused graph and backbone and head run apart, both in float32."""


def export_fused(classifier: TransferClassifier, path: Path) -> None:
    """Write a fitted classifier as one ONNX file, and check it against the classifier.

    The graph takes uint8 images ``(batch, height, width, 3)``, resized and cropped as the input specification in its
    metadata says, and returns ``label`` and, if the head has them, ``probabilities`` in the order of ``classes_``.
    Boolean labels come out as int64, which is the nearest that ONNX has.

    Parameters
    ----------
    classifier : TransferClassifier
    path : Path
        File to write.

    Raises
    ------
    ExportError
        If there is no ONNX converter for the head.
    ParityError
        If the fused graph differs from backbone and head run apart.
    """
    from sklearn.utils.validation import check_is_fitted

    check_is_fitted(classifier, "head_")
    names = [column.name for column in classifier.extractor_.columns]
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = select_columns(classifier.extractor_.graph, names, path.with_name(f"{path.name}.part"))
    try:
        body = _read(partial.path)
        session = open_session(partial.path, "cpu")
    finally:
        partial.path.unlink()
        partial.certificate_path.unlink()
    width = sum(column.width for column in classifier.extractor_.columns)
    content = _merged(body, _head_model(classifier.head_, width), names).SerializeToString()
    _verify(classifier, session, open_session(content, "cpu"))
    write_file(path, content)


def _read(path: Path) -> Any:
    import onnx

    return onnx.load(path)


def _head_model(head: Any, width: int) -> Any:
    """Convert a fitted head; its only input is a float matrix."""
    import skl2onnx
    from skl2onnx.common.data_types import FloatTensorType

    register_converters()
    last = head.steps[-1][1] if hasattr(head, "steps") else head
    probabilities = hasattr(head, "predict_proba")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = skl2onnx.to_onnx(
                head,
                initial_types=[("features", FloatTensorType([None, width]))],
                options={id(last): {"zipmap": False}} if probabilities else None,
                target_opset={"": OPSET, "ai.onnx.ml": 3},
            )
    except Exception as error:
        raise ExportError(
            f"the head {type(last).__name__} cannot be written as ONNX: {reason(error)}. "
            "Heads that can: logreg, ridge, lda, knn, centroid, svm, and what skl2onnx supports."
        ) from error
    keep = 2 if probabilities else 1
    del model.graph.output[keep:]
    return model


def _merged(body: Any, head: Any, names: list[str]) -> Any:
    """Join two models; their opsets, IR versions and names must be made to agree first."""
    import onnx
    from onnx import compose, helper

    head = compose.add_prefix(head, "head/")
    joined = "head/joined_features"
    head.graph.node.insert(
        0,
        helper.make_node("Concat", names, [joined], axis=1)
        if len(names) > 1
        else helper.make_node("Identity", names, [joined]),
    )
    _rename_input(head.graph, joined)
    del head.graph.input[:]
    head.graph.input.extend(body.graph.output)
    versions = {opset.domain: opset.version for opset in (*head.opset_import, *body.opset_import)}
    for model in (body, head):
        model.ir_version = max(body.ir_version, head.ir_version)
        del model.opset_import[:]
        model.opset_import.extend(helper.make_opsetid(domain, number) for domain, number in versions.items())
    merged = compose.merge_models(body, head, io_map=[(name, name) for name in names])
    for output, name in zip(merged.graph.output, (LABEL, PROBABILITIES), strict=False):
        merged.graph.node.append(helper.make_node("Identity", [output.name], [name]))
        output.name = name
    del merged.metadata_props[:]
    merged.metadata_props.extend(body.metadata_props)
    onnx.checker.check_model(merged)
    return merged


def _rename_input(graph: Any, name: str) -> None:
    old = graph.input[0].name
    for node in graph.node:
        for position, source in enumerate(node.input):
            if source == old:
                node.input[position] = name


def _verify(classifier: TransferClassifier, body: Session, fused: Session) -> None:
    """Compare the fused graph with backbone and head run apart, on random images."""
    height, width = classifier.extractor_.graph.metadata.input_spec.size
    generator = np.random.default_rng(0)
    for batch in BATCHES:
        images = generator.integers(0, 256, (batch, height, width, 3), dtype=np.uint8)
        features = np.concatenate(body.run(images), axis=1)
        _compare(classifier, features, fused.run(images))


def _compare(classifier: TransferClassifier, features: NDArray[np.float32], found: list[NDArray[Any]]) -> None:
    head, labels = classifier.head_, np.asarray(found[0])
    if hasattr(head, "predict_proba"):
        expected = head.predict_proba(features)
        worst = float(np.abs(expected - found[1]).max())
        if not worst <= TOLERANCE:
            raise ParityError(
                f"probabilities of the fused graph differ by {worst:.2g} from backbone and head run apart; "
                f"expected at most {TOLERANCE:.0e}. Nothing was written."
            )
        margins = np.sort(expected, axis=1)
        clear = margins[:, -1] - margins[:, -2] > 2 * TOLERANCE
    else:
        clear = np.ones(len(features), bool)
    wrong = (labels.astype(classifier.classes_.dtype) != head.predict(features)) & clear
    if wrong.any():
        raise ParityError(
            f"{wrong.sum()} of {len(wrong)} labels of the fused graph differ from backbone and head run apart. "
            "Nothing was written."
        )
