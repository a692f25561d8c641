"""Backbone and head as one ONNX file: decoded images in, labels and probabilities (or values) out."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sklearn.base import RegressorMixin

from ...atomic import write_file
from ...errors import ExportError, reason
from ...extract.graphs.editing import select_columns
from ...extract.runtime.session import open_session
from ...heads.registry import HEADS
from .calibrated_graph import temper, uncalibrated
from .head_converters import register_converters
from .parity import require_head_parity, require_parity

if TYPE_CHECKING:
    from ..estimators.transfer_estimator import TransferEstimator

FUSIBLE = tuple(name for name in HEADS if name not in ("gp", "hgb"))
"""Heads by name that ONNX can hold; for the others skl2onnx has no converter that works."""
LABEL, PROBABILITIES, VALUE = "label", "probabilities", "value"
ABSTAIN_KEY = "topwork.abstain_below"
"""In the metadata of a classifier that abstains; the graph gives its best label all the same."""


def export_fused(classifier: TransferEstimator, path: Path) -> None:
    """Write a fitted classifier or regressor as one ONNX file, and check it against the classifier.

    The graph takes what the extractor's does: uint8 images ``(batch, height, width, 3)``, resized and cropped as the
    input specification in its metadata says; token ids and attention mask, for which the tokeniser is written beside
    it; or tensors. It returns ``label`` and, if the head has them, ``probabilities`` in the order of ``classes_``; or
    ``value``. Boolean labels come out as int64, which is the nearest that ONNX has.

    Parameters
    ----------
    classifier : TransferClassifier or TransferRegressor
    path : Path
        File to write; a tokeniser gets its stem, as in ``model.tokenizer.json``.

    Raises
    ------
    ExportError
        If there is no ONNX converter for the head, or it predicts several labels, or labels of several types.
    ParityError
        If the fused graph differs from backbone and head run apart.
    """
    from sklearn.utils.validation import check_is_fitted

    check_is_fitted(classifier, "head_")
    outputs, limit = _outputs(classifier), getattr(classifier, "abstain_below", None)
    names = [column.name for column in classifier.extractor_.columns]
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="topwork-") as folder:
        partial = select_columns(classifier.extractor_.graph, names, Path(folder) / "body.onnx")
        body, session = _read(partial.path), open_session(partial.path, "cpu")
    width = sum(column.width for column in classifier.extractor_.columns)
    head = _head_model(classifier.head_, width, _opset(body))
    require_head_parity(classifier, open_session(head.SerializeToString(), "cpu"), session)
    merged = _merged(body, head, names, outputs)
    if limit is not None:
        merged.metadata_props.add(key=ABSTAIN_KEY, value=str(limit))
    content = merged.SerializeToString()
    require_parity(classifier, session, open_session(content, "cpu"))
    for name, text in classifier.extractor_.graph.input_spec.files().items():
        write_file(path.with_name(f"{path.stem}.{name}"), text)
    write_file(path, content)


def _outputs(classifier: Any) -> tuple[str, ...]:
    """Return the names of the graph's outputs."""
    if isinstance(classifier, RegressorMixin):
        return (VALUE,)
    if classifier.multilabel_ or classifier.are_coded():
        what = "several labels for each item" if classifier.multilabel_ else "labels of several types"
        raise ExportError(f"{what} cannot be written as ONNX; expected one label for each item, all of one type")
    return LABEL, PROBABILITIES


def _read(path: Path) -> Any:
    import onnx

    return onnx.load(path)


def _opset(model: Any) -> int:
    return next(int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx"))


def _head_model(head: Any, width: int, opset: int) -> Any:
    """Convert a fitted head; its only input is a float matrix."""
    import skl2onnx
    from skl2onnx.common.data_types import FloatTensorType

    register_converters()
    head, temperature = uncalibrated(head)
    last = head.steps[-1][1] if hasattr(head, "steps") else head
    probabilities = hasattr(head, "predict_proba")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = skl2onnx.to_onnx(
                head,
                initial_types=[("features", FloatTensorType([None, width]))],
                options={id(last): {"zipmap": False}} if probabilities else None,
                target_opset={"": opset, "ai.onnx.ml": 3},
            )
    except Exception as error:
        raise ExportError(
            f"the head {type(last).__name__} cannot be written as ONNX: {reason(error)}. "
            f"Heads that can: {', '.join(FUSIBLE)}, and what skl2onnx supports."
        ) from error
    keep = 2 if probabilities else 1
    del model.graph.output[keep:]
    if temperature is not None:
        temper(model, temperature)
    return model


def _merged(body: Any, head: Any, names: list[str], outputs: Sequence[str]) -> Any:
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
    for output, name in zip(merged.graph.output, outputs, strict=False):
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
